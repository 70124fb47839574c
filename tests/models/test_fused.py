"""Hand-written backward passes against autodiff, in float64, and in the modes that they allow."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxnoise.errors import ArgumentError
from jaxnoise.models import fused
from jaxnoise.models.fused import convolve, group_count, group_norm


def normals(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=shape)) for shape in shapes]


@pytest.mark.parametrize("channels, groups", [(8, 2), (96, 24), (128, 32), (384, 32)])
def test_group_count(channels, groups):
    assert group_count(channels) == groups


@pytest.mark.parametrize("channels", [2, 144])
def test_unequal_groups_are_refused(channels):
    with pytest.raises(ArgumentError, match="channels="):
        group_count(channels)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("fused", [True, False])
def test_group_norm_is_flax_group_norm(fused):
    with jax.enable_x64(True):
        x, scale, bias = normals((3, 4, 2, 12), (12,), (12,))
        x = 2 * x + 1
        flax_norm = nn.GroupNorm(num_groups=3, epsilon=1e-6, dtype=jnp.float64)
        with jax.numpy_dtype_promotion("standard"):
            want = flax_norm.apply({"params": {"scale": scale, "bias": bias}}, x)
        got = group_norm(x, scale, bias, fused=fused)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
        got = group_norm(x, scale, bias, silu=True, fused=fused)
        np.testing.assert_allclose(got, nn.silu(want), rtol=1e-12, atol=1e-12)


@pytest.mark.takes_a_second
def test_a_constant_image_normalises_to_the_bias():
    x = jnp.full((1, 4, 4, 8), 7.3)
    y = group_norm(x, jnp.ones(8), jnp.arange(8.0))
    np.testing.assert_allclose(y, jnp.broadcast_to(jnp.arange(8.0), y.shape), atol=0.05)


def functions(silu):
    def norm(fused):
        return lambda x, scale, bias: group_norm(x, scale, bias, silu=silu, fused=fused)

    return norm(True), norm(False)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("silu", [True, False])
def test_group_norm_gradient_and_its_tangent_are_those_of_autodiff(silu):
    with jax.enable_x64(True):
        args = normals((2, 3, 2, 8), (8,), (8,))
        directions = normals((2, 3, 2, 8), (8,), (8,), seed=1)
        (weights,) = normals((2, 3, 2, 8), seed=2)
        results = []
        for function in functions(silu):
            gradient = jax.grad(
                lambda *a, f=function: jnp.sum(weights * f(*a) ** 2), argnums=(0, 1, 2)
            )
            results.append(jax.jit(lambda g=gradient: jax.jvp(g, args, directions))())
        for got, want in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_convolution_gradient_and_its_tangent_are_those_of_autodiff(padding):
    with jax.enable_x64(True):
        args = normals((2, 5, 4, 3), (3, 3, 3, 2))
        directions = normals((2, 5, 4, 3), (3, 3, 3, 2), seed=1)
        results = []
        for fast in (True, False):
            gradient = jax.grad(
                lambda x, k, fast=fast: jnp.sum(convolve(x, k, padding, fused=fast) ** 3),
                argnums=(0, 1),
            )
            results.append(jax.jit(lambda g=gradient: jax.jvp(g, args, directions))())
        for got, want in zip(*map(jax.tree.leaves, results), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "batch,numbers,count",
    [(64, 64 * 32, 1), (128, 49 * 64, 2), (128, 196 * 32, 4), (7, 2**18, 7), (512, 2**15, 16)],
)
def test_parts_of_a_weight_gradient_are_equal_and_few(batch, numbers, count):
    assert fused._part_count(batch, numbers) == count


def test_a_weight_gradient_in_parts_is_the_sum_over_pixels(monkeypatch):
    monkeypatch.setattr(fused, "_NUMBERS_OF_A_PART", 80)
    with jax.enable_x64(True):
        x, g = normals((6, 5, 4, 3), (6, 5, 4, 2))
        assert fused._part_count(6, 40) == 3
        found = jax.jit(lambda x, g: fused._kernel_gradient(x, g, 1))(x, g)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    for i in range(3):
        for j in range(3):
            want = np.einsum("bpqc,bpqd->cd", padded[:, i : i + 5, j : j + 4], g)
            np.testing.assert_allclose(found[i, j], want, rtol=1e-11, atol=1e-12)


@pytest.mark.takes_a_second
def test_forward_mode_takes_the_plain_path():
    x, kernel = normals((1, 4, 4, 4), (3, 3, 4, 4))
    ones, zeros = jnp.ones(4), jnp.zeros(4)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: group_norm(x, ones, zeros), (x,), (x,))
    # A group norm without eps does not see the scale of x, so the tangent along x vanishes.
    _, tangent = jax.jvp(lambda x: group_norm(x, ones, zeros, fused=False), (x,), (x,))
    np.testing.assert_allclose(tangent, jnp.zeros_like(x), atol=1e-4)
    y, tangent = jax.jvp(lambda x: convolve(x, kernel, 1, fused=False), (x,), (x,))
    np.testing.assert_allclose(tangent, y, rtol=1e-6)


@pytest.mark.takes_a_second
def test_bfloat16_keeps_float32_statistics():
    (x,) = normals((2, 8, 8, 8))
    x = x.astype(jnp.bfloat16)
    scale, bias = jnp.ones(8), jnp.zeros(8)
    got = group_norm(x, scale, bias)
    want = group_norm(x.astype(jnp.float32), scale, bias)
    assert got.dtype == jnp.bfloat16
    # Only the output is rounded: half a unit in the last of 8 bits.
    np.testing.assert_allclose(got.astype(jnp.float32), want, rtol=2**-8, atol=1e-6)
    grads = jax.grad(lambda x, s: jnp.sum(group_norm(x, s, bias)[..., 0]), argnums=(0, 1))(x, scale)
    assert [g.dtype for g in grads] == [jnp.bfloat16, jnp.float32]


@pytest.mark.takes_a_second
def test_gradients_of_replicated_parameters_sum_over_devices():
    x, kernel, scale, bias = normals((4, 4, 4, 4), (3, 3, 4, 4), (4,), (4,))

    def loss(parameters, x):
        kernel, scale, bias = parameters
        return jnp.sum(convolve(group_norm(x, scale, bias, silu=True), kernel, 1) ** 2)

    parameters = (kernel, scale, bias)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(
        jax.grad(loss),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
    )
    got, want = jax.jit(sharded)(parameters, x), jax.grad(loss)(parameters, x)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
