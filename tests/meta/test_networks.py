"""The meta-gradient of the real networks: "mixed" is "reverse", in float64."""

import itertools
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from jaxnoise.meta import InnerState, meta_gradient
from jaxnoise.models import UNet, preset
from jaxnoise.models.dit import DiT

pytestmark = pytest.mark.slow

BATCH, CLASSES = 2, 3
NETWORKS = {
    "unet": lambda: UNet(
        **preset("tiny", out_channels=1, model_channels=8, channel_mult=(1,), channel_mult_emb=1),
        num_classes=CLASSES,
        dtype=jnp.float64,
    ),
    "dit": lambda: DiT(
        out_channels=1,
        hidden_size=8,
        depth=1,
        num_heads=2,
        mlp_ratio=2,
        num_classes=CLASSES,
        dtype=jnp.float64,
    ),
}


def without_jit(optimizer):
    """The same optimizer, whose operations are compiled once and not once per inner step."""
    return optax.GradientTransformation(optimizer.init, jax.disable_jit()(optimizer.update))


# One each: all of them are tried on a small network, in test_unroll.py.
OPTIMIZERS = {"unet": without_jit(optax.adam(0.02)), "dit": without_jit(optax.radam(0.02))}
ETA = np.linspace(-0.4, 0.5, 10)


@pytest.fixture(autouse=True, scope="module")
def float64():
    with jax.enable_x64(True):
        yield


def draw(*leading):
    generator = np.random.RandomState(len(leading))
    return {
        "x": generator.randn(*leading, 4, 4, 1),
        "noise": generator.randn(*leading, 4, 4, 1),
        "c_noise": generator.randn(*leading),
        "label": generator.randint(0, CLASSES + 1, leading).astype(np.int32),
    }


@lru_cache
def problem(name):
    """Per-example losses of a network, and parameters away from their initial zeros."""
    network = NETWORKS[name]()
    batch = draw(BATCH)
    inputs = batch["x"], batch["c_noise"], batch["label"]
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    generator = np.random.RandomState(0)

    def usual(path, leaf):
        kernel = "kernel" in jax.tree_util.keystr(path)
        return generator.randn(*leaf.shape) * (np.prod(leaf.shape[:-1]) ** -0.5 if kernel else 0.3)

    # One vector: what runs outside `losses` then compiles for one shape only.
    theta, unravel = ravel_pytree(jax.tree_util.tree_map_with_path(usual, shapes))

    # One compiled function serves every mode, optimizer and number of steps.
    @jax.jit
    def losses(theta, batch):
        x = batch["x"] + batch["noise"]
        output = network.apply({"params": unravel(theta)}, x, batch["c_noise"], batch["label"])
        return jnp.mean((output - batch["noise"]) ** 2, axis=(1, 2, 3))

    return losses, theta


@jax.jit
def weights(eta, batch):
    return jax.nn.softmax(batch["noise"].reshape(BATCH, -1)[:, :10] @ eta)


def under_way(theta, optimizer):
    """Parameters with moments of six gradients: RAdam rectifies from step 5 on."""
    state = optimizer.init(theta)
    for gradient in 0.1 * np.random.RandomState(1).randn(6, theta.size):
        with jax.numpy_dtype_promotion("standard"):
            _, state = optimizer.update(jnp.asarray(gradient), state, theta)
    return InnerState(theta, state)


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


@pytest.mark.parametrize("network, steps", [*itertools.product(NETWORKS, (1, 2, 3, 4))])
def test_mixed_is_reverse(network, steps):
    losses, theta = problem(network)
    update = OPTIMIZERS[network]
    batches = {name: x[:steps] for name, x in draw(4, BATCH).items()}
    given = ETA, under_way(theta, update), batches, draw(BATCH)
    mixed, reverse = (
        meta_gradient(
            losses, weights, lambda p, b: jnp.mean(losses(p, b)), update, mode=mode, unroll=True
        )(*given)
        for mode in ("mixed", "reverse")
    )
    assert np.linalg.norm(reverse.gradient) > 1e-6
    for found, expected in zip(floats(mixed), floats(reverse), strict=True):
        assert np.linalg.norm(found - expected) < 1e-10 * np.linalg.norm(expected)
