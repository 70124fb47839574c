"""What laws that learn themselves are told, and that compensation leaves the objective alone."""

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
    Difficulty,
    KarrasGrid,
    LognormalPairs,
    NoPacing,
    Normal,
    Uniform,
    UniformPairs,
    constant,
    doubling,
)
from jaxnoise.noise.uniforms import SOURCES
from jaxnoise.objectives import (
    ConsistencyObjective,
    DenoisingObjective,
    LearnedUncertainty,
    LogSnrLevels,
    Pairs,
    Prediction,
    density_weight,
    inverse_gap,
    min_snr_weight,
    squared_l2,
    uncompensated,
    uniform_weight,
)

KEY = jax.random.key(0)
SHAPE = (2, 2, 1)


def consistency(**given):
    settings = {
        "grid": KarrasGrid(),
        "law": LognormalPairs(),
        "curriculum": constant(s0=12),
        "distance": squared_l2,
        "weight": inverse_gap,
    }
    return ConsistencyObjective(**settings | given)


def cut(lam, low=-10.0, high=10.0, a=0.5):
    """The CDF of the density `sigmoid(lam + 2 ln a)` on [low, high]."""
    below, at, above = (np.logaddexp(0, x + 2 * np.log(a)) for x in (low, lam, high))
    return (at - below) / (above - below)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("law", [Uniform(-10.0, 10.0), Cosine().truncated(-10.0, 10.0)], ids=str)
def test_the_loss_law_of_gaussian_data_is_the_closed_form(law):
    """x0 ~ N(0, a^2 I), the exact denoiser: E||eps - eps^||^2 / D = sigmoid(lam + 2 ln a), W = 1.

    Whatever law it starts from; and the error of eps is a random number with that mean.
    """
    objective = DenoisingObjective(
        law,
        uniform_weight("eps"),
        Prediction("eps"),
        compensation="importance",
        sampling="iid",
        pacing=Adaptive(warmup_steps=3, rate=0.98, floor=0.0, compensate=False),
    )

    def exact(x, c_noise):
        lam, variance, sd = -4 * c_noise, 0.25, 0.5
        alpha2, s2 = jax.nn.sigmoid(lam), jax.nn.sigmoid(-lam)
        scale = jnp.sqrt(alpha2 * sd**2 + s2)[:, None, None, None]
        # The network sees the noisy image at unit variance; E[eps | x] = s x / Var(x).
        noise = jnp.sqrt(s2) / (alpha2 * variance + s2)
        return noise[:, None, None, None] * scale * x

    @jax.jit
    def step(pace, k):
        key = jax.random.fold_in(KEY, k)
        levels = objective.draw(key, key, k, 4096, pace)
        x0, eps = jax.random.normal(key, (2, 4096, *SHAPE))
        x0 = 0.5 * x0
        losses = objective.losses(exact, None, {}, x0, eps, levels)
        return objective.pacing.update(pace, objective.observe(losses, {}, levels)), levels.lam

    pace, drawn = objective.pacing.init(), []
    for k in range(40):
        pace, lam = step(pace, jnp.int32(k))
        drawn.append(np.asarray(lam, np.float64))
    assert stats.kstest(drawn[-1], cut).pvalue > 0.01
    assert stats.kstest(np.concatenate(drawn[-3:]), cut).pvalue > 0.01
    # The base laws are far away.
    assert stats.kstest(drawn[0], cut).pvalue < 1e-9
    np.testing.assert_allclose(objective.pacing.range, [-10, 10], rtol=1e-9)


def learned(pacing):
    """A state of six bins, one of them never hit."""
    first = pacing.init()
    total, examples = jnp.asarray([9.0, 0.1, 2, 0, 4, 1]), jnp.asarray([1.0, 1, 3, 0, 1, 5])
    recent = first.recent._replace(
        total=total.astype(jnp.float32), examples=examples.astype(jnp.float32)
    )
    return first._replace(recent=recent)


def nodes_of(cdf, count):
    """Gauss-Legendre nodes between values of a CDF, as uniforms, and their weights."""
    x, w = np.polynomial.legendre.leggauss(count)
    half = np.diff(cdf)[:, None] / 2
    return ((cdf[:-1] + cdf[1:])[:, None] / 2 + half * x).ravel(), (half * w).ravel()


@pytest.mark.takes_a_second
@pytest.mark.parametrize("settings", [{}, {"uncertainty": LearnedUncertainty(harmonics=2)}])
def test_the_compensated_mean_gradient_is_the_law_s(settings, monkeypatch):
    """By quadrature over the bins, to 12 digits, for any state."""
    with jax.enable_x64(True):
        pacing = Adaptive("gradient", bins=6, floor=0.1, warmup_steps=1, range=(-3.0, 3.0))
        law, weight = Cosine(), min_snr_weight()
        state = learned(pacing)
        params = {"a": jnp.asarray(0.3), "b": jnp.asarray(-0.2)}

        def network(params, x, c_noise):
            gain = params["a"] + params["b"] * jnp.tanh(c_noise)
            return gain[:, None, None, None] * x + jnp.cos(c_noise)[:, None, None, None]

        def mean_gradient(pacing, nodes, weights):
            objective = DenoisingObjective(
                law, weight, Prediction("v"), sampling="iid", pacing=pacing, **settings
            )
            monkeypatch.setitem(SOURCES, "iid", lambda key, count: jnp.asarray(nodes))
            pace = state if isinstance(pacing, Adaptive) else ()
            levels = objective.draw(KEY, KEY, jnp.int32(1), len(nodes), pace)
            own = jax.tree.map(lambda x: x + 0.1, objective.init(KEY))
            x0 = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, 4).reshape(SHAPE), (len(nodes), *SHAPE))
            eps = jnp.broadcast_to(jnp.asarray([0.3, -1, 2, 0.1]).reshape(SHAPE), x0.shape)

            def mean(params, own):
                F = lambda x, c: network(params, x, c)  # noqa: E731
                losses = objective.losses(F, None, own, x0, eps, levels)
                return jnp.sum(jnp.asarray(weights) * losses)

            return jax.jit(jax.value_and_grad(mean, (0, 1)))(params, own), levels

        now = pacing.on(law.survival)
        # The outermost bins reach into both tails, where the integrand is steep.
        inside = np.asarray(now.edges)
        fine = np.unique(np.concatenate([inside, inside[1] * 10.0 ** -np.arange(1, 14)]))
        fine = np.unique(np.concatenate([fine, 1 - (1 - inside[-2]) * 10.0 ** -np.arange(1, 14)]))
        cuts = np.asarray(now.cdf(jnp.asarray(fine), state, 1))
        expected, _ = mean_gradient(NoPacing(), *nodes_of(fine, 24))
        found, levels = mean_gradient(pacing, *nodes_of(cuts, 24))
        assert levels.importance.max() / levels.importance.min() > 3
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14), found, expected
        )


@pytest.mark.takes_a_second
@pytest.mark.parametrize("law", [LognormalPairs(), UniformPairs()], ids=str)
def test_the_compensated_mean_loss_of_pairs_is_the_law_s(law):
    """By the sum over all pairs, whose probabilities the levels carry."""
    pacing = Adaptive(bins=6, floor=0.1, warmup_steps=1)
    curriculum = doubling(s0=4, s1=30, total_steps=8)
    plain = consistency(law=law, curriculum=curriculum)
    objective = consistency(law=law, curriculum=curriculum, pacing=pacing)
    state = learned(objective.pacing)
    draw = jax.jit(lambda k: objective.draw(KEY, KEY, k, 4096, state))
    for step in (1, 7):
        pairs = draw(jnp.int32(step))
        levels, num_levels = plain.levels(KEY, jnp.int32(step))
        alone = np.asarray(law.probs(levels, num_levels))
        index = np.searchsorted(np.asarray(levels), np.asarray(pairs.sigma_lo))
        np.testing.assert_allclose(
            np.exp(pairs.log_prob) * pairs.importance, alone[index], rtol=2e-3, atol=1e-7
        )
        assert pairs.importance.max() <= 10 * (1 + 1e-3)
        # Weights have mean 1 under what is drawn: a stratified batch tells within its strata.
        np.testing.assert_allclose(np.mean(pairs.importance), 1, atol=0.01)
        x0 = jnp.ones((4096, 1, 1, 1))
        F = lambda x, c: 0 * x  # noqa: E731
        losses = objective.losses(F, F, {}, x0, x0, pairs)
        without = plain.losses(F, F, {}, x0, x0, pairs.replace(importance=None))
        np.testing.assert_allclose(losses, pairs.importance * without, rtol=1e-6)
        np.testing.assert_allclose(uncompensated(losses, pairs), without, rtol=1e-6)


@pytest.mark.takes_a_second
def test_pairs_that_rounding_draws_count_as_under_the_law_alone(monkeypatch):
    """At 1,280 levels the noisiest pairs of HN-iCT's law lie below the last digit of a CDF."""
    last = 1 - 2.0**-24 * np.arange(1, 17, dtype=np.float32)
    monkeypatch.setitem(SOURCES, "iid", lambda key, count: jnp.asarray(last))
    pacing, law = Adaptive(warmup_steps=1, bins=6), BetaPairs(sampling="iid")
    objective = consistency(law=law, curriculum=constant(s0=1280), pacing=pacing)
    state = learned(objective.pacing)
    pairs = jax.jit(lambda: objective.draw(KEY, KEY, jnp.int32(1), 16, state))()
    assert np.isneginf(pairs.log_prob).any()
    assert np.all(pairs.importance > 0)
    assert np.all(pairs.importance < 10)
    after = objective.pacing.update(state, objective.observe(pairs.importance, {}, pairs))
    assert np.isfinite(after.recent.total).all()


@pytest.mark.takes_a_second
@pytest.mark.parametrize("kind", ["denoising", "consistency"])
def test_a_loss_that_overflows_its_square_leaves_the_law_finite(kind):
    pacing = Adaptive("second_moment", range=(-8.0, 8.0), bins=8, warmup_steps=1)
    objective = (
        DenoisingObjective(Cosine(), uniform_weight(), Prediction("v"), pacing=pacing)
        if kind == "denoising"
        else consistency(pacing=pacing)
    )

    @jax.jit
    def step(state, k, factor):
        levels = objective.draw(jax.random.fold_in(KEY, k), KEY, k, 16, state)
        losses = (jnp.exp(-(levels.lam**2) / 20) * levels.importance).at[0].multiply(factor)
        bins = jnp.searchsorted(-jnp.asarray(pacing.edges[1:-1]), -levels.lam, side="right")
        return objective.observe(losses, {}, levels), bins[0], levels.importance

    sums, _, _ = step(pacing.init(), jnp.int32(0), 1.0)
    first = pacing.update(pacing.init(), sums)
    whole, spoiled_bin, _ = step(first, jnp.int32(1), 1.0)
    for bad in (np.nan, np.inf, 3e38):
        found = pacing.update(first, step(first, jnp.int32(1), bad)[0])
        clean = jax.tree.map(lambda x: x.at[spoiled_bin].set(0), whole)
        expected = pacing.update(first, clean)
        assert jax.tree.map(np.ndarray.tolist, jax.tree.map(np.asarray, found)) == jax.tree.map(
            np.ndarray.tolist, jax.tree.map(np.asarray, expected)
        )
        importance = np.asarray(step(found, jnp.int32(2), 1.0)[2])
        assert np.isfinite(importance).all()
        assert importance.std() > 0.1


def observed(objective, statistic, network=lambda x, c: 0.5 * x, own=None):
    """Levels, squared errors of the network and what the pacing was told of each example."""
    told = []
    pacing = objective.pacing
    levels = objective.draw(KEY, KEY, jnp.int32(1), 6, pacing.init())
    x0 = jax.random.normal(KEY, (6, *SHAPE))
    eps = jax.random.normal(jax.random.key(1), x0.shape)
    losses = objective.losses(network, network, own or {}, x0, eps, levels)
    told = []
    spy = type("Spy", (Adaptive,), {"observe": lambda self, lam, values: told.append(values)})
    object.__setattr__(objective, "pacing", spy(statistic, range=pacing.range, bins=pacing.bins))
    objective.observe(losses, own or {}, levels)
    return levels, x0, eps, np.asarray(told[0])


@pytest.mark.takes_a_second
@pytest.mark.parametrize("statistic", ["loss", "second_moment", "gradient", "entropy_rate"])
@pytest.mark.parametrize("compensation", ["none", "importance"])
def test_what_denoising_tells(statistic, compensation):
    law, weight, prediction = Uniform(-4.0, 4.0), min_snr_weight(), Prediction("v")
    pacing = Adaptive(statistic, compensate=False, bins=4)
    objective = DenoisingObjective(law, weight, prediction, compensation, pacing=pacing)
    levels, x0, eps, told = observed(objective, statistic)
    lam = levels.lam
    factor = jnp.exp(weight.log_on(prediction, lam))
    if compensation == "importance":
        # w on v over the density 1/8.
        factor = 8 * factor
    raw = 0.5 * prediction.network_input(x0, eps, lam)

    def loss(raw):
        error = jnp.mean((raw - prediction.wanted(x0, eps, lam)) ** 2, axis=(1, 2, 3))
        return factor * error

    gradient = jax.grad(lambda raw: loss(raw).sum())(raw)
    sigma = levels.sigma[:, None, None, None]
    alpha = 1 / jnp.sqrt(1 + sigma**2)
    # v-prediction: eps^ = s x + alpha F of the variance-preserving x.
    x = alpha * (x0 + sigma * eps)
    of_eps = jnp.mean((eps - alpha * (sigma * x + raw)) ** 2, axis=(1, 2, 3))
    expected = {
        "loss": loss(raw),
        "second_moment": loss(raw) ** 2,
        # The number of pixels, 4, is left out.
        "gradient": jnp.sum(gradient**2, axis=(1, 2, 3)) * 4 / 4,
        "entropy_rate": of_eps,
    }
    np.testing.assert_allclose(told, expected[statistic], rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("statistic", ["loss", "second_moment", "gradient", "entropy_rate"])
def test_a_weight_that_vanishes_tells_nothing(statistic):
    """ln w is -98 at the ends: 0 in float32, where 0 / 0 would stop the law from ever moving."""
    lam = jnp.asarray([-14.0, 0.0, 14.0])
    pacing = Adaptive(statistic, bins=3, range=(-14.0, 14.0))
    law, weight = Uniform(-14.0, 14.0), density_weight(Normal(0.0, 1.0))
    objective = DenoisingObjective(law, weight, pacing=pacing)
    levels = LogSnrLevels(lam, law.log_prob(lam), jnp.ones(3))
    x0 = jnp.ones((3, *SHAPE))
    losses = objective.losses(lambda x, c: 0 * x, None, {}, x0, 0.5 * x0, levels)
    assert np.isfinite(losses).all()
    total = np.asarray(objective.observe(losses, {}, levels).total)
    assert total[1] > 1e-3
    np.testing.assert_array_equal(total[[0, 2]], 0)


@pytest.mark.takes_a_second
def test_a_learned_uncertainty_scales_the_gradient_alone():
    own = {"uncertainty": {"weight": jnp.zeros(2), "bias": jnp.float32(0.7)}}
    told = {}
    for statistic in ("loss", "gradient"):
        for uncertainty in (None, LearnedUncertainty(harmonics=1)):
            objective = DenoisingObjective(
                Uniform(-4.0, 4.0),
                min_snr_weight(),
                uncertainty=uncertainty,
                pacing=Adaptive(statistic, bins=4),
            )
            told[statistic, uncertainty is None] = observed(objective, statistic, own=own)[-1]
    np.testing.assert_allclose(told["loss", False], told["loss", True], rtol=1e-4, atol=1e-6)
    expected = np.exp(-1.4) * told["gradient", True]
    np.testing.assert_allclose(told["gradient", False], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("statistic", ["loss", "second_moment", "progress"])
def test_what_consistency_tells(statistic):
    objective = consistency(pacing=Adaptive(statistic, bins=4))
    assert objective.pacing.range == pytest.approx((-2 * np.log(80), -2 * np.log(0.002)))
    pairs, x0, eps, told = observed(objective, statistic)
    F = lambda x, c: 0.5 * x  # noqa: E731
    losses = consistency().losses(F, F, {}, x0, eps, pairs.replace(importance=None))
    np.testing.assert_allclose(told, losses**2 if statistic == "second_moment" else losses)


def test_an_importance_of_another_shape_is_refused():
    """[B, 1] beside losses [B] would make [B, B]."""
    column, ones, x0 = jnp.ones((2, 1)), jnp.ones(2), jnp.ones((2, *SHAPE))
    F = lambda x, c: 0 * x  # noqa: E731
    pairs = Pairs(ones, 2 * ones, importance=column)
    levels = LogSnrLevels(ones, ones, column)
    denoising = DenoisingObjective(Uniform(-4.0, 4.0), min_snr_weight())
    for refused in (
        lambda: consistency().losses(F, F, {}, x0, x0, pairs),
        lambda: denoising.losses(F, None, {}, x0, x0, levels),
        lambda: uncompensated(ones, levels),
    ):
        with pytest.raises(ArgumentError, match=r"^importance=float32\[2,1\]: must be of shape"):
            refused()


def test_a_state_of_other_bins_is_refused_in_one_line():
    """That of one bin would be broadcast."""
    objective = consistency(pacing=Adaptive(bins=4))
    for bins in (1, 100):
        with pytest.raises(ArgumentError, match=r"^pace=a AdaptiveState of arrays") as refused:
            objective.draw(KEY, KEY, jnp.int32(0), 4, Adaptive(bins=bins).init())
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("statistic", ["gradient", "entropy_rate"])
def test_what_consistency_does_not_have_is_refused_by_name(statistic):
    with pytest.raises(ArgumentError, match=rf"^pacing.statistic='{statistic}': must be one of"):
        consistency(pacing=Adaptive(statistic))


@pytest.mark.parametrize(
    "message, make",
    [
        (
            r"^pacing.compensate=True: must be False with compensation='importance'",
            lambda: DenoisingObjective(
                Uniform(-4.0, 4.0),
                min_snr_weight(),
                compensation="importance",
                pacing=Adaptive(),
            ),
        ),
        (
            r"^pacing.range=None: must be given under a law without ends",
            lambda: DenoisingObjective(Cosine(), min_snr_weight(), pacing=Adaptive()),
        ),
        (
            r"^pacing.range=\(-9.0, 4.0\): must be within the log SNR of the law, -4 to 4",
            lambda: DenoisingObjective(
                Uniform(-4.0, 4.0), min_snr_weight(), pacing=Adaptive(range=(-9.0, 4.0))
            ),
        ),
        (
            r"^pacing.range=\(-9.0, 4.0\): must be within the log SNR of the law, -8.7",
            lambda: consistency(pacing=Adaptive(range=(-9.0, 4.0))),
        ),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(message, make):
    with pytest.raises(ArgumentError, match=message) as refused:
        make()
    assert "\n" not in str(refused.value)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("law", [Cosine().truncated(-8.0, np.inf), Cosine()], ids=str)
def test_a_range_may_leave_the_tails_to_the_law(law):
    pacing = Adaptive(range=(-7.0, 7.0), warmup_steps=5)
    objective = DenoisingObjective(law, min_snr_weight(), pacing=pacing)
    assert objective.pacing == pacing
    # It starts as the law, so samplers may go wherever that does.
    plain = DenoisingObjective(law, min_snr_weight()).trained_range
    assert objective.trained_range == pytest.approx(plain, abs=1e-9)
    learned = jax.tree.map(lambda x: x + jnp.arange(100.0), pacing.init())
    assert objective.range_under(learned) == pytest.approx(plain, abs=1e-9)


@pytest.mark.takes_a_second
def test_a_difficulty_curriculum_compensates_nothing():
    objective = consistency(pacing=Difficulty(3, 2))
    pairs = objective.draw(KEY, KEY, jnp.int32(0), 8, objective.pacing.init())
    assert pairs.importance is None
