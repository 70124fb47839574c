"""Training with blocks in bfloat16 beside the same run in float32."""

import flax.linen.initializers as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxnoise import experiment
from jaxnoise.commands.train import step_of
from jaxnoise.data import ArrayImages
from jaxnoise.models import DiT, UNet, layers
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


@pytest.mark.parametrize(
    "network",
    [
        UNet(model_channels=8, channel_mult=(1, 1), num_blocks=1, attn_resolutions=(8,)),
        DiT(hidden_size=16, depth=1, num_heads=2, patch_size=2),
    ],
    ids=["unet", "dit"],
)
def test_no_gradient_is_summed_over_images_in_bfloat16(network):
    """A sum of equal numbers stops growing after 256 of them, whatever the device."""
    network = network.clone(dtype=jnp.bfloat16)
    given = jnp.zeros((4, 16, 16, 3)), jnp.zeros(4), None, None
    params = jax.eval_shape(network.init, jax.random.key(0), *given)
    gradient = jax.jit(jax.grad(lambda params: jnp.square(network.apply(params, *given)).sum()))
    sums = [
        line
        for line in gradient.lower(params).as_text().splitlines()
        if "stablehlo.reduce(" in line and "stablehlo.add" in line
    ]
    assert len(sums) > 20
    assert not [line for line in sums if "bf16" in line]


@pytest.mark.parametrize("layer", ["convolution", "linear", "gate", "shift"])
def test_gradients_of_what_is_broadcast_are_those_of_float32(layer):
    shape, wide, narrow = (16, 16, 16, 4), jnp.float32, jnp.bfloat16
    x, h, towards = 0.1 + jax.random.normal(jax.random.key(0), (3, *shape), wide)

    def loss(term, dtype):
        if layer == "gate":
            y = layers.gated(x.astype(dtype), term, h.astype(dtype))
        elif layer == "shift":
            y = layers.added(x.astype(dtype), term)
        else:
            kind = layers.Conv(4) if layer == "convolution" else layers.Dense(4, nn.zeros)
            kernel = jnp.zeros((3, 3, 4, 4) if layer == "convolution" else (4, 4))
            params = {"params": {"kernel": kernel, "bias": term}}
            y = kind.apply(params, x.astype(dtype))
        assert y.dtype == dtype
        return jnp.vdot(y.astype(wide), towards)

    term = jnp.full((4,) if layer in ("convolution", "linear") else (16, 1, 1, 4), 0.5, wide)
    expected, found = (jax.grad(loss)(term, dtype) for dtype in (wide, narrow))
    size = np.abs(expected).max()
    # Each addend is rounded once, by 2^-9 of itself at most.
    np.testing.assert_allclose(found, expected, atol=0.005 * size, rtol=0.005)
