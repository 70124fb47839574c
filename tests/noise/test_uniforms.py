"""Every source is uniform on [0, 1), and has the structure that it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.noise.uniforms import SOURCES, antithetic, iid, stratified

COUNT = 1001


@pytest.fixture(scope="module")
def draws() -> dict[str, np.ndarray]:
    """float[keys=400, COUNT] from every source."""
    keys = jax.random.split(jax.random.key(0), 400)
    return {
        name: np.asarray(jax.jit(jax.vmap(lambda key, s=source: s(key, COUNT)))(keys))
        for name, source in SOURCES.items()
    }


@pytest.mark.parametrize("name", SOURCES)
def test_all_draws_are_in_the_half_open_interval(draws: dict, name: str) -> None:
    assert draws[name].dtype == np.float32
    assert draws[name].min() >= 0
    assert draws[name].max() < 1


@pytest.mark.parametrize("name", ["iid", "antithetic", "stratified"])
def test_every_position_is_uniform(draws: dict, name: str) -> None:
    for position in (0, 1, COUNT - 1):
        assert stats.kstest(draws[name][:, position], "uniform").pvalue > 1e-3


def test_iid_batch_is_uniform(draws: dict) -> None:
    assert stats.kstest(draws["iid"].ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", ["stratified", "sorted"])
def test_one_uniform_draw_in_each_stratum(draws: dict, name: str) -> None:
    scaled = np.sort(draws[name].astype(np.float64)) * COUNT
    within = scaled - np.arange(COUNT)
    # float32 rounds a draw by at most 1e-7 of the whole, 1e-4 of a stratum.
    assert within.min() > -1e-4
    assert within.max() < 1 + 1e-4
    assert stats.kstest(np.clip(within.ravel()[::101], 0, 1), "uniform").pvalue > 1e-3


def test_only_the_sorted_draws_follow_their_position(draws: dict) -> None:
    assert (np.diff(draws["sorted"], axis=1) >= 0).all()
    for name in set(SOURCES) - {"sorted"}:
        # Pearson's r of 400 x 1001 independent pairs has a standard error of 1.6e-3.
        places = np.tile(np.arange(COUNT), len(draws[name]))
        assert abs(np.corrcoef(places, draws[name].ravel())[0, 1]) < 6.5e-3


def test_antithetic_pairs_sum_to_one(draws: dict) -> None:
    u = draws["antithetic"][:, : COUNT - 1].astype(np.float64)
    np.testing.assert_allclose(u[:, 0::2] + u[:, 1::2], 1, atol=1.2e-7)


def test_antithetic_mirror_of_zero_stays_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.zeros(shape))
    u = np.asarray(antithetic(jax.random.key(0), 2))
    assert u[0] == 0
    assert u[1] == np.nextafter(np.float32(1), np.float32(0))


def test_stratified_never_rounds_up_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 1 - 2.0**-24
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, largest))
    assert np.asarray(stratified(jax.random.key(0), 1001)).max() < 1


@pytest.mark.parametrize("name", SOURCES)
def test_a_count_below_one_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"^count=0: must be at least 1$"):
        SOURCES[name](jax.random.key(0), 0)


def test_the_key_decides() -> None:
    same, other = iid(jax.random.key(1), 8), iid(jax.random.key(2), 8)
    np.testing.assert_array_equal(same, iid(jax.random.key(1), 8))
    assert not np.array_equal(same, other)
