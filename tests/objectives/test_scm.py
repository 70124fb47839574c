"""Continuous-time consistency: its target where the answer is known, and the limit that it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.models import UNet, preset
from jaxnoise.noise import Adaptive, Cosine, HighToLow, Normal
from jaxnoise.objectives import (
    DenoisingObjective,
    ECTObjective,
    LearnedUncertainty,
    LogSnrLevels,
    Pairs,
    Prediction,
    SCMObjective,
    TangentLevels,
    edm_weight,
    squared_l2,
)
from jaxnoise.objectives.parameterization import edm_preconditioning, over_pixels

LAW = Normal(mean=2.0, std=2.8)
PLAIN = SCMObjective(LAW, normalization=None)
KEY = jax.random.key(1)
SD = 0.5
SPREAD = 0.7  # of Gaussian data
SIGMAS = np.array([0.01, 0.3, 2.0, 60.0])


def levels_at(sigma, warmup=1.0):
    lam = -2 * jnp.log(jnp.asarray(sigma))
    return TangentLevels(lam=lam, warmup=jnp.full_like(lam, warmup))


def network(x, c_noise):
    """Smooth and not linear, each pixel by its neighbours and the level."""
    level = over_pixels(c_noise, x)
    return jnp.tanh(x + 0.3 * jnp.roll(x, 1, axis=1) * level) + 0.2 * jnp.sin(2 * level)


def images(count=4, seed=0):
    return map(jnp.asarray, np.random.RandomState(seed).randn(2, count, 4, 4, 2))


def target_of(objective, model, x0, eps, levels):
    """g, from the loss's gradient by what is added to the student's output."""

    def loss(added):
        def student(x, c):
            return model(x, c) + added

        return objective.losses(student, model, {}, x0, eps, levels).sum()

    return -jax.grad(loss)(jnp.zeros_like(x0)) * (x0[0].size / 2)


def along(model, x0, eps, t):
    """f on the trajectory of x0 and eps, at angles t, written out."""
    cos, sin = over_pixels(jnp.cos(t), x0), over_pixels(jnp.sin(t), x0)
    z = cos * x0 / SD + sin * eps
    return SD * (cos * z + sin * model(z, jnp.log(SD * jnp.tan(t)) / 4))


@pytest.mark.takes_a_second
def test_sigma_is_lognormal_and_the_derivative_comes_in():
    objective = SCMObjective(LAW, warmup_steps=1_000, sampling="iid")
    drawn = objective.draw(KEY, KEY, step=250, count=20_000)
    log_sigma = np.log(np.asarray(drawn.sigma, np.float64))
    assert stats.kstest(log_sigma, stats.norm(-1.0, 1.4).cdf).pvalue > 0.01
    np.testing.assert_allclose(
        drawn.log_prob, stats.norm(2.0, 2.8).logpdf(drawn.lam), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(drawn.warmup, np.full(20_000, 0.25, np.float32))
    assert drawn.importance is None


@pytest.mark.parametrize(
    ("warmup_steps", "step", "r"),
    [(10_000, 0, 0.0), (10_000, 2_500, 0.25), (10_000, 10_000, 1.0), (10_000, 2**31 - 1, 1.0),
     (0, 0, 1.0), (3, 3, 1.0)],
)  # fmt: skip
def test_the_share_of_the_derivative(warmup_steps, step, r):
    objective = SCMObjective(LAW, warmup_steps=warmup_steps)
    assert float(objective.metrics(jnp.int32(step))["tangent_warmup"]) == r
    assert float(objective.draw(KEY, KEY, step, count=1).warmup[0]) == r


@pytest.mark.parametrize("normalization", [None, 0.1])
@pytest.mark.parametrize("r", [0.0, 0.25, 1.0])
def test_loss_of_a_linear_network(normalization, r):
    """F = a z + b c_noise: each number of the loss is written out in NumPy."""
    a, b = 0.6, 1.7
    with jax.enable_x64(True):
        x0, eps = images()
        found = SCMObjective(LAW, normalization=normalization).losses(
            lambda z, c: a * z + b * over_pixels(c, z),
            lambda z, c: a * z + b * over_pixels(c, z),
            {},
            x0,
            eps,
            levels_at(SIGMAS, r),
        )
    x0, eps, t = np.asarray(x0), np.asarray(eps), np.arctan(SIGMAS / SD).reshape(-1, 1, 1, 1)
    z = np.cos(t) * x0 / SD + np.sin(t) * eps
    rise = np.cos(t) * eps - np.sin(t) * x0 / SD
    raw = a * z + b * np.log(SIGMAS).reshape(-1, 1, 1, 1) / 4
    tangent = np.cos(t) * np.sin(t) * a * rise + b / 4
    g = -(np.cos(t) ** 2) * (raw + rise) + r * (np.cos(t) * np.sin(t) * z - tangent)
    g = SD * g
    if normalization:
        size = np.sqrt(np.sum(g**2, axis=(1, 2, 3), keepdims=True)) / np.sqrt(32)
        g = g / (size + normalization)
    np.testing.assert_allclose(found, np.mean(g**2, axis=(1, 2, 3)), rtol=1e-11)


def test_the_target_is_the_functions_derivative_along_its_trajectory():
    with jax.enable_x64(True):
        x0, eps = images()
        t = jnp.arctan(jnp.asarray(SIGMAS) / SD)
        found = target_of(PLAIN, network, x0, eps, levels_at(SIGMAS))
        slope = jax.jvp(lambda t: along(network, x0, eps, t), (t,), (jnp.ones(4),))[1]
        np.testing.assert_allclose(found, -over_pixels(jnp.cos(t), x0) * slope, rtol=1e-9)
        # The derivative is of the function that samples are drawn with.
        sigma = jnp.asarray(SIGMAS)
        drawn = PLAIN.denoiser(network)(x0 + over_pixels(sigma, x0) * eps, sigma)
        np.testing.assert_allclose(drawn, along(network, x0, eps, t), rtol=1e-9, atol=1e-12)


def test_a_normalised_target_has_a_length_below_one():
    x0, eps = images()
    levels = levels_at(SIGMAS)
    plain, found = (
        target_of(SCMObjective(LAW, normalization=c), network, x0, eps, levels) for c in (None, 0.1)
    )
    size = np.sqrt(np.mean(np.square(plain), axis=(1, 2, 3), keepdims=True))
    np.testing.assert_allclose(found, plain / (size + 0.1), rtol=1e-4, atol=1e-6)


@pytest.mark.takes_a_second
def test_a_u_nets_target_is_what_finite_differences_give():
    with jax.enable_x64(True):
        fields = preset("tiny", out_channels=2) | {"model_channels": 8, "num_blocks": 1}
        fields |= {"channel_mult": (1,), "attn_resolutions": (8,)}
        fused, plain = (UNet(**fields, dtype=jnp.float64, fused=f) for f in (True, False))
        x0, eps = (jax.random.normal(k, (2, 8, 8, 2)) for k in jax.random.split(KEY))
        sigma = jnp.array([0.2, 3.0])
        params = fused.init(KEY, x0, sigma)
        # Layers that begin at zero would leave nothing to differentiate.
        params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(KEY, x.shape, x.dtype), params)
        teacher, t, h = (lambda x, c: plain.apply(params, x, c)), jnp.arctan(sigma / SD), 1e-6

        def student(x, c):
            return fused.apply(params, x, c)

        def g(added):
            def moved(x, c):
                return student(x, c) + added

            return PLAIN.losses(moved, teacher, {}, x0, eps, levels_at(sigma)).sum()

        found = -jax.grad(g)(jnp.zeros_like(x0)) * 64
        up, down = (along(student, x0, eps, t + step) for step in (h, -h))
        expected = -over_pixels(jnp.cos(t), x0) * (up - down) / (2 * h)
        np.testing.assert_allclose(found, expected, atol=3e-8 * float(jnp.abs(expected).max()))
        assert float(jnp.abs(expected).max()) > 0.1
        with pytest.raises(ArgumentError, match=r"^teacher=.*UNet\(fused=False\)"):
            PLAIN.losses(student, student, {}, x0, eps, levels_at(sigma))


def test_it_is_the_limit_of_ect_as_the_gap_closes():
    with jax.enable_x64(True):
        x0, eps = images()
        sigma, theta = jnp.asarray(SIGMAS), jnp.array([1.1, -0.4])

        def model(theta):
            return lambda x, c: network(theta[0] * x, c) + theta[1] * over_pixels(c, x)

        def slope(objective, levels):
            teacher = model(theta)
            return jax.jacobian(
                lambda theta: objective.losses(model(theta), teacher, {}, x0, eps, levels)
            )(theta)

        def weight(lo, hi):
            # That of a gap in sigma, as one of -2 cos t df/dt by F.
            angle = jnp.arctan(hi / SD)
            return 1 / ((hi - lo) * jnp.sin(angle) * jnp.cos(angle))

        # squared_l2 is a sum over the numbers of an image, and sCM takes their mean.
        wanted = slope(PLAIN, levels_at(sigma)) * x0[0].size
        off = []
        for gap in (1e-3, 1e-4):
            tuned = ECTObjective(
                LAW, lambda s, step, gap=gap: s * (1 - gap), distance=squared_l2, weight=weight
            )
            found = slope(tuned, Pairs(sigma_lo=sigma * (1 - gap), sigma_hi=sigma))
            off.append(np.abs(np.asarray(found - wanted)))
        scale = np.abs(np.asarray(wanted))
        assert (off[1] < 1e-3 * scale.max()).all()
        # The error is that of a gap, of first order.
        np.testing.assert_allclose(off[0] / off[1], 10, rtol=0.05)


def gaussians(sigma, nodes=24):
    """One pixel x0 ~ N(0, SPREAD^2), eps ~ N(0, 1), by what is seen and what it leaves open."""
    at, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    seen, open_ = np.meshgrid(at, at, indexing="ij")
    total = np.hypot(SPREAD, sigma)
    x0 = SPREAD * (SPREAD * seen + sigma * open_) / total
    eps = (sigma * seen - SPREAD * open_) / total
    arrays = (jnp.asarray(x.reshape(-1, 1, 1, 1)) for x in (x0, eps))
    return *arrays, jnp.asarray(np.outer(weights, weights).reshape(-1, 1, 1, 1))


def raw_of(function):
    """The raw network whose denoiser is `function(sigma) x`."""

    def raw(z, c_noise):
        sigma = jnp.exp(4 * c_noise)
        factors = edm_preconditioning(sigma, SD)
        slope = (function(sigma) - factors.c_skip) / (factors.c_out * factors.c_in)
        return over_pixels(slope, z) * z

    return raw


def denoiser(sigma):
    return SPREAD**2 / (SPREAD**2 + sigma**2)


def consistent(sigma):
    return SPREAD / jnp.sqrt(SPREAD**2 + sigma**2)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("normalization", [None, 0.1])
@pytest.mark.parametrize(
    ("r", "stationary", "other"), [(1.0, consistent, denoiser), (0.0, denoiser, consistent)]
)
def test_gaussian_datas_function_is_stationary(normalization, r, stationary, other):
    """At r = 1 the consistency function, at r = 0 the denoiser: E[g z] = 0, not so the other."""
    objective = SCMObjective(LAW, normalization=normalization)
    with jax.enable_x64(True):
        for sigma in (0.2, 1.5):
            x0, eps, weights = gaussians(sigma)
            levels = levels_at(np.full(len(x0), sigma), r)
            z = Prediction("edm", SD).network_input(x0, eps, levels.lam)
            found = [
                float(jnp.sum(weights * z * target_of(objective, raw_of(f), x0, eps, levels)))
                for f in (stationary, other)
            ]
            assert abs(found[0]) < 1e-12
            assert abs(found[1]) > 1e-2


def test_without_the_derivative_it_is_edms_denoising():
    x0, eps = images()
    levels = levels_at(SIGMAS, warmup=0.0)
    edm = DenoisingObjective(LAW, edm_weight(SD), Prediction("edm", SD))
    plain = LogSnrLevels(lam=levels.lam, log_prob=jnp.zeros(4))

    def slope(objective, levels):
        def loss(scale):
            def student(x, c):
                return scale * network(x, c)

            return objective.losses(student, network, {}, x0, eps, levels)

        return jax.jacfwd(loss)(1.0)

    cos = np.cos(np.arctan(SIGMAS / SD))
    np.testing.assert_allclose(
        slope(PLAIN, levels), SD * cos**2 * slope(edm, plain), rtol=1e-4, atol=1e-6
    )


def test_a_learned_uncertainty_balances_the_levels():
    uncertainty = LearnedUncertainty(harmonics=2)
    objective, plain = (SCMObjective(LAW, uncertainty=u) for u in (uncertainty, None))
    own = objective.init(KEY)
    own["uncertainty"]["bias"] += 0.7
    x0, eps = images()
    levels = levels_at(SIGMAS)
    error = plain.losses(network, network, {}, x0, eps, levels)
    losses = objective.losses(network, network, own, x0, eps, levels)
    np.testing.assert_allclose(losses, error / np.exp(0.7) + 0.7, rtol=1e-6)
    assert plain.init(KEY) == {}
    # Where u = ln L the loss is smallest.
    best = {"uncertainty": own["uncertainty"] | {"bias": jnp.log(error[0])}}
    slope = jax.grad(lambda own: objective.losses(network, network, own, x0, eps, levels)[0])(best)
    np.testing.assert_allclose(slope["uncertainty"]["bias"], 0, atol=1e-6)
    with pytest.raises(ArgumentError, match=r"^own="):
        objective.losses(network, network, {}, x0, eps, levels)


@pytest.mark.takes_a_second
def test_a_pacing_follows_the_errors_alone():
    pacing = Adaptive(bins=4, warmup_steps=1, range=(-8.0, 12.0))
    objective = SCMObjective(LAW, pacing=pacing, uncertainty=LearnedUncertainty())
    own = objective.init(KEY)
    own["uncertainty"]["bias"] += 0.7
    x0, eps = images()
    levels = levels_at(SIGMAS).replace(importance=jnp.array([1.0, 2.0, 0.5, 3.0]))
    losses = objective.losses(network, network, own, x0, eps, levels)
    plain = SCMObjective(LAW, pacing=pacing)
    errors = plain.losses(network, network, {}, x0, eps, levels_at(SIGMAS))
    seen = objective.observe(losses, own, levels)
    expected = plain.observe(errors, {}, levels_at(SIGMAS))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), seen, expected)
    pace = objective.pacing.init()
    for _ in range(3):
        pace = objective.pacing.update(pace, seen)
    drawn = objective.draw(KEY, KEY, step=3, count=512, pace=pace)
    ratio = jnp.exp(LAW.log_prob(drawn.lam) - drawn.log_prob)
    np.testing.assert_allclose(drawn.importance, ratio, rtol=1e-4)
    assert float(jnp.ptp(drawn.importance)) > 0.1


def test_levels_far_out_stay_finite():
    x0, eps = images(count=6)
    lam = jnp.array([-200.0, -80.0, -30.0, 30.0, 80.0, 200.0])
    levels = TangentLevels(lam=lam, warmup=jnp.ones(6))
    losses = SCMObjective(LAW).losses(network, network, {}, x0, eps, levels)
    assert np.isfinite(losses).all()
    assert np.isfinite(target_of(SCMObjective(LAW), network, x0, eps, levels)).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_losses_are_wide_whatever_the_images_are(dtype):
    objective = SCMObjective(LAW)
    x0, eps = (x.astype(dtype) for x in images())

    def half(x, c):
        return network(x, c.astype(x.dtype))

    losses = objective.losses(half, half, {}, x0, eps, levels_at(SIGMAS))
    assert losses.dtype == jnp.float32
    assert np.isfinite(losses).all()


def test_what_is_trained_on_is_known_beforehand():
    low, high = PLAIN.trained_range
    quantile = stats.norm(2.0, 2.8).ppf(1e-6)
    np.testing.assert_allclose([low, high], [quantile, 4.0 - quantile], rtol=1e-5)
    paced = SCMObjective(LAW, pacing=HighToLow(100, width=0.1), total_steps=1)
    assert paced.trained_range[1] < stats.norm(2.0, 2.8).ppf(0.1) + 1e-3


@pytest.mark.parametrize(
    ("argument", "settings"),
    [
        ("law", {"law": "normal"}),
        ("warmup_steps", {"warmup_steps": -1}),
        ("warmup_steps", {"warmup_steps": 2**31}),
        ("warmup_steps", {"warmup_steps": 10.0}),
        ("normalization", {"normalization": 0.0}),
        ("normalization", {"normalization": float("inf")}),
        ("sigma_data", {"sigma_data": 0.0}),
        ("sampling", {"sampling": "even"}),
        ("uncertainty", {"uncertainty": 1.0}),
        ("pacing.statistic", {"pacing": Adaptive("gradient", range=(-8.0, 8.0))}),
    ],
)
def test_what_does_not_belong_is_refused(argument, settings):
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        SCMObjective(**{"law": Cosine()} | settings)


@pytest.mark.parametrize(
    ("argument", "changed"),
    [
        ("student", {"student": 1}),
        ("teacher", {"teacher": lambda x, c: x[:, :2]}),
        ("student", {"student": lambda x, c: x[:, :2]}),
        ("eps", {"eps": jnp.zeros((4, 4, 4, 1))}),
        ("levels", {"levels": LogSnrLevels(lam=jnp.zeros(4), log_prob=jnp.zeros(4))}),
        ("lam", {"levels": levels_at(SIGMAS[:2])}),
        ("warmup", {"levels": TangentLevels(lam=jnp.zeros(4), warmup=jnp.ones(()))}),
    ],
)
def test_losses_of_what_does_not_fit_are_refused(argument, changed):
    x0, eps = images()
    given = {"student": network, "teacher": network, "x0": x0, "eps": eps}
    given |= {"own": {}, "levels": levels_at(SIGMAS)} | changed
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        PLAIN.losses(**given)
