"""Training with blocks in bfloat16 beside the same run in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxnoise import experiment
from jaxnoise.commands.train import step_of
from jaxnoise.data import ArrayImages
from jaxnoise.run.model import open_model
from jaxnoise.training.drawing import Batch
from jaxnoise.training.parallel import Devices

pytestmark = pytest.mark.slow

STEPS, BATCH = 24, 16
UNET = {"name": "tiny", "model_channels": 8, "channel_mult": (1,)}
DIT = {"name": "dit_tiny", "hidden_size": 16, "depth": 1, "num_heads": 2}
DRAWS = np.random.RandomState(0)
IMAGES = ArrayImages(
    "noise",
    DRAWS.randint(0, 256, (BATCH, 4, 4, 1)).astype(np.uint8),
    np.zeros(BATCH, np.int32),
    num_classes=1,
)


def run(network, dtype):
    """The first state, the last and the losses of a short run."""
    config = tiny.digits_config(**{"train.batch": BATCH, "train.steps": STEPS})
    config["model"] = {**network, "dtype": dtype}
    model = open_model(experiment.read(config), IMAGES, scored=False)
    batch = Batch(
        index=None,
        images=jnp.asarray(IMAGES.load(np.arange(BATCH))[0])[None],
        labels=jnp.zeros((1, BATCH), jnp.int32),
    )
    devices = Devices("shard_map", 1)
    step = devices.map(step_of(model, None), 1, resident=False, donate=False)
    first = jax.tree.map(np.asarray, model.new_state())
    # On the device as what a step gives, or the step would be compiled once for each.
    state = devices.replicate(first)
    losses = []
    for _ in range(STEPS):
        state, metrics = step(state, batch, model.key)
        losses.append(float(metrics["loss"][0]))
    return first, state, np.array(losses)


@pytest.mark.parametrize("network", [UNET, DIT], ids=["unet", "dit"])
def test_a_short_run_in_bfloat16_stays_close_to_float32(network):
    first, wide, losses = run(network, "float32")
    start, narrow, rounded = run(network, "bfloat16")
    for state in (narrow.params, narrow.ema, narrow.opt_state):
        kinds = {leaf.dtype for leaf in jax.tree.leaves(state)}
        assert kinds <= {np.dtype(np.float32), np.dtype(np.int32)}

    def flat(state):
        return np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.params)])

    np.testing.assert_array_equal(flat(first), flat(start))
    # A number of bfloat16 is rounded by up to 2^-9 = .002 of itself.
    np.testing.assert_allclose(rounded, losses, rtol=0.002)
    assert not np.array_equal(rounded, losses)
    moved, apart = flat(wide) - flat(first), flat(wide) - flat(narrow)
    assert np.linalg.norm(apart) < 0.05 * np.linalg.norm(moved)
