"""Level grids: published vectors, exact ends, and predefined levels that never move."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    KarrasGrid,
    PredefinedGrid,
    karras_levels,
    predefined_levels,
    sinusoidal,
    square_root,
)

# N = 11 from the Karras formula with sigma in [.002, 80] and rho = 7, to 5 decimals.
KARRAS_11 = [
    *[0.002, 0.01672, 0.08509, 0.31828, 0.96542, 2.51522],
    *[5.83895, 12.38158, 24.40834, 45.31373, 80.0],
]
TABLE = 251
RULES = ("nested", "even", "random")


def reference(n: int, low: float = 0.002, high: float = 80.0, rho: float = 7.0) -> np.ndarray:
    ramp = np.linspace(0, 1, n)
    return (low ** (1 / rho) + ramp * (high ** (1 / rho) - low ** (1 / rho))) ** rho


@pytest.fixture(scope="module")
def traced_karras() -> Callable[[int], np.ndarray]:
    grid = jax.jit(KarrasGrid(1281))
    return lambda n: np.asarray(grid(jnp.int32(n)))


@pytest.fixture(scope="module")
def predefined() -> dict[str, np.ndarray]:
    """Rows n = 2..TABLE of each rule's padded levels, float32[TABLE-1, TABLE]."""
    ns = jnp.arange(2, TABLE + 1)
    key = jax.random.key(7)

    def rows(rule: str) -> np.ndarray:
        grid = PredefinedGrid(TABLE, rule)
        return np.asarray(jax.jit(jax.vmap(lambda n: grid(n, key)))(ns))

    return {rule: rows(rule) for rule in RULES}


def test_karras_vector() -> None:
    np.testing.assert_allclose(karras_levels(11), KARRAS_11, atol=5.1e-6)


@pytest.mark.parametrize("n", [2, 3, 20, 251, 1281])
def test_static_karras_is_the_formula_rounded_once(n: int) -> None:
    levels = np.asarray(karras_levels(n))
    assert levels.dtype == np.float32
    np.testing.assert_array_max_ulp(levels, reference(n).astype(np.float32), maxulp=1)


@pytest.mark.parametrize("n", [2, 3, 20, 251, 1281])
def test_traced_karras_agrees_and_its_ends_are_exact(
    traced_karras: Callable[[int], np.ndarray], n: int
) -> None:
    levels = traced_karras(n)
    assert levels.dtype == np.float32
    assert levels.shape == (1281,)
    np.testing.assert_allclose(levels[:n], reference(n), rtol=2e-6)
    assert levels[0] == np.float32(0.002)
    assert (levels[n - 1 :] == np.float32(80)).all()
    assert (np.diff(levels[:n]) > 0).all()


def test_karras_in_float64() -> None:
    with jax.enable_x64(True):
        static = karras_levels(20)
        traced = jax.jit(lambda n: karras_levels(n, length=20))(jnp.int32(20))
        assert static.dtype == traced.dtype == jnp.float64
        np.testing.assert_allclose(static, reference(20), rtol=1e-13)
        np.testing.assert_allclose(traced, reference(20), rtol=1e-13)


@pytest.mark.takes_a_second
@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    n=st.integers(2, 300),
    low=st.floats(1e-4, 1.0),
    ratio=st.floats(1.5, 1e5),
    rho=st.floats(0.5, 50.0),
    padding=st.integers(0, 5),
)
def test_karras_ascends_between_exact_ends(
    n: int, low: float, ratio: float, rho: float, padding: int
) -> None:
    levels = np.asarray(karras_levels(n, low, low * ratio, rho, length=n + padding))
    assert levels[0] == np.float32(low)
    assert (levels[n - 1 :] == np.float32(low * ratio)).all()
    assert levels.shape == (n + padding,)
    assert (np.diff(levels) >= 0).all()
    np.testing.assert_allclose(levels[:n], reference(n, low, low * ratio, rho), rtol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_every_predefined_level_is_a_table_entry_bit_for_bit(
    predefined: dict[str, np.ndarray], rule: str
) -> None:
    table = np.asarray(karras_levels(TABLE))
    for n, row in enumerate(predefined[rule], start=2):
        assert np.isin(row, table).all()
        assert len(np.unique(row[:n])) == n
        assert (np.diff(row[:n]) > 0).all()
        assert row[0] == table[0]
        assert (row[n - 1 :] == table[-1]).all()


@pytest.mark.parametrize("rule", RULES)
def test_a_static_n_gives_the_same_bits_as_a_traced_one(
    predefined: dict[str, np.ndarray], rule: str
) -> None:
    levels = predefined_levels(20, TABLE, rule, key=jax.random.key(7))
    np.testing.assert_array_equal(levels, predefined[rule][18, :20])


def test_nested_levels_are_nested(predefined: dict[str, np.ndarray]) -> None:
    for fewer, more in zip(predefined["nested"], predefined["nested"][1:], strict=False):
        assert np.isin(fewer, more).all()


def test_nested_levels_are_well_spread(predefined: dict[str, np.ndarray]) -> None:
    table = np.asarray(karras_levels(TABLE))
    for n, row in enumerate(predefined["nested"], start=2):
        gaps = np.diff(np.searchsorted(table, row[:n]))
        # A van der Corput prefix of k points leaves no gap beyond 1 / 2^floor(log2(k+1)).
        assert gaps.max() <= np.ceil((TABLE - 1) / 2 ** np.floor(np.log2(n - 1)))


@pytest.mark.parametrize("size", [2, 3, 9])
def test_small_tables_are_used_up(size: int) -> None:
    @jax.jit
    def whole(key: jax.Array) -> list[jax.Array]:
        return [predefined_levels(size, size, rule, key=key, length=size + 2) for rule in RULES]

    table = np.asarray(karras_levels(size))
    for levels in whole(jax.random.key(0)):
        np.testing.assert_array_equal(levels, np.append(table, table[[-1, -1]]))


@pytest.mark.parametrize("size", [2, TABLE, 1281])
def test_even_rule_is_numpys_round(size: int) -> None:
    # With sigma from 1 to `size` and rho = 1 a level IS its index, plus 1.
    grid = PredefinedGrid(size, "even", sigma_min=1.0, sigma_max=float(size), rho=1.0)
    ns = np.arange(2, size + 1)
    rows = np.asarray(jax.jit(jax.vmap(grid))(jnp.asarray(ns)))
    j = np.minimum(np.arange(size)[None], ns[:, None] - 1)
    expected = np.round(j * (size - 1) / (ns[:, None] - 1))
    np.testing.assert_array_equal(np.round(rows - 1), expected)


def test_random_rule_draws_anew_for_every_n(predefined: dict[str, np.ndarray]) -> None:
    rows = predefined["random"]
    grown = [np.isin(rows[n - 2], rows[n - 1]).all() for n in (20, 43, 66, 88)]
    assert not any(grown)


@pytest.mark.takes_a_second
def test_random_rule_is_uniform_over_the_interior() -> None:
    size, n, keys = 21, 7, 2000
    grid = PredefinedGrid(size, "random")
    draw = jax.jit(jax.vmap(lambda key: grid(jnp.int32(n), key)))
    rows = np.asarray(draw(jax.random.split(jax.random.key(3), keys)))
    table = np.asarray(karras_levels(size))
    counts = np.array([(rows[:, 1 : n - 1] == level).sum() for level in table[1:-1]])
    share = (n - 2) / (size - 2)
    # Drawing without replacement shrinks each variance to share (1 - share).
    chi2 = ((counts - keys * share) ** 2 / (keys * share * (1 - share))).sum()
    assert stats.chi2.sf(chi2 * (size - 3) / (size - 2), size - 3) > 1e-3


def test_published_curricula_share_few_karras_levels() -> None:
    doubled, smooth = karras_levels(21), karras_levels(43)
    assert np.isin(np.float32(karras_levels(11)), doubled).all()
    assert np.isin(np.float32(karras_levels(20)), smooth).sum() == 2


@pytest.mark.parametrize(
    "grid", [KarrasGrid(TABLE), PredefinedGrid(TABLE)], ids=["karras", "predefined"]
)
def test_grids_compile_once_over_whole_curricula(grid: Callable) -> None:
    traces = []

    @jax.jit
    def levels(n: jax.Array) -> jax.Array:
        traces.append(n)
        return grid(n)

    counts = {*sinusoidal(total_steps=1000).counts, *square_root(total_steps=200).counts}
    for count in counts:
        assert levels(jnp.int32(count)).shape == (TABLE,)
    assert len(traces) == 1
    assert len(counts) > 100


def test_grid_settings_reach_the_levels() -> None:
    settings_ = {"sigma_min": 0.1, "sigma_max": 10.0, "rho": 3.0}
    expected = karras_levels(5, **settings_)
    np.testing.assert_array_equal(KarrasGrid(5, **settings_)(5), expected)
    np.testing.assert_array_equal(PredefinedGrid(5, **settings_)(5), expected)
    assert KarrasGrid(5).max_levels == PredefinedGrid(5).max_levels == 5


@pytest.mark.parametrize("held", [int, np.int64, np.asarray, jnp.int32])
def test_a_number_that_is_known_is_checked_whatever_holds_it(held: Callable) -> None:
    for call, message in (
        (lambda n: karras_levels(n), "n=1: must be an integer >= 2"),
        (lambda n: KarrasGrid(10)(n + 49), "num_levels=50: must be an integer >= 2 and <= 10"),
        (lambda n: KarrasGrid()(n), "num_levels=1: must be an integer >= 2"),
        (
            lambda n: predefined_levels(n + 224, 100),
            "n=225: must be an integer >= 2 and <= 100",
        ),
        (
            lambda n: PredefinedGrid(table_size=100)(n + 224),
            "num_levels=225: must be an integer >= 2 and <= 100",
        ),
    ):
        with pytest.raises(ArgumentError) as error:
            call(held(1))
        assert str(error.value) == message
    for levels in (karras_levels(held(5)), KarrasGrid()(held(5)), KarrasGrid(7)(held(5))[:5]):
        np.testing.assert_allclose(levels, reference(5), rtol=2e-6)
    np.testing.assert_array_equal(predefined_levels(held(3), 5), karras_levels(5)[::2])


def test_an_array_gives_the_bits_of_a_compiled_program(
    traced_karras: Callable[[int], np.ndarray],
) -> None:
    np.testing.assert_array_equal(KarrasGrid(1281)(jnp.int32(251)), traced_karras(251))


def test_a_curriculum_that_outgrows_its_table_is_refused() -> None:
    num_levels = sinusoidal(s0=20, s1=250, total_steps=100_000)(50_000)
    with pytest.raises(ArgumentError, match="num_levels=225: must be an integer >= 2 and <= 100"):
        PredefinedGrid(table_size=100)(num_levels)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: karras_levels(1), "n=1: must be an integer >= 2"),
        (lambda: karras_levels(2.0), "n=2.0: must be an integer"),
        (lambda: karras_levels(5, 0.0), "sigma_min=0.0: must be a finite number > 0"),
        (
            lambda: karras_levels(5, 0.1, 0.1),
            "sigma_max=0.1: must be a finite number > sigma_min=0.1",
        ),
        (lambda: karras_levels(5, rho=-7.0), "rho=-7.0: must be a finite number > 0"),
        (lambda: karras_levels(5, rho=float("nan")), "rho=nan: must be a finite number > 0"),
        (lambda: karras_levels(5, length=4), "length=4: must be an integer >= 5"),
        (
            lambda: jax.eval_shape(karras_levels, jnp.int32(5)),
            "length=None: must be given when n is traced",
        ),
        (
            lambda: jax.eval_shape(KarrasGrid(), jnp.int32(5)),
            "max_levels=None: must be given where num_levels is traced",
        ),
        (lambda: karras_levels(jnp.arange(2)), "n=int32[2]: must be of shape [], one integer"),
        (lambda: karras_levels(jnp.float32(5)), "n=float32[]: must be an integer"),
        (lambda: predefined_levels(6, 5), "n=6: must be an integer >= 2 and <= 5"),
        (lambda: predefined_levels(2, 1), "table_size=1: must be an integer >= 2 and <= 46341"),
        (
            lambda: predefined_levels(3, 5, "nestd"),
            "rule='nestd': must be one of nested, even, random (did you mean 'nested'?)",
        ),
        (
            lambda: predefined_levels(3, 5, "random"),
            "key=None: must be a PRNG key when rule is 'random'",
        ),
        (lambda: KarrasGrid(1), "max_levels=1: must be an integer >= 2"),
        (lambda: KarrasGrid(5)(6), "num_levels=6: must be an integer >= 2 and <= 5"),
        (lambda: PredefinedGrid(5)(6), "num_levels=6: must be an integer >= 2 and <= 5"),
        (lambda: PredefinedGrid(5, "odd"), "rule='odd': must be one of nested, even, random"),
    ],
)
def test_errors_name_the_argument_and_the_range(call: Callable, message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        call()
    assert str(error.value) == message
    assert error.value.argument == message.split("=")[0]
