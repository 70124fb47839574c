import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    CLTS,
    BetaPairs,
    Cosine,
    Difficulty,
    DifficultyState,
    HighToLow,
    Laplace,
    LognormalPairs,
    NoPacing,
    PolynomialPairs,
    Tabulated,
    UniformPairs,
    ascending,
    iid,
    karras_levels,
    mixture,
    paced_probs,
    windowed_uniform,
)

UNEVEN = Difficulty(clusters=3, patience=2, partition=(0.0, 0.2, 0.7, 1.0))
# A pacing, and the training step at which it is looked at.
PACINGS = {
    "none": (NoPacing(), 7),
    "clts at 0": (CLTS(ramp_steps=100), 0),
    "clts": (CLTS(ramp_steps=100, max_weight=1.0), 60),
    "clts, all Gaussian": (CLTS(ramp_steps=100, mu=0.9, sig=0.1, max_weight=1.0), 200),
    "difficulty": (Difficulty(clusters=5), 0),
    "difficulty, own partition": (UNEVEN, 0),
    "high to low": (HighToLow(total_steps=100), 30),
    "high to low, at the end": (HighToLow(total_steps=100), 1000),
}
LAWS = {
    "cosine": Cosine(),
    "truncated": Laplace(0.0, 0.5).truncated(-3.0, 4.0),
    "mixture": mixture([Laplace(0.0, 0.5), Cosine()], [0.9, 0.1]),
    "tabulated": Tabulated([-5.0, 0.0, 5.0], [0.1, 1.0, 0.2]),
}
PAIRS = {
    "uniform": UniformPairs(),
    "lognormal": LognormalPairs(),
    "beta": BetaPairs(),
}


@pytest.fixture(scope="module", params=["float32", "float64"])
def warped(request):
    """All pacings in one compilation: dtype, u, and by name u', F(u'), log p(u'), d u'/du."""
    with jax.enable_x64(request.param == "float64"):
        u = jnp.asarray(np.concatenate([[0.0, 1e-6], (np.arange(200) + 0.5) / 200]), request.param)
        u = jnp.append(u, 1 - jnp.finfo(u.dtype).epsneg)

        def one(pacing, u, step):
            state = pacing.init()
            t, pull = jax.vjp(lambda u: pacing.warp(u, state, step), u)
            cdf, log_prob = pacing.cdf(t, state, step), pacing.log_prob(t, state, step)
            return t, cdf, log_prob, pull(jnp.ones_like(u))[0]

        steps = {name: jnp.asarray(step, jnp.int32) for name, (_, step) in PACINGS.items()}
        out = jax.jit(lambda u, steps: {n: one(p, u, steps[n]) for n, (p, _) in PACINGS.items()})(
            u, steps
        )
        assert all(x.dtype == u.dtype for x in jax.tree.leaves(out))
        out = jax.tree.map(lambda x: np.asarray(x, np.float64), out)
    return request.param, np.asarray(u, np.float64), out


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", PACINGS)
def test_warp_is_an_inverse_cdf(warped, name):
    dtype, u, out = warped
    t, cdf, log_prob, slope = out[name]
    np.testing.assert_allclose(cdf, u, atol=2e-6 if dtype == "float32" else 1e-14)
    assert (np.diff(t) >= 0).all()
    assert t.min() >= 0
    assert t.max() < 1
    inner = slice(2, -1)
    np.testing.assert_allclose(
        1 / slope[inner], np.exp(log_prob[inner]), rtol=1e-4 if dtype == "float32" else 1e-12
    )


@pytest.mark.takes_a_second
def test_without_pacing_nothing_moves(warped):
    _, u, out = warped
    for name in ("none", "clts at 0", "high to low, at the end"):
        t, cdf, log_prob, _ = out[name]
        np.testing.assert_array_equal(t[1:], u[1:])
        np.testing.assert_array_equal(cdf[1:], u[1:])
        np.testing.assert_array_equal(log_prob, 0)
        assert t[0] < 1e-12


@pytest.mark.parametrize("sig", [0.1, 0.2, 0.3, 1.0])
def test_clts_is_the_stated_mixture(sig):
    pacing = CLTS(ramp_steps=50, sig=sig, max_weight=0.6)
    t = np.linspace(0, 1, 101)
    gaussian = stats.truncnorm(-0.3 / sig, 0.7 / sig, 0.3, sig)
    with jax.enable_x64(True):
        evaluate = jax.jit(lambda t, k: (pacing.log_prob(t, (), k), pacing.cdf(t, (), k)))
        for step, weight in [(0, 0.0), (5, 0.1), (30, 0.6), (1000, 0.6)]:
            log_prob, cdf = evaluate(t, jnp.asarray(step))
            density = np.exp(log_prob)
            assert density.min() >= 1 - weight - 1e-12
            np.testing.assert_allclose(density, weight * gaussian.pdf(t) + 1 - weight, rtol=1e-9)
            np.testing.assert_allclose(cdf, weight * gaussian.cdf(t) + (1 - weight) * t, atol=1e-14)
        np.testing.assert_array_equal(
            evaluate(np.asarray([-0.01, 1.01]), jnp.asarray(9))[0], -np.inf
        )


@pytest.mark.takes_a_second
def test_clts_draws():
    pacing = CLTS(ramp_steps=100, sig=0.1, max_weight=0.7)
    t = np.asarray(pacing.warp(iid(jax.random.key(0), 4000), (), 90), np.float64)
    gaussian = stats.truncnorm(-3, 7, 0.3, 0.1)
    assert stats.kstest(t, lambda t: 0.7 * gaussian.cdf(t) + 0.3 * t).pvalue > 1e-3


def plain_python(losses, clusters, patience):
    """The difficulty curriculum with an `if` for every sentence of its definition."""
    stage, best, bad, seen = 1, np.inf, 0, []
    for loss in losses:
        if loss < best:
            best, bad = loss, 0
        elif np.isfinite(loss):
            bad += 1
        if bad >= patience and stage < clusters:
            stage, best, bad = stage + 1, np.inf, 0
        seen.append((stage, best, bad))
    return seen


@pytest.mark.parametrize("clusters, patience", [(4, 3), (20, 1), (1, 2)])
def test_difficulty_under_scan_follows_plain_python(clusters, patience):
    pacing = Difficulty(clusters=clusters, patience=patience)
    rng = np.random.default_rng(0)
    losses = (np.linspace(2, 1, 150) + rng.normal(size=150)).astype(np.float32)
    losses[40] = np.nan

    def body(state, loss):
        state = pacing.update(state, pacing.observe(jnp.zeros(1), loss[None]))
        return state, (state, pacing.window(state, 0))

    last, (seen, (lo, hi)) = jax.jit(lambda xs: jax.lax.scan(body, pacing.init(), xs))(losses)
    expected = plain_python(losses, clusters, patience)
    np.testing.assert_array_equal(np.stack(seen, axis=1), np.asarray(expected, np.float32))
    stages = np.asarray([stage for stage, _, _ in expected])
    np.testing.assert_allclose(lo, 1 - stages / clusters, atol=1e-7)
    np.testing.assert_array_equal(hi, 1)
    assert int(last.stage) == clusters
    assert jax.tree.map(jnp.shape, last) == DifficultyState((), (), ())
    assert [x.dtype for x in last] == [jnp.int32, jnp.float32, jnp.int32]


def test_difficulty_advances_after_patience_bad_steps_in_a_row():
    pacing = Difficulty(clusters=3, patience=2)
    state, stages = pacing.init(), []
    for loss in (1.0, 1.5, 0.9, 1.0, 0.9, 5.0, 4.0, 4.0, 4.0, 4.0, 4.0):
        state = pacing.update(state, pacing.observe(jnp.zeros(1), jnp.asarray([loss])))
        stages.append(int(state.stage))
    # The second bad step in a row is the fifth, 0.9 being no new best; 4.0 counts from 4.0 on.
    assert stages == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_moves_no_stage(bad):
    pacing = Difficulty(clusters=3, patience=1)
    first = pacing.update(pacing.init(), pacing.observe(jnp.zeros(1), jnp.asarray([2.0])))
    for state in (pacing.init(), first):
        after = pacing.update(state, pacing.observe(jnp.zeros(2), jnp.asarray([bad, 1.0])))
        assert jax.tree.map(float, after) == jax.tree.map(float, state)
        assert [x.dtype for x in after] == [jnp.int32, jnp.float32, jnp.int32]
    # Nothing was seen at all.
    assert int(pacing.update(first, pacing.observe(jnp.zeros(0), jnp.zeros(0))).stage) == 1
    worse = pacing.update(first, pacing.observe(jnp.zeros(1), jnp.asarray([3.0])))
    assert int(worse.stage) == 2


def test_a_first_stage_of_a_few_numbers_of_float32_is_refused():
    Difficulty(clusters=2, partition=(0.0, 1 - 2e-6, 1.0))
    for last in (1 - 5e-7, 1.0):
        with pytest.raises(ArgumentError, match="a noisiest cluster of at least 1e-06 of the"):
            Difficulty(clusters=2, partition=(0.0, last, 1.0))


@pytest.mark.takes_a_second
def test_difficulty_goes_from_noisy_to_clean():
    lam = {}
    u = iid(jax.random.key(0), 512)
    for stage in (1, 2, 3):
        state = UNEVEN.init()._replace(stage=jnp.asarray(stage, jnp.int32))
        lam[stage] = np.asarray(Cosine().inverse_survival(UNEVEN.warp(u, state, 0)))
    ends = np.asarray(Cosine().inverse_survival(jnp.asarray([0.7, 0.2])))
    assert lam[1].max() <= ends[0] + 1e-6
    assert ends[0] < lam[2].max() <= ends[1] + 1e-6
    assert lam[3].max() > ends[1]
    assert lam[1].min() < -10


def test_high_to_low_only_widens():
    pacing = HighToLow(total_steps=50, width=0.25)
    lo, hi = jax.vmap(lambda step: pacing.window((), step))(jnp.arange(70))
    np.testing.assert_allclose(lo[:51], 0.75 * (1 - np.arange(51) / 50), atol=1e-7)
    np.testing.assert_array_equal(lo[50:], 0)
    np.testing.assert_array_equal(hi, 1)
    assert pacing.update(pacing.init(), pacing.observe(jnp.zeros(1), jnp.ones(1))) == ()


COMPOSED = ("none", "clts", "difficulty, own partition", "high to low")


@pytest.fixture(scope="module")
def paced_lambda():
    """Every law over lambda under every pacing, in one compilation."""

    def draw(key):
        u, out = ascending(key, 1000), {}
        for name in COMPOSED:
            pacing, step = PACINGS[name]
            state = pacing.init()
            t = pacing.warp(u, state, step)
            for law_name, law in LAWS.items():
                lam = law.inverse_survival(t)
                log_prob = law.log_prob(lam) + pacing.log_prob(t, state, step)
                out[law_name, name] = lam, log_prob, pacing.cdf(law.survival(lam), state, step)
        return out

    return jax.jit(draw)(jax.random.key(0))


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("law", LAWS)
def test_every_pacing_composes_with_laws_over_lambda(paced_lambda, law, name):
    lam, log_prob, cdf = (np.asarray(x, np.float64) for x in paced_lambda[law, name])
    assert np.isfinite(lam).all()
    # Stratified draws of the right law have uniform ranks, one in each stratum.
    np.testing.assert_allclose(cdf, (np.arange(1000) + 0.5) / 1000, atol=0.51e-3)
    # The stated density: between neighbouring draws lies the mass by which their ranks differ.
    mass = -np.diff(lam) * (np.exp(log_prob)[1:] + np.exp(log_prob)[:-1]) / 2
    np.testing.assert_allclose(mass[5:-5].sum(), cdf[-6] - cdf[5], rtol=1e-3)


@pytest.fixture(scope="module")
def paced_pairs():
    """Every pair law under every pacing, for two numbers of levels, in one compilation."""
    u = ascending(jax.random.key(1), 2000)

    @jax.jit
    def evaluate(levels, num_levels):
        plain = {law_name: law.probs(levels, num_levels) for law_name, law in PAIRS.items()}
        out = {}
        for name in COMPOSED:
            pacing, step = PACINGS[name]
            state = pacing.init()
            paced = {
                law_name: paced_probs(pacing, law, levels, num_levels, state, step)
                for law_name, law in PAIRS.items()
            }
            out[name] = pacing.warp(u, state, step), plain, paced
        return out

    levels = {n: jnp.append(karras_levels(n), jnp.full(21 - n, 80.0)) for n in (11, 21)}
    out = {n: evaluate(grid, jnp.asarray(n, jnp.int32)) for n, grid in levels.items()}
    return jax.tree.map(lambda x: np.asarray(x, np.float64), out)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", COMPOSED)
@pytest.mark.parametrize("num_levels", [11, 21])
@pytest.mark.parametrize("law", PAIRS)
def test_every_pacing_composes_with_pair_laws(paced_pairs, num_levels, name, law):
    t, plain, paced = paced_pairs[num_levels][name]
    probs, paced = plain[law], paced[law]
    np.testing.assert_allclose(paced.sum(), 1, rtol=1e-6)
    assert paced.min() >= 0
    assert (paced[probs == 0] == 0).all()
    if name == "none":
        np.testing.assert_allclose(paced, probs, atol=1e-6)
    # Drawing from p by inverse CDF at the warped u is drawing from the paced law.
    index = np.searchsorted(np.cumsum(probs)[: num_levels - 2], t, side="right")
    share = np.bincount(index, minlength=20) / len(t)
    np.testing.assert_allclose(share, paced, atol=2 / len(t))


@pytest.mark.takes_a_second
@pytest.mark.parametrize("variant", ["paper", "prototype"])
def test_a_polynomial_sweep_is_paced_before_its_jitter(variant):
    """Under a pacing the law is that of many draws, and no warp of the plain one."""
    count, num_levels = 200_000, 31
    law = PolynomialPairs(curve=2.5, variant=variant, sampling="iid")
    levels = karras_levels(num_levels, length=40)

    @jax.jit
    def evaluate():
        out = {}
        for name in COMPOSED:
            pacing, step = PACINGS[name]
            state = pacing.init()

            def warp(u, pacing=pacing, state=state, step=step):
                return pacing.warp(u, state, step)

            def cdf(t, pacing=pacing, state=state, step=step):
                return pacing.cdf(t, state, step)

            index = law.sample(jax.random.key(7), levels, num_levels, count, warp)
            # What a law that is drawn by inverse CDF would be.
            warped = UniformPairs.paced_probs(law, levels, num_levels, cdf)
            out[name] = index, law.paced_probs(levels, num_levels, cdf), warped
        return out, law.probs(levels, num_levels)

    found, plain = jax.tree.map(np.asarray, evaluate())
    np.testing.assert_allclose(found["none"][1], plain, atol=2e-5)
    for name, (index, exact, warped) in found.items():
        np.testing.assert_allclose(exact.sum(), 1, rtol=1e-6)
        assert not exact[num_levels - 1 :].any()
        seen = np.bincount(index, minlength=39)
        pool = exact * count > 5
        expected = np.append(exact[pool], exact[~pool].sum() + 1e-9).astype(np.float64)
        observed = np.append(seen[pool], seen[~pool].sum())
        p = stats.chisquare(observed, count * expected / expected.sum()).pvalue
        assert p > 1e-3, name
        distance = np.abs(seen / count - warped).sum() / 2
        assert (distance > 0.02) == (name != "none")


def test_windowed_uniform_never_reaches_one():
    u = jnp.asarray([0.0, 0.5, 1 - 2.0**-24], jnp.float32)
    for lo in (0.0, 0.3, 0.95, 0.999):
        moved = windowed_uniform(u, lo, 1.0)
        assert moved.dtype == jnp.float32
        assert float(moved[-1]) == 1 - 2.0**-24
        np.testing.assert_allclose(moved[:2], [lo, (1 + lo) / 2], rtol=1e-6)


@pytest.mark.takes_a_second
@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.integers(0, 300), st.floats(0.0, 1.0), st.floats(0.05, 1.0), st.floats(0.0, 0.999))
def test_clts_stays_in_range(step, mu, sig, u):
    pacing = CLTS(ramp_steps=100, mu=mu, sig=sig, max_weight=0.9)
    step = jnp.asarray(step, jnp.int32)
    t = pacing.warp(jnp.asarray(u, jnp.float32), (), step)
    assert 0 <= t < 1
    np.testing.assert_allclose(pacing.cdf(t, (), step), u, atol=1e-5)
    assert pacing.log_prob(t, (), step) >= np.log(0.0999)


@pytest.mark.parametrize(
    "argument, make",
    [
        ("ramp_steps", lambda: CLTS(ramp_steps=0)),
        ("mu", lambda: CLTS(1, mu=1.1)),
        ("sig", lambda: CLTS(1, sig=0.0)),
        ("max_weight", lambda: CLTS(1, max_weight=-0.1)),
        ("clusters", lambda: Difficulty(clusters=0)),
        ("patience", lambda: Difficulty(patience=0)),
        ("partition", lambda: Difficulty(clusters=2, partition=(0.0, 1.0))),
        ("partition", lambda: Difficulty(clusters=2, partition=(0.0, 0.5, 0.9))),
        ("partition", lambda: Difficulty(clusters=3, partition=(0.0, 0.5, 0.4, 1.0))),
        ("partition", lambda: Difficulty(clusters=2, partition=(0.0, 1.0, 1.0))),
        ("total_steps", lambda: HighToLow(total_steps=0)),
        ("width", lambda: HighToLow(10, width=0.0)),
    ],
)
def test_arguments_out_of_range_are_named(argument, make):
    with pytest.raises(ArgumentError) as error:
        make()
    assert error.value.argument == argument


def test_a_wide_gaussian_is_the_uniform_law():
    t = jnp.array([0.0, 0.25, 0.5, 1.0])
    for sig in (1e3, 1e6, 1e8):
        np.testing.assert_allclose(CLTS(1, sig=sig).cdf(t, (), 5), t, atol=1e-6)


def test_a_window_that_float32_does_not_hold_is_refused():
    HighToLow(10, 1e-6)
    with pytest.raises(ArgumentError, match=r"width=1e-08: must be a number in \[1e-06, 1\]"):
        HighToLow(10, 1e-8)
