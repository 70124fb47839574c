"""Training steps whose selection is shown what the network sees, and whose losses are weighted."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import linear_network
import numpy as np
import optax
import pytest

from jaxnoise.meta import NeutralPool, NeutralWeights, RandomScore, SoftmaxDraws
from jaxnoise.meta.selection import Weighted
from jaxnoise.noise import Adaptive, Cosine
from jaxnoise.objectives import DenoisingObjective, uniform_weight
from jaxnoise.training.drawing import AXIS, Batch
from jaxnoise.training.parallel import Devices
from jaxnoise.training.state import create_state
from jaxnoise.training.step import make_step

pytestmark = pytest.mark.slow

BATCH = 16
IMAGES = np.random.RandomState(0).randint(0, 256, (20, 4, 4, 2)).astype(np.uint8)
LABELS = (np.arange(20) % 3).astype(np.int32)
OBJECTIVE = DenoisingObjective(Cosine().truncated(-8.0, 8.0), uniform_weight("v"))
KEY = linear_network.quick_key(5)


def rate(x, lam, labels):
    """Sees all that it may."""
    return jnp.mean(x, axis=(1, 2, 3)) + lam / 8 + labels.astype(x.dtype) / 4


SELECTIONS = {
    "none": None,
    "all": NeutralPool(rate, share=1.0, bins=2),
    "pool": NeutralPool(rate, share=0.5, bins=2),
    "even weights": NeutralWeights(lambda x, lam, labels: 0 * lam, axis_name=AXIS),
    "weights": NeutralWeights(rate, temperature=0.2, floor=0.1, axis_name=AXIS),
    "draws": SoftmaxDraws(RandomScore(), 3, temperature=0.1),
}


@lru_cache
def run(name, count=1):
    """The parameters before and after one step of plain descent, and its metrics."""
    optimizer = optax.sgd(1.0)
    step = make_step(
        linear_network.apply,
        OBJECTIVE,
        optimizer,
        ema_rate=0.5,
        global_batch=BATCH,
        num_classes=3,
        dropout=False,
        flip=False,
        selection=SELECTIONS[name],
    )
    devices = Devices("pmap", count)
    start = create_state(linear_network.init, optimizer, KEY, teacher=False)
    index = devices.split(np.arange(BATCH, dtype=np.int32)[None], axis=1)
    batch = Batch(index, devices.replicate(IMAGES), devices.replicate(LABELS))
    before = jax.tree.map(np.asarray, start.params["network"])
    state, metrics = devices.map(step, 1, resident=True)(devices.replicate(start), batch, KEY)
    after = jax.tree.map(np.asarray, state.params["network"])
    return before, after, {key: np.asarray(value)[0] for key, value in metrics.items()}


def assert_alike(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["all", "even weights"])
def test_what_keeps_all_evenly_is_training_without_selection(name):
    assert_alike(run(name)[1], run("none")[1])
    np.testing.assert_allclose(run(name)[2]["loss"], run("none")[2]["loss"], rtol=1e-5)


@pytest.mark.parametrize("name", ["weights", "draws"])
def test_devices_change_nothing(name):
    """The softmax of the weights is over all examples, and draws are each example's own."""
    one, two = run(name), run(name, 2)
    assert_alike(one[1], two[1])
    # Means over devices of a ratio are not the ratio of means.
    for key in set(one[2]) - {"effective_share"}:
        np.testing.assert_allclose(two[2][key], one[2][key], rtol=1e-4, atol=1e-5)


def test_a_step_is_of_the_kept_alone():
    _, after, metrics = run("pool")
    assert metrics["band_count"].sum() == BATCH / 2
    assert metrics["image_share"] == 0.5
    assert metrics["score_margin"] > 0.1
    assert max(np.abs(a - b).max() for a, b in zip(
        *map(jax.tree.leaves, (after, run("none")[1])), strict=True
    )) > 1e-3  # fmt: skip
    # On two devices a pool is that of each device's part.
    assert run("pool", 2)[2]["band_count"].sum() == BATCH / 2


@pytest.mark.parametrize("name", ["weights", "draws"])
def test_weights_multiply_losses(name):
    _, after, metrics = run(name)
    assert 0.1 < metrics["effective_share"] < 0.98
    assert metrics["band_count"].sum() == BATCH
    # Bands tell unweighted losses, "loss" what is descended.
    unweighted = metrics["band_sum"].sum() / BATCH
    assert abs(metrics["loss"] - unweighted) > 1e-3
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))


def test_what_a_law_learns_from_is_weighted_too():
    """Weights take back what a selection does to the law of the noise."""

    class Twice:
        def select(self, keys, x0, lam, step, losses):
            eps = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(keys)
            return Weighted(eps, None, {}, jnp.full(len(x0), 2.0))

    pacing = Adaptive(bins=4, range=(-8.0, 8.0))
    objective = DenoisingObjective(OBJECTIVE.law, OBJECTIVE.weight, pacing=pacing)
    sums = [moved(objective, selection).pace.recent for selection in (None, Twice())]
    assert sums[0].total.sum() > 0
    np.testing.assert_allclose(sums[1].total, 2 * sums[0].total, rtol=1e-5)
    np.testing.assert_array_equal(sums[1].examples, sums[0].examples)


def moved(objective, selection):
    """The state after a step on one device."""
    step = make_step(
        linear_network.apply,
        objective,
        optax.sgd(1.0),
        ema_rate=0.5,
        global_batch=BATCH,
        num_classes=3,
        dropout=False,
        flip=False,
        selection=selection,
    )
    devices = Devices("pmap", 1)
    start = create_state(
        linear_network.init, optax.sgd(1.0), KEY, teacher=False, pace=objective.pacing.init()
    )
    batch = Batch(
        devices.split(np.arange(BATCH, dtype=np.int32)[None], axis=1),
        devices.replicate(IMAGES),
        devices.replicate(LABELS),
    )
    return devices.map(step, 1, resident=True)(devices.replicate(start), batch, KEY)[0]
