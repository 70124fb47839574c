"""What a step hands back as replicated is the same on every device.

Neither mapping of devices notices a forgotten mean: pmap would hand back device 0's value. So every
step of the stack runs on two devices here, and the copies of both are compared bit for bit.
"""

import jax
import jax.numpy as jnp
import linear_network
import numpy as np
import optax
import pytest

from jaxnoise.meta.candidates import LossScore, NearestScore, RandomScore, ShuffledScore
from jaxnoise.meta.pool import PoolSelection
from jaxnoise.meta.selection import NoiseAssignment, NoiseSelection
from jaxnoise.meta.unroll import InnerState
from jaxnoise.noise import (
    Cosine,
    Difficulty,
    KarrasGrid,
    LognormalPairs,
    constant,
    square_root_ema_rate,
)
from jaxnoise.noise_rater import step as rater_module
from jaxnoise.noise_rater.inner_task import InnerTask
from jaxnoise.noise_rater.inner_training import InnerTraining
from jaxnoise.noise_rater.population import Population
from jaxnoise.noise_rater.probes import make_order_probe, make_signal_probe
from jaxnoise.noise_rater.step import create_rater_state, make_meta_step
from jaxnoise.objectives import (
    ConsistencyObjective,
    DenoisingObjective,
    LearnedUncertainty,
    inverse_gap,
    min_snr_weight,
    squared_l2,
)
from jaxnoise.training import step as step_module
from jaxnoise.training.drawing import AXIS, Batch
from jaxnoise.training.state import create_state
from jaxnoise.training.step import make_step

pytestmark = pytest.mark.slow

BATCH, DEVICES = 8, 2
RANDOM = np.random.RandomState(0)
KEY = linear_network.quick_key(5)
OPTIMIZER = optax.sgd(1e-2, momentum=0.9)
DENOISING = DenoisingObjective(Cosine().truncated(-8.0, 8.0), min_snr_weight())
BALANCED = DenoisingObjective(
    Cosine().truncated(-8.0, 8.0),
    min_snr_weight(),
    uncertainty=LearnedUncertainty(harmonics=1),
    pacing=Difficulty(clusters=2, patience=1),
)


def consistency(ema_teacher=None):
    return ConsistencyObjective(
        grid=KarrasGrid(11),
        law=LognormalPairs(sampling="stratified"),
        curriculum=constant(s0=11),
        distance=squared_l2,
        weight=inverse_gap,
        ema_teacher=ema_teacher,
    )


def copies(step, state, shape):
    """What each device hands back, leaves [DEVICES, ...], of a batch of images of such axes."""
    images = RANDOM.randint(0, 256, (*shape, 4, 4, 2)).astype(np.uint8)
    labels = (np.arange(np.prod(shape)) % 3).astype(np.int32).reshape(shape)
    cut = (DEVICES, shape[0] // DEVICES, *shape[1:])
    batch = Batch(
        index=None,
        images=jnp.asarray(images.reshape(*cut, 4, 4, 2)),
        labels=jnp.asarray(labels.reshape(cut)),
    )
    mapped = jax.vmap(step, in_axes=(None, 0, None), out_axes=0, axis_name=AXIS)
    return jax.jit(mapped)(state, batch, KEY)


def differing(found):
    """The paths of what is not the same on both devices."""
    found = jax.tree.map(
        lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        found,
    )
    found = jax.tree.map(np.asarray, found)
    return [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(found)
        if not np.array_equal(leaf[0], leaf[1], equal_nan=True)
    ]


def training(objective=DENOISING, selection=None):
    step = make_step(
        linear_network.apply,
        objective,
        OPTIMIZER,
        ema_rate=0.5,
        global_batch=BATCH,
        num_classes=3,
        label_dropout=0.5,
        dropout=True,
        flip=True,
        selection=selection,
    )

    def init(key):
        return {**linear_network.init(key), "objective": objective.init(key)}

    state = create_state(init, OPTIMIZER, KEY, objective.has_teacher, objective.pacing.init())
    return step, state, (BATCH,)


STEPS = {
    "consistency": (consistency(),),
    "teacher ema": (consistency(lambda n: square_root_ema_rate(n)),),
    "learned uncertainty": (BALANCED,),
    "random": (DENOISING, NoiseSelection(RandomScore(), 2, plain_share=0.5, anneal_steps=9)),
    "loss": (DENOISING, NoiseSelection(LossScore(), 2)),
    "shuffled": (DENOISING, NoiseSelection(ShuffledScore(NearestScore(), bins=2), 2)),
    "pool": (DENOISING, PoolSelection(NearestScore(), 2, bins=2)),
    "assignment": (DENOISING, NoiseAssignment()),
}


@pytest.mark.parametrize("name", STEPS)
def test_training_steps(name):
    assert differing(copies(*training(*STEPS[name]))) == []


def rate(eta, x0, eps, lam):
    return eta[0] * jnp.mean(x0 * eps, axis=(1, 2, 3)) + eta[1] * lam / 4


def lesson_of(candidates):
    task = InnerTask(
        linear_network.apply,
        DENOISING,
        global_batch=BATCH,
        num_classes=3,
        dropout=True,
        flip=True,
        candidates=candidates,
    )
    return InnerTraining(
        task,
        OPTIMIZER,
        rate,
        inner_steps=2,
        outer_batch=BATCH,
        population=Population(2, 4),
        unroll=False,
    )


def meta_training(candidates, averaging):
    training, optimizer = lesson_of(candidates), optax.adam(0.1)
    step = make_meta_step(training, optimizer, init_inner=linear_network.init, averaging=averaging)
    state = create_rater_state(
        lambda key: jnp.asarray([0.5, 0.1]),
        linear_network.init,
        OPTIMIZER,
        optimizer,
        KEY,
        population=training.population,
        averaging=averaging,
    )
    return step, state, (BATCH, 2, training.columns)


@pytest.mark.parametrize("candidates,averaging", [(None, "updates"), (2, "gradients")])
def test_meta_steps_and_the_probe_of_their_order(candidates, averaging):
    step, state, shape = meta_training(candidates, averaging)
    probe = make_order_probe(lesson_of(candidates))

    def both(state, batch, key):
        return step(state, batch, key), probe(state, batch, key)

    assert differing(copies(both, state, shape)) == []


def test_the_probe_of_signal():
    task = lesson_of(None).task
    measure = make_signal_probe(task, OPTIMIZER, draws=2, repeats=2)
    params = linear_network.init(KEY)

    def probe(state, batch, key):
        return measure(state, jnp.int32(3), batch, key, key)

    state = InnerState(params, OPTIMIZER.init(params))
    assert differing(copies(probe, state, (BATCH, 1, 3))) == []


@pytest.mark.parametrize(
    "module,steps,spoilt",
    [
        (step_module, training, ".params"),
        (rater_module, lambda: meta_training(None, "updates"), "effective_share"),
    ],
)
def test_a_forgotten_mean_is_noticed(module, steps, spoilt, monkeypatch):
    class Forgetful:
        """jax.lax without sums over devices."""

        def __getattr__(self, name):
            if name in ("pmean", "psum"):
                return lambda tree, axis: tree
            return getattr(jax.lax, name)

    class Jax:
        lax = Forgetful()

        def __getattr__(self, name):
            return getattr(jax, name)

    monkeypatch.setattr(module, "jax", Jax())
    found = differing(copies(*steps()))
    assert any(spoilt in path for path in found)
