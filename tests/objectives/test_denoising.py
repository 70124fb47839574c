import pickle
import re
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, norm

from jaxnoise import noise, objectives
from jaxnoise.errors import ArgumentError, WeightWarning
from jaxnoise.noise import (
    Adaptive,
    Asymmetric,
    Cauchy,
    Cosine,
    Difficulty,
    HighToLow,
    Laplace,
    LinearPath,
    Normal,
    Uniform,
    mixture,
    window,
)
from jaxnoise.objectives import (
    DenoisingObjective,
    LearnedUncertainty,
    LogSnrLevels,
    Prediction,
    SnrWeight,
    density_weight,
    edm_weight,
    min_snr_weight,
    uniform_weight,
)

KEY = jax.random.key(0)
STEP = jnp.int32(0)
TARGETS = ("eps", "x0", "v", "edm")


def make(law=None, weight=None, target: str = "v", **settings) -> DenoisingObjective:
    prediction = Prediction(target, settings.pop("sigma_data", 0.5))
    return DenoisingObjective(law or Cosine(), weight or min_snr_weight(), prediction, **settings)


def at(lam, log_prob=None) -> LogSnrLevels:
    lam = jnp.asarray(lam, jnp.result_type(float))
    return LogSnrLevels(lam, jnp.zeros_like(lam) if log_prob is None else jnp.asarray(log_prob))


def draw(objective: DenoisingObjective, count: int, key=KEY, step: int = 0) -> LogSnrLevels:
    # One compilation is quicker than one for each operation.
    return jax.jit(lambda key, step: objective.draw(key, KEY, step, count))(key, jnp.int32(step))


def loss_of_zero_v(objective: DenoisingObjective, levels: LogSnrLevels) -> jax.Array:
    """The losses of a network of v that says 0, on x0 = 2 and eps = 1: (alpha - 2 s)^2 times w."""

    @jax.jit
    def losses(levels: LogSnrLevels) -> jax.Array:
        count = levels.lam.shape[0]
        x0, eps = jnp.full((count, 1, 1, 1), 2.0), jnp.ones((count, 1, 1, 1))
        return objective.losses(lambda x, c: 0 * x, None, {}, x0, eps, levels)

    return losses(levels)


def zero_v(lam):
    return (np.sqrt(1 / (1 + np.exp(-lam))) - 2 * np.sqrt(1 / (1 + np.exp(lam)))) ** 2


# Drawing


@pytest.mark.takes_a_second
def test_levels_are_drawn_from_the_law() -> None:
    levels = draw(make(Normal(1.0, 2.0), sampling="iid"), 4000)
    assert kstest(np.asarray(levels.lam), norm(1.0, 2.0).cdf).pvalue > 1e-3
    expected = -(((np.asarray(levels.lam, np.float64) - 1) / 2) ** 2) / 2
    expected -= np.log(2 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(levels.log_prob, expected, atol=1e-5)
    np.testing.assert_allclose(levels.sigma, np.exp(-np.asarray(levels.lam) / 2), rtol=1e-5)


@pytest.mark.takes_a_second
def test_a_batch_is_stratified_unless_it_is_told_otherwise() -> None:
    levels = draw(make(Cosine()), 64)
    stratum = np.floor(64 * np.asarray(Cosine().survival(levels.lam)))
    np.testing.assert_array_equal(np.sort(stratum), np.arange(64))
    assert (np.diff(stratum) < 0).any()
    swept = np.asarray(draw(make(Cosine(), sampling="sorted"), 64).lam)
    np.testing.assert_array_equal(swept, np.sort(swept)[::-1])


def test_antithetic_levels_are_mirrored() -> None:
    levels = draw(make(Normal(2.4, 2.4), sampling="antithetic"), 64)
    pairs = np.asarray(levels.lam).reshape(32, 2)
    np.testing.assert_allclose(pairs.sum(axis=1), 4.8, atol=1e-3)
    assert pairs[:, 0].std() > 1


@pytest.mark.takes_a_second
def test_pacing_moves_the_draws_and_their_density() -> None:
    objective = make(Cosine(), pacing=HighToLow(total_steps=100, width=0.25))
    levels = draw(objective, 256)
    t = np.asarray(Cosine().survival(levels.lam))
    assert t.min() > 0.75
    expected = np.asarray(Cosine().log_prob(levels.lam)) + np.log(4)
    np.testing.assert_allclose(levels.log_prob, expected, atol=1e-5)
    later = draw(objective, 256, step=100)
    np.testing.assert_allclose(later.log_prob, Cosine().log_prob(later.lam), atol=1e-6)


def test_a_step_is_one_number() -> None:
    """A batch of steps would give each example a window of its own."""
    objective = make(Cosine(), pacing=HighToLow(total_steps=10))
    for step in (jnp.arange(4), np.zeros(1, np.int32), [0, 1]):
        with pytest.raises(ArgumentError, match=r"^step=.*: must be one integer, the training st"):
            objective.draw(KEY, KEY, step, 4)


@pytest.mark.takes_a_second
def test_trained_range_knows_the_pacing() -> None:
    law = Cosine()
    plain = make(law).trained_range

    def ends(clean: float, noisy: float) -> tuple[float, float]:
        """lambda where so much mass lies above and below."""
        return 2 * np.log(np.tan(np.pi * noisy / 2)), -2 * np.log(np.tan(np.pi * clean / 2))

    assert plain == pytest.approx(ends(1e-6, 1e-6), abs=1e-6)
    # A quarter of the noisiest part of what SpeeD's law leaves.
    speed = make(law, pacing=Asymmetric(boundary=0.6, suppression=4.0))
    total = 0.6 + 0.4 / 4
    assert speed.trained_range == pytest.approx(ends(1e-6 * total, 4e-6 * total), abs=1e-4)
    annealed = make(law, pacing=HighToLow(total_steps=100, width=0.1))
    # At first only the noisiest tenth is drawn, and of that all but a millionth.
    assert annealed.trained_range == pytest.approx(ends(1e-6, 1e-7), abs=1e-4)
    cut = make(law, pacing=HighToLow(total_steps=100, width=0.1), total_steps=100)
    # At the last step, k = 99, the window begins at .9 (1 - .99).
    assert cut.trained_range == pytest.approx(ends(0.009 + 1e-6 * 0.991, 1e-7), abs=1e-4)
    stages = make(law, pacing=Difficulty(clusters=4))
    assert stages.trained_range == pytest.approx(plain, abs=1e-6)
    second = stages.pacing.settled()._replace(stage=jnp.int32(2))
    assert stages.range_under(second) == pytest.approx(ends(0.5, 5e-7), abs=1e-3)


@pytest.mark.takes_a_second
def test_errors_leave_out_what_is_learned() -> None:
    plain, levels = make(Cosine()), draw(make(Cosine()), 8)
    learned = make(Cosine(), uncertainty=LearnedUncertainty(harmonics=2))
    own = {"uncertainty": {"weight": jnp.asarray([0.3, -1.0, 0.2, 2.0]), "bias": jnp.float32(-2.0)}}
    x0, eps = jnp.zeros((8, 2, 2, 1)), jnp.ones((8, 2, 2, 1))

    def losses(objective: DenoisingObjective) -> jax.Array:
        return objective.losses(lambda x, c: 0.5 * x, None, own, x0, eps, levels)

    assert losses(learned).min() < 0
    expected = losses(plain)
    np.testing.assert_allclose(learned.errors(losses(learned), own, levels), expected, rtol=1e-4)
    np.testing.assert_array_equal(plain.errors(expected, {}, levels), expected)


def test_trained_range_is_all_but_a_millionth_of_the_law() -> None:
    # The normal quantile of 1e-6 is 4.7534.
    low, high = make(Normal(2.4, 2.4)).trained_range
    assert (low, high) == pytest.approx((2.4 - 4.7534 * 2.4, 2.4 + 4.7534 * 2.4), abs=1e-3)
    # EDM's own sampler, from 80 to .002, stays within EDM's law.
    assert low < -2 * np.log(80.0) < -2 * np.log(0.002) < high
    cut = make(Laplace(0.0, 0.5).truncated(-2.0, 1.0)).trained_range
    assert cut == pytest.approx((-2.0, 1.0), abs=1e-3)


# Losses


def test_the_network_sees_the_scaled_image_and_lambda() -> None:
    seen = {}

    def network(x, c_noise):
        seen["x"], seen["c_noise"] = np.asarray(x).ravel(), np.asarray(c_noise)
        return x

    x0, eps = jnp.full((2, 1, 1, 1), 3.0), jnp.ones((2, 1, 1, 1))
    make(sigma_data=0.5).losses(network, None, {}, x0, eps, at([0.0, np.log(3.0)]))
    # alpha^2 = 1/2, 3/4 and unit variance is sqrt(alpha^2 / 4 + s^2).
    first = (3 * 0.5**0.5 + 0.5**0.5) / np.sqrt(0.5 / 4 + 0.5)
    second = (3 * 0.75**0.5 + 0.25**0.5) / np.sqrt(0.75 / 4 + 0.25)
    np.testing.assert_allclose(seen["x"], [first, second], rtol=1e-6)
    np.testing.assert_allclose(seen["c_noise"], [0.0, -np.log(3.0) / 4], rtol=1e-6)


def test_loss_is_the_weighted_mean_over_pixels() -> None:
    x0, eps = jnp.zeros((1, 2, 1, 1)), jnp.array([1.0, 3.0]).reshape(1, 2, 1, 1)
    objective = make(weight=uniform_weight("eps"), target="eps")
    loss = objective.losses(lambda x, c: 0 * x, None, {}, x0, eps, at([0.3]))
    np.testing.assert_allclose(loss, [(1 + 9) / 2], rtol=1e-6)
    doubled = make(weight=min_snr_weight(5.0), target="x0")
    loss = doubled.losses(lambda x, c: 0 * x + 2, None, {}, x0, eps, at([np.log(3.0)]))
    np.testing.assert_allclose(loss, [3 * 4], rtol=1e-6)


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "weight, settings",
    [
        (min_snr_weight(), {}),
        (uniform_weight("eps"), {"compensation": "importance"}),
        (edm_weight(0.5), {"compensation": "importance", "max_ratio": 2.0}),
    ],
)
@pytest.mark.filterwarnings("ignore::jaxnoise.errors.WeightWarning")
def test_one_estimate_has_one_loss_whatever_is_predicted(weight, settings) -> None:
    random = np.random.RandomState(1)
    with jax.enable_x64(True):
        x0, eps, guess = (jnp.asarray(random.randn(6, 2, 2, 1)) for _ in range(3))
        levels = at(np.linspace(-9, 9, 6), np.linspace(-3, -1, 6))

        def network(prediction):
            """What a network of this target must say to mean `guess`."""

            def f(x, c_noise):
                lam = -c_noise * (8 if prediction.target == "edm" else 4)
                c = prediction.preconditioning(jnp.exp(-lam / 2))
                over = (slice(None), None, None, None)
                noisy = x / c.c_in[over]
                return (guess - c.c_skip[over] * noisy) / c.c_out[over]

            return f

        law = Cosine().truncated(-9.0, 9.0)
        losses = []
        for target in TARGETS:
            objective = make(law, weight, target, **settings)
            raw = network(objective.prediction)
            losses.append(jax.jit(partial(objective.losses, raw, None, {}))(x0, eps, levels))
        for other in losses[1:]:
            np.testing.assert_allclose(other, losses[0], rtol=1e-10)


@pytest.mark.takes_a_second
def test_compensation_gives_every_law_the_same_loss() -> None:
    weight = density_weight(Cosine(), "v")
    expected = quad(lambda x: zero_v(x) / np.cosh(x / 2) / (2 * np.pi), -60, 60, limit=200)[0]
    laws = [
        Cosine(),
        LinearPath(),
        Laplace(0.0, 2.0),
        Cauchy(0.0, 1.0),
        mixture([Laplace(0.0, 0.5), Cosine()], [0.8, 0.2]),
    ]
    for seed, law in enumerate(laws):
        objective = make(law, weight, compensation="importance", sampling="iid")
        levels = draw(objective, 40_000, jax.random.key(seed))
        losses = np.asarray(loss_of_zero_v(objective, levels), np.float64)
        error = losses.std() / np.sqrt(losses.size)
        assert error < 0.03 * expected
        # A normal deviate is this large once in 1000 runs.
        assert abs(losses.mean() - expected) < 3.3 * error, law
        plain = make(law, weight, sampling="iid")
        if law != Cosine():
            # Without compensation the law is part of the loss.
            mixed = np.asarray(loss_of_zero_v(plain, levels)).mean()
            assert abs(mixed - expected) > 20 * error


@pytest.mark.takes_a_second
def test_without_compensation_the_law_weighs() -> None:
    objective = make(LinearPath(), uniform_weight("v"))
    losses = loss_of_zero_v(objective, draw(objective, 20_000))

    def integrand(lam: float) -> float:
        return zero_v(lam) / np.cosh(lam / 4) ** 2 / 8

    # Stratified: far below the standard error of independent draws.
    np.testing.assert_allclose(np.mean(losses), quad(integrand, -60, 60)[0], rtol=1e-4)


@pytest.mark.takes_a_second
def test_compensation_under_pacing_integrates_over_its_window() -> None:
    weight = density_weight(Cosine(), "v")
    pacing = HighToLow(total_steps=100, width=0.25)
    law = LinearPath()
    objective = make(law, weight, compensation="importance", pacing=pacing)
    losses = loss_of_zero_v(objective, draw(objective, 20_000))
    top = float(law.inverse_survival(0.75))
    expected = quad(lambda x: zero_v(x) / np.cosh(x / 2) / (2 * np.pi), -60, top)[0]
    np.testing.assert_allclose(np.mean(losses), expected, rtol=2e-3)


@pytest.mark.takes_a_second
def test_clipping_caps_the_ratio_on_the_error_of_v() -> None:
    objective = make(
        Laplace(0.0, 0.5), density_weight(Cosine(), "v"), compensation="importance", max_ratio=3.0
    )
    lam = np.array([0.0, 1.0, 2.0, 4.0, 6.0])
    levels = at(lam, np.asarray(Laplace(0.0, 0.5).log_prob(lam)))
    ratio = np.exp(2 * lam) / np.cosh(lam / 2) / (2 * np.pi)
    assert (ratio > 3).tolist() == [False, False, True, True, True]
    expected = np.minimum(ratio, 3.0) * zero_v(lam)
    np.testing.assert_allclose(loss_of_zero_v(objective, levels), expected, rtol=1e-5)


def test_learned_uncertainty_divides_and_is_charged() -> None:
    objective = make(weight=uniform_weight("v"), uncertainty=LearnedUncertainty(harmonics=1))
    plain = np.asarray(loss_of_zero_v(make(weight=uniform_weight("v")), at([-1.0, 2.0])))
    own = objective.init(KEY)
    x0, eps = jnp.full((2, 1, 1, 1), 2.0), jnp.ones((2, 1, 1, 1))

    def losses(own):
        return objective.losses(lambda x, c: 0 * x, None, own, x0, eps, at([-1.0, 2.0]))

    np.testing.assert_allclose(losses(own), plain, rtol=1e-6)
    own["uncertainty"]["bias"] = jnp.float32(0.7)
    np.testing.assert_allclose(losses(own), plain * np.exp(-0.7) + 0.7, rtol=1e-6)
    assert make().init(KEY) == {}


# Denoisers


@pytest.mark.parametrize("target", TARGETS)
def test_denoiser_of_a_gaussian_is_exact(target: str) -> None:
    # x0 ~ N(0, .3^2): E[x0 | x] = g x, E[eps | x] = sigma / (sigma^2 + .09) x, so the best raw
    # output is the target of the two.
    prediction = Prediction(target, 0.5)
    with jax.enable_x64(True):
        objective = make(target=target, sigma_data=0.5)

        def network(x, c_noise):
            lam = -c_noise * (8 if target == "edm" else 4)
            over = (slice(None), None, None, None)
            sigma = jnp.exp(-lam / 2)[over]
            noisy = x * jnp.sqrt(sigma**2 + 0.25)
            return prediction.wanted(
                0.09 / (sigma**2 + 0.09) * noisy, sigma / (sigma**2 + 0.09) * noisy, lam
            )

        x = jnp.asarray(np.random.RandomState(2).randn(5, 2, 2, 1))
        sigma = jnp.array([0.002, 0.1, 0.5, 3.0, 80.0])
        expected = x * (0.09 / (sigma**2 + 0.09))[:, None, None, None]
        got = objective.denoiser(network)(x, sigma)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.takes_a_second
def test_edm_is_done_on_a_gaussian_before_it_starts() -> None:
    # With x0 of standard deviation sigma_data the best raw output is 0 and its loss 1.
    objective = make(LinearPath(), edm_weight(0.5), "edm")
    levels = draw(objective, 4096)
    x0 = 0.5 * jax.random.normal(jax.random.key(1), (4096, 4, 1, 1))
    eps = jax.random.normal(jax.random.key(2), (4096, 4, 1, 1))
    losses = objective.losses(lambda x, c: 0 * x, None, {}, x0, eps, levels)
    # The standard error is sqrt(2 / 16384) = .011.
    assert float(jnp.mean(losses)) == pytest.approx(1.0, abs=0.037)
    x = jnp.ones((1, 1, 1, 1))
    got = objective.denoiser(lambda x, c: 0 * x)(x, jnp.array([0.5]))
    assert got.item() == pytest.approx(0.5, abs=1e-6)


# Warnings and errors


def test_infinite_variance_is_said_in_one_line() -> None:
    expected = re.escape(
        "importance compensation under Laplace(mu=0.0, b=0.5) has variance inf: an effective "
        "sample size of 0.00% of the batch; truncate the law, set max_ratio, or mix in a wide law"
    )
    with pytest.warns(WeightWarning, match=f"^{expected}$") as seen:
        make(Laplace(0.0, 0.5), density_weight(Cosine()), compensation="importance")
    # The line that is shown is the caller's.
    assert seen[0].filename == __file__


def test_a_finite_variance_over_100_is_said_too() -> None:
    with pytest.warns(UserWarning, match=r"has variance 258: an effective sample size of 0.39%"):
        make(Normal(0.0, 1.0), density_weight(Normal(3.0, 0.5), "v"), compensation="importance")


@pytest.mark.parametrize("target", ["eps", "x0"])
def test_weights_that_few_draws_rule_are_said_in_one_line(target: str) -> None:
    expected = re.escape(
        f"the weights on the error of {target}, which the network predicts, have an effective "
        "sample size of 0.00% under Cosine(), so that few draws rule what is learned: take a "
        "weight that is bounded there, such as min_snr, or truncate the law"
    )
    with pytest.warns(WeightWarning, match=f"^{expected}$") as seen:
        make(Cosine(), uniform_weight("v"), target)
    assert seen[0].filename == __file__


def test_the_remedy_is_one_that_helps() -> None:
    narrow = density_weight(Normal(3.0, 0.02), "v")
    with pytest.warns(WeightWarning, match=r"such as min_snr, or truncate the law$"):
        make(Uniform(-10.0, 10.0), narrow)
    with pytest.warns(WeightWarning, match=r"learned: the law seldom draws where they lie$"):
        make(Normal(20.0, 7.0), min_snr_weight())
    # Compensated, it is the same loss as that of the cosine law with a weight of 1.
    compensated = {"compensation": "importance"}
    with pytest.warns(WeightWarning, match=r"on the error of eps, .* learned: predict v$"):
        make(Cosine(), density_weight(Cosine(), "v"), "eps", **compensated)


def test_no_warning_where_what_is_predicted_has_bounded_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for target in TARGETS:
            make(Cosine(), min_snr_weight(), target)
        for target in ("v", "edm"):
            make(Normal(2.4, 2.4), edm_weight(), target)
        # Their squares have no mean, and yet half of the draws count.
        make(Laplace(0.0, 0.5), uniform_weight("v"), "eps")
        make(Uniform(-10.0, 10.0), uniform_weight("v"), "eps")
        # Several laws at a time are not judged.
        make(Laplace(jnp.array([0.0, 1.0]), 1.0), uniform_weight("v"), "eps")


def test_a_weight_that_is_no_number_where_the_law_draws_is_refused() -> None:
    def broken(edge: float) -> SnrWeight:
        return SnrWeight("v", lambda lam: jnp.where(lam > edge, jnp.nan, 0.0))

    said = r"weight=nan: must be a number at every lambda that Cosine\(\) draws"
    with pytest.raises(ArgumentError, match=said):
        make(Cosine(), broken(16.0))
    assert make(Cosine(), broken(40.0)).weight.space == "v"
    with pytest.raises(
        ArgumentError, match=r"on the error of v under Cosine\(\): truncate the law$"
    ):
        make(Cosine(), SnrWeight("v", lambda lam: lam + 100.0))


def test_no_warning_without_cause() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(Laplace(0.0, 0.5), density_weight(Cosine()))
        make(Laplace(0.0, 0.5), density_weight(Cosine()), compensation="importance", max_ratio=20.0)
        make(Laplace(0.0, 2.0), density_weight(Cosine()), compensation="importance")
        make(window(Normal(), 0.01, 0.99), edm_weight(), "edm", compensation="importance")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"compensation": "importence"}, "did you mean 'importance'"),
        ({"sampling": "sobol"}, "sampling='sobol': must be one of"),
        ({"max_ratio": 5.0}, "max_ratio=5.0: must be None without compensation"),
        ({"compensation": "importance", "max_ratio": 0.0}, "max_ratio=0.0: must be a number > 0"),
        (
            {"compensation": "importance", "uncertainty": LearnedUncertainty()},
            "compensation='importance': must be 'none' with a learned uncertainty",
        ),
        (
            {"law": Cauchy(0.0, 0.5), "weight": uniform_weight("eps"), "target": "x0"},
            r"weight='eps': must be .* x0 under Cauchy\(mu=0.0, gamma=0.5\)",
        ),
    ],
)
def test_errors(settings, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make(**settings)


def test_there_is_no_teacher() -> None:
    objective = make()
    assert objective.has_teacher is False
    with pytest.raises(ValueError, match="no teacher"):
        objective.teacher_rate(STEP)


@pytest.mark.takes_a_second
def test_draws_and_losses_under_jit_are_the_same() -> None:
    pacing = HighToLow(total_steps=10)
    weight = density_weight(Cosine())
    objective = make(LinearPath(), weight, compensation="importance", pacing=pacing)

    def run(key, step):
        levels = objective.draw(key, KEY, step, 32)
        x0, eps = jnp.full((32, 1, 1, 1), 2.0), jnp.ones((32, 1, 1, 1))
        return levels, objective.losses(lambda x, c: 0 * x, None, {}, x0, eps, levels)

    plain, jitted = run(KEY, jnp.int32(3)), jax.jit(run)(KEY, jnp.int32(3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), plain, jitted)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.filterwarnings("ignore::jaxnoise.errors.WeightWarning")
def test_the_network_sees_the_images_dtype_and_losses_are_wide(dtype, target, x64):
    with jax.enable_x64(x64):
        objective = make(Cosine().truncated(-9.0, 9.0), uniform_weight("v"), target)
        key, seen = jax.random.key(0), {}

        def network(x, c_noise):
            seen["x"], seen["c_noise"] = x.dtype, c_noise.dtype
            return jnp.tanh(x)

        x0 = jax.random.normal(key, (8, 2, 2, 1), dtype)
        eps = jax.random.normal(jax.random.key(1), x0.shape, dtype)
        levels = objective.draw(key, key, jnp.int32(0), 8)
        losses = jax.eval_shape(lambda *a: objective.losses(network, None, {}, *a), x0, eps, levels)
        assert seen == {"x": dtype, "c_noise": jnp.float32}
        assert losses.dtype == jnp.float32
        sigma = jnp.full(8, 0.5)
        assert jax.eval_shape(objective.denoiser(network), x0, sigma).dtype == dtype


@pytest.mark.parametrize(
    "argument, act",
    [
        ("law", lambda: make(noise.PolynomialPairs())),
        ("weight", lambda: make(Cosine(), lambda lam: lam)),
        ("log_weight", lambda: SnrWeight("v", 1.0)),
        ("pacing", lambda: make(Cosine(), pacing=0.5)),
        ("law", lambda: density_weight(1.0)),
    ],
)
def test_what_does_not_belong_in_an_objective_is_refused(argument, act):
    with pytest.raises(ArgumentError) as refused:
        act()
    assert refused.value.argument == argument


@pytest.mark.parametrize(
    "weight",
    [
        uniform_weight("eps"),
        min_snr_weight(3.0),
        objectives.soft_min_snr_weight(3.0),
        objectives.p2_weight(0.5),
        objectives.edm_weight(0.4),
        density_weight(Cosine().shifted(1.0)),
    ],
)
def test_weights_pickle_and_equal_ones_are_equal(weight):
    copy = pickle.loads(pickle.dumps(weight))
    assert copy == weight
    lam = jnp.linspace(-5.0, 5.0, 11)
    np.testing.assert_array_equal(copy.log_weight(lam), weight.log_weight(lam))
    assert weight != uniform_weight("x0")


def test_an_objective_may_be_made_of_a_law_whose_numbers_are_traced():
    """The derivative of the mean of what is drawn, by the law's own centre, is 1."""
    key = jax.random.key(0)

    def mean_level(mu):
        objective = make(Laplace(mu, 0.5))
        return jnp.mean(objective.draw(key, key, jnp.int32(0), 16).lam)

    assert float(jax.jit(jax.grad(mean_level))(0.3)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.takes_a_second
def test_losses_name_what_is_wrong_with_network_levels_or_own_parameters():
    objective = make(Cosine().truncated(-9.0, 9.0), uniform_weight("v"))
    x0, levels = jnp.ones((4, 2, 2, 1)), draw(objective, 4)
    with pytest.raises(ArgumentError, match=r"^student=a function to float32\[4,2,2\]"):
        objective.losses(lambda x, c: x[..., 0], None, {}, x0, x0, levels)
    with pytest.raises(ArgumentError, match=r"^levels=ArrayImpl: must be LogSnrLevels"):
        objective.losses(lambda x, c: x, None, {}, x0, x0, levels.lam)
    learned = make(Cosine(), uniform_weight("v"), uncertainty=LearnedUncertainty())
    with pytest.raises(ArgumentError, match=r"^own=\{\}: must be the parameters"):
        learned.losses(lambda x, c: x, None, {}, x0, x0, levels)


@pytest.mark.parametrize("compensation", ["none", "importance"])
def test_an_objective_may_be_made_of_a_weight_whose_numbers_are_traced(compensation):
    """By finite differences in gamma; lambda = 2 lies above ln 5, where the weight is cut off."""
    x0, levels = jnp.ones((1, 2, 2, 1)), at([2.0], [-1.0])

    def loss(gamma):
        objective = make(Cosine(), min_snr_weight(gamma), compensation=compensation)
        return objective.losses(lambda x, c: 0 * x, None, {}, x0, x0, levels)[0]

    slope = (loss(5.01) - loss(4.99)) / 0.02
    assert float(jax.jit(jax.grad(loss))(5.0)) == pytest.approx(float(slope), rel=1e-3)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("statistic", ["gradient", "entropy_rate"])
def test_errors_that_rounding_hides_under_an_uncertainty_do_not_stop_the_law(statistic):
    """Where `w L e^-u` is far below u, what is left of the loss is its rounding, of either sign."""
    key = jax.random.key(0)
    own = {"uncertainty": {"weight": 0.3 * jax.random.normal(key, (32,)), "bias": jnp.float32(0.5)}}
    eps = jax.random.normal(key, (256, 2, 2, 1))
    pacing = Adaptive(statistic, range=(-20.0, 20.0), warmup_steps=2, rate=0.9)
    law, weight = Uniform(-20.0, 20.0), min_snr_weight()
    objective = DenoisingObjective(
        law, weight, Prediction("v"), uncertainty=LearnedUncertainty(), pacing=pacing
    )

    @jax.jit
    def one(step, pace):
        levels = objective.draw(jax.random.fold_in(key, step), key, step, len(eps), pace)
        losses = objective.losses(lambda x, c: 0.9 * x, None, own, 0 * eps, eps, levels)
        errors = objective.errors(losses, own, levels)
        pace = objective.pacing.update(pace, objective.observe(losses, own, levels))
        return pace, jnp.ptp(levels.log_prob), jnp.min(errors)

    pace, moved, least = objective.pacing.init(), [], []
    for step in range(30):
        pace, spread, error = one(step, pace)
        moved.append(spread > 1e-6)
        least.append(error)
    assert moved == [step >= 2 for step in range(30)]
    assert min(least) >= 0
