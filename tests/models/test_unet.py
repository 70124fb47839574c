"""The U-Net: size, shapes, conditioning, dropout, precision, gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.models import PRESETS, UNet, preset
from jaxnoise.models.unet import ResidualBlock

pytestmark = pytest.mark.slow

NARROW = {
    "out_channels": 2,
    "model_channels": 8,
    "channel_mult": (1, 2),
    "num_blocks": 1,
    "attn_resolutions": (8,),
    "channel_mult_emb": 2,
}
NCSNPP = {**PRESETS["ncsnpp"], **NARROW}


def count(network, side, channels):
    x = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    c_noise = jax.ShapeDtypeStruct((1,), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), x, c_noise)
    leaves = jax.tree.leaves(variables)
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    return sum(math.prod(leaf.shape) for leaf in leaves)


@pytest.mark.parametrize(
    "name, side, channels, low, high",
    [
        ("tiny", 8, 1, 0.6e6, 0.75e6),
        ("small", 32, 3, 2.5e6, 3.5e6),
        ("ddpmpp", 32, 3, 55e6, 57e6),
        ("ncsnpp", 32, 3, 55e6, 58e6),
        ("ncsnpp_deep", 32, 3, 90e6, 105e6),
    ],
)
def test_parameter_counts(name, side, channels, low, high):
    assert low < count(UNet(**preset(name, out_channels=channels)), side, channels) < high


def test_parameters_of_one_level_counted_by_hand():
    # Width 8, embedding 16: convolutions 3x3 (584, or 1160 after a concatenation), norms 2 x width,
    # affine 136, skip 136, attention 16 + 216 + 72.
    network = UNet(**{**NARROW, "channel_mult": (1,), "attn_resolutions": ()})
    block = 584 + 584 + 16 + 16 + 136
    joined = 1160 + 584 + 32 + 16 + 136 + 136
    ends = (9 * 2 * 8 + 8) + (16 + 9 * 8 * 2 + 2)
    embedding = (8 * 16 + 16) + (16 * 16 + 16)
    want = ends + embedding + block + (block + 16 + 216 + 72) + block + 2 * joined
    assert count(network, 8, 2) == want


def random_params(network, *args, dtype=jnp.float32):
    """Parameters of usual size everywhere: fresh ones are almost zero where it matters here."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *args)

    def draw(path, leaf):
        kernel = jax.tree_util.keystr(path).endswith("['kernel']")
        spread = math.prod(leaf.shape[:-1]) ** -0.5 if kernel else 0.1
        one = jax.tree_util.keystr(path).endswith("['scale']")
        return jnp.asarray(one + spread * rng.normal(size=leaf.shape), dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(4, 8, 8, 2)), jnp.float32)
    return x, jnp.asarray([-1.2, -0.3, 0.4, 1.0], jnp.float32)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(3), 4)


@pytest.fixture(scope="module")
def conditional(batch):
    """A class-conditional NCSN++ with dropout: its parameters and its jitted apply."""
    network = UNet(**NCSNPP, num_classes=3, dropout=0.5)
    params = random_params(network, *batch, jnp.zeros(4, jnp.int32))
    apply = jax.jit(lambda *args, **kwargs: network.apply(params, *args, **kwargs))
    return params, apply


@pytest.fixture(scope="module")
def plain(batch):
    """A DDPM++ and its parameters."""
    network = UNet(**NARROW)
    return network, random_params(network, *batch)


def test_output_and_noise_label(conditional, batch):
    _, apply = conditional
    x, c_noise = batch
    labels = jnp.zeros(4, jnp.int32)
    y = apply(x, c_noise, labels)
    assert y.shape == (4, 8, 8, 2)
    assert y.dtype == jnp.float32
    assert (jnp.abs(y - apply(x, c_noise + 0.1, labels)).max(axis=(1, 2, 3)) > 1e-4).all()


def test_a_fresh_block_scales_its_input():
    x, embedding = jax.random.normal(jax.random.key(1), (2, 4, 4, 8)), jnp.ones((2, 16))
    block = ResidualBlock(8, layer=0, attention=True, skip_scale=0.5)
    y, _ = jax.jit(block.init_with_output)(jax.random.key(0), x, embedding, None)
    assert 0 < jnp.abs(y - 0.25 * x).max() < 1e-3


def test_classes_and_the_null_label(conditional, batch):
    params, apply = conditional
    outputs = [apply(*batch, jnp.full(4, label, jnp.int32)) for label in range(4)]
    for i in range(4):
        for j in range(i):
            assert jnp.abs(outputs[i] - outputs[j]).max() > 1e-3
    # Without the rows of the label table, the network is the unconditional one.
    unconditional = UNet(**NCSNPP)
    rest = {k: v for k, v in params["params"].items() if k != "label"}
    want = jax.jit(unconditional.apply)({"params": rest}, *batch)
    np.testing.assert_allclose(outputs[3], want, rtol=1e-5, atol=1e-5)


def test_dropout_depends_on_the_keys_only(conditional, batch, keys):
    _, apply = conditional
    x, c_noise = batch
    labels = jnp.zeros(4, jnp.int32)
    whole = apply(x, c_noise, labels, dropout_keys=keys)
    np.testing.assert_array_equal(whole, apply(x, c_noise, labels, dropout_keys=keys))
    turned = apply(x[::-1], c_noise[::-1], labels, dropout_keys=keys[::-1])
    np.testing.assert_allclose(whole, turned[::-1], rtol=1e-4, atol=1e-5)
    swapped = apply(x, c_noise, labels, dropout_keys=keys[::-1])
    assert (jnp.abs(whole - swapped).max(axis=(1, 2, 3)) > 1e-3).all()
    assert (jnp.abs(whole - apply(x, c_noise, labels)).max(axis=(1, 2, 3)) > 1e-3).all()


def test_every_block_has_its_own_mask(batch):
    network = UNet(**NARROW, dropout=0.5)
    keys = jax.random.split(jax.random.key(3), 4)
    calls = []

    def spy(x, keys, layer, rate):
        calls.append((layer, rate))
        return x

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnoise.models.layers.dropout", spy)
        jax.eval_shape(network.init, jax.random.key(0), *batch, None, keys)
    # Two encoder levels of one block, one way down, two in the middle, one up, four decoder blocks.
    assert calls == [(layer, 0.5) for layer in range(10)]


def test_bfloat16_is_close_to_float32(plain, batch):
    network, params = plain
    want = jax.jit(network.apply)(params, *batch)
    got = jax.jit(network.clone(dtype=jnp.bfloat16).apply)(params, *batch)
    assert got.dtype == jnp.float32
    error = jnp.sqrt(jnp.mean((got - want) ** 2) / jnp.mean(want**2))
    # Above float32's rounding (it did compute in bfloat16), below a few of bfloat16's units.
    assert 1e-4 < error < 0.03


def test_gradient_is_the_finite_difference_in_float64(batch):
    with jax.enable_x64(True):
        network = UNet(**NCSNPP, num_classes=2, dropout=0.2, dtype=jnp.float64)
        keys = jax.random.split(jax.random.key(3), 2)
        x, c_noise = (np.asarray(a[:2], np.float64) for a in batch)
        labels = jnp.asarray([0, 2], jnp.int32)
        params = random_params(network, x, c_noise, labels, dtype=jnp.float64)

        def loss(params, x):
            y = network.apply(params, x, c_noise, labels, keys)
            assert y.dtype == jnp.float64
            return jnp.sum(jnp.sin(y))

        at = (params, jnp.asarray(x))
        rng = np.random.default_rng(4)
        toward = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), at)
        evaluate = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        slope = sum(
            jnp.vdot(g, d)
            for g, d in zip(jax.tree.leaves(evaluate(*at)[1]), jax.tree.leaves(toward), strict=True)
        )
        h = 1e-5
        ahead, behind = (
            evaluate(*jax.tree.map(lambda a, d, s=s: a + s * h * d, at, toward))[0] for s in (1, -1)
        )
        np.testing.assert_allclose((ahead - behind) / (2 * h), slope, rtol=1e-5)


def test_forward_over_reverse_and_plain_forward_mode_agree(batch):
    x, c_noise = batch
    network = UNet(**{**NARROW, "channel_mult": (1,)})
    params = random_params(network, x, c_noise)

    def loss(network):
        return lambda x: jnp.mean(network.apply(params, x, c_noise) ** 2)

    forward = jax.jit(lambda x: jax.jvp(loss(network.clone(fused=False)), (x,), (x,)))
    fused = jax.jit(lambda x: jax.jvp(jax.grad(loss(network)), (x,), (x,)))
    gradient, curvature = fused(x)
    _, slope = forward(x)
    np.testing.assert_allclose(jnp.vdot(gradient, x), slope, rtol=1e-3)
    ahead, behind = (fused((1 + s * 1e-2) * x)[0] for s in (1, -1))
    error = jnp.linalg.norm((ahead - behind) / 2e-2 - curvature) / jnp.linalg.norm(curvature)
    assert error < 0.02


@pytest.mark.parametrize(
    "field, value",
    [
        ("out_channels", 0),
        ("model_channels", 10),
        ("channel_mult", ()),
        ("channel_mult", (1, 0)),
        ("num_blocks", 0),
        ("dropout", 1.0),
        ("num_classes", -1),
        ("embedding", "fourrier"),
        ("fourier_scale", 0.0),
        ("encoder", "skip"),
        ("resample_filter", (1, 2, 1)),
        ("resample_filter", (math.nan, math.nan)),
        ("resample_filter", (1, math.inf)),
        ("channel_mult_noise", 0),
        ("channel_mult_emb", 0),
        ("skip_scale", -1.0),
        ("dtype", jnp.float16),
    ],
)
def test_fields_are_checked_by_name(field, value):
    with pytest.raises(ArgumentError) as caught:
        UNet(**{**NARROW, field: value})
    assert caught.value.argument == field


@pytest.mark.parametrize(
    "fields, side, labels, argument",
    [
        ({}, 9, None, "channel_mult"),
        ({"attn_resolutions": (16,)}, 8, None, "attn_resolutions"),
        ({}, 8, np.zeros(1, np.int32), "labels"),
        ({"num_classes": 3}, 8, None, "labels"),
    ],
)
def test_inputs_are_checked_by_name(fields, side, labels, argument):
    network = UNet(**{**NARROW, **fields})
    x = jnp.zeros((1, side, side, 2))
    with pytest.raises(ArgumentError) as caught:
        jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(1), labels)
    assert caught.value.argument == argument


def test_presets_take_overrides_and_refuse_unknown_names():
    assert preset("tiny", dropout=0.1) == {**PRESETS["tiny"], "dropout": 0.1}
    with pytest.raises(ArgumentError, match="did you mean 'tiny'"):
        preset("tinny")
    with pytest.raises(ArgumentError, match="did you mean 'dropout'"):
        preset("tiny", dropuot=0.1)
