"""A trained network against the exact Bayes loss of a Gaussian mixture.

Every image is a point of the plane, [1, 1, 2], from eight narrow modes on a circle, so that the
posterior mean is a formula. The trained loss is compared in two ways, each of them with numbers
that this file works out by itself: the objective's own weighted loss (a wrong weight or target
shows), and the error of the objective's denoiser (a wrong conversion or sign shows).
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnoise.noise import LinearPath
from jaxnoise.objectives import (
    DenoisingObjective,
    LogSnrLevels,
    Prediction,
    SnrWeight,
    min_snr_weight,
)

pytestmark = pytest.mark.slow

ANGLES = 2 * np.pi * np.arange(8) / 8
MODES = 0.66 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
SPREAD = 0.12
GAMMA = 5.0

EDGES = np.linspace(-4.0, 6.0, 9)
LAW = LinearPath().shifted(1.0).truncated(-4.0, 6.0)
PER_BAND = 4096
MIDDLE = slice(1, 7)
TOLERANCE = 0.1

STEPS, BATCH, WIDTH, HARMONICS = 1200, 256, 64, 8


def draw_data(key: jax.Array, count: int) -> jax.Array:
    mode_key, spread_key = jax.random.split(key)
    mode = jax.random.randint(mode_key, (count,), 0, 8)
    points = jnp.asarray(MODES, jnp.float32)[mode]
    return (points + SPREAD * jax.random.normal(spread_key, (count, 2))).reshape(count, 1, 1, 2)


def posterior_mean(x: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """E[x0 | x0 + sigma eps = x], float64[n, 2]: the modes' own posterior means, mixed."""
    variance = (SPREAD**2 + sigma**2)[:, None]
    apart = x[:, None, :] - MODES[None, :, :]
    log_share = -np.sum(apart**2, axis=2) / (2 * variance)
    share = np.exp(log_share - log_share.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    means = MODES[None, :, :] + (SPREAD**2 / variance)[:, :, None] * apart
    return np.sum(share[:, :, None] * means, axis=1)


def init(key: jax.Array) -> dict[str, jax.Array]:
    keys = jax.random.split(key, 3)
    told = 2 * HARMONICS + 2

    def layer(key: jax.Array, rows: int) -> jax.Array:
        return jax.random.normal(key, (rows, WIDTH)) / rows**0.5

    return {
        "first": layer(keys[0], 2 + told),
        "second": layer(keys[1], WIDTH),
        "third": layer(keys[2], WIDTH),
        "gain_second": jnp.zeros((told, WIDTH)),
        "gain_third": jnp.zeros((told, WIDTH)),
        "skip": jnp.zeros((told, 2)),
        "last": jnp.zeros((WIDTH, 2)),
    }


def network(params: dict[str, jax.Array], x: jax.Array, c_noise: jax.Array) -> jax.Array:
    """Three layers whose gains, and whose skip of the input, depend on the noise."""
    frequency = 0.5 * jnp.arange(1, HARMONICS + 1, dtype=x.dtype)
    phase = c_noise[:, None] * frequency[None, :]
    told = jnp.concatenate(
        [jnp.ones_like(phase[:, :1]), c_noise[:, None], jnp.cos(phase), jnp.sin(phase)], axis=1
    )
    point = x.reshape(-1, 2)
    h = jax.nn.silu(jnp.concatenate([point, told], axis=1) @ params["first"])
    h = jax.nn.silu((h @ params["second"]) * (1 + told @ params["gain_second"]))
    h = jax.nn.silu((h @ params["third"]) * (1 + told @ params["gain_third"]))
    return (h @ params["last"] + (told @ params["skip"]) * point).reshape(x.shape)


def train(objective: DenoisingObjective) -> dict[str, jax.Array]:
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, STEPS), b2=0.99)

    def step(carry, key):
        params, state = carry
        keys = jax.random.split(key, 3)
        x0 = draw_data(keys[0], BATCH)
        eps = jax.random.normal(keys[1], x0.shape)
        levels = objective.draw(keys[2], keys[2], jnp.int32(0), BATCH)

        def loss(params):
            raw = partial(network, params)
            return jnp.mean(objective.losses(raw, None, {}, x0, eps, levels))

        # optax raises its step count to a float.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params, keys):
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

    return run(init(jax.random.key(0)), jax.random.split(jax.random.key(1), STEPS))


def by_band(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64).reshape(8, PER_BAND).mean(axis=1)


class Oracle:
    """Fresh examples, evenly over eight bands of lambda, and their exact Bayes loss."""

    def __init__(self) -> None:
        bands = itertools.pairwise(EDGES)
        self.lam = np.concatenate([np.linspace(low, high, PER_BAND) for low, high in bands])
        count = self.lam.size
        self.x0 = np.asarray(draw_data(jax.random.key(2), count), np.float64).reshape(count, 2)
        self.eps = np.asarray(jax.random.normal(jax.random.key(3), (count, 2)), np.float64)
        self.sigma = np.exp(-self.lam / 2)
        self.x = self.x0 + self.sigma[:, None] * self.eps
        self.bayes = self.loss(posterior_mean(self.x, self.sigma))

    def loss(self, estimate: np.ndarray) -> np.ndarray:
        """min-SNR's loss of an estimate of x0 in each band, from the published formula."""
        error = np.mean((estimate - self.x0) ** 2, axis=1)
        return by_band(np.minimum(np.exp(self.lam), GAMMA) * error)

    def excess(self, objective: DenoisingObjective) -> np.ndarray:
        """Trains, and gives the loss over the Bayes loss: its own and its denoiser's, [2, 8]."""
        raw = partial(network, train(objective))

        def image(points: np.ndarray) -> jax.Array:
            return jnp.asarray(points, jnp.float32).reshape(-1, 1, 1, 2)

        lam = jnp.asarray(self.lam, jnp.float32)
        levels = LogSnrLevels(lam, jnp.zeros_like(lam))
        own = objective.losses(raw, None, {}, image(self.x0), image(self.eps), levels)
        sigma = jnp.asarray(self.sigma, jnp.float32)
        estimate = np.asarray(objective.denoiser(raw)(image(self.x), sigma), np.float64)
        return np.stack([by_band(own), self.loss(estimate.reshape(-1, 2))]) / self.bayes


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


def is_within_tolerance(excess: np.ndarray) -> bool:
    return bool(np.all(np.abs(excess[:, MIDDLE] - 1) < TOLERANCE))


@pytest.mark.parametrize("target", ["eps", "x0", "v", "edm"])
def test_trained_loss_is_the_bayes_loss(oracle: Oracle, target: str, record_property) -> None:
    excess = oracle.excess(DenoisingObjective(LAW, min_snr_weight(GAMMA), Prediction(target)))
    outer = {"noisiest": excess[:, 0].tolist(), "cleanest": excess[:, 7].tolist()}
    print(target, np.round(excess, 3).tolist())
    record_property("loss over Bayes loss, outer bands", outer)
    assert is_within_tolerance(excess), excess


class NegatedTarget(Prediction):
    """v with the opposite sign, which the denoiser does not know of."""

    def wanted(self, x0: jax.Array, eps: jax.Array, lam: jax.Array) -> jax.Array:
        return -super().wanted(x0, eps, lam)


class ScaledTarget(Prediction):
    """A target that is a tenth too large."""

    def wanted(self, x0: jax.Array, eps: jax.Array, lam: jax.Array) -> jax.Array:
        return 1.1 * super().wanted(x0, eps, lam)


class ShuffledConditioning(Prediction):
    """Every example is told the noise level of another one."""

    def c_noise(self, lam: jax.Array) -> jax.Array:
        return jax.random.permutation(jax.random.key(4), super().c_noise(lam))


class ConditioningOfAnotherForm(Prediction):
    """Told lambda in training and half of it by the denoiser."""

    def preconditioning(self, sigma: jax.Array):
        c = super().preconditioning(sigma)
        return c._replace(c_noise=c.c_noise / 2)


class UnconvertedWeight(SnrWeight):
    """The number that is meant for the error of x0, put on that of the network's target."""

    def log_on(self, prediction: Prediction, lam: jax.Array) -> jax.Array:
        return self.log_weight(lam)


class WeightConvertedBackwards(SnrWeight):
    """Divided by the ratio of the errors instead of multiplied."""

    def log_on(self, prediction: Prediction, lam: jax.Array) -> jax.Array:
        return 2 * self.log_weight(lam) - super().log_on(prediction, lam)


def weight_as(kind: type[SnrWeight]) -> SnrWeight:
    return kind("x0", min_snr_weight(GAMMA).log_weight)


@pytest.mark.parametrize(
    "prediction, weight",
    [
        (NegatedTarget("v"), min_snr_weight(GAMMA)),
        (ScaledTarget("eps"), min_snr_weight(GAMMA)),
        (ShuffledConditioning("v"), min_snr_weight(GAMMA)),
        (ConditioningOfAnotherForm("v"), min_snr_weight(GAMMA)),
        (Prediction("v"), weight_as(UnconvertedWeight)),
        (Prediction("eps"), weight_as(WeightConvertedBackwards)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_comparison_can_fail(oracle: Oracle, prediction: Prediction, weight: SnrWeight) -> None:
    excess = oracle.excess(DenoisingObjective(LAW, weight, prediction))
    print(type(prediction).__name__, type(weight).__name__, np.round(excess, 3).tolist())
    assert not is_within_tolerance(excess)


def test_a_linear_denoiser_is_not_good_enough(oracle: Oracle) -> None:
    variance = 0.66**2 / 2 + SPREAD**2
    gain = variance / (variance + oracle.sigma**2)
    ratio = oracle.loss(gain[:, None] * oracle.x) / oracle.bayes
    assert (ratio[MIDDLE] > 1 + TOLERANCE).sum() >= 2
