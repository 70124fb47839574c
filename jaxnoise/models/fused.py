"""Group norm and convolution with hand-written backward passes.

With `fused=True`, reverse mode and forward-over-reverse (`jax.jvp` of a gradient) work; `jax.jvp`
of the function itself, which per-sample tangents need, takes `fused=False`: ordinary autodiff of
the same numbers. Images are NHWC.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnoise.errors import ArgumentError

# On a CPU a weight gradient runs at half of its rate or less where the gradients that it takes in
# do not fit into a core's cache, 1 MiB of float32; each part is an operation more to compile.
_NUMBERS_OF_A_PART = 2**18
_MOST_PARTS = 16


def at_least_float32(dtype: Any) -> Any:
    """float32 for the 16-bit types, otherwise `dtype`."""
    dtype = jnp.dtype(dtype)
    return jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype


def group_count(channels: int) -> int:
    """Number of groups of a group norm, `min(32, channels // 4)` as in EDM.

    Raises:
      ArgumentError: the groups would not be equal.

    Example:
      >>> from jaxnoise.models.fused import group_count
      >>> group_count(64), group_count(256)
      (16, 32)
    """
    groups = min(32, channels // 4)
    if groups < 1 or channels % groups:
        raise ArgumentError(
            "channels", channels, "at least 4, with min(32, channels // 4) equal groups"
        )
    return groups


def _spread(values: jax.Array, channels: int) -> jax.Array:
    batch, groups = values.shape
    wide = jnp.broadcast_to(values[:, :, None], (batch, groups, channels // groups))
    return wide.reshape(batch, 1, 1, channels)


def _group_mean(sums: jax.Array, groups: int, pixels: int) -> jax.Array:
    batch, channels = sums.shape
    grouped = sums.reshape(batch, groups, channels // groups).sum(axis=2)
    return grouped / (pixels * (channels // groups))


def _normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, eps: float, silu: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    wide = x.astype(at_least_float32(x.dtype))
    channels, pixels = x.shape[3], x.shape[1] * x.shape[2]
    # Both sums in one pass over x, over pixels first: that keeps the channel axis vectorised.
    mean = _group_mean(wide.sum(axis=(1, 2)), groups, pixels)
    square = _group_mean((wide * wide).sum(axis=(1, 2)), groups, pixels)
    rstd = lax.rsqrt(jnp.maximum(square - mean * mean, 0) + eps)
    slope = _spread(rstd, channels) * scale[None, None, None, :]
    h = wide * slope + (bias[None, None, None, :] - _spread(mean, channels) * slope)
    y = h * jax.nn.sigmoid(h) if silu else h
    return y.astype(x.dtype), mean, rstd


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _fused_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, eps: float, silu: bool
) -> jax.Array:
    return _normalise(x, scale, bias, groups, eps, silu)[0]


def _norm_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, groups: int, eps: float, silu: bool
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    y, mean, rstd = _normalise(x, scale, bias, groups, eps, silu)
    return y, (x, mean, rstd, scale, bias)


def _norm_backward(
    groups: int, eps: float, silu: bool, saved: tuple[jax.Array, ...], g: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, mean, rstd, scale, bias = saved
    channels, pixels = x.shape[3], x.shape[1] * x.shape[2]
    unit = (x.astype(mean.dtype) - _spread(mean, channels)) * _spread(rstd, channels)
    dh = g.astype(mean.dtype)
    if silu:
        h = unit * scale[None, None, None, :] + bias[None, None, None, :]
        s = jax.nn.sigmoid(h)
        dh = dh * (s * (1 + h * (1 - s)))
    dbias, dscale = dh.sum(axis=(1, 2)), (dh * unit).sum(axis=(1, 2))
    shift = _spread(_group_mean(dbias * scale[None], groups, pixels), channels)
    slope = _spread(_group_mean(dscale * scale[None], groups, pixels), channels)
    dx = _spread(rstd, channels) * (dh * scale[None, None, None, :] - shift - unit * slope)
    return dx.astype(x.dtype), dscale.sum(axis=0), dbias.sum(axis=0)


_fused_norm.defvjp(_norm_forward, _norm_backward)


def _vary_alike(*arrays: jax.Array) -> list[jax.Array]:
    # shard_map tracks which values differ between devices, and a hand-written rule must respect
    # it: the transpose of this cast sums a replicated parameter's gradient over devices.
    axes = [jax.typeof(array).manual_axis_type.varying for array in arrays]
    missing = [tuple(sorted(frozenset().union(*axes) - own)) for own in axes]
    return [
        lax.pcast(array, names, to="varying") if names else array
        for array, names in zip(arrays, missing, strict=True)
    ]


def group_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    eps: float = 1e-6,
    silu: bool = False,
    fused: bool = True,
) -> jax.Array:
    """Group normalisation, then SiLU if asked for.

    `h = (x - mean) / sqrt(var + eps) * scale + bias`; `y = h sigmoid(h)` with SiLU, else `y = h`;
    mean and variance over the pixels and channels of one of `group_count(C)` groups.

    Args:
      x: float[B, H, W, C].
      scale: float[C].
      bias: float[C].
      eps: added to the variance, > 0.
      silu: apply SiLU.
      fused: hand-written backward pass, which keeps x, mean and 1/std and recomputes the rest;
        False for `jax.jvp` of this function.

    Returns:
      float[B, H, W, C], in the dtype of x; the statistics are float32 at least.

    Raises:
      ArgumentError: C does not split into equal groups.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.fused import group_norm
      >>> x = jnp.arange(8.0).reshape(1, 2, 1, 4)
      >>> y = group_norm(x, jnp.ones(4), jnp.zeros(4))
      >>> [round(value, 3) for value in y.ravel().tolist()]
      [-1.528, -1.091, -0.655, -0.218, 0.218, 0.655, 1.091, 1.528]

    Reference: https://arxiv.org/abs/1803.08494, equations 1 and 2.
    """
    groups = group_count(x.shape[-1])
    dtype = at_least_float32(x.dtype)
    scale, bias = scale.astype(dtype), bias.astype(dtype)
    if fused:
        return _fused_norm(*_vary_alike(x, scale, bias), groups, eps, silu)
    return _normalise(x, scale, bias, groups, eps, silu)[0]


def _convolve(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    pads = ((padding, padding), (padding, padding))
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=layout)


def _part_count(batch: int, numbers: int) -> int:
    """Into how many parts a batch is cut, by the numbers of an example; as far as 16 parts go."""
    found = 1
    for found in (n for n in range(1, min(batch, _MOST_PARTS) + 1) if batch % n == 0):
        if batch // found * numbers <= _NUMBERS_OF_A_PART:
            break
    return found


def _kernel_gradient(x: jax.Array, g: jax.Array, padding: int) -> jax.Array:
    """`sum_{bpq} x_{b,p+i-P,q+j-P,c} g_{bpqd}` by ordinary convolutions: float[k, k, C, D].

    Examples take the part of channels: `[C, H, W, B] * [H, W, B, D] -> [C, k, k, D]`.
    """
    count = _part_count(g.shape[0], g.size // g.shape[0])
    parts = [
        _convolve(images.transpose(3, 1, 2, 0), gradients.transpose(1, 2, 0, 3), padding)
        for images, gradients in zip(jnp.split(x, count), jnp.split(g, count), strict=True)
    ]
    return functools.reduce(jnp.add, parts).transpose(1, 2, 0, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _fused_convolve(x: jax.Array, kernel: jax.Array, padding: int) -> jax.Array:
    return _convolve(x, kernel, padding)


def _convolve_forward(
    x: jax.Array, kernel: jax.Array, padding: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, padding), (x, kernel)


def _convolve_backward(
    padding: int, saved: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def ordinary(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        turned = kernel[::-1, ::-1].swapaxes(2, 3)
        dx = _convolve(g, turned, kernel.shape[0] - 1 - padding)
        return dx, _kernel_gradient(x, g, padding)

    def native(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(functools.partial(_convolve, padding=padding), x, kernel)[1](g)

    return lax.platform_dependent(*saved, g, cpu=ordinary, default=native)


_fused_convolve.defvjp(_convolve_forward, _convolve_backward)


def convolve(x: jax.Array, kernel: jax.Array, padding: int, *, fused: bool = True) -> jax.Array:
    """Stride-1 convolution, `y_{pqd} = sum_{ijc} x_{p+i-P, q+j-P, c} kernel_{ijcd}`.

    Inside a loop XLA's CPU backend is tens of times slower on the transposed convolutions that
    autodiff makes than on ordinary ones; with `fused` the backward pass on CPU has only ordinary
    ones. Other platforms keep their native backward pass.

    Args:
      x: float[B, H, W, C].
      kernel: float[k, k, C, D].
      padding: zeros P around the image, 0..k-1.
      fused: hand-written backward pass; False for `jax.jvp` of this function.

    Returns:
      float[B, H + 2P - k + 1, W + 2P - k + 1, D].

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.fused import convolve
      >>> convolve(jnp.ones((1, 2, 2, 1)), jnp.ones((3, 3, 1, 1)), 1).ravel()
      Array([4., 4., 4., 4.], dtype=float32)
    """
    if fused:
        return _fused_convolve(*_vary_alike(x, kernel), padding)
    return _convolve(x, kernel, padding)
