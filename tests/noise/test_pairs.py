"""Laws over the pair index: exact probabilities, and draws that follow them."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import log_ndtr, ndtr

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    BetaPairs,
    CategoricalPairs,
    HighToLow,
    KarrasGrid,
    LognormalPairs,
    PolynomialPairs,
    PredefinedGrid,
    UniformPairs,
    karras_levels,
    paced_probs,
    pairs,
    sinusoidal,
)

LENGTH = 256  # of the padded level vector
NS = (2, 3, 11, 20, 251)
DRAWS = 100_000
GRID = KarrasGrid(LENGTH)
LAWS = [
    UniformPairs(sampling="iid"),
    UniformPairs(sampling="sorted"),
    LognormalPairs(sampling="iid"),
    LognormalPairs(),
    BetaPairs(sampling="iid"),
    BetaPairs(sampling="antithetic"),
    PolynomialPairs(sampling="iid"),
    PolynomialPairs(curve=2.5),
    PolynomialPairs(curve=0.5, variant="prototype", sampling="iid"),
    PolynomialPairs(curve=2.5, variant="prototype"),
    PolynomialPairs(curve=2.5, sampling="antithetic"),
]
Law = UniformPairs | LognormalPairs | BetaPairs | PolynomialPairs

# p_i of the lognormal law on 11 Karras levels, to 4 decimals.
LOGNORMAL_11 = [0.0626, 0.1817, 0.2455, 0.2135, 0.1424, 0.0806, 0.0411, 0.0196, 0.0089, 0.0040]
# Share of samples whose upper level is in (0, .1], (.1, 1], (1, 10], (10, 80], with 20 levels.
SHARES = {
    LognormalPairs(): (0.268, 0.375, 0.300, 0.057),
    UniformPairs(): (0.211, 0.156, 0.265, 0.368),
    PolynomialPairs(curve=2.5): (0.501, 0.146, 0.168, 0.184),
    PolynomialPairs(curve=4.0): (0.648, 0.113, 0.117, 0.122),
    PolynomialPairs(curve=2.5, variant="prototype"): (0.414, 0.190, 0.187, 0.208),
    BetaPairs(): (0.520, 0.293, 0.171, 0.015),
}


def name(value: object) -> str:
    """A law's settings as a test id; the default id for anything else."""
    if not isinstance(value, Law):
        return ""
    fields = "-".join(str(field) for field in vars(value).values())
    return f"{type(value).__name__}-{fields}"


@cache
def grids() -> jax.Array:
    return jax.jit(jax.vmap(GRID))(jnp.asarray(NS))


@cache
def probs_of(law: Law) -> np.ndarray:
    """float[len(NS), LENGTH-1], one row for each of NS."""
    if law.sampling != "iid":
        return probs_of(replace(law, sampling="iid"))
    return np.asarray(jax.jit(jax.vmap(law.probs))(grids(), jnp.asarray(NS)))


@cache
def counts_of(law: Law) -> np.ndarray:
    """Histogram of DRAWS draws, int[len(NS), LENGTH-1], one row for each of NS."""
    keys = jax.random.split(jax.random.key(11), len(NS))
    sample = jax.jit(jax.vmap(lambda key, levels, n: law.sample(key, levels, n, DRAWS)))
    draws = np.asarray(sample(keys, grids(), jnp.asarray(NS)))
    assert draws.dtype == np.int32
    assert draws.min() >= 0
    return np.stack([np.bincount(row, minlength=LENGTH - 1) for row in draws])


def pooled(counts: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring bins merged until each expects at least 5 draws."""
    edges, total = [0], 0.0
    for i, value in enumerate(expected):
        total += value
        if total >= 5 and expected[i + 1 :].sum() >= 5:
            edges.append(i + 1)
            total = 0.0
    return np.add.reduceat(counts, edges), np.add.reduceat(expected, edges)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("law", LAWS, ids=name)
def test_probs_sum_to_one_and_stop_at_the_last_pair(law: Law) -> None:
    probs = probs_of(law)
    assert probs.dtype == np.float32
    assert probs.min() >= 0
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-6)
    for n, row in zip(NS, probs, strict=True):
        assert not row[n - 1 :].any()


@pytest.mark.takes_a_second
@pytest.mark.parametrize("law", LAWS, ids=name)
def test_draws_follow_the_probabilities(law: Law) -> None:
    for n, counts, probs in zip(NS, counts_of(law), probs_of(law), strict=True):
        observed, expected = pooled(counts[: n - 1], DRAWS * probs[: n - 1].astype(np.float64))
        assert counts[n - 1 :].sum() == 0
        if len(observed) == 1:
            assert observed[0] == DRAWS
            continue
        expected *= DRAWS / expected.sum()
        assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "law",
    [
        law
        for law in LAWS
        if law.sampling in ("stratified", "sorted") and not isinstance(law, PolynomialPairs)
    ],
    ids=name,
)
def test_stratified_draws_hug_the_cdf(law: Law) -> None:
    cumulative = DRAWS * np.cumsum(probs_of(law).astype(np.float64), axis=1)
    # One stratum straddles each edge; float32 rounding moves an edge by a fraction of another.
    assert np.abs(np.cumsum(counts_of(law), axis=1) - cumulative).max() <= 2


@pytest.mark.takes_a_second
@pytest.mark.parametrize("law", [LognormalPairs, PolynomialPairs])
def test_levels_do_not_follow_the_position_in_the_batch(law: type) -> None:
    """One place of the batch sees the whole law, unless the sweep is asked for in its order."""
    levels, keys = karras_levels(20), jax.random.split(jax.random.key(2), 1000)
    place = {}
    for sampling in ("stratified", "sorted"):
        drawn = jax.vmap(lambda key, s=sampling: law(sampling=s).sample(key, levels, 20, 16))(keys)
        place[sampling] = np.asarray(drawn)
    for sampling, drawn in place.items():
        correlation = stats.spearmanr(np.tile(np.arange(16), 1000), drawn.ravel())
        assert (correlation.pvalue > 1e-3) == (sampling == "stratified")
        ends = stats.ks_2samp(drawn[:, 0], drawn[:, -1])
        assert (ends.pvalue > 1e-3) == (sampling == "stratified")


@pytest.mark.takes_a_second
@pytest.mark.parametrize("variant", ["paper", "prototype"])
def test_polynomial_sweep_is_deterministic_but_for_the_jitter(variant: str) -> None:
    """Cumulative counts against the sum of each example's own law: far tighter than i.i.d."""
    law = next(law for law in LAWS if law == PolynomialPairs(curve=2.5, variant=variant))
    n = NS[-1]
    swept = (np.arange(DRAWS) / (DRAWS - 1)) ** 2.5
    spread = []
    for j in range(0, n - 2, 10):
        if variant == "paper":
            below = ndtr(j + 0.5 - swept * (n - 1))
        else:
            a, shift = swept * (n - 2), n**0.2
            outside = ndtr(-shift - a) + ndtr(a + shift - (n - 2))
            below = ndtr(j + 1 - shift - a) - ndtr(-shift - a) + (a < j + 1) * outside
        variance = (below * (1 - below)).sum()
        observed = counts_of(law)[-1][: j + 1].sum()
        assert abs(observed - below.sum()) < 4.5 * np.sqrt(variance) + 1
        spread.append(variance / (DRAWS * below.mean() * (1 - below.mean())))
    assert np.mean(spread) < 0.1


@pytest.mark.takes_a_second
def test_prototype_reaches_the_last_index_at_the_end_of_the_sweep_alone() -> None:
    sweep, iid = (
        PolynomialPairs(curve=2.5, variant="prototype"),
        PolynomialPairs(curve=0.5, variant="prototype", sampling="iid"),
    )
    for row, n in enumerate(NS[1:], start=1):
        assert counts_of(sweep)[row, n - 2] == 1
        assert counts_of(iid)[row, n - 2] == 0
        assert probs_of(sweep)[row, n - 2] == probs_of(iid)[row, n - 2] == 0


@pytest.mark.takes_a_second
def test_a_sweep_of_one_example_draws_its_position() -> None:
    law = PolynomialPairs(curve=1.0)
    sample = jax.jit(jax.vmap(lambda key: law.sample(key, karras_levels(20), 20, 1)[0]))
    draws = np.asarray(sample(jax.random.split(jax.random.key(5), 4000)))
    probs = np.asarray(jax.jit(law.probs)(karras_levels(20), 20), np.float64)
    observed, expected = pooled(np.bincount(draws, minlength=19), 4000 * probs)
    assert stats.chisquare(observed, expected * 4000 / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize(("law", "shares"), SHARES.items(), ids=name)
def test_share_of_samples_in_each_decade(law: Law, shares: ArrayLike) -> None:
    row = NS.index(20)
    upper = np.asarray(grids())[row, 1:20]
    decade = np.searchsorted([0.1, 1, 10], upper)
    measured = np.bincount(decade, probs_of(law)[row, :19])
    np.testing.assert_allclose(measured, shares, atol=0.02)


def test_lognormal_vector() -> None:
    row = probs_of(LognormalPairs())[NS.index(11)]
    np.testing.assert_allclose(row[:10], LOGNORMAL_11, atol=5.1e-5)


@pytest.mark.parametrize("n", [20, 251])
def test_lognormal_masses_keep_their_digits_in_both_tails(n: int) -> None:
    levels = np.asarray(grids())[NS.index(n), :n].astype(np.float64)
    probs = jax.jit(LognormalPairs(p_mean=0.3, p_std=0.8).probs)(grids()[NS.index(n)], n)
    z = (np.log(levels) - 0.3) / 0.8
    upper = z[1:] + z[:-1] > 0
    mass = np.where(upper, ndtr(-z[:-1]) - ndtr(-z[1:]), ndtr(z[1:]) - ndtr(z[:-1]))
    np.testing.assert_allclose(probs[: n - 1], mass / mass.sum(), rtol=1e-3)
    assert mass[[0, -1]].max() < 1e-6


@pytest.mark.parametrize("p_mean", [-70.0, 60.0])
def test_a_lognormal_law_far_from_every_level_is_still_a_law(p_mean: float) -> None:
    levels = np.asarray(karras_levels(20))
    probs = np.asarray(jax.jit(LognormalPairs(p_mean=p_mean).probs)(levels, 20))
    z = -np.sign(p_mean) * (np.log(levels.astype(np.float64)) - p_mean) / 2
    tail = log_ndtr(-np.abs(z))
    mass = np.abs(np.diff(np.exp(tail - tail.max())))
    np.testing.assert_allclose(probs, mass / mass.sum(), atol=1e-4)


def test_the_sign_of_p_mean_matters() -> None:
    """A widely copied +1.1 would give the two upper decades about twice their share."""
    levels, wrong = karras_levels(20), LognormalPairs(p_mean=1.1)
    upper = np.asarray(levels)[1:] > 1
    right = probs_of(LognormalPairs())[NS.index(20), :19][upper].sum()
    assert right == pytest.approx(0.357, abs=0.02)
    assert np.asarray(jax.jit(wrong.probs)(levels, 20))[upper].sum() > 0.65


@pytest.mark.parametrize(("a", "b"), [(1.5, 5.0), (5.0, 1.5), (0.3, 0.4), (40.0, 90.0)])
def test_beta_probabilities(a: float, b: float) -> None:
    for n, row in zip(NS, probs_of(BetaPairs(a, b)), strict=True):
        cdf = stats.beta.cdf(np.arange(n) / (n - 1), a, b)
        np.testing.assert_allclose(row[: n - 1], np.diff(cdf), atol=1e-6)


def test_beta_is_not_rescaled_by_its_batch() -> None:
    """Stretching v to the batch's own extremes gives another law, known from public code."""
    v = np.random.default_rng(0).beta(1.5, 5, (400, 512))
    low, high = v.min(axis=1, keepdims=True), v.max(axis=1, keepdims=True)
    index = np.minimum((v - low) / (high - low) * 19, 18).astype(int).ravel()
    upper = np.asarray(karras_levels(20))[1:]
    stretched = np.bincount(np.searchsorted([0.1, 1, 10], upper[index])) / index.size
    np.testing.assert_allclose(stretched, [0.414, 0.279, 0.239, 0.068], atol=0.01)
    exact = probs_of(BetaPairs())[NS.index(20), :19]
    assert exact[upper > 10].sum() < 0.02


def sweep_probs(curve: float, variant: str, n: int) -> np.ndarray:
    """In float64: 64 nodes in each cell between two integers, where the prototype jumps."""
    if n == 2:
        return np.ones(1)
    power = max(2.0, 2 / curve)
    top = n - 1 if variant == "paper" else n - 2
    edges = (np.arange(top + 1) / top) ** (1 / (curve * power))
    nodes, weights = np.polynomial.legendre.leggauss(64)
    width = np.diff(edges)[:, None]
    y = edges[:-1, None] + width * (nodes + 1) / 2
    weight = (width * weights / 2 * power * y ** (power - 1)).ravel()
    a = top * y.ravel() ** (curve * power)
    if variant == "paper":
        return np.diff([0, *(weight @ ndtr(j + 0.5 - a) for j in range(n - 2)), 1])
    shift = n**0.2
    cdf = [weight @ ndtr(j - shift - a) for j in range(n - 1)]
    outside = weight * (ndtr(-shift - a) + ndtr(a + shift - top))
    return np.append(np.diff(cdf) + outside.reshape(top, -1).sum(axis=1), 0)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("variant", ["paper", "prototype"])
@pytest.mark.parametrize("curve", [0.1, 0.5, 1.3, 4.0, 20.0])
def test_polynomial_probabilities(curve: float, variant: str) -> None:
    for n, row in zip(NS, probs_of(PolynomialPairs(curve, variant)), strict=True):
        np.testing.assert_allclose(row[: n - 1], sweep_probs(curve, variant, n), atol=1e-6)


@pytest.mark.takes_a_second
def test_probabilities_in_float64() -> None:
    with jax.enable_x64(True):
        levels, laws = karras_levels(20), LAWS[2:8:2]
        probs, draws = jax.jit(
            lambda n: (
                [law.probs(levels, n) for law in laws],
                [law.sample(jax.random.key(0), levels, n, 8) for law in laws],
            )
        )(jnp.int32(20))
        for law, row, index in zip(laws, probs, draws, strict=True):
            assert row.dtype == jnp.float64
            assert index.dtype == jnp.int32
            np.testing.assert_allclose(row, probs_of(law)[NS.index(20), :19], atol=1e-6)
            assert float(row.sum()) == pytest.approx(1, abs=1e-13)
        np.testing.assert_allclose(probs[2], sweep_probs(4.0, "paper", 20), atol=1e-9)


@pytest.mark.parametrize("law", [law for law in LAWS if law.sampling == "iid"][:3], ids=name)
def test_the_largest_uniform_number_stays_in_the_last_bin(
    law: Law, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 1 - 2.0**-24
    monkeypatch.setitem(pairs.SOURCES, "iid", lambda key, count: jnp.full(count, largest))
    sample = jax.jit(jax.vmap(lambda levels, n: law.sample(jax.random.key(0), levels, n, 1)[0]))
    last = np.asarray(sample(grids(), jnp.asarray(NS)))
    assert (last <= np.asarray(NS) - 2).all()
    np.testing.assert_array_equal(last[:4], np.asarray(NS[:4]) - 2)


SHORT = [UniformPairs(), LognormalPairs(sampling="sorted"), LAWS[-2]]


@cache
def short_sample(law: Law) -> Callable:
    """33 jitted draws from levels padded to 40."""
    return jax.jit(lambda key, levels, n: law.sample(key, levels, n, 33))


@pytest.mark.takes_a_second
@pytest.mark.parametrize("law", SHORT[1:], ids=name)
def test_same_draws_with_and_without_jit_and_vmap(law: Law) -> None:
    key, levels, n = jax.random.key(3), karras_levels(20, length=40), jnp.int32(20)
    jitted = short_sample(law)(key, levels, n)
    mapped = jax.vmap(short_sample(law))(key[None], levels[None], n[None])[0]
    np.testing.assert_array_equal(jitted, mapped)
    np.testing.assert_array_equal(jitted, law.sample(key, levels, n, 33))


@pytest.mark.takes_a_second
def test_the_key_decides() -> None:
    levels, n = karras_levels(20, length=40), jnp.int32(20)
    draws = [np.asarray(short_sample(SHORT[0])(jax.random.key(i), levels, n)) for i in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.takes_a_second
@settings(deadline=None, max_examples=25, derandomize=True)
@given(seed=st.integers(0, 2**31 - 1), n=st.integers(2, 40))
def test_indices_are_always_pairs_of_real_levels(seed: int, n: int) -> None:
    levels = karras_levels(n, length=40)
    for law in SHORT:
        index = np.asarray(short_sample(law)(jax.random.key(seed), levels, jnp.int32(n)))
        assert index.shape == (33,)
        assert index.min() >= 0
        assert index.max() <= n - 2
        assert (np.diff(np.asarray(levels))[index] > 0).all()
        if isinstance(law, LognormalPairs):
            assert (np.diff(index) >= 0).all()


@pytest.mark.takes_a_second
def test_one_trace_serves_a_whole_curriculum() -> None:
    curriculum = sinusoidal(s0=20, s1=250, total_steps=1000)
    grid = PredefinedGrid(table_size=251)
    traces = []

    @jax.jit
    def step(k: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        traces.append(k)
        n = curriculum(k)
        levels = grid(n)
        laws = (LognormalPairs(), PolynomialPairs())
        i = jnp.concatenate([law.sample(key, levels, n, 128) for law in laws])
        return n, levels[i], levels[i + 1]

    for k, count in curriculum.plateaus:
        n, low, high = step(jnp.int32(k), jax.random.fold_in(jax.random.key(0), k))
        assert int(n) == count
        assert (np.asarray(low) < np.asarray(high)).all()
        assert float(high.max()) <= 80
    assert len(traces) == 1


@pytest.mark.takes_a_second
def test_a_warp_that_rounds_to_one_draws_the_last_pair_at_most() -> None:
    """0.5 + u / 2 of the largest float32 below 1 is 1, and an index past the end is a level."""
    levels = karras_levels(11, length=16)
    draws = jax.jit(lambda key: [law.sample(key, levels, 11, 8, jnp.ones_like) for law in LAWS])
    for law, index in zip(LAWS, draws(jax.random.key(0)), strict=True):
        assert index.max() <= 9, law
        if not isinstance(law, PolynomialPairs):
            np.testing.assert_array_equal(index, 9)


@pytest.mark.parametrize("held", [int, np.int64, np.asarray, jnp.int32])
@pytest.mark.parametrize("law", [UniformPairs(), PolynomialPairs()], ids=name)
def test_a_number_of_levels_that_is_known_is_checked(law: Law, held: Callable) -> None:
    levels = np.float32([0.1, 1.0, 10.0])
    for count in (1, 4):
        for call in (
            lambda n: law.probs(levels, n),
            lambda n: law.paced_probs(levels, n, lambda t: t),
            lambda n: law.sample(jax.random.key(0), levels, n, 4),
        ):
            with pytest.raises(ArgumentError) as error:
                call(held(count))
            assert str(error.value) == f"num_levels={count}: must be from 2 to 3, the levels given"
    np.testing.assert_array_equal(UniformPairs().probs(levels, held(2)), [1, 0])


@pytest.mark.parametrize("law", [UniformPairs(), LognormalPairs(), BetaPairs(), LAWS[-1]], ids=name)
def test_levels_that_descend_are_refused_where_they_are_known(law: Law) -> None:
    for levels in ([80.0, 1.0, 0.1], [0.1, np.nan, 80.0]):
        with pytest.raises(ArgumentError, match=r"levels=float32\[3\]: must be noise levels, asc"):
            law.probs(jnp.asarray(levels), 3)
    # What pads them is of no effect.
    np.testing.assert_array_equal(UniformPairs().probs(np.float32([0.1, 1, 0]), 2), [1, 0])


class PerLevel(CategoricalPairs):
    """One number for each level: the last would be the mass of no pair."""

    def mass(self, levels: jax.Array) -> jax.Array:
        return 1 / levels


class ProbsPerLevel(CategoricalPairs):
    def probs(self, levels: jax.Array, num_levels: int | jax.Array) -> jax.Array:
        return jnp.full(len(levels), 1 / 3)


@pytest.mark.parametrize(("law", "named"), [(PerLevel(), "mass"), (ProbsPerLevel(), "probs")])
def test_a_law_of_ones_own_gives_a_number_for_each_pair(law: CategoricalPairs, named: str) -> None:
    levels = jnp.asarray([0.1, 1.0, 10.0])
    said = rf"^{named}=float32\[3\]: must be of shape \[2\], one number for each pair$"
    with pytest.raises(ArgumentError, match=said):
        law.sample(jax.random.key(0), levels, 3, 4)
    with pytest.raises(ArgumentError, match=said):
        law.paced_probs(levels, 3, lambda t: t)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PolynomialPairs(curve=0.0), "curve=0.0: must be a finite number > 0"),
        (lambda: PolynomialPairs(curve=float("inf")), "curve=inf: must be a finite number > 0"),
        (lambda: PolynomialPairs(curve=float("nan")), "curve=nan: must be a finite number > 0"),
        (
            lambda: PolynomialPairs(variant="papr"),
            "variant='papr': must be one of paper, prototype (did you mean 'paper'?)",
        ),
        (
            lambda: PolynomialPairs(sampling="sobol"),
            "sampling='sobol': must be one of iid, stratified, antithetic, sorted",
        ),
        (lambda: LognormalPairs(p_std=0.0), "p_std=0.0: must be a finite number > 0"),
        (lambda: LognormalPairs(p_mean=float("nan")), "p_mean=nan: must be a finite number"),
        (lambda: BetaPairs(a=-1.0), "a=-1.0: must be a finite number > 0"),
        (lambda: BetaPairs(b=0.0), "b=0.0: must be a finite number > 0"),
        (
            lambda: UniformPairs().probs(np.ones(5, np.float32), 6),
            "num_levels=6: must be from 2 to 5, the levels given",
        ),
        (
            lambda: UniformPairs().probs(np.ones(5, np.float32), jnp.float32(3)),
            "num_levels=float32[]: must be an integer",
        ),
        (
            lambda: UniformPairs().sample(jax.random.key(0), np.ones(5, np.float32), 1, 4),
            "num_levels=1: must be from 2 to 5, the levels given",
        ),
        (
            lambda: PolynomialPairs().sample(jax.random.key(0), np.ones(5, np.float32), 5, 0),
            "count=0: must be at least 1",
        ),
    ],
)
def test_errors_name_the_argument_and_the_range(call: Callable, message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        call()
    assert str(error.value) == message
    assert error.value.argument == message.split("=")[0]


@pytest.mark.takes_a_second
@pytest.mark.parametrize("levels", [20, 251])
def test_no_uniform_draws_a_pair_without_a_probability(levels):
    """A sum of float32 that misses 1 by a rounding leaves nothing to the last pair."""
    grid = karras_levels(levels)
    for law in (BetaPairs(2.0, 60.0), LognormalPairs(-3.0, 0.3)):
        key = jax.random.key(0)
        (index,) = law.sample(key, grid, levels, 1, lambda u: jnp.full_like(u, 1 - 2.0**-24))
        assert law.probs(grid, levels)[index] > 0


@pytest.mark.takes_a_second
@pytest.mark.parametrize("curve, variant", [(4.0, "paper"), (4.0, "prototype"), (0.1, "prototype")])
def test_paced_probabilities_of_a_traced_curve_are_those_of_a_known_one(curve, variant):
    grid, law = karras_levels(1281), PolynomialPairs(curve, variant)
    pacing = HighToLow(10, 0.5)
    known = paced_probs(pacing, law, grid, 1281, (), 5)
    traced = jax.jit(lambda law: paced_probs(pacing, law, grid, 1281, (), 5))(law)
    np.testing.assert_allclose(traced, known, rtol=1e-3, atol=1e-7)
