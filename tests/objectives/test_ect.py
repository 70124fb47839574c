"""Easy consistency tuning: what is drawn, and its losses where the answer is a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    Adaptive,
    Cauchy,
    Cosine,
    HighToLow,
    Laplace,
    Normal,
    ShrinkingGap,
    Uniform,
)
from jaxnoise.objectives import (
    DenoisingObjective,
    ECTObjective,
    Pairs,
    Prediction,
    edm_weight,
    l2,
    squared_l2,
)
from jaxnoise.objectives.parameterization import edm_preconditioning, over_pixels

LAW = Normal(mean=2.2, std=4.0)
GAP = ShrinkingGap(total_steps=800)
KEY = jax.random.key(1)
SPREAD = 0.7  # of Gaussian data


def pairs(lo, hi):
    return Pairs(sigma_lo=jnp.atleast_1d(lo), sigma_hi=jnp.atleast_1d(hi))


@pytest.mark.takes_a_second
def test_sigma_is_lognormal_and_its_partner_the_gap_s():
    objective = ECTObjective(LAW, GAP, sampling="iid")
    drawn = objective.draw(KEY, KEY, step=350, count=20_000)
    log_sigma = np.log(np.asarray(drawn.sigma_hi, np.float64))
    assert stats.kstest(log_sigma, stats.norm(-1.1, 2.0).cdf).pvalue > 0.01
    np.testing.assert_array_equal(drawn.sigma_lo, GAP(drawn.sigma_hi, 350))
    np.testing.assert_allclose(
        drawn.log_prob, stats.norm(2.2, 4.0).logpdf(drawn.lam), rtol=1e-4, atol=1e-4
    )
    assert drawn.importance is None


@pytest.mark.takes_a_second
def test_a_pacing_moves_the_law_and_may_be_compensated():
    objective = ECTObjective(LAW, GAP, pacing=HighToLow(100, width=0.25))
    drawn = objective.draw(KEY, KEY, step=0, count=512)
    # The noisiest quarter of the law.
    assert float(drawn.lam.max()) <= stats.norm(2.2, 4.0).ppf(0.25) + 1e-3
    np.testing.assert_allclose(drawn.log_prob - LAW.log_prob(drawn.lam), np.log(4), rtol=1e-4)

    adaptive = ECTObjective(LAW, GAP, pacing=Adaptive(bins=8, warmup_steps=1, range=(-8.0, 12.0)))
    assert adaptive.pacing.compensate
    pace = adaptive.pacing.init()
    seen = adaptive.observe(drawn.sigma_hi, {}, drawn)
    for _ in range(3):
        pace = adaptive.pacing.update(pace, seen)
    drawn = adaptive.draw(KEY, KEY, step=3, count=512, pace=pace)
    ratio = jnp.exp(LAW.log_prob(drawn.lam) - drawn.log_prob)
    np.testing.assert_allclose(drawn.importance, ratio, rtol=1e-4)
    assert float(jnp.ptp(drawn.importance)) > 0.1


@pytest.mark.takes_a_second
@pytest.mark.parametrize("step", [0, 799])
def test_loss_of_a_known_function(step):
    """f = c_skip x for a network of zeros: each number of the loss is written out."""
    with jax.enable_x64(True):
        x0, eps = np.random.RandomState(0).randn(2, 5, 4, 4, 2)
        hi = np.geomspace(0.01, 50, 5)
        lo = np.asarray(GAP(jnp.asarray(hi), step))
        found = ECTObjective(LAW, GAP).losses(
            lambda x, c_noise: 0 * x,
            lambda x, c_noise: 0 * x,
            {},
            *map(jnp.asarray, (x0, eps)),
            pairs(lo, hi),
        )
    off = sum(
        sign * (0.25 / (sigma**2 + 0.25) * (x0.T + sigma * eps.T)).T
        for sign, sigma in ((1, hi), (-1, lo))
    )
    expected = np.sqrt(np.sum(off**2, axis=(1, 2, 3))) / (hi - lo)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_the_function_of_edm_s_weights_is_edm_s_denoiser():
    x, sigma = jax.random.normal(KEY, (3, 4, 4, 2)), jnp.array([0.01, 0.5, 80.0])

    def network(x, c_noise):
        return jnp.sin(x + over_pixels(c_noise, x))

    edm = DenoisingObjective(LAW, edm_weight(0.5), Prediction("edm", 0.5)).denoiser(network)
    tuned = ECTObjective(LAW, GAP).denoiser(network)
    np.testing.assert_allclose(tuned(x, sigma), edm(x, sigma), rtol=1e-6, atol=1e-7)


def test_without_noise_the_target_is_the_image():
    objective = ECTObjective(LAW, GAP)
    x0, eps = jax.random.normal(KEY, (2, 2, 4, 4, 2))
    hi, seen = jnp.array([0.3, 2.0]), []

    def teacher(x, c_noise):
        seen.append(c_noise)
        return jnp.full_like(x, jnp.nan)

    def losses(scale):
        def student(x, c_noise):
            return scale * x * over_pixels(c_noise, x)

        found = objective.losses(student, teacher, {}, x0, eps, pairs(jnp.zeros(2), hi))
        estimate = objective.denoiser(student)(x0 + over_pixels(hi, x0) * eps, hi)
        return found, l2(estimate, x0) / hi

    found, expected = losses(0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isfinite(jax.grad(lambda scale: losses(scale)[0].sum())(0.5))
    # Not at the logarithm of 0, which may be an error and not only no number.
    assert all(np.isfinite(c_noise).all() for c_noise in seen)


def levels_of_gaussians(nodes=24):
    """x0 ~ N(0, SPREAD^2) and eps ~ N(0, 1) of one pixel, as nodes and weights that sum to 1."""
    at, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    x0, eps = np.meshgrid(SPREAD * at, at, indexing="ij")
    x0, eps = (jnp.asarray(x.reshape(-1, 1, 1, 1)) for x in (x0, eps))
    return x0, eps, jnp.asarray(np.outer(weights, weights).reshape(-1))


def denoiser(sigma):
    return SPREAD**2 / (SPREAD**2 + sigma**2)


def consistent(sigma):
    return SPREAD / jnp.sqrt(SPREAD**2 + sigma**2)


def slope_at(function, lo, hi):
    """d / dc E[loss] at c = 0 for the student f (1 + c), whose teacher is f; squared distance."""
    with jax.enable_x64(True):
        return _slope_at(function, lo, hi)


def _slope_at(function, lo, hi):
    objective = ECTObjective(LAW, GAP, distance=squared_l2)
    x0, eps, weights = levels_of_gaussians()

    def network(x, c_noise, c):
        # The raw network that the preconditioning turns into `function`.
        sigma = jnp.exp(4 * c_noise)
        factors = edm_preconditioning(sigma, 0.5)
        wanted = (1 + c) * function(sigma)
        return over_pixels((wanted - factors.c_skip) / (factors.c_out * factors.c_in), x) * x

    def loss(c):
        full = pairs(jnp.full(len(x0), lo), jnp.full(len(x0), hi))
        student, teacher = (lambda x, s, c=c: network(x, s, c) for c in (c, 0.0))
        return jnp.sum(weights * objective.losses(student, teacher, {}, x0, eps, full))

    return float(jax.grad(loss)(0.0))


@pytest.mark.takes_a_second
def test_the_consistency_function_of_gaussian_data_is_stationary_to_the_order_of_the_gap():
    for sigma in (0.2, 1.5):
        slopes = []
        for gap in (0.2, 0.1, 0.05, 0.025):
            lo = sigma * (1 - gap)
            found = slope_at(consistent, lo, sigma)
            # 2 E[(f_hi - f_lo) f_hi] / (hi - lo), with E[x_hi x_lo] = s^2 + hi lo.
            both = [SPREAD / (SPREAD**2 + s**2) ** 0.5 for s in (sigma, lo)]
            expected = 2 * both[0] * both[0] * (SPREAD**2 + sigma**2)
            expected -= 2 * both[0] * both[1] * (SPREAD**2 + sigma * lo)
            np.testing.assert_allclose(found, expected / (sigma - lo), rtol=1e-9)
            slopes.append(found)
        ratios = np.divide(slopes[:-1], slopes[1:])
        np.testing.assert_allclose(ratios[-1], 2, rtol=0.05)
        assert (np.abs(np.diff(ratios)) < 0.4).all()


@pytest.mark.takes_a_second
def test_with_the_image_as_target_the_denoiser_is_stationary():
    for sigma in (0.2, 1.5):
        assert abs(slope_at(denoiser, 0.0, sigma)) < 1e-12
        assert slope_at(consistent, 0.0, sigma) > 1e-2


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_losses_are_wide_whatever_the_images_are(dtype):
    objective = ECTObjective(LAW, GAP)
    x0, eps = jax.random.normal(KEY, (2, 2, 4, 4, 2)).astype(dtype)
    levels = objective.draw(KEY, KEY, step=700, count=2)
    losses = objective.losses(lambda x, c: x / 2, lambda x, c: x / 2, {}, x0, eps, levels)
    assert losses.dtype == jnp.float32
    assert np.isfinite(losses).all()


def test_the_distance_is_a_norm_whose_gradient_has_one_size():
    a = jax.random.normal(KEY, (3, 4, 4, 2))
    b = jnp.concatenate([a[:1], a[1:] + jnp.array([1e-3, 10.0]).reshape(-1, 1, 1, 1)])
    np.testing.assert_allclose(l2(a, b), np.sqrt(32) * np.array([0, 1e-3, 10]), rtol=2e-4)
    slope = jax.grad(lambda a: l2(a, b).sum())(a)
    sizes = np.sqrt(np.sum(np.square(slope), axis=(1, 2, 3)))
    np.testing.assert_allclose(sizes, [0, 1, 1], rtol=1e-5)


def test_what_is_trained_on_is_known_beforehand():
    low, high = ECTObjective(LAW, GAP).trained_range
    quantile = stats.norm(2.2, 4.0).ppf(1e-6)
    np.testing.assert_allclose([low, high], [quantile, 4.4 - quantile], rtol=1e-5)
    paced = ECTObjective(LAW, GAP, pacing=HighToLow(100, width=0.1), total_steps=1)
    assert paced.trained_range[1] < stats.norm(2.2, 4.0).ppf(0.1) + 1e-3


def test_the_record_tells_how_near_the_levels_are():
    objective = ECTObjective(LAW, GAP)
    found = [float(objective.metrics(step)["relative_gap"]) for step in (0, 100, 799)]
    widened = 1 + 8 / (1 + np.exp(10))
    np.testing.assert_allclose(found, widened * np.array([1 / 2, 1 / 4, 1 / 256]), rtol=1e-4)


@pytest.mark.parametrize(
    ("argument", "settings"),
    [
        ("law", {"law": "normal"}),
        ("law", {"law": Cauchy(mu=0.0, gamma=0.5)}),
        ("law", {"law": Laplace(mu=0.0, b=4.0)}),
        ("gap", {"gap": 0.5}),
        ("gap", {"gap": lambda sigma, step: sigma}),
        ("gap", {"gap": lambda sigma, step: sigma - 1}),
        ("gap", {"gap": lambda sigma, step: 0.5}),
        # A gap that has closed by the end, as floats have it, and one that is lost in large levels.
        ("gap", {"gap": lambda s, k: s - s * jnp.exp2(-1 - k.astype(s.dtype)), "total_steps": 100}),
        ("gap", {"gap": lambda s, step: s - 1e-3, "law": LAW.shifted(-20.0)}),
        ("law", {"law": Uniform(lo=-40.0, hi=40.0)}),
        # Its tails go where no batch of the paper's law does.
        ("law", {"law": Cauchy(mu=0.0, gamma=1e-4)}),
        ("distance", {"distance": 2}),
        ("weight", {"weight": 1.0}),
        ("sigma_data", {"sigma_data": 0.0}),
        ("sampling", {"sampling": "even"}),
        ("pacing.statistic", {"pacing": Adaptive("entropy_rate", range=(-8.0, 8.0))}),
    ],
)
def test_what_does_not_belong_is_refused(argument, settings):
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        ECTObjective(**{"law": Cosine(), "gap": GAP} | settings)


def test_a_gap_is_asked_about_batches_and_fails_where_it_is_used():
    def of_batches(sigma, step):
        return jax.vmap(lambda one: one / 2)(sigma)

    def failing(sigma, step):
        raise KeyError("boo")

    assert float(ECTObjective(LAW, of_batches).metrics(0)["relative_gap"]) == 0.5
    objective = ECTObjective(LAW, failing)
    with pytest.raises(KeyError, match="boo"):
        objective.draw(KEY, KEY, step=0, count=2)


def test_a_law_that_is_cut_off_is_taken():
    law = Cauchy(mu=0.0, gamma=0.5).truncated(-20.0, 20.0)
    assert ECTObjective(law, GAP).trained_range == pytest.approx((-20, 20), abs=0.1)
