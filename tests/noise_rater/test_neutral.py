"""Meta-gradients of raters whose weights cannot bend the model: of the noisy image, of a law."""

from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import linear_network
import numpy as np
import optax
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.meta import InnerState
from jaxnoise.models.rater import LawRater, NoisyRater, inputs_of
from jaxnoise.noise import Cosine, KarrasGrid, Laplace, LognormalPairs, constant
from jaxnoise.noise_rater.inner_task import InnerTask
from jaxnoise.noise_rater.inner_training import InnerTraining
from jaxnoise.noise_rater.population import Population
from jaxnoise.objectives import (
    ConsistencyObjective,
    DenoisingObjective,
    Prediction,
    inverse_gap,
    squared_l2,
    uniform_weight,
)
from jaxnoise.training.drawing import Examples
from jaxnoise.training.shown import network_input

pytestmark = pytest.mark.slow

BATCH, T = 8, 2
COSINE = Cosine().truncated(-8.0, 8.0)
DENOISING = DenoisingObjective(COSINE, uniform_weight("v"), Prediction("v"))
JUDGED_BY = DenoisingObjective(Laplace(-2.0, 0.25), uniform_weight("v"), Prediction("v"))
CONSISTENCY = ConsistencyObjective(
    grid=KarrasGrid(11, 0.002, 80.0, 7.0),
    law=LognormalPairs(),
    curriculum=constant(s0=11),
    distance=squared_l2,
    weight=inverse_gap,
)
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
RATERS = {
    "noisy": NoisyRater(width=4, depth=1, num_classes=3, dtype=jnp.float64),
    "law": LawRater(mu=1.0, b=2.0, dtype=jnp.float64),
}


def training_of(rater, objective=DENOISING, candidates=None, judged_by=None, **settings):
    task = InnerTask(
        linear_network.apply,
        objective,
        global_batch=BATCH,
        num_classes=3,
        dropout=False,
        flip=False,
        candidates=candidates,
        judged_by=judged_by,
    )
    return InnerTraining(
        task,
        OPTIMIZER,
        rater.apply,
        inner_steps=T,
        outer_batch=BATCH,
        population=Population(1, 8),
        unroll=False,
        sees=rater.sees,
        **settings,
    )


def batches(devices):
    """The same images and labels, [devices, T + 1, b, ...]."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (T + 1, BATCH, 4, 4, 2)).astype(np.uint8)
    labels = generator.integers(0, 3, (T + 1, BATCH)).astype(np.int32)
    return tuple(
        np.moveaxis(x.reshape(T + 1, devices, -1, *x.shape[2:]), 1, 0) for x in (images, labels)
    )


def doubles(tree):
    """The same numbers in float64, on the host."""

    def double(x):
        return np.asarray(x, np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(double, tree)


@lru_cache
def solved(name, devices):
    """A compiled eta -> (value, gradient, weights [T, B]) in float64, and an eta."""
    rater = RATERS[name]
    training = training_of(rater, floor=0.2, judged_by=JUDGED_BY)
    solve, key = training.solver("mixed"), linear_network.quick_key(3)
    with jax.enable_x64(False):
        draw = jax.vmap(partial(training.draw, key, jnp.int32(0)), axis_name="data")
        examples = doubles(jax.jit(draw)(*batches(devices)))
        theta = doubles(linear_network.init(key))

    @jax.jit
    def run(eta, theta, inner, outer):
        def of_device(inner, outer):
            result = solve(eta, InnerState(theta, OPTIMIZER.init(theta)), inner, outer)
            return result.value, result.gradient, result.weights

        return jax.vmap(of_device, axis_name="data")(inner, outer)

    def at(eta):
        value, gradient, weights = jax.tree.map(np.asarray, run(eta, theta, *examples))
        whole = np.moveaxis(weights, 0, 1).reshape(T, BATCH)
        return value[0], jax.tree.map(lambda x: x[0], gradient), whole

    generator = np.random.default_rng(1)
    start = rater.init(jax.random.key(0), *inputs_of(rater, (4, 4, 2)))
    moved = jax.tree.map(lambda x: np.float64(x) + 0.3 * generator.normal(size=x.shape), start)
    return at, moved


def directions(name, eta):
    if name == "law":
        zero = jax.tree.map(np.zeros_like, eta)["params"]
        return [{"params": zero | {key: np.float64(1)}} for key in ("mu", "log_b")]
    generator = np.random.default_rng(2)
    return [jax.tree.map(lambda x: generator.normal(size=x.shape), eta) for _ in range(2)]


@pytest.mark.parametrize("name", RATERS)
def test_meta_gradient_by_finite_differences(name):
    with jax.enable_x64(True):
        at, eta = solved(name, 1)
        _, gradient, weights = at(eta)
        np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
        assert (weights >= 0.2 / BATCH).all()
        assert weights.std() > 1e-3
        for way in directions(name, eta):
            ends = [
                at(jax.tree.map(lambda x, w, h=h, way=way: x + h * w, eta, way))[0]
                for h in (1e-5, -1e-5)
            ]
            slope = optax.tree.vdot(gradient, way)
            assert abs(slope) > 1e-8
            np.testing.assert_allclose((ends[0] - ends[1]) / 2e-5, slope, rtol=1e-5)


@pytest.mark.parametrize("name", RATERS)
def test_devices_change_nothing(name):
    """Two rows of a vmap stand for two devices: sums over the axis are all that crosses them."""
    with jax.enable_x64(True):
        (one, eta), (two, _) = solved(name, 1), solved(name, 2)
        for a, b in zip(*(jax.tree.leaves(run(eta)) for run in (one, two)), strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-12)


def alone(function, *arguments):
    """On one device."""
    given = jax.tree.map(lambda x: x[None], arguments)
    found = jax.jit(jax.vmap(function, axis_name="data"))(*given)
    return jax.tree.map(lambda x: x[0], found)


def drawn(training):
    images, labels = (x[0] for x in batches(1))
    key = linear_network.quick_key(4)
    return alone(partial(training.draw, key, jnp.int32(0)), images, labels)


def test_weights_of_a_law_are_its_normalised_ratio():
    rater = LawRater(mu=1.5, b=0.8)
    training = training_of(rater)
    inner, _ = drawn(training)
    step = jax.tree.map(lambda x: x[0], inner)
    eta = rater.init(jax.random.key(0), *inputs_of(rater, (4, 4, 2)))
    found = alone(partial(training.weights, eta), step)
    lam = np.asarray(step.levels.lam, np.float64)
    ratio = np.exp(-np.abs(lam - 1.5) / 0.8) / np.exp(np.asarray(COSINE.log_prob(lam), np.float64))
    np.testing.assert_allclose(found, ratio / ratio.sum(), rtol=1e-3)


def test_the_outer_loss_has_a_law_of_its_own():
    inner, outer = drawn(training_of(LawRater(), judged_by=JUDGED_BY))
    assert np.abs(outer.levels.lam + 2).max() < 3 < np.ptp(inner.levels.lam)
    np.testing.assert_allclose(
        outer.levels.log_prob, JUDGED_BY.law.log_prob(outer.levels.lam), rtol=1e-5
    )


@pytest.mark.parametrize("objective", [DENOISING, CONSISTENCY], ids=["denoising", "consistency"])
def test_a_rater_of_the_noisy_image_sees_what_the_network_is_shown(objective):
    training = training_of(NoisyRater(width=4, depth=1), objective)
    examples: Examples = jax.tree.map(lambda x: x[0], drawn(training)[0])
    seen, lam, labels = training.seen(examples)
    x0, eps, levels = examples.x0, examples.eps, examples.levels
    # Of consistency training the student's level, the upper one of its pair.
    sigma = levels.sigma_hi if objective is CONSISTENCY else jnp.exp(-levels.lam / 2)
    sigma = sigma.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(
        seen, (x0 + sigma * eps) / np.sqrt(sigma**2 + 0.25), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(lam, levels.lam)
    np.testing.assert_array_equal(labels, examples.labels)


def test_an_objective_that_shows_nothing():
    class Blind:
        def losses(self, student, teacher, own, x0, eps, levels):
            return jnp.zeros(len(x0))

    with pytest.raises(ArgumentError, match=r"^objective=Blind: must be one whose"):
        network_input(Blind(), {}, jnp.zeros((1, 2)), jnp.zeros((1, 2)), None)


@pytest.mark.parametrize("rater", [NoisyRater(4, 1), LawRater()], ids=["noisy", "law"])
def test_draws_for_one_image_do_not_compete(rater):
    with pytest.raises(ArgumentError, match=f"^candidates=4: must be None for a .* {rater.sees}"):
        training_of(rater, candidates=4)


def test_no_teacher_judges():
    judge = replace(CONSISTENCY, ema_teacher=lambda num_levels: 0.9)
    with pytest.raises(ArgumentError, match=r"^judged_by='ConsistencyObjective'"):
        training_of(LawRater(), judged_by=judge)


@pytest.mark.parametrize(
    "argument, settings", [("floor", {"floor": 1.0}), ("temperature", {"temperature": 0.0})]
)
def test_refuses(argument, settings):
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        training_of(LawRater(), **settings)
