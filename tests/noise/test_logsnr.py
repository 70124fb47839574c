"""Every law over lambda, closed-form or composed, against scipy in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    Cauchy,
    Cosine,
    Laplace,
    LinearBeta,
    LinearPath,
    LogitNormal,
    Normal,
    Tabulated,
    Uniform,
    mixture,
    window,
)

T = (0.01, 0.1, 0.25, 0.5)
VECTORS = {
    "cosine": (Cosine(), 8.3070, 3.6855, 1.7627, 0),
    "laplace": (Laplace(0.0, 0.5), 1.9560, 0.8047, 0.3466, 0),
    "cauchy": (Cauchy(0.0, 0.5), 15.9103, 1.5388, 0.5, 0),
    "cosine-scaled": (Cosine().scaled(2.0), 4.1535, 1.8427, 0.8814, 0),
    "linear path": (LinearPath(), 9.1902, 4.3944, 2.1972, 0),
    "edm": (Normal(2.4, 2.4), 7.9832, 5.4757, 4.0188, 2.4),
}

HYPSECANT, LOGISTIC = stats.hypsecant(scale=2), stats.logistic(scale=2)
NODES = np.linspace(-6.0, 4.0, 41)
DENSITY = np.exp(-np.abs(NODES) / 2) * (1 + 0.5 * np.sin(NODES))


def between(cdf, lo, hi):
    return lambda x: (np.clip(cdf(x), lo, hi) - lo) / (hi - lo)


def tabulated_cdf(x):
    fine = np.linspace(NODES[0], NODES[-1], 40 * 500 + 1)
    density = np.interp(fine, NODES, DENSITY)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(x, fine, mass / mass[-1])


def linear_beta_cdf(x):
    """1 - t, where the integral of beta up to t is ln(1 + e^-x)."""
    total = np.logaddexp(0, -np.asarray(x, np.float64))
    t = (np.sqrt(0.1**2 + 2 * 19.9 * total) - 0.1) / 19.9
    return np.clip(1 - t, 0, 1)


# Unbounded laws: exact relative accuracy in both tails.
OPEN = {
    "cosine": (Cosine(), HYPSECANT.cdf),
    "linear path": (LinearPath(), LOGISTIC.cdf),
    "laplace": (Laplace(1.0, 0.75), stats.laplace(1, 0.75).cdf),
    "cauchy": (Cauchy(-1.0, 0.5), stats.cauchy(-1, 0.5).cdf),
    "edm": (Normal(2.4, 2.4), stats.norm(2.4, 2.4).cdf),
    "logit-normal": (LogitNormal(0.5, 0.8), stats.norm(-1, 1.6).cdf),
    "shifted": (Cosine().shifted(3.0), lambda x: HYPSECANT.cdf(x - 3)),
    "scaled": (LinearPath().scaled(0.5), lambda x: LOGISTIC.cdf(x / 2)),
    "mixture": (
        mixture([Laplace(0.0, 0.5), Cosine()], [0.95, 0.05]),
        lambda x: 0.95 * stats.laplace(0, 0.5).cdf(x) + 0.05 * HYPSECANT.cdf(x),
    ),
    "mixture with a gap": (
        mixture([Normal(-9.0, 1.0), Cauchy(9.0, 0.5)], [1.0, 3.0]),
        lambda x: 0.25 * stats.norm(-9).cdf(x) + 0.75 * stats.cauchy(9, 0.5).cdf(x),
    ),
}
# Laws with an end, where a float next to the end keeps few digits of the tail.
CLOSED = {
    "linear beta": (LinearBeta(), linear_beta_cdf),
    "uniform": (Uniform(-5.0, 13.0), stats.uniform(-5, 18).cdf),
    "tabulated": (Tabulated(NODES, DENSITY), tabulated_cdf),
    "truncated": (
        Laplace(0.0, 0.5).truncated(-3.0, 2.0),
        between(stats.laplace(0, 0.5).cdf, *stats.laplace(0, 0.5).cdf([-3, 2])),
    ),
    "truncated on one side": (
        Cauchy(0.0, 1.0).truncated(-np.inf, 5.0),
        between(stats.cauchy(0, 1).cdf, 0.0, stats.cauchy(0, 1).cdf(5)),
    ),
    "window": (window(Cosine(), 0.25, 0.75), between(HYPSECANT.cdf, 0.25, 0.75)),
    "noisy window": (window(Normal(), 0.95, 1.0), between(stats.norm(2.4, 2.4).cdf, 0.0, 0.05)),
    "all at once": (
        window(mixture([Cosine(), Laplace(1.0, 0.5).truncated(-1.0, 4.0)]), 0.1, 1.0)
        .scaled(2.0)
        .shifted(-1.0),
        between(
            lambda x: (
                0.5 * HYPSECANT.cdf(2 * (x + 1))
                + 0.5
                * between(stats.laplace(1, 0.5).cdf, *stats.laplace(1, 0.5).cdf([-1, 4]))(
                    2 * (x + 1)
                )
            ),
            0.0,
            0.9,
        ),
    ),
}
LAWS = OPEN | CLOSED


def grid(dtype):
    """t from 2^-23 to 1 - 2^-23, dense at both ends."""
    small = 2.0 ** -np.arange(1, 24)
    return jnp.asarray(
        np.sort(np.concatenate([small, 1 - small[1:], np.arange(1, 20) / 20.3])), dtype
    )


def extremes(dtype):
    """0, 1, tiny numbers, and the floats next to both ends."""
    floor = jnp.finfo(dtype).eps / 2
    near = np.arange(1, 40) * float(floor)
    return jnp.asarray(np.concatenate([[0.0, 1.0, 1e-45, 1e-30], near, 1 - near]), dtype)


@pytest.fixture(scope="module", params=["float32", "float64"])
def evaluated(request):
    """All laws in one compilation, on the grid: dtype, t, and by name lambda, the two tails,
    log p, d lambda/dt and dt/d lambda; and at the extremes: lambda and log p."""
    with jax.enable_x64(request.param == "float64"):
        t = grid(request.param)

        def one(law, t, far):
            lam, pull = jax.vjp(law.inverse_survival, t)
            _, pull_survival = jax.vjp(law.survival, lam)
            ones = jnp.ones_like(t)
            far_lam = law.inverse_survival(far)
            inner = law.tails(lam), law.log_prob(lam), pull(ones)[0], pull_survival(ones)[0]
            return (lam, *inner), (far_lam, law.log_prob(far_lam))

        run = jax.jit(lambda *ts: {name: one(law, *ts) for name, (law, _) in LAWS.items()})
        both = run(t, extremes(request.param))
        both = jax.tree.map(lambda x: np.asarray(x, np.float64), both)
    inner = {name: values[0] for name, values in both.items()}
    outer = {name: values[1] for name, values in both.items()}
    return request.param, np.asarray(t, np.float64), inner, outer


@pytest.fixture(scope="module")
def drawn():
    """Every law from every source in one compilation."""
    laws = {name: law for name, (law, _) in LAWS.items()}

    def draw(key):
        return {
            source: {name: law.sample(key, 4000, source) for name, law in laws.items()}
            for source in ("iid", "stratified", "antithetic")
        }

    return jax.tree.map(lambda x: np.asarray(x, np.float64), jax.jit(draw)(jax.random.key(3)))


@pytest.mark.parametrize("name", VECTORS)
def test_published_values(name):
    law, *expected = VECTORS[name]
    lam = np.asarray(law.inverse_survival(jnp.asarray(T)))
    np.testing.assert_allclose(lam, expected, atol=6e-5)
    mirrored = np.asarray(law.inverse_survival(1 - jnp.asarray(T)))
    np.testing.assert_allclose(mirrored - expected[-1], expected[-1] - lam, atol=6e-5)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", LAWS)
def test_round_trip(evaluated, name):
    dtype, t, out, _ = evaluated
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    survival, cdf = out[name][1]
    np.testing.assert_allclose(survival, t, atol=tolerance, rtol=0)
    np.testing.assert_allclose(cdf, 1 - t, atol=tolerance, rtol=0)
    if name in OPEN:
        np.testing.assert_allclose(np.minimum(survival, cdf), np.minimum(t, 1 - t), rtol=tolerance)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", LAWS)
def test_inverse_survival_is_the_quantile(evaluated, name):
    dtype, t, out, _ = evaluated
    # The reference itself holds 1 - cdf(x) to 1e-16 only, and the table to 1e-7.
    tolerance = 1e-6 if dtype == "float32" or name == "tabulated" else 1e-12
    np.testing.assert_allclose(LAWS[name][1](out[name][0]), 1 - t, atol=tolerance)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", LAWS)
def test_density_is_minus_dt_dlambda(evaluated, name):
    dtype, _, out, _ = evaluated
    tolerance = 2e-5 if dtype == "float32" else 1e-11
    lam, _, log_prob, slope, survival_slope = out[name]
    density = np.exp(log_prob)
    assert (density > 0).all()
    np.testing.assert_allclose(-1 / slope, density, rtol=tolerance)
    # The derivative of a clipped tail is one-sided at the ends of the support.
    inside = (lam > lam.min()) & (lam < lam.max())
    np.testing.assert_allclose(-survival_slope[inside], density[inside], rtol=tolerance)
    assert (np.diff(lam) <= 0).all()


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", LAWS)
def test_density_is_the_slope_of_the_exact_cdf(evaluated, name):
    _, t, out, _ = evaluated
    inside = (t > 0.05) & (t < 0.95)
    lam, log_prob = out[name][0][inside], out[name][2][inside]
    h, tolerance = (1e-3, 2e-3) if name == "tabulated" else (1e-5, 1e-5)
    cdf = LAWS[name][1]
    slope = (cdf(lam + h) - cdf(lam - h)) / (2 * h)
    # Where the density jumps or kinks, the difference quotient sees both sides.
    smooth = np.abs(slope - (cdf(lam + h / 2) - cdf(lam - h / 2)) / h) < tolerance * slope / 10
    assert smooth.sum() > 10
    np.testing.assert_allclose(np.exp(log_prob)[smooth], slope[smooth], rtol=tolerance)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", LAWS)
def test_kolmogorov_smirnov(drawn, name):
    cdf = LAWS[name][1]
    assert stats.kstest(drawn["iid"][name], cdf).pvalue > 1e-3
    # A stratum each: the empirical CDF cannot be further off than one stratum.
    assert stats.kstest(drawn["stratified"][name], cdf).statistic < 1.01 / 4000
    pairs = drawn["antithetic"][name].reshape(-1, 2)
    assert stats.kstest(pairs[:, 0], cdf).pvalue > 1e-3
    np.testing.assert_allclose(cdf(pairs[:, 0]) + cdf(pairs[:, 1]), 1, atol=1e-6)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("law", [Laplace(0.0, 0.5), Cauchy(0.0, 0.5), Cosine().shifted(-4.0)])
def test_both_tails_are_drawn_with_the_same_frequency(law):
    count, share = 2**20, 1e-4
    lam = np.asarray(jax.jit(lambda key: law.sample(key, count))(jax.random.key(0)))
    clean, noisy = np.asarray(law.inverse_survival(jnp.asarray([share, 1 - share])))
    expected = share * count
    assert abs((lam > clean).sum() - expected) < 3.3 * np.sqrt(expected)
    assert abs((lam < noisy).sum() - expected) < 3.3 * np.sqrt(expected)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_tail_that_rounds_away_in_t_is_drawn_right(sign):
    # In float32 the survival of -9 is exactly 1: only the other tail tells -9 from -11.
    lo, hi = sorted([sign * 9.0, sign * 11.0])
    lam = Normal(0.0, 1.0).truncated(lo, hi).sample(jax.random.key(1), 4000, "stratified")
    exact = stats.truncnorm(9, 11)
    assert stats.kstest(sign * np.asarray(lam, np.float64), exact.cdf).statistic < 1e-3


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", LAWS)
def test_finite_at_every_float(evaluated, name):
    *_, out = evaluated
    lam, log_prob = out[name]
    assert np.isfinite(lam).all()
    assert np.isfinite(log_prob).all()
    # 0 stands for the cell below the first uniform number, whose middle is the fourth entry.
    # Up to rounding, which need not be the same at every place of a vector.
    few_ulp = 4 * np.finfo(evaluated[0]).eps * abs(lam.max())
    assert np.ptp([lam[0], lam[2], lam[3], lam[4], lam.max()]) <= few_ulp
    assert lam[1] == lam[4 + 39] == lam.min()


def test_outside_of_0_to_1_is_nan():
    t = np.float32([-1e-7, 1.0000001, np.nan])
    assert np.isnan(Cosine().inverse_survival(t)).all()


@pytest.mark.takes_a_second
def test_log_prob_and_tails_do_not_overflow():
    lam = np.float32([-300.0, -60.0, 60.0, 300.0])
    for law, exact in [
        (Cosine(), HYPSECANT),
        (LinearPath(), LOGISTIC),
        (Cauchy(0.0, 1.0), stats.cauchy),
    ]:
        np.testing.assert_allclose(law.log_prob(lam), exact.logpdf(lam.astype(float)), rtol=1e-5)
        survival, cdf = law.tails(lam)
        np.testing.assert_allclose(survival[1:3], exact.sf(lam[1:3].astype(float)), rtol=1e-5)
        np.testing.assert_allclose(cdf[1:3], exact.cdf(lam[1:3].astype(float)), rtol=1e-5)
        assert np.isfinite(jax.vmap(jax.grad(law.survival))(lam)).all()
    np.testing.assert_allclose(
        Normal(0.0, 1.0).survival(np.float32([5.0, 8.0])), stats.norm.sf([5, 8]), rtol=1e-5
    )


@pytest.mark.takes_a_second
def test_resolution_shift_of_stable_diffusion_3():
    shift, t = 3.0, np.linspace(0.02, 0.98, 9, dtype=np.float32)
    shifted_time = shift * t / (1 + (shift - 1) * t)
    np.testing.assert_allclose(
        LinearPath().shifted(-2 * np.log(shift)).inverse_survival(t),
        LinearPath().inverse_survival(shifted_time),
        atol=2e-5,
    )
    np.testing.assert_allclose(
        LogitNormal(0.25, 1.5).shifted(-2 * np.log(shift)).inverse_survival(t),
        LogitNormal(0.25 + np.log(shift), 1.5).inverse_survival(t),
        atol=2e-5,
    )


def test_linear_beta_is_ddpm_s_table_in_continuous_time():
    """DDPM's 1,000 betas from 1e-4 to .02 are beta(t) / 1000 with beta from .1 to 20."""
    betas = np.linspace(1e-4, 0.02, 1000)
    log_alpha_bar = np.cumsum(np.log1p(-betas))
    lam = log_alpha_bar - np.log(-np.expm1(log_alpha_bar))
    steps = np.array([99, 299, 499, 899])
    found = LinearBeta().inverse_survival((steps + 1) / 1000)
    np.testing.assert_allclose(found, lam[steps], atol=0.06)
    # The time at which SpeeD's convergence area begins.
    assert LinearBeta().survival(-4.18).item() == pytest.approx(0.642, abs=3e-3)


@pytest.mark.takes_a_second
def test_edm_is_a_normal_law_over_log_sigma():
    lam = Normal(mean=2 * 1.2, std=2 * 1.2).sample(jax.random.key(0), 4000)
    assert stats.kstest(-np.asarray(lam) / 2, stats.norm(-1.2, 1.2).cdf).pvalue > 1e-3


@pytest.mark.takes_a_second
def test_tabulated_follows_its_table():
    nodes = np.linspace(-30, 30, 3001)
    law = Tabulated(nodes, 7 * np.exp(np.asarray(Cosine().log_prob(nodes))))
    t = np.linspace(0.001, 0.999, 50)
    lam = jax.jit(law.inverse_survival)(t)
    np.testing.assert_allclose(lam, Cosine().inverse_survival(t), atol=1e-3)
    holed = Tabulated([0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 0.0, 1.0])
    lam = np.asarray(jax.jit(lambda key: holed.sample(key, 1000, "stratified"))(jax.random.key(0)))
    assert (lam < 1).sum() == 500
    assert not ((lam > 1.001) & (lam < 1.999)).any()
    np.testing.assert_allclose(
        jax.jit(holed.log_prob)(jnp.asarray([1.5, -0.1, 3.1, 0.5])), [-np.inf] * 3 + [np.log(0.5)]
    )


def test_outside_the_support():
    law = Cosine().truncated(-2.0, 3.0)
    np.testing.assert_array_equal(law.log_prob(jnp.asarray([-2.01, 3.01])), -np.inf)
    np.testing.assert_array_equal(law.survival(jnp.asarray([-5.0, -2.0, 3.0, 5.0])), [1, 1, 0, 0])
    np.testing.assert_allclose(law.inverse_survival(jnp.asarray([0.0, 1.0])), [3, -2], atol=1e-5)


@pytest.mark.takes_a_second
def test_the_slope_of_a_mixture_outside_of_its_components_is_none():
    """Between two components and beyond both nothing is drawn, and no weight changes that."""

    def log_prob(weight, lam):
        law = mixture([Uniform(-4.0, -2.0), Uniform(2.0, 5.0)], [weight, 1 - weight])
        return law.log_prob(lam)

    with jax.enable_x64(True):
        inside, all_of_them = jnp.asarray([-3.0, 3.0]), jnp.asarray([0.0, -3.0, 9.0, 3.0])
        found = np.asarray(log_prob(0.3, all_of_them))
        np.testing.assert_array_equal(found[[0, 2]], -np.inf)
        np.testing.assert_allclose(np.exp(found[[1, 3]]), [0.3 / 2, 0.7 / 3], rtol=1e-14)

        def total(weight, lam):
            # A density, and a logarithm that the caller leaves out where it is infinite.
            log = log_prob(weight, lam)
            return jnp.sum(jnp.exp(log)) + jnp.sum(jnp.where(log > -jnp.inf, log, 0))

        slope, alone = (jax.grad(total)(0.3, lam) for lam in (all_of_them, inside))
        # d/dw of w/2 + (1-w)/3 + ln w + ln(1-w).
        expected = 1 / 2 - 1 / 3 + 1 / 0.3 - 1 / 0.7
        np.testing.assert_allclose([slope, alone], expected, rtol=1e-13)


def test_window_ends_are_traced():
    traces = []

    @jax.jit
    def middle(lo, hi):
        traces.append(lo)
        law = window(Cosine(), lo, hi)
        return law.inverse_survival(jnp.asarray(0.5)), law.log_prob(jnp.asarray(0.0))

    for lo, hi in [(0.0, 1.0), (0.25, 1.0), (0.4, 0.8)]:
        lam, log_prob = middle(lo, hi)
        np.testing.assert_allclose(lam, Cosine().inverse_survival((lo + hi) / 2), atol=1e-6)
        np.testing.assert_allclose(log_prob, -np.log(2 * np.pi * (hi - lo)), atol=1e-6)
    assert len(traces) == 1


@pytest.mark.takes_a_second
def test_jit_and_vmap_change_nothing():
    t = grid("float32")
    for law in (Cosine(), LAWS["truncated"][0]):
        eager = law.inverse_survival(t)
        for mapped in (jax.jit(law.inverse_survival), jax.vmap(law.inverse_survival)):
            np.testing.assert_allclose(mapped(t), eager, rtol=1e-6, atol=1e-6)
    assert jax.eval_shape(LAWS["mixture"][0].inverse_survival, t[None]).shape == (1, t.size)
    assert Cosine().log_prob(jnp.float16(1.0)).dtype == jnp.float32


def test_laws_are_hashable_and_compare_by_value():
    for law, _ in LAWS.values():
        assert hash(law) == hash(dataclasses.replace(law))
        assert law == dataclasses.replace(law)
    assert Laplace(0.0, 0.5) != Laplace(0.0, 0.75)


@pytest.mark.takes_a_second
@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    st.sampled_from([Cosine(), LinearPath(), Laplace(0.5, 1.0), Cauchy(0.0, 2.0), Normal()]),
    st.floats(-8, 8),
    st.floats(0.1, 8),
    st.floats(1e-6, 1 - 1e-6),
)
def test_shift_and_scale_move_the_quantiles(law, c, s, t):
    with jax.enable_x64(True):
        moved = law.shifted(c).scaled(s)
        lam = law.inverse_survival(t)
        np.testing.assert_allclose(moved.inverse_survival(t), (lam + c) / s, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moved.survival((lam + c) / s), t, rtol=1e-6)
        np.testing.assert_allclose(
            moved.log_prob((lam + c) / s), law.log_prob(lam) + np.log(s), atol=1e-9
        )


@pytest.mark.parametrize(
    "argument, make",
    [
        ("b", lambda: Laplace(0.0, 0.0)),
        ("mu", lambda: Laplace(np.nan, 1.0)),
        ("gamma", lambda: Cauchy(0.0, -1.0)),
        ("mu", lambda: Cauchy(np.inf, 1.0)),
        ("std", lambda: Normal(0.0, np.inf)),
        ("mean", lambda: Normal(np.nan, 1.0)),
        ("std", lambda: LogitNormal(0.0, 0.0)),
        ("mean", lambda: LogitNormal(np.inf, 1.0)),
        ("s", lambda: Cosine().scaled(0.0)),
        ("c", lambda: Cosine().shifted(np.inf)),
        ("hi", lambda: Cosine().truncated(1.0, 1.0)),
        ("hi", lambda: Normal(0.0, 1.0).truncated(60.0, 70.0)),
        ("lo", lambda: Cosine().truncated(np.inf, np.inf)),
        ("lo", lambda: window(Cosine(), -0.1, 1.0)),
        ("hi", lambda: window(Cosine(), 0.5, 0.5)),
        ("laws", lambda: mixture([])),
        ("weights", lambda: mixture([Cosine()], [0.0])),
        ("weights", lambda: mixture([Cosine()], [0.5, 0.5])),
        ("lam", lambda: Tabulated([0.0, 0.0], [1.0, 1.0])),
        ("density", lambda: Tabulated([0.0, 1.0], [0.0, 0.0])),
        ("density", lambda: Tabulated([0.0, 1.0], [1.0, np.nan])),
        ("sampling", lambda: Cosine().sample(jax.random.key(0), 2, "sobol")),
    ],
)
def test_arguments_out_of_range_are_named(argument, make):
    with pytest.raises(ArgumentError) as error:
        make()
    assert error.value.argument == argument


def test_a_cauchy_of_several_widths_is_each_of_them():
    widths = jnp.array([0.5, 1.0])
    several = Cauchy(0.0, widths)
    for name, value in (("survival", 1.0), ("inverse_survival", 0.2), ("log_prob", 1.0)):
        alone = [getattr(Cauchy(0.0, gamma), name)(value) for gamma in (0.5, 1.0)]
        np.testing.assert_allclose(getattr(several, name)(value), alone, rtol=1e-6)


@pytest.mark.takes_a_second
def test_a_node_of_a_table_keeps_the_whole_gradient():
    law = Tabulated((-2.0, 0.0, 2.0), (0.0, 1.0, 0.0))
    slope = jax.grad(law.inverse_survival)(0.5)
    np.testing.assert_allclose(slope * jnp.exp(law.log_prob(0.0)), -1, rtol=1e-5)
