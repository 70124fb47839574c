"""Laws that learn themselves, against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    Adaptive,
    BetaPairs,
    Cosine,
    Laplace,
    LognormalPairs,
    PolynomialPairs,
    Tabulated,
    Uniform,
    UniformPairs,
    karras_levels,
    mixture,
    paced_probs,
    pair_survival,
)
from jaxnoise.noise.adaptive import STATISTICS, AdaptiveState, LevelSums
from jaxnoise.noise.uniforms import SOURCES

BINS, RANGE = 8, (-6.0, 4.0)
LAWS = {
    "uniform": Uniform(*RANGE),
    "cosine": Cosine(),
    "truncated": Laplace(0.0, 2.0).truncated(-7.0, 5.0),
    "mixture": mixture([Laplace(0.0, 0.5), Cosine()], [0.5, 0.5]),
    "tabulated": Tabulated([-6.0, 0.0, 5.0], [0.1, 1.0, 0.2]),
}
TOTALS = np.array([4.0, 0.5, 2.0, 0.0, 0.0, 9.0, 3.0, 1.0])
EXAMPLES = np.array([2.0, 1.0, 4.0, 1.0, 0.0, 3.0, 1.0, 1.0])
"""Of eight bins, one whose statistic is 0 and one that was never hit."""


def adaptive(**given):
    return Adaptive(**{"bins": BINS, "warmup_steps": 5, "range": RANGE, "floor": 0.1} | given)


def state_of(pacing, totals=TOTALS, examples=EXAMPLES):
    recent = LevelSums(jnp.asarray(totals, jnp.float32), jnp.asarray(examples, jnp.float32))
    longer = LevelSums(1.5 * recent.total, recent.examples)
    return AdaptiveState(recent, None if pacing.init().longer is None else longer)


def plain(statistic, mass, floor):
    """The masses of the bins, by the formula."""
    seen = EXAMPLES > 0
    mean = TOTALS[seen] / EXAMPLES[seen]
    g = np.zeros(BINS)
    g[seen] = {"loss": mean, "entropy_rate": mean, "progress": 0.5 * mean}.get(
        statistic, np.sqrt(mean)
    )
    common = (mass > 0).astype(float) if statistic == "entropy_rate" else mass
    g[~seen] = (common * g)[seen].sum() / common[seen].sum()
    return (1 - floor) * common * g / (common * g).sum() + floor * mass


@pytest.fixture(scope="module", params=["float32", "float64"])
def moved(request):
    """Every law under two floors, in one compilation: u, and by name u', F(u'), ln p(u'), slope."""
    dtype, floors = request.param, (0.0, 0.1)
    with jax.enable_x64(dtype == "float64"):
        u = jnp.asarray(np.concatenate([[0.0, 1e-6], (np.arange(400) + 0.5) / 400]), dtype)
        u = jnp.append(u, 1 - jnp.finfo(u.dtype).epsneg)

        @jax.jit
        def all_of_them(u):
            out = {}
            for floor in floors:
                pacing = adaptive(floor=floor, compensate=False)
                state = state_of(pacing)
                survivals = {name: law.survival for name, law in LAWS.items()}
                for name, survival in survivals.items():
                    now = pacing.on(survival)
                    t, pull = jax.vjp(lambda u, now=now, s=state: now.warp(u, s, 5), u)
                    cdf, log_prob = now.cdf(t, state, 5), now.log_prob(t, state, 5)
                    edges = now.cdf(now.edges.astype(u.dtype), state, 5)
                    mass = jnp.diff(now.edges)
                    out[name, floor] = t, cdf, log_prob, pull(jnp.ones_like(u))[0], mass, edges
            return out

        out = jax.tree.map(lambda x: np.asarray(x, np.float64), all_of_them(u))
    return dtype, np.asarray(u, np.float64), out


@pytest.mark.takes_a_second
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_warp_is_an_inverse_cdf_and_its_masses_are_the_formula_s(moved, law, floor):
    dtype, u, out = moved
    t, cdf, log_prob, slope, mass, edges = out[law, floor]
    exact = dtype == "float64"
    np.testing.assert_allclose(cdf, u, atol=1e-13 if exact else 3e-6)
    assert (np.diff(t) >= 0).all()
    assert t.min() >= 0
    assert t.max() < 1
    # An end of a bin has two slopes.
    inner = np.abs(edges[:, None] - u).min(axis=0) > 1e-6
    inner[[0, -1]] = False
    tolerance = 1e-9 if exact else 1e-3
    np.testing.assert_allclose(1 / slope[inner], np.exp(log_prob[inner]), rtol=tolerance)
    np.testing.assert_allclose(
        np.diff(edges), plain("loss", mass, floor), atol=1e-7 if exact else 1e-6
    )
    if floor:
        # What compensates is bounded by it.
        assert np.exp(-log_prob).max() <= 1 / floor * (1 + 1e-5)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_every_statistic_follows_its_formula(statistic):
    pacing = adaptive(statistic=statistic)
    now = pacing.on(LAWS["truncated"].survival)
    drawn = np.diff(now.cdf(now.edges, state_of(pacing), 5))
    mass = np.asarray(jnp.diff(now.edges), np.float64)
    np.testing.assert_allclose(drawn, plain(statistic, mass, 0.1), atol=2e-7)
    # Nothing to go by, nothing is moved.
    nothing = state_of(pacing, totals=np.zeros(BINS))
    np.testing.assert_array_equal(now.warp(0.37, nothing, 5), jnp.float32(0.37))


@pytest.mark.takes_a_second
def test_a_bin_that_float32_cannot_draw_from_has_no_share_of_its_own():
    """Its draws would all be one level; Laplace's law has 1e-9 of its mass above 10."""
    law = Laplace(0.0, 0.5)
    pacing = Adaptive(bins=20, range=(-10.0, 10.0), statistic="entropy_rate", warmup_steps=1)
    even = LevelSums(jnp.ones(20), jnp.ones(20))
    now = pacing.on(law.survival)
    u = jnp.asarray((np.arange(20_000) + 0.5) / 20_000, jnp.float32)
    lam = law.inverse_survival(now.warp(u, AdaptiveState(even, None), 5))
    levels, counts = np.unique(np.asarray(lam), return_counts=True)
    assert counts.max() < 100
    assert levels.max() > 6


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_of_uniforms_is_paced(source):
    law, pacing = LAWS["truncated"], adaptive()
    now, state = pacing.on(law.survival), state_of(pacing)
    lam = law.sample(jax.random.key(3), 3000, source, lambda u: now.warp(u, state, 5))
    place = np.searchsorted(-pacing.edges[1:-1], -np.asarray(lam), side="right")
    expected = plain("loss", np.asarray(jnp.diff(now.edges), np.float64), 0.1)
    observed = np.bincount(place, minlength=BINS)
    pvalue = stats.chisquare(observed, 3000 * expected / expected.sum()).pvalue
    # Strata are more even than chance, and mirrored draws come in pairs.
    assert pvalue > (0.99 if source in ("stratified", "sorted") else 1e-3)


def test_examples_are_added_up_by_their_level():
    pacing = adaptive()
    lam = jnp.asarray([4.0, 99.0, 2.76, 2.75, 0.0, -5.0, -99.0])
    values = jnp.asarray([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    sums = pacing.observe(lam, values)
    # Cleanest first; the end of a bin belongs to the noisier one.
    assert sums.total.tolist() == [7.0, 8.0, 0.0, 16.0, 0.0, 0.0, 0.0, 96.0]
    assert sums.examples.tolist() == [3.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0]
    np.testing.assert_array_equal(pacing.edges, np.linspace(4, -6, 9))


def test_averages_are_bias_corrected_and_an_empty_bin_keeps_its_own():
    pacing = adaptive(statistic="progress", bins=2, rate=0.5)
    state = pacing.init()
    clean, noisy = jnp.asarray([1.0]), jnp.asarray([-3.0])
    state = pacing.update(state, pacing.observe(clean, jnp.asarray([8.0])))
    np.testing.assert_array_equal(state.recent.average(), [8.0, 0.0])
    for _ in range(3):
        state = pacing.update(state, pacing.observe(noisy, jnp.asarray([3.0])))
    np.testing.assert_array_equal(state.recent.average(), [8.0, 3.0])
    state = pacing.update(state, pacing.observe(clean, jnp.asarray([2.0])))
    # (8 / 2 + 2) / (1 / 2 + 1), and the longer average forgets ten times as slowly.
    np.testing.assert_allclose(state.recent.average(), [4.0, 3.0], rtol=1e-6)
    np.testing.assert_allclose(state.longer.average()[0], (0.95 * 8 + 2) / 1.95, rtol=1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(pacing.init())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sum_that_is_not_finite_moves_nothing_but_is_got_over(bad):
    """An average would keep it for ever: the law would be the law alone, or NaN."""
    pacing = adaptive(statistic="progress", bins=4, warmup_steps=1)
    lam = jnp.asarray([3.0, 2.5, 0.0, -2.0, -5.0])
    losses = jnp.asarray([1.0, 3.0, 5.0, 2.0, 4.0])
    first = pacing.update(pacing.init(), pacing.observe(lam, losses))
    spoiled = pacing.update(first, pacing.observe(lam, losses.at[0].set(bad) / 2))
    # The first two examples share the bin.
    without = pacing.update(first, pacing.observe(lam[2:], losses[2:] / 2))
    for found, expected in zip(jax.tree.leaves(spoiled), jax.tree.leaves(without), strict=True):
        np.testing.assert_array_equal(found, expected)
    now, t = pacing.on(LAWS["truncated"].survival), jnp.linspace(0.01, 0.99, 50)
    importance = np.exp(-np.asarray(now.log_prob(t, spoiled, 1)))
    assert np.isfinite(importance).all()
    assert importance.std() > 0.1
    after = pacing.update(spoiled, pacing.observe(lam, losses / 2))
    np.testing.assert_allclose(after.recent.average()[0], (0.99 * 2 + 1) / 1.99, rtol=1e-6)


@pytest.mark.takes_a_second
def test_a_warm_up_is_plain_to_the_bit():
    pacing = adaptive()
    now, state = pacing.on(Cosine().survival), state_of(pacing)
    u = jax.random.uniform(jax.random.key(0), (64,))
    np.testing.assert_array_equal(now.warp(u, state, 4), u)
    np.testing.assert_array_equal(now.cdf(u, state, 4), u)
    np.testing.assert_array_equal(now.log_prob(u, state, 4), 0)
    assert (np.asarray(now.warp(u, state, 5)) != u).all()


@pytest.mark.takes_a_second
@pytest.mark.parametrize("law", [UniformPairs(), LognormalPairs(), BetaPairs()], ids=str)
def test_pairs_of_every_grid_read_one_statistic(law):
    """What a level has learned stays with it when N(k) changes."""
    pacing = Adaptive(bins=BINS, warmup_steps=1, floor=0.1, range=(-8.8, 12.5))
    state = state_of(pacing)

    @jax.jit
    def probs(num_levels):
        levels = karras_levels(num_levels, length=40)
        plain = law.probs(levels, num_levels)
        mass = jnp.diff(pacing.on(pair_survival(levels, plain)).edges)
        return levels, plain, paced_probs(pacing, law, levels, num_levels, state, 5), mass

    for num_levels in (7, 19, 40):
        levels, alone, drawn, mass = map(np.asarray, probs(jnp.int32(num_levels)))
        place = np.searchsorted(-pacing.edges[1:-1], 2 * np.log(levels[1:]), side="right")
        share = np.bincount(place, alone.astype(np.float64), minlength=BINS)
        np.testing.assert_allclose(mass, share, atol=1e-6)
        ratio = plain("loss", share, 0.1) / np.where(share > 0, share, 1)
        np.testing.assert_allclose(drawn, ratio[place] * alone, atol=3e-6)
        np.testing.assert_allclose(drawn.sum(), 1, rtol=1e-6)


@pytest.mark.takes_a_second
def test_pairs_that_a_sweep_draws_are_paced():
    num_levels, count = 40, 8000
    law = PolynomialPairs(curve=2.0)
    pacing = Adaptive(bins=BINS, warmup_steps=1, floor=0.1, range=(-8.8, 12.5))
    state, levels = state_of(pacing), karras_levels(num_levels)
    now = pacing.on(pair_survival(levels, law.probs(levels, num_levels)))
    index = law.sample(
        jax.random.key(0), levels, num_levels, count, lambda u: now.warp(u, state, 5)
    )
    exact = paced_probs(pacing, law, levels, num_levels, state, 5)
    seen = np.bincount(index, minlength=num_levels - 1) / count
    assert np.abs(seen - exact).sum() / 2 < 0.03
    assert np.abs(law.probs(levels, num_levels) - exact).sum() / 2 > 0.1


@pytest.mark.takes_a_second
def test_the_record_holds_the_law_in_few_numbers():
    pacing = Adaptive(bins=60, range=(-6.0, 6.0), warmup_steps=1)
    metrics = pacing.on(Cosine().survival).metrics(pacing.init(), 0)
    assert len(metrics) == 25
    middles = np.array([float(name.removeprefix("law/")) for name in metrics])
    assert (np.diff(middles) < 0).all()
    density = np.array(list(metrics.values()))
    # Parts of two and three bins of 0.2; the law is even.
    widths = np.diff(np.linspace(0, 60, 26).round()) / 5
    np.testing.assert_allclose((density * widths).sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(density[4:-4], np.exp(Cosine().log_prob(middles))[4:-4], rtol=0.02)
    assert Adaptive(range=(-1.0, 1.0), bins=2).on(Cosine().survival).metrics(
        adaptive(bins=2).init(), 0
    ).keys() == {"law/0.5", "law/-0.5"}


@pytest.mark.parametrize(
    "argument, given",
    [
        ("statistic", {"statistic": "losses"}),
        ("bins", {"bins": 0}),
        ("bins", {"bins": 2.0}),
        ("rate", {"rate": 1.0}),
        ("warmup_steps", {"warmup_steps": 0}),
        ("floor", {"floor": 1.0}),
        ("floor", {"floor": -0.1}),
        ("floor", {"floor": 0.0, "compensate": True}),
        ("floor", {"floor": "0.2"}),
        ("rate", {"rate": None}),
        ("rate", {"rate": np.array([0.1, 0.2])}),
        ("range", {"range": 5.0}),
        ("range", {"range": "12"}),
        ("range", {"range": (1.0, 1.0)}),
        ("range", {"range": (0.0, float("inf"))}),
        ("range", {"range": (float("nan"), 1.0)}),
        # Levels of sigma, which a law without ends would take.
        ("range", {"range": (0.002, 80.0)}),
        ("range", {"range": (0.0, 1.0, 2.0)}),
    ],
)
def test_arguments_outside_their_range(argument, given):
    with pytest.raises(ArgumentError, match=f"^{argument}=") as refused:
        adaptive(**given)
    assert "\n" not in str(refused.value)


def test_a_range_is_that_of_the_law_or_within_it():
    free = Adaptive(bins=4)
    assert free.within(lambda: (-3.0, 5.0)).range == (-3.0, 5.0)
    assert free.within(lambda: (-50.0, 60.0)).range == (-40.0, 40.0)
    assert adaptive().within(lambda: (-np.inf, 4.0)) == adaptive()
    with pytest.raises(ArgumentError, match=r"^pacing.range=None: must be given under a law"):
        free.within(lambda: (-3.0, np.inf))
    with pytest.raises(ArgumentError, match=r"^pacing.range=\(-6.0, 4.0\): must be within .* -5 "):
        adaptive().within(lambda: (-5.0, np.inf))
    with pytest.raises(ArgumentError, match=r"^range=None: must be given where no objective"):
        free.observe(jnp.zeros(1), jnp.zeros(1))
    with pytest.raises(ArgumentError, match=r"^values="):
        adaptive().observe(jnp.zeros(2), jnp.zeros(1))
    with pytest.raises(ArgumentError, match=r"^lam="):
        adaptive().observe(jnp.float32(0), jnp.float32(1))


@pytest.mark.takes_a_second
def test_levels_of_half_precision_are_placed_and_added_up_in_single():
    """In bfloat16 3.3 is 3.297, beside an edge at 3.3, and 256 ones and a half are 256."""
    pacing = Adaptive(range=(-3.3, 9.9), bins=2)
    lam = jnp.full(257, 3.3, jnp.bfloat16)
    values = jnp.ones(257, jnp.bfloat16).at[-1].set(0.5)
    sums = pacing.observe(lam, values)
    np.testing.assert_array_equal(sums.total, [0, 256.5])
    np.testing.assert_array_equal(pacing.observe(lam.tolist(), values.tolist()).total, [0, 256.5])
    whole = Adaptive(range=(-0.9, 0.9), bins=6).observe(jnp.asarray([0]), jnp.asarray([2]))
    np.testing.assert_array_equal(whole.total, [0, 0, 0, 2, 0, 0])
