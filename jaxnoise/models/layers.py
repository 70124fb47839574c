"""Layers of convolutional denoisers: embeddings, resampling, dropout, group norm, convolution."""

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnoise.errors import ArgumentError, check_shape
from jaxnoise.models.fused import at_least_float32, convolve, group_norm


def xavier_uniform(gain: float = 1.0) -> nn.initializers.Initializer:
    """Weights `gain * U(-a, a)`, `a = sqrt(6 / (fan_in + fan_out))`, gain > 0."""
    return nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform")


def positional_embedding(c_noise: jax.Array, channels: int) -> jax.Array:
    """Sines and cosines of the noise label at geometric frequencies.

    `[sin(c f_j), cos(c f_j)]`, `f_j = 10000^(-j / (n - 1))`, j = 0..n-1, n = channels / 2.

    Args:
      c_noise: float[B], the noise label.
      channels: width of the result, even, at least 4.

    Returns:
      float[B, channels], in the dtype of `c_noise`.

    Raises:
      ArgumentError: `channels` is odd or below 4.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.layers import positional_embedding
      >>> positional_embedding(jnp.zeros(1), 4)
      Array([[0., 0., 1., 1.]], dtype=float32)

    Reference: DDPM++ embedding as EDM uses it, https://arxiv.org/abs/2206.00364, appendix F.
    """
    if channels < 4 or channels % 2:
        raise ArgumentError("channels", channels, "even and at least 4")
    n = channels // 2
    return _waves(c_noise, 10000.0 ** (-np.arange(n) / (n - 1)))


def fourier_embedding(c_noise: jax.Array, channels: int, scale: float = 16.0) -> jax.Array:
    """Random Fourier features of the noise label.

    `[sin(2 pi c f_j), cos(2 pi c f_j)]`, `f_j ~ N(0, scale^2)`, j = 0..channels/2-1. The
    frequencies are constants, drawn once and the same in every run (our choice: a draw per run
    would have to travel with every checkpoint).

    Args:
      c_noise: float[B], the noise label.
      channels: width of the result, even, at least 2.
      scale: standard deviation of the frequencies, > 0 (16 in EDM, .02 in iCT).

    Returns:
      float[B, channels], in the dtype of `c_noise`.

    Raises:
      ArgumentError: `channels` is odd or below 2.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.layers import fourier_embedding
      >>> fourier_embedding(jnp.zeros(1), 4)
      Array([[0., 0., 1., 1.]], dtype=float32)

    Reference: NCSN++ embedding as EDM uses it, https://arxiv.org/abs/2206.00364, appendix F;
    scale .02: iCT, https://arxiv.org/abs/2310.14189.
    """
    if channels < 2 or channels % 2:
        raise ArgumentError("channels", channels, "even and at least 2")
    # RandomState's stream never changes, so a checkpoint means the same under every numpy.
    draws = np.random.RandomState(0).standard_normal(channels // 2)
    return _waves(c_noise, 2 * math.pi * scale * draws)


def augmentation_embedding(
    augmentation: jax.Array | None,
    like: jax.Array,
    size: int,
    kernel_init: nn.initializers.Initializer,
) -> jax.Array:
    """What the labels of an augmentation add to an embedding: a linear map, 0 for labels of 0.

    Called within a module, of which the map becomes the part "augment".

    Args:
      augmentation: float[B, size], or None for zeros.
      like: float[B, channels], the embedding.
      size: how many labels there are.
      kernel_init: first weights of the map.

    Returns:
      float[B, channels], in the dtype of `like`.

    Raises:
      ArgumentError: labels of another shape.

    Reference: EDM, https://arxiv.org/abs/2206.00364, appendix F.2.
    """
    if augmentation is None:
        augmentation = jnp.zeros((like.shape[0], size), like.dtype)
    check_shape("augmentation", augmentation, (like.shape[0], size), "labels of each image")
    augment = nn.Dense(
        like.shape[1], use_bias=False, dtype=like.dtype, kernel_init=kernel_init, name="augment"
    )
    return augment(augmentation.astype(like.dtype))


def _waves(c_noise: jax.Array, frequencies: np.ndarray) -> jax.Array:
    angle = c_noise[:, None] * jnp.asarray(frequencies, c_noise.dtype)[None, :]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)


def check_noise_labels(c_noise: jax.Array, images: int) -> None:
    """Raises ArgumentError unless there is one label for each image, or n for each."""
    several = len(getattr(c_noise, "shape", ())) == 2
    check_shape(
        "c_noise", c_noise, (images, None) if several else (images,), "labels of each image"
    )


def embedded(c_noise: jax.Array, embed: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The embedding of one noise label, or those of several side by side.

    Args:
      c_noise: float[B], or float[B, n] where a network is told of n, as `MeanFlowObjective` does.
      embed: float[B] -> float[B, channels].

    Returns:
      float[B, channels], or float[B, n channels].

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.dit import noise_embedding
      >>> from jaxnoise.models.layers import embedded
      >>> embedded(jnp.zeros((3, 2)), noise_embedding).shape
      (3, 512)
    """
    if c_noise.ndim == 1:
        return embed(c_noise)
    return jnp.concatenate([embed(one) for one in c_noise.T], axis=1)


def _unit_sum(taps: Sequence[float]) -> list[float]:
    if not taps or len(taps) % 2 or sum(taps) <= 0:
        raise ArgumentError("taps", tuple(taps), "an even number of weights with a sum > 0")
    return [float(tap) / float(sum(taps)) for tap in taps]


def _pad(x: jax.Array, axis: int, width: int) -> jax.Array:
    if width == 0:
        return x
    return jnp.pad(x, [(width, width) if i == axis else (0, 0) for i in range(x.ndim)])


def downsample(x: jax.Array, taps: Sequence[float] = (1, 1), pad: bool = True) -> jax.Array:
    """Halves both sides: `y_i = sum_k f_k x_{2i + k - p}` along each, `f = taps / sum(taps)`.

    `[1, 1]` is the mean of 2x2 pixels; `[1, 3, 3, 1]` is the smooth filter of NCSN++.

    Args:
      x: float[B, H, W, C].
      taps: filter weights, an even number K of them.
      pad: surround the image with p = K/2 - 1 zeros; False: p = 0.

    Returns:
      float[B, h, w, C], `h = (H + 2p - K)/2 + 1`: half of H if padded.

    Raises:
      ArgumentError: an odd number of `taps`, or a sum that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.layers import downsample
      >>> downsample(jnp.array([[1.0, 2], [3, 6]]).reshape(1, 2, 2, 1)).item()
      3.0

    Reference: resampling filters of EDM, https://arxiv.org/abs/2206.00364, appendix F.
    """
    weights = _unit_sum(taps)
    half = len(weights) // 2
    for axis in (1, 2):
        if pad:
            x = _pad(x, axis, half - 1)
        # Sums over pairs of rows: the backward pass is a broadcast, not a scatter by strides.
        shape = list(x.shape)
        shape[axis : axis + 1] = [x.shape[axis] // 2, 2]
        pairs = x.reshape(shape)
        size = shape[axis] - half + 1
        ones = [2 if i == axis + 1 else 1 for i in range(5)]
        terms = []
        for j in range(half):
            pair = jnp.asarray(weights[2 * j : 2 * j + 2], x.dtype).reshape(ones)
            rows = lax.slice_in_dim(pairs, j, j + size, axis=axis)
            terms.append(jnp.sum(rows * pair, axis=axis + 1))
        x = functools.reduce(jnp.add, terms)
    return x


def upsample(x: jax.Array, taps: Sequence[float] = (1, 1)) -> jax.Array:
    """Doubles both sides: `y_n = 2 sum_i f_{n + p - 2i} x_i` along each, p = K/2 - 1.

    The transpose of `downsample`, scaled so that a constant image stays one (up to the zeros
    outside); `[1, 1]` repeats every pixel.

    Args:
      x: float[B, H, W, C].
      taps: filter weights, an even number K of them.

    Returns:
      float[B, 2H, 2W, C].

    Raises:
      ArgumentError: an odd number of `taps`, or a sum that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.layers import upsample
      >>> upsample(jnp.ones((1, 1, 1, 1))).ravel()
      Array([1., 1., 1., 1.], dtype=float32)

    Reference: resampling filters of EDM, https://arxiv.org/abs/2206.00364, appendix F.
    """
    weights = _unit_sum(taps)
    half = len(weights) // 2
    reach = half // 2
    for axis in (1, 2):
        size = x.shape[axis]
        padded = _pad(x, axis, reach)
        phases = []
        for n in (0, 1):  # even and odd rows of the result
            offset = n + half - 1
            terms = []
            for k in range(offset % 2, len(weights), 2):
                start = reach + (offset - k) // 2
                row = lax.slice_in_dim(padded, start, start + size, axis=axis)
                terms.append(2 * weights[k] * row)
            phases.append(functools.reduce(jnp.add, terms))
        shape = [2 * side if i == axis else side for i, side in enumerate(x.shape)]
        x = jnp.stack(phases, axis=axis + 1).reshape(shape)
    return x


def dropout(x: jax.Array, keys: jax.Array, layer: int, rate: float) -> jax.Array:
    """Dropout whose mask for example b is a function of `keys[b]` and `layer` alone.

    `y = x m / q`, `m ~ Bernoulli(q)`, `q = round(256 (1 - rate)) / 256`: one random byte decides
    per element, so the keep probability is a multiple of 1/256, and dividing by it keeps the mean
    exact. Equal keys give equal masks in another pass, batch or layout of devices.

    Args:
      x: float[B, ...].
      keys: key[B], one per example (threefry, JAX's default: others depend on the batch).
      layer: position of the layer in the network; folded into every key.
      rate: probability of dropping, 0 or in [1/256, 255/256].

    Returns:
      float[B, ...], in the dtype of x.

    Raises:
      ArgumentError: `rate` out of range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.layers import dropout
      >>> keys = jax.random.split(jax.random.key(0), 2)
      >>> dropout(jnp.ones((2, 1000)), keys, layer=3, rate=0.5).mean().round(1)
      Array(1., dtype=float32)

    Reference: https://jmlr.org/papers/v15/srivastava14a.html, section 10 (scaled while training).
    """
    if rate == 0:
        return x
    if not 1 / 256 <= rate <= 255 / 256:
        raise ArgumentError("rate", rate, "0 or in [1/256, 255/256]")
    keep, size = round(256 * (1 - rate)), math.prod(x.shape[1:])

    def mask(key: jax.Array) -> jax.Array:
        # JAX spends a 32-bit word on every random byte; splitting words makes a quarter of them.
        words = jax.random.bits(jax.random.fold_in(key, layer), (-(-size // 4),), jnp.uint32)
        octets = lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:size]
        return (octets < keep).reshape(x.shape[1:])

    scaled = x.astype(at_least_float32(x.dtype)) * (256 / keep)
    return jnp.where(jax.vmap(mask)(keys), scaled, 0).astype(x.dtype)


def added(x: jax.Array, term: jax.Array) -> jax.Array:
    """`x + term`, summed in float32 where x is narrower, in the dtype of x.

    The gradient of what is broadcast, such as a bias, is a sum over images and pixels, and in
    bfloat16 a sum of equal numbers stops growing after 256 of them.

    Args:
      x: float[...].
      term: float, broadcast to the shape of x.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.layers import added
      >>> x = jnp.zeros((4096, 1), jnp.bfloat16)
      >>> jax.grad(lambda b: added(x, b[None]).astype(jnp.float32).sum())(jnp.zeros(1))
      Array([4096.], dtype=float32)
    """
    wide = at_least_float32(x.dtype)
    return (x.astype(wide) + term.astype(wide)).astype(x.dtype)


def gated(x: jax.Array, gate: jax.Array, h: jax.Array) -> jax.Array:
    """`x + gate h`, computed in float32 where x is narrower, in the dtype of x; see `added`."""
    return added(x, gate.astype(at_least_float32(x.dtype)) * h.astype(at_least_float32(x.dtype)))


class GroupNorm(nn.Module):
    """`group_norm` with learned scale and bias.

    Args:
      silu: whether SiLU follows.
      fused: whether the backward pass is hand-written, as in `UNet`.
    """

    silu: bool = False
    fused: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), jnp.float32)
        return group_norm(x, scale, bias, silu=self.silu, fused=self.fused)


class Conv(nn.Module):
    """3x3 convolution with bias; weights xavier-uniform times `gain`.

    Args:
      features: channels of the output.
      gain: factor of the first weights.
      padding: zeros on each side, in pixels.
      fused: whether the backward pass is hand-written, as in `UNet`.
    """

    features: int
    gain: float = 1.0
    padding: int = 1
    fused: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", xavier_uniform(self.gain), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        y = convolve(x, kernel.astype(x.dtype), self.padding, fused=self.fused)
        return added(y, bias[None, None, None, :])


class Dense(nn.Module):
    """Linear map of the last axis with bias, in the dtype of x.

    Args:
      features: size of the last axis of the output.
      kernel_init: the first weights; the bias starts at 0.
    """

    features: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        y = lax.dot_general(x, kernel.astype(x.dtype), (((x.ndim - 1,), (0,)), ((), ())))
        return added(y, bias.reshape(*(1,) * (x.ndim - 1), -1))
