"""Positive control of meta-learning: a rater finds the noise that does not belong to its image.

Of the images that inner models train on, 30% come with a wrong target: noise other than that in the
noisy image. Nobody tells the rater which; it sees the noisy image and the target, and learns from
what training does to the loss on clean held-out images. An image's second channel says whether its
target is wrong, and the second channel of the noise is that target.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.metrics import roc_auc_score

from jaxnoise.noise import Normal
from jaxnoise.noise.pacing import NoPacing
from jaxnoise.noise_rater.inner_task import InnerTask
from jaxnoise.noise_rater.inner_training import InnerTraining
from jaxnoise.noise_rater.population import Population, meta_indices
from jaxnoise.noise_rater.step import create_rater_state, make_meta_step
from jaxnoise.objectives import DenoisingObjective, Prediction, uniform_weight
from jaxnoise.training.drawing import Batch
from jaxnoise.training.parallel import Devices

pytestmark = pytest.mark.slow

EXAMPLES, HELD_OUT, CORRUPT = 4096, 1024, 0.3
SIZES = {"population": 2, "inner_steps": 2, "batch": 64, "outer_batch": 64}
META_STEPS, PER_DISPATCH, LIFETIME = 300, 50, 40
PREDICTION = Prediction("eps", sigma_data=1.0)
LEVELS = DenoisingObjective(Normal(-3.0, 1.0).truncated(-6.0, 0.0), uniform_weight(), PREDICTION)


def parts(x0, eps, lam):
    """The noisy image and the target of its noise, float[B, 16] each."""
    image, wrong = x0[..., :1], x0[..., 1:] > 0
    target = jnp.where(wrong, eps[..., 1:], eps[..., :1])
    noisy = PREDICTION.network_input(image, eps[..., :1], lam)
    return tuple(x.reshape(x.shape[0], -1) for x in (noisy, target))


class CorruptedObjective:
    """Predicts the noise of the first channel; the target may be that of the second."""

    pacing = NoPacing()
    has_teacher = False
    draw = staticmethod(LEVELS.draw)

    def losses(self, student, teacher, own, x0, eps, levels):
        noisy, target = parts(x0, eps, levels.lam)
        return jnp.mean((student(noisy, PREDICTION.c_noise(levels.lam)) - target) ** 2, axis=1)


def dense(key, rows, columns):
    return jax.random.normal(key, (rows, columns)) / np.sqrt(rows)


def init_inner(key):
    keys = jax.random.split(key)
    network = {"in": dense(keys[0], 17, 32), "out": 0.1 * dense(keys[1], 32, 16)}
    return {"network": network, "objective": {}}


def network(params, x, c_noise, labels=None, dropout_keys=None):
    h = jax.nn.silu(jnp.concatenate([x, c_noise[:, None]], axis=1) @ params["in"])
    return h @ params["out"]


def init_rater(key):
    keys = jax.random.split(key, 2)
    return {"in": dense(keys[0], 49, 32), "mid": dense(keys[1], 32, 32), "out": jnp.zeros(32)}


def rater(eta, x0, eps, lam):
    noisy, target = parts(x0, eps, lam)
    x = jnp.concatenate([noisy, target, noisy * target, lam[:, None] / 4], axis=1)
    return jax.nn.silu(jax.nn.silu(x @ eta["in"]) @ eta["mid"]) @ eta["out"]


def indices(step):
    return meta_indices(0, EXAMPLES, HELD_OUT, step, **SIZES).astype(np.int32)


def data():
    """Images on a plane of patterns; some of those for training get the mark."""
    generator = np.random.default_rng(0)
    images = generator.normal(size=(EXAMPLES, 2)) @ generator.normal(size=(2, 16)) / np.sqrt(2)
    mark = generator.uniform(size=EXAMPLES) < CORRUPT
    held_out = np.unique([indices(step)[..., 2:] for step in range(8)])
    assert len(held_out) == HELD_OUT
    clean = mark.copy()
    clean[held_out] = False

    def marked(mark):
        both = np.stack([images, np.repeat(mark[:, None], 16, axis=1)], axis=2)
        return both.reshape(EXAMPLES, 4, 4, 2).astype(np.float32)

    return marked(clean), marked(mark)[held_out], mark[held_out]


def auc(eta, images, mark):
    """Of scores of held-out images under fresh noise: how well they tell right from wrong."""
    keys = jax.random.split(jax.random.key(9))
    eps = jax.random.normal(keys[0], images.shape)
    lam = LEVELS.draw(keys[1], keys[1], jnp.int32(0), len(images)).lam
    return roc_auc_score(~mark, np.asarray(rater(eta, jnp.asarray(images), eps, lam)))


def learn(images):
    """Meta-training: the last state, and the effective share of the weights at each step."""
    devices, population = Devices("pmap", 1), Population(2, LIFETIME)
    inner_optimizer = optax.adam(1e-2)
    meta_optimizer = optax.chain(
        optax.clip_by_global_norm(0.1), optax.adamw(1e-2, weight_decay=1e-3)
    )
    problem = InnerTask(
        network,
        CorruptedObjective(),
        global_batch=64,
        num_classes=0,
        dropout=False,
        flip=False,
        candidates=None,
    )
    training = InnerTraining(
        problem,
        inner_optimizer,
        rater,
        inner_steps=2,
        outer_batch=64,
        population=population,
        unroll=False,
    )
    step = make_meta_step(training, meta_optimizer, init_inner=init_inner)
    key = jax.random.key(1)
    state = create_rater_state(
        init_rater, init_inner, inner_optimizer, meta_optimizer, key, population=population
    )
    state, first = devices.replicate(state), jax.tree.map(np.asarray, state.eta)
    dispatch = devices.map(step, PER_DISPATCH, resident=True)
    labels = devices.replicate(np.zeros(EXAMPLES, np.int32))
    images = devices.replicate(images)
    rows = []
    for start in range(0, META_STEPS, PER_DISPATCH):
        index = np.stack([indices(start + i) for i in range(PER_DISPATCH)])
        batch = Batch(index=devices.split(index, axis=1), images=images, labels=labels)
        state, metrics = dispatch(state, batch, key)
        rows.append(jax.tree.map(np.asarray, metrics))
    return first, state, rows


def test_a_rater_finds_corrupted_targets():
    images, held_out, mark = data()
    first, state, rows = learn(images)
    assert auc(first, held_out, mark) == 0.5
    assert auc(state.eta, held_out, mark) > 0.95
    assert rows[0]["effective_share"][0] > 0.999
    # Equal weights on the right 70% and none on the others would have 0.7.
    assert 0.5 < rows[-1]["effective_share"][-1] < 0.8
