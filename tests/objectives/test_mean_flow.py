"""MeanFlow: its target where the answer is known, and what its times and jumps are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.models import DiT, UNet, preset
from jaxnoise.noise import Adaptive, Cauchy, HighToLow, Normal
from jaxnoise.objectives import LogSnrLevels, MeanFlowObjective, Pairs
from jaxnoise.objectives.mean_flow import time_of
from jaxnoise.objectives.parameterization import over_pixels
from jaxnoise.sampling import one_step

LAW, LOWER = Normal(mean=1.2, std=3.2), Normal(mean=8.0, std=3.2)
PLAIN = MeanFlowObjective(LAW, LOWER, power=0.0)
KEY = jax.random.key(1)
SD = 0.5
SPREAD = 0.7  # of Gaussian data
UNTIL = np.array([0.05, 0.4, 0.8, 0.99])
FROM = np.array([0.05, 0.1, 0.0, 0.3])


def pairs_at(r, t):
    lo, hi = (jnp.asarray(x / (1 - x)) for x in (np.asarray(r), np.asarray(t)))
    return Pairs(sigma_lo=lo, sigma_hi=hi)


def network(x, c_noise):
    """Smooth and not linear, each pixel by its neighbours and the two times."""
    t, gap = (over_pixels(one, x) for one in c_noise.T)
    return jnp.tanh(x + 0.3 * jnp.roll(x, 1, axis=1) * t) + 0.2 * jnp.sin(2 * gap + t)


def images(count=4):
    return map(jnp.asarray, np.random.RandomState(0).randn(2, count, 4, 4, 2))


def mean_velocity(model, z, r, t):
    """u of a raw network, written out."""
    r, t = jnp.broadcast_to(r, z.shape[:1]), jnp.broadcast_to(t, z.shape[:1])
    scale = jnp.sqrt(((1 - t) * SD) ** 2 + t**2)
    return model(z / over_pixels(scale, z), jnp.stack([t, t - r], axis=-1))


@pytest.mark.takes_a_second
def test_times_are_logit_normal_and_jumps_a_share():
    objective = MeanFlowObjective(LAW, LOWER, sampling="iid")
    drawn = objective.draw(KEY, KEY, step=0, count=20_000)
    hi, lo = (np.log(np.asarray(x, np.float64)) for x in (drawn.sigma_hi, drawn.sigma_lo))
    # logit t = ln sigma.
    assert stats.kstest(hi, stats.norm(-0.6, 1.6).cdf).pvalue > 0.01
    np.testing.assert_allclose(
        drawn.log_prob, stats.norm(1.2, 3.2).logpdf(drawn.lam), rtol=1e-4, atol=1e-4
    )
    assert (lo <= hi).all()
    # r = t where no r is drawn, and where it lies above t.
    above = stats.norm(-3.4, np.hypot(1.6, 1.6)).sf(0)
    share = stats.binomtest(int((lo < hi).sum()), 20_000, 0.75 * (1 - above))
    assert share.pvalue > 0.01
    # Far below t the law of r is what was asked for.
    free = lo[(hi > 2) & (lo < hi)]
    assert stats.kstest(free, stats.norm(-4.0, 1.6).cdf).pvalue > 0.01
    assert drawn.importance is None
    for interval, jumps in ((0.0, 0), (1.0, 20_000)):
        drawn = MeanFlowObjective(LAW, LAW.shifted(30.0), interval=interval).draw(
            KEY, KEY, 0, 20_000
        )
        assert int((drawn.sigma_lo < drawn.sigma_hi).sum()) == jumps


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_loss_of_a_linear_network(power):
    """F = a x + b t + d (t - r): each number of the loss is written out in NumPy."""
    a, b, d = 0.6, 1.7, -0.9

    def linear(x, c):
        return a * x + b * over_pixels(c[:, 0], x) + d * over_pixels(c[:, 1], x)

    with jax.enable_x64(True):
        x0, eps = images()
        found = MeanFlowObjective(LAW, LOWER, power=power, offset=0.01).losses(
            linear, linear, {}, x0, eps, pairs_at(FROM, UNTIL)
        )
    x0, eps = np.asarray(x0), np.asarray(eps)
    r, t = (x.reshape(-1, 1, 1, 1) for x in (FROM, UNTIL))
    z, v = (1 - t) * x0 + t * eps, eps - x0
    scale = np.sqrt(((1 - t) * SD) ** 2 + t**2)
    growth = (t - (1 - t) * SD**2) / scale
    rise = a * (v / scale - z * growth / scale**2) + b + d
    off = a * z / scale + b * t + d * (t - r) - (v - (t - r) * rise)
    error = np.sum(off**2, axis=(1, 2, 3))
    np.testing.assert_allclose(found, error / (error + 0.01) ** power, rtol=1e-11)


def test_the_target_is_the_mean_flow_identity():
    """v - (t - r) du/dt with du/dt by finite differences along the path."""
    with jax.enable_x64(True):
        x0, eps = images()
        r, t, h = jnp.asarray(FROM), jnp.asarray(UNTIL), 1e-6

        def loss(added):
            def student(x, c):
                return network(x, c) + added

            return PLAIN.losses(student, network, {}, x0, eps, pairs_at(FROM, UNTIL)).sum()

        def along(t):
            z = over_pixels(1 - t, x0) * x0 + over_pixels(t, x0) * eps
            return mean_velocity(network, z, r, t)

        rise = (along(t + h) - along(t - h)) / (2 * h)
        wanted = eps - x0 - over_pixels(t - r, x0) * rise
        found = jax.grad(loss)(jnp.zeros_like(x0)) / 2
        np.testing.assert_allclose(found, along(t) - wanted, rtol=1e-6, atol=1e-8)


def test_without_jumps_it_is_flow_matching():
    x0, eps = images()
    t = jnp.asarray(UNTIL, jnp.float32)
    found = PLAIN.losses(network, network, {}, x0, eps, pairs_at(UNTIL, UNTIL))
    z = over_pixels(1 - t, x0) * x0 + over_pixels(t, x0) * eps
    off = mean_velocity(network, z, t, t) - (eps - x0)
    np.testing.assert_allclose(found, jnp.sum(off**2, axis=(1, 2, 3)), rtol=1e-4)


def test_the_weight_bends_the_size_of_the_gradient_alone():
    x0, eps = images()

    def slopes(power):
        objective = MeanFlowObjective(LAW, LOWER, power=power)

        def loss(added):
            def student(x, c):
                return network(x, c) + added

            return objective.losses(student, network, {}, x0, eps, pairs_at(FROM, UNTIL)).sum()

        return jax.grad(loss)(jnp.zeros_like(x0))

    plain, weighed = slopes(0.0), slopes(1.0)
    size = np.sum(np.square(plain / 2), axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(weighed, plain / (size + 1e-3), rtol=1e-4, atol=1e-7)


def deviation(t):
    return jnp.sqrt(((1 - t) * SPREAD) ** 2 + t**2)


def exact(z_scale):
    """The raw network whose u is that of Gaussian data, times `z_scale`."""

    def raw(x, c_noise):
        t, gap = c_noise[:, 0], c_noise[:, 1]
        r = t - gap
        # z_r = z_t deviation(r) / deviation(t) along the flow; its slope where r = t.
        safe = jnp.where(gap > 0, gap, 1)
        mean = (1 - deviation(r) / deviation(t)) / safe
        slope = (t - (1 - t) * SPREAD**2) / deviation(t) ** 2
        scale = jnp.sqrt(((1 - t) * SD) ** 2 + t**2)
        return over_pixels(z_scale * jnp.where(gap > 0, mean, slope) * scale, x) * x

    return raw


def gaussians(t, nodes=24):
    """One pixel x0 ~ N(0, SPREAD^2), eps ~ N(0, 1), by what is seen and what it leaves open."""
    at, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    seen, open_ = np.meshgrid(at, at, indexing="ij")
    of_x0, of_eps = (1 - t) * SPREAD, t
    total = np.hypot(of_x0, of_eps)
    x0 = SPREAD * (of_x0 * seen + of_eps * open_) / total
    eps = (of_eps * seen - of_x0 * open_) / total
    arrays = (jnp.asarray(x.reshape(-1, 1, 1, 1)) for x in (x0, eps))
    return *arrays, jnp.asarray(np.outer(weights, weights).reshape(-1))


@pytest.mark.takes_a_second
@pytest.mark.parametrize("power", [0.0, 0.75])
@pytest.mark.parametrize(("r", "t"), [(0.0, 0.9), (0.2, 0.5), (0.6, 0.6)])
def test_the_mean_velocity_of_gaussian_data_is_stationary(power, r, t):
    objective = MeanFlowObjective(LAW, LOWER, power=power)
    with jax.enable_x64(True):
        x0, eps, weights = gaussians(t)
        levels = pairs_at(np.full(len(x0), r), np.full(len(x0), t))

        def slope(z_scale):
            def loss(c):
                def student(x, c_noise):
                    return exact(z_scale)(x, c_noise) + c * x

                found = objective.losses(student, exact(z_scale), {}, x0, eps, levels)
                return jnp.sum(weights * found)

            return float(jax.grad(loss)(0.0))

        assert abs(slope(1.0)) < 1e-12
        assert abs(slope(1.1)) > 1e-2


def test_one_step_jumps_to_the_data():
    """The exact u carries noise at sigma_max to the data's own spread."""
    noise = jax.random.normal(KEY, (2, 4, 4, 1))
    drawn = one_step(PLAIN.denoiser(exact(1.0)), noise, 80.0)
    # z = x / (1 + sigma) keeps its place in its distribution.
    t = 80 / 81
    wanted = SPREAD / np.sqrt(((1 - t) * SPREAD) ** 2 + t**2) * t * noise
    np.testing.assert_allclose(drawn, wanted, rtol=1e-4, atol=1e-5)


def test_the_jump_is_the_identity_without_noise():
    x = jax.random.normal(KEY, (2, 4, 4, 2))
    f = PLAIN.denoiser(network)
    np.testing.assert_allclose(f(x, jnp.full(2, 1e-7)), x, atol=1e-6)
    sigma = jnp.array([0.3, 20.0])
    t = sigma / (1 + sigma)
    z = x / over_pixels(1 + sigma, x)
    wanted = z - over_pixels(t, x) * mean_velocity(network, z, 0.0, t)
    np.testing.assert_allclose(f(x, sigma), wanted, rtol=1e-4, atol=1e-6)
    # With a network of zeros f is z, to the last digits where sigma is large.
    far = jnp.full(2, 1e6)
    found = PLAIN.denoiser(lambda x, c: 0 * x)(over_pixels(1 + far, x) * x, far)
    np.testing.assert_allclose(found, x, rtol=1e-6)


def test_time_has_both_ends():
    np.testing.assert_array_equal(time_of(jnp.array([0.0, 1.0, 3.0, jnp.inf])), [0, 0.5, 0.75, 1])


@pytest.mark.takes_a_second
def test_networks_are_told_as_many_numbers_as_at_their_start():
    fields = preset("tiny", out_channels=1) | {"model_channels": 8, "channel_mult": (1,)}
    transformer = DiT(out_channels=1, hidden_size=16, depth=1, num_heads=2)
    x = jax.random.normal(KEY, (4, 8, 8, 1))
    for model in (UNet(**fields, num_classes=3), transformer):
        labels = jnp.zeros(4, jnp.int32) if model.num_classes else None
        params = jax.jit(model.init)(KEY, x, jnp.zeros((4, 2)), labels)
        params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(KEY, x.shape), params)
        apply = jax.jit(model.apply)
        first, gap, t = (
            apply(params, x, jnp.tile(jnp.array(c), (4, 1)), labels)
            for c in ([0.5, 0.1], [0.5, 0.3], [0.8, 0.1])
        )
        assert min(float(jnp.abs(first - other).max()) for other in (gap, t)) > 1e-3
        with pytest.raises(ArgumentError, match=r"^c_noise="):
            model.apply(params, x, jnp.zeros((3, 2)), labels)


@pytest.mark.takes_a_second
def test_a_pacing_moves_the_law_of_t_and_may_be_compensated():
    objective = MeanFlowObjective(LAW, LOWER, pacing=HighToLow(100, width=0.25))
    drawn = objective.draw(KEY, KEY, step=0, count=512)
    assert float(drawn.lam.max()) <= stats.norm(1.2, 3.2).ppf(0.25) + 1e-3
    adaptive = MeanFlowObjective(
        LAW, LOWER, pacing=Adaptive(bins=8, warmup_steps=1, range=(-8.0, 12.0))
    )
    pace = adaptive.pacing.init()
    seen = adaptive.observe(drawn.sigma_hi, {}, drawn)
    for _ in range(3):
        pace = adaptive.pacing.update(pace, seen)
    drawn = adaptive.draw(KEY, KEY, step=3, count=512, pace=pace)
    ratio = jnp.exp(LAW.log_prob(drawn.lam) - drawn.log_prob)
    np.testing.assert_allclose(drawn.importance, ratio, rtol=1e-4)
    assert float(jnp.ptp(drawn.importance)) > 0.1
    x0, eps = images(512)
    plain = adaptive.losses(network, network, {}, x0, eps, drawn.replace(importance=None))
    weighed = adaptive.losses(network, network, {}, x0, eps, drawn)
    np.testing.assert_allclose(weighed, drawn.importance * plain, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_losses_are_wide_whatever_the_images_are(dtype):
    x0, eps = (x.astype(dtype) for x in images())

    def half(x, c):
        return network(x, c.astype(x.dtype))

    losses = PLAIN.losses(half, half, {}, x0, eps, pairs_at(FROM, UNTIL))
    assert losses.dtype == jnp.float32
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("argument", "settings"),
    [
        ("law", {"law": "normal"}),
        ("lower", {"lower": 0.5}),
        ("law", {"law": Cauchy(mu=0.0, gamma=0.5)}),
        ("lower", {"lower": Cauchy(mu=0.0, gamma=0.5)}),
        ("interval", {"interval": 1.5}),
        ("power", {"power": -0.1}),
        ("offset", {"offset": 0.0}),
        ("sigma_data", {"sigma_data": 0.0}),
        ("sampling", {"sampling": "even"}),
        ("pacing.statistic", {"pacing": Adaptive("gradient", range=(-8.0, 8.0))}),
    ],
)
def test_what_does_not_belong_is_refused(argument, settings):
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        MeanFlowObjective(**{"law": LAW, "lower": LOWER} | settings)


@pytest.mark.parametrize(
    ("argument", "changed"),
    [
        ("student", {"student": lambda x, c: x[:, :2]}),
        ("teacher", {"teacher": lambda x, c: x[:, :2]}),
        ("levels", {"levels": LogSnrLevels(lam=jnp.zeros(4), log_prob=jnp.zeros(4))}),
        ("sigma_lo", {"levels": Pairs(sigma_lo=jnp.ones(2), sigma_hi=jnp.ones(4))}),
    ],
)
def test_losses_of_what_does_not_fit_are_refused(argument, changed):
    x0, eps = images()
    given = {"student": network, "teacher": network, "x0": x0, "eps": eps}
    given |= {"own": {}, "levels": pairs_at(FROM, UNTIL)} | changed
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        PLAIN.losses(**given)
