"""Every kind of training step can be lowered for a GPU and a TPU, on a machine that has neither.

Lowering ends before anything is compiled, so what it finds is what the platforms have no rule for.
"""

from functools import partial

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from small_network import MODEL

from jaxnoise import experiment
from jaxnoise.commands import train, train_rater
from jaxnoise.data import ArrayImages
from jaxnoise.run.model import open_model
from jaxnoise.run.open import placed
from jaxnoise.run.rater import open_rater
from jaxnoise.training.drawing import Batch
from jaxnoise.training.parallel import Devices

PLATFORMS = ("cuda", "tpu")
UNET = {
    "name": "tiny",
    "model_channels": 8,
    "num_blocks": 1,
    "channel_mult": (1, 2),
    "dropout": 0.1,
    "class_conditional": True,
}
DIT = {
    "name": "dit_tiny",
    "hidden_size": 8,
    "depth": 1,
    "num_heads": 2,
    "dtype": "bfloat16",
    "class_conditional": True,
}
SMALL = {**MODEL, "class_conditional": True}
IMAGES = ArrayImages(
    "noise",
    np.zeros((64, 4, 4, 2), np.uint8),
    np.arange(64, dtype=np.int32) % 3,
    num_classes=3,
)
ONE = Devices("shard_map", 1)


def config(name, **settings):
    module = __import__(f"configs.{name}", fromlist=["get_config"])
    tree = module.get_config().to_dict()
    model = settings.pop("model", UNET)
    tree["model"] = model
    tree["train"] = {
        "steps": 40,
        "batch": 8,
        "log_every": 2,
        "sample_every": 40,
        "checkpoint_every": 40,
    }
    for section, keys in settings.items():
        tree[section] = tree.get(section, {}) | keys
    return experiment.read(tree)


def lowered(opened, step, *batch):
    """The step of one device as a program for all PLATFORMS."""
    given = Batch(
        index=None,
        images=jax.ShapeDtypeStruct((1, *batch, 4, 4, 2), jnp.uint8),
        labels=jax.ShapeDtypeStruct((1, *batch), jnp.int32),
    )
    mapped = ONE.map(step, 1, resident=False, donate=False)
    state = placed(opened.abstract_state, ONE)

    def program(state, batch, seed):
        return mapped(state, batch, jax.random.key(seed))

    seed = jax.ShapeDtypeStruct((), jnp.uint32)
    return jax.export.export(jax.jit(program), platforms=PLATFORMS)(state, given, seed)


def of_state(exported, opened):
    """Whether the program's first results have the shapes of the state that it took."""
    wanted = [(x.shape, x.dtype) for x in jax.tree.leaves(opened.abstract_state)]
    return [(x.shape, x.dtype) for x in exported.out_avals[: len(wanted)]] == wanted


STEPS = {
    "consistency": partial(config, "digits_poly"),
    "denoising, DiT in bfloat16": partial(config, "digits_cosine", model=DIT),
    "adaptive": partial(
        config,
        "digits_adaptive",
        model=SMALL,
        pacing={"bins": 4, "warmup_steps": 2},
        data={"flip": True},
    ),
    "draws selected by their loss": partial(
        config, "digits_noise_plain", model=SMALL, selection={"name": "loss"}
    ),
}


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", STEPS)
def test_a_training_step_is_lowered_for_accelerators(name):
    run = STEPS[name]()
    model = open_model(run, IMAGES, scored=False, selects="selection" in run.config)
    exported = lowered(model, train.step_of(model, model.selection), run.train.batch)
    assert exported.platforms == PLATFORMS
    assert of_state(exported, model)


@pytest.mark.takes_a_second
def test_a_meta_step_is_lowered_for_accelerators():
    meta = {"population": 1, "outer_batch": 8, "candidates": 2, "lifetime": 20}
    # Inner steps are scanned there, where a CPU compiles them one by one.
    meta |= {"inner_steps": 2, "unroll": False}
    run = config("digits_noise_rater", model=SMALL, rater={"width": 4, "depth": 1}, meta=meta)
    rater = open_rater(run, IMAGES)
    batch = run.train.batch, 1, rater.inner_training.columns
    exported = lowered(rater, train_rater.step_of(rater), *batch)
    assert exported.platforms == PLATFORMS
    assert of_state(exported, rater)


@pytest.mark.takes_a_second
def test_what_an_accelerator_cannot_do_is_refused():
    run = experiment.read(tiny.digits_config())
    model = open_model(run, IMAGES, scored=False)
    step = train.step_of(model, None)

    def with_schur(state, batch, key):
        state, metrics = step(state, batch, key)
        triangular, _ = jax.scipy.linalg.schur(jnp.eye(2) * metrics["loss"])
        return state, {**metrics, "schur": triangular[0, 0]}

    with pytest.raises(NotImplementedError, match="schur"):
        lowered(model, with_schur, run.train.batch)
