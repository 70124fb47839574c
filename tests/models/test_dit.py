"""DiT: size, formula, positions, conditioning, dropout, precision, gradients."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.models.dit import (
    DIT_PRESETS,
    DiT,
    noise_embedding,
    patchify,
    position_embedding,
    unpatchify,
)

# Images of 4x6 pixels: 2x3 patches, so that rows and columns cannot be confused.
NARROW = {"out_channels": 3, "hidden_size": 8, "depth": 2, "num_heads": 2, "mlp_ratio": 2.5}


def shapes_of(network, side, channels, labels=None):
    x = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    c_noise = jax.ShapeDtypeStruct((1,), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), x, c_noise, labels)


def count(*args):
    leaves = jax.tree.leaves(shapes_of(*args))
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    return sum(math.prod(leaf.shape) for leaf in leaves)


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "name, published, with_variance, without",
    [
        ("s", 33e6, 32_865_056, 32_858_896),
        ("b", 130e6, 130_315_808, 130_303_504),
        ("l", 458e6, 457_840_672, 457_824_272),
        # The authors' code counts 675,129,632, of which 256 x 1152 are its fixed positions.
        ("xl", 675e6, 675_129_632 - 256 * 1152, 674_816_272),
    ],
)
def test_parameter_counts_are_the_published_ones(name, published, with_variance, without):
    labels = jax.ShapeDtypeStruct((1,), jnp.int32)

    def size(out_channels):
        fields = DIT_PRESETS[f"dit_{name}_2"]
        return count(DiT(**fields, out_channels=out_channels, num_classes=1000), 32, 4, labels)

    assert size(8) == with_variance
    assert abs(with_variance / published - 1) < 0.005
    assert size(4) == without


@pytest.mark.takes_a_second
def test_larger_patches_widen_the_first_and_the_last_layer_only():
    def size(patch_size):
        fields = {**DIT_PRESETS[f"dit_s_{patch_size}"], "depth": 1}
        return count(DiT(**fields, out_channels=8), 32, 4)

    for patch_size in (4, 8):
        assert size(patch_size) - size(2) == (patch_size**2 - 4) * (4 * 384 + 8 * (384 + 1))
    for name in ("s", "b", "l", "xl"):
        for patch_size in (4, 8):
            fields = DIT_PRESETS[f"dit_{name}_{patch_size}"]
            assert fields == {**DIT_PRESETS[f"dit_{name}_2"], "patch_size": patch_size}


def test_the_tiny_preset_counted_by_hand():
    h = 96
    block = (h * 6 * h + 6 * h) + (h * 3 * h + 3 * h) + (h * h + h) + (8 * h * h + 5 * h)
    ends = (4 * h + h) + (h * 2 * h + 2 * h) + (h * 4 + 4)
    embedding = (256 * h + h) + (h * h + h)
    assert count(DiT(**DIT_PRESETS["dit_tiny"], out_channels=1), 8, 1) == (
        4 * block + ends + embedding
    )


def random_params(network, *args, dtype=jnp.float32):
    """Parameters of usual size everywhere: a fresh network returns zero."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *args)

    def draw(path, leaf):
        kernel = jax.tree_util.keystr(path).endswith("['kernel']")
        spread = math.prod(leaf.shape[:-1]) ** -0.5 if kernel else 0.3
        return jnp.asarray(spread * rng.normal(size=leaf.shape), dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def batch():
    """Images, noise labels and classes; the last example has no class."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(4, 4, 6, 2)), jnp.float32)
    return x, jnp.asarray([-1.2, -0.3, 0.4, 1.0], jnp.float32), jnp.arange(4)


@pytest.fixture(scope="module")
def network():
    return DiT(**NARROW, num_classes=3, dropout=0.5)


@pytest.fixture(scope="module")
def params(network, batch):
    return random_params(network, *batch)


@pytest.fixture(scope="module")
def apply(network, params):
    return jax.jit(lambda *args: network.apply(params, *args))


def formula(params, x, c_noise, labels):
    """The network in numpy, one example and one head at a time."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])

    def linear(p, h):
        return h @ p["kernel"] + p.get("bias", 0)

    def silu(h):
        return h / (1 + np.exp(-h))

    def norm(h, shift, scale):
        h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-6)
        return h * (1 + scale)[None] + shift[None]

    def attention(p, h):
        q, k, v = np.split(linear(p["qkv"], h), 3, axis=1)
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            weights = np.exp(q[:, head] @ k[:, head].T / np.sqrt(4))
            heads.append(weights / weights.sum(1, keepdims=True) @ v[:, head])
        return linear(p["output"], np.concatenate(heads, axis=1))

    def mlp(block, h):
        h = linear(block["mlp_0"], h)
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        return linear(block["mlp_1"], h)

    images = []
    for image, c, label in zip(np.asarray(x), np.asarray(c_noise), labels, strict=True):
        angle = 250 * float(c) / 10000 ** (np.arange(128) / 128)
        emb = linear(p["embedding_0"], np.concatenate([np.cos(angle), np.sin(angle)]))
        emb = silu(linear(p["embedding_1"], silu(emb)) + p["label"]["kernel"][label])
        corners = [(r, s) for r in (0, 2) for s in (0, 2, 4)]
        h = np.stack([image[r : r + 2, s : s + 2].ravel() for r, s in corners])
        h = linear(p["input"], h) + position_embedding(2, 3, 8).reshape(6, 8)
        for i in range(2):
            block = p[f"block{i}"]
            parts = np.split(linear(block["modulation"], emb), 6)
            h = h + parts[2][None] * attention(block["attention"], norm(h, *parts[:2]))
            h = h + parts[5][None] * mlp(block, norm(h, *parts[3:5]))
        h = linear(p["output"], norm(h, *np.split(linear(p["modulation"], emb), 2)))
        made = np.zeros((4, 6, 3))
        for (r, s), patch in zip(corners, h, strict=True):
            made[r : r + 2, s : s + 2] = patch.reshape(2, 2, 3)
        images.append(made)
    return np.stack(images)


@pytest.mark.takes_a_second
def test_the_network_is_its_formula(params, apply, batch):
    y = apply(*batch)
    assert y.shape == (4, 4, 6, 3)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, formula(params, *batch), rtol=1e-3, atol=1e-3)


@pytest.mark.takes_a_second
def test_a_fresh_network_returns_zero_and_starts_as_in_the_paper(network, batch):
    y, variables = jax.jit(network.clone(depth=1).init_with_output)(jax.random.key(0), *batch)
    np.testing.assert_array_equal(y, 0)
    p = variables["params"]
    for part in (
        p["modulation"],
        p["output"],
        p["block0"]["modulation"],
    ):
        np.testing.assert_array_equal(part["kernel"], 0)
    # 2048 draws of N(0, .02^2); the label table has a row for "no class".
    assert 0.019 < jnp.std(p["embedding_0"]["kernel"]) < 0.021
    assert p["label"]["kernel"].shape == (4, 8)
    assert 0.01 < jnp.std(p["label"]["kernel"]) < 0.03
    # Xavier-uniform: within sqrt(6 / (fan_in + fan_out)), and close to it somewhere.
    for kernel, fans in (
        (p["input"]["kernel"], 8 + 8),
        (p["block0"]["attention"]["qkv"]["kernel"], 8 + 24),
        (p["block0"]["mlp_1"]["kernel"], 20 + 8),
    ):
        assert 0.9 < jnp.abs(kernel).max() / math.sqrt(6 / fans) <= 1


def test_patches_are_cut_row_by_row_and_put_together_again():
    x = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    patches = patchify(jnp.asarray(x), 2)
    assert patches.shape == (2, 6, 12)
    np.testing.assert_array_equal(patches[1, 4], x[1, 2:4, 2:4].ravel())
    np.testing.assert_array_equal(unpatchify(patches, 4, 6, 2), x)


def test_position_embedding_is_its_formula():
    got = position_embedding(3, 5, 24)
    assert got.shape == (3, 5, 24)
    for row, column in ((0, 0), (2, 1), (1, 4)):
        waves = []
        for place in (column, row):
            angles = [place * 10000 ** (-j / 6) for j in range(6)]
            waves += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        np.testing.assert_allclose(got[row, column], waves, rtol=1e-12, atol=1e-12)
    with pytest.raises(ArgumentError, match="channels=6"):
        position_embedding(2, 2, 6)


def test_noise_embedding_is_its_formula():
    c_noise = np.asarray([-1.5, 0.2, 4.0], np.float32)
    angle = 250 * c_noise.astype(np.float64)[:, None] * 10000.0 ** (-np.arange(128) / 128)[None]
    want = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    # Angles up to 1000 in float32: an error of 1000 x 2^-24 each.
    np.testing.assert_allclose(noise_embedding(jnp.asarray(c_noise)), want, rtol=0, atol=2e-4)


@pytest.mark.takes_a_second
def test_only_the_positions_tell_patches_apart(network, params, apply, batch):
    x, *rest = batch
    order = jnp.asarray([4, 0, 3, 5, 1, 2])

    def shuffled(image):
        return unpatchify(patchify(image, 2)[:, order], 4, 6, 2)

    assert jnp.abs(apply(shuffled(x), *rest) - shuffled(apply(*batch))).max() > 0.1
    with pytest.MonkeyPatch.context() as patch:
        nowhere = "jaxnoise.models.dit.position_embedding"
        patch.setattr(nowhere, lambda *shape: np.zeros(shape))
        blind = jax.jit(lambda *args: network.apply(params, *args))
        y = blind(*batch)
    np.testing.assert_allclose(blind(shuffled(x), *rest), shuffled(y), rtol=1e-4, atol=1e-4)


@pytest.mark.takes_a_second
def test_noise_label_and_classes_matter(apply, batch):
    x, c_noise, _ = batch
    outputs = [apply(x, c_noise, jnp.full(4, label)) for label in range(4)]
    for i in range(4):
        for j in range(i):
            assert (jnp.abs(outputs[i] - outputs[j]).max(axis=(1, 2, 3)) > 1e-2).all()
    moved = apply(x, c_noise + 0.01, jnp.full(4, 3))
    assert (jnp.abs(moved - outputs[3]).max(axis=(1, 2, 3)) > 1e-2).all()


@pytest.mark.takes_a_second
def test_the_null_label_is_the_last_row_of_the_table(params, apply, batch):
    x, c_noise, _ = batch
    dropped = apply(x, c_noise, jnp.full(4, 3))
    # An unconditional network adds no row: move the null row into the bias before the sum.
    rest = dict(params["params"])
    null = rest.pop("label")["kernel"][3]
    rest["embedding_1"] = {**rest["embedding_1"], "bias": rest["embedding_1"]["bias"] + null}
    unconditional = jax.jit(DiT(**NARROW).apply)
    want = unconditional({"params": rest}, x, c_noise)
    np.testing.assert_allclose(dropped, want, rtol=1e-4, atol=1e-4)


@pytest.mark.takes_a_second
def test_examples_do_not_see_each_other(apply, batch):
    x, c_noise, labels = batch
    other = apply(x.at[0].add(1.0), c_noise.at[0].add(0.5), labels.at[0].set(2))
    y = apply(*batch)
    np.testing.assert_array_equal(other[1:], y[1:])
    assert jnp.abs(other[0] - y[0]).max() > 0.1


@pytest.mark.takes_a_second
def test_dropout_depends_on_the_keys_only(apply, batch):
    keys = jax.random.split(jax.random.key(3), 4)
    turned = [a[::-1] for a in batch]
    whole = apply(*batch, keys)
    np.testing.assert_allclose(whole, apply(*turned, keys[::-1])[::-1], rtol=1e-4, atol=1e-4)
    swapped = apply(*batch, keys[::-1])
    assert (jnp.abs(whole - swapped).max(axis=(1, 2, 3)) > 1e-2).all()
    assert (jnp.abs(whole - apply(*batch)).max(axis=(1, 2, 3)) > 1e-2).all()


def test_every_block_has_its_own_mask(network, batch):
    calls = []

    def spy(x, keys, layer, rate):
        calls.append((x.shape, layer, rate))
        return x

    keys = jax.random.split(jax.random.key(3), 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnoise.models.layers.dropout", spy)
        jax.eval_shape(network.init, jax.random.key(0), *batch, keys)
    assert calls == [((4, 6, 20), layer, 0.5) for layer in range(2)]


@pytest.mark.takes_a_second
def test_bfloat16_is_close_to_float32(network, params, apply, batch):
    want = apply(*batch)
    got = jax.jit(network.clone(dtype=jnp.bfloat16).apply)(params, *batch)
    assert got.dtype == jnp.float32
    error = jnp.sqrt(jnp.mean((got - want) ** 2) / jnp.mean(want**2))
    # Above float32's rounding (it did compute in bfloat16), below a few of bfloat16's units.
    assert 1e-4 < error < 0.03


def test_a_bfloat16_network_keeps_embeddings_norms_and_softmax_in_float32(network, params, batch):
    narrow = network.clone(dtype=jnp.bfloat16)
    program = str(jax.make_jaxpr(narrow.apply)(params, *batch))
    made = re.findall(r":(\w+)\[[\d,]*\] = (exp|rsqrt|sin|cos|logistic|tanh)\b", program)
    # One softmax and two norms per block, and a norm before the output; GELU alone is bfloat16.
    assert made.count(("f32", "exp")) == 2
    assert made.count(("f32", "rsqrt")) == 5
    assert {("f32", "sin"), ("f32", "cos"), ("f32", "logistic")} <= set(made)
    assert {op for dtype, op in made if dtype == "bf16"} == {"tanh"}


@pytest.fixture(scope="module")
def precise(batch):
    """A float64 loss with dropout, its compiled value and gradient, and where to evaluate them."""
    with jax.enable_x64(True):
        fields = {**NARROW, "depth": 1, "dtype": jnp.float64}
        network = DiT(**fields, num_classes=3, dropout=0.2)
        x, c_noise = (np.asarray(a, np.float64) for a in batch[:2])
        labels = jnp.asarray([0, 1, 2, 3], jnp.int32)
        keys = jax.random.split(jax.random.key(3), 4)
        params = random_params(network, x, c_noise, labels, dtype=jnp.float64)

        def loss(params, x):
            y = network.apply(params, x, c_noise, labels, keys)
            assert y.dtype == jnp.float64
            return jnp.sum(jnp.sin(y))

        at = (params, jnp.asarray(x))
        evaluate = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
        return loss, evaluate, at, evaluate(*at)[1]


@pytest.mark.takes_a_second
def test_every_parameter_has_a_gradient(precise):
    *_, (gradient, _) = precise
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.abs(leaf).max() > 1e-3, jax.tree_util.keystr(path)
    # Every class has its row, and so has "no class".
    assert (np.abs(gradient["params"]["label"]["kernel"]).max(axis=1) > 1e-3).all()


@pytest.mark.takes_a_second
def test_gradient_is_the_finite_difference_in_float64(precise):
    _, evaluate, at, gradient = precise
    places, tree = jax.tree.flatten(at)
    slopes = jax.tree.leaves(gradient)
    rng = np.random.default_rng(4)
    h = 1e-5
    with jax.enable_x64(True):
        # One coordinate of each of a few leaves, then a direction through all of them.
        directions = []
        for i in rng.permutation(len(places))[:4]:
            toward = [np.zeros(place.shape) for place in places]
            toward[i].flat[rng.integers(places[i].size)] = 1
            directions.append(toward)
        directions.append([rng.normal(size=place.shape) for place in places])
        for toward in directions:
            steps = list(zip(places, toward, strict=True))
            ends = [
                evaluate(*tree.unflatten([a + s * h * d for a, d in steps]))[0] for s in (1, -1)
            ]
            slope = sum(np.vdot(g, d) for g, d in zip(slopes, toward, strict=True))
            np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), slope, rtol=1e-5, atol=1e-6)


@pytest.mark.takes_a_second
def test_forward_mode_and_forward_over_reverse_agree_with_reverse_mode(precise):
    loss, evaluate, (params, x), (_, gradient) = precise
    with jax.enable_x64(True):
        toward = jnp.asarray(np.random.default_rng(5).normal(size=x.shape))

        @jax.jit
        def forward(x):
            return jax.jvp(lambda x: loss(params, x), (x,), (toward,))[1]

        @jax.jit
        def curvature(x):
            slope = jax.grad(loss, argnums=1)
            return jax.jvp(lambda x: slope(params, x), (x,), (toward,))[1]

        np.testing.assert_allclose(forward(x), jnp.vdot(gradient, toward), rtol=1e-9)
        ahead, behind = (evaluate(params, x + s * 1e-5 * toward)[1][1] for s in (1, -1))
        np.testing.assert_allclose(curvature(x), (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "field, value",
    [
        ("out_channels", 0),
        ("patch_size", 0),
        ("hidden_size", 0),
        ("hidden_size", 10),
        ("depth", 0),
        ("num_heads", 0),
        ("num_heads", 3),
        ("mlp_ratio", 0.0),
        ("mlp_ratio", math.nan),
        ("dropout", 1.0),
        ("num_classes", -1),
        ("dtype", jnp.float16),
    ],
)
def test_fields_are_checked_by_name(field, value):
    with pytest.raises(ArgumentError) as caught:
        DiT(**{**NARROW, field: value})
    assert caught.value.argument == field


@pytest.mark.parametrize(
    "fields, sides, labels, argument",
    [
        ({}, (9, 8), None, "patch_size"),
        ({"patch_size": 4}, (8, 6), None, "patch_size"),
        ({}, (8, 8), np.zeros(1, np.int32), "labels"),
        ({"num_classes": 3}, (8, 8), None, "labels"),
    ],
)
def test_inputs_are_checked_by_name(fields, sides, labels, argument):
    network = DiT(**{**NARROW, **fields})
    x = jnp.zeros((1, *sides, 2))
    with pytest.raises(ArgumentError) as caught:
        jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(1), labels)
    assert caught.value.argument == argument


@pytest.mark.takes_a_second
def test_labels_of_an_augmentation_move_the_condition(network, params, batch):
    rng = np.random.default_rng(2)
    kernel = jnp.asarray(rng.normal(size=(9, NARROW["hidden_size"])), jnp.float32)
    row = jnp.asarray(rng.normal(size=9), jnp.float32)
    told = network.clone(augment_labels=9)
    shown = {"params": params["params"] | {"augment": {"kernel": kernel}}}
    # The label of "no class" has a row too, so that all rows moved is the condition moved.
    rows = params["params"]["label"]["kernel"] + (row @ kernel)[None]
    moved = {"params": params["params"] | {"label": {"kernel": rows}}}

    @jax.jit
    def both(augmentation):
        return told.apply(shown, *batch, None, augmentation), network.apply(moved, *batch)

    found, wanted = both(jnp.tile(row, (4, 1)))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    unmoved, _ = both(jnp.zeros((4, 9)))
    assert jnp.abs(found - unmoved).max() > 0.1
