"""Raters of noise: networks that score a pair of image and noise at a noise level.

A rater is `r(x0, eps, lambda) -> scalar per example`, lambda = log SNR = -2 ln sigma; it does not
see the denoiser. The idea is NoiseRater's (https://arxiv.org/abs/2605.08144), of which we know the
abstract only: the networks and their features are our choice.

Every score is exactly 0 at initialisation, because the head is, so that training starts with equal
weights; the head's own gradient is not 0 there. The head has no bias: a softmax over scores would
cancel it. All layers are plain `jax.numpy`, so that every order of forward and reverse mode works.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError, check_shape, one_of
from jaxnoise.models import layers
from jaxnoise.models.fused import at_least_float32, group_count, group_norm
from jaxnoise.models.noise_features import noise_features


def _check_dtype(dtype: Any) -> None:
    one_of("dtype", jnp.dtype(dtype).name, ("float32", "bfloat16", "float64"))


def _dense(features: int, x: jax.Array, name: str) -> jax.Array:
    init = layers.xavier_uniform()
    return nn.Dense(features, dtype=x.dtype, kernel_init=init, name=name)(x)


def _head(x: jax.Array) -> jax.Array:
    """One score per example: a linear map without bias that starts at zero."""
    x = x.astype(at_least_float32(x.dtype))
    zeros = nn.initializers.zeros
    return nn.Dense(1, use_bias=False, dtype=x.dtype, kernel_init=zeros, name="head")(x)[:, 0]


class LevelEmbedding(nn.Module):
    """Positional embedding of `-lambda / 4`, bounded, through two dense layers with SiLU.

    Args:
      width: of the embedding and the layers, even.
    """

    width: int

    @nn.compact
    def __call__(self, lam: jax.Array) -> jax.Array:
        e = layers.positional_embedding(-lam / 4, self.width)
        for i in range(2):
            e = nn.silu(_dense(self.width, e, f"dense_{i}"))
        return e


class AdaptiveBlock(nn.Module):
    """Residual block whose norms take scale and shift from the noise level.

    `y = sqrt(1/2) (x + h)`, `h = conv(silu(n(conv(silu(n(x))))))`, `n(x) = (1 + g) norm(x) + b`
    with g and b linear in the embedding of the level, and `norm` a group norm.
    """

    @nn.compact
    def __call__(self, x: jax.Array, e: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        ones, zeros = jnp.ones(channels, e.dtype), jnp.zeros(channels, e.dtype)
        h = x
        for i in range(2):
            h = group_norm(h, ones, zeros, fused=False)
            maps = _dense(2 * channels, e, f"level_{i}").astype(h.dtype)
            gain, shift = jnp.split(maps[:, None, None, :], 2, axis=3)
            h = nn.silu(h * (1 + gain) + shift)
            h = layers.Conv(channels, fused=False, name=f"conv_{i}")(h)
        return (x + h) * math.sqrt(0.5)


class ConvRater(nn.Module):
    """Convolutional rater: sees the image, the noise and their mixture, told the level.

    The input is `[x0, eps, alpha x0 + s eps]`, `alpha^2 = sigmoid(lambda)`, `s^2 = sigmoid(-lambda)`.
    A convolution and `depth` residual blocks follow, their norms modulated by the level; between
    blocks the image is halved (mean of 2x2 pixels) while both sides are even and at least 8. After
    each block every channel is pooled to its mean, mean square and maximum: the residual stream has
    no norm of its own, so these see the amplitude of the noise, and single outliers. One hidden
    layer of the pooled values and the level leads to the head. 81,088 parameters by default for
    images of 3 channels.

    Args:
      width: channels, at least 4 and a multiple of `min(32, width // 4)`, the groups of a norm; the
        level's embedding and the hidden layer are twice as wide.
      depth: residual blocks, at least 1.
      dtype: float32, bfloat16 or float64, in which convolutions compute; parameters are float32,
        and norms' statistics, the level, pooling and head float32 at least.

    Raises:
      ArgumentError: a field out of range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.rater import ConvRater
      >>> rater, x0, lam = ConvRater(8, depth=1), jnp.ones((2, 8, 8, 1)), jnp.zeros(2)
      >>> scores, params = jax.jit(rater.init_with_output)(jax.random.key(0), x0, x0, lam)
      >>> scores
      Array([0., 0.], dtype=float32)

    Reference: rating of noise, https://arxiv.org/abs/2605.08144; this network is our choice.
    """  # noqa: E501

    width: int = 32
    depth: int = 2
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        try:
            group_count(self.width)
        except ArgumentError:
            allowed = "at least 4, a multiple of min(32, width // 4)"
            raise ArgumentError("width", self.width, allowed) from None
        if self.depth < 1:
            raise ArgumentError("depth", self.depth, "at least 1")
        _check_dtype(self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, x0: jax.Array, eps: jax.Array, lam: jax.Array) -> jax.Array:
        """Scores examples.

        Args:
          x0: float[B, H, W, C], clean images.
          eps: float[B, H, W, C], noise.
          lam: float32[B], log SNR.

        Returns:
          float32[B] (float64 if `dtype` is).
        """
        _check_input(x0, eps, lam)
        wide = at_least_float32(self.dtype)
        lam = lam.astype(wide)
        alpha, s = (
            jnp.sqrt(nn.sigmoid(sign * lam)).astype(self.dtype)[:, None, None, None]
            for sign in (1, -1)
        )
        x0, eps = x0.astype(self.dtype), eps.astype(self.dtype)
        e = LevelEmbedding(2 * self.width, name="level")(lam)
        x = jnp.concatenate([x0, eps, alpha * x0 + s * eps], axis=3)
        x = layers.Conv(self.width, fused=False, name="input")(x)
        pooled = []
        for i in range(self.depth):
            height, width = x.shape[1:3]
            if i and min(height, width) >= 8 and height % 2 == width % 2 == 0:
                x = layers.downsample(x)
            x = AdaptiveBlock(name=f"block_{i}")(x, e)
            y = x.astype(wide)
            pooled += [y.mean(axis=(1, 2)), (y * y).mean(axis=(1, 2)), y.max(axis=(1, 2))]
        h = jnp.concatenate([*pooled, e], axis=1)
        return _head(nn.silu(_dense(2 * self.width, h, "hidden")))


class LevelRater(nn.Module):
    """Rater of the noise level alone: the control that tells rating noise from rating levels.

    `r = head(embedding(lambda))`; x0 and eps are ignored. Its softmax over candidates of one
    (x0, lambda) is uniform.

    Args:
      width: width of the embedding, even, at least 4.
      dtype: float32, bfloat16 or float64. A level is float32 at least, so the first two agree.

    Raises:
      ArgumentError: a field out of range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.rater import LevelRater
      >>> rater, x0, lam = LevelRater(), jnp.ones((2, 8, 8, 1)), jnp.zeros(2)
      >>> scores, params = jax.jit(rater.init_with_output)(jax.random.key(0), x0, x0, lam)
      >>> scores
      Array([0., 0.], dtype=float32)

    Reference: rating of noise, https://arxiv.org/abs/2605.08144; this control is our choice.
    """

    width: int = 32
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        _check_even_width(self.width)
        _check_dtype(self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, x0: jax.Array, eps: jax.Array, lam: jax.Array) -> jax.Array:
        """Scores levels: float32[B] from lam, float32[B] (float64 if `dtype` is)."""
        _check_input(x0, eps, lam)
        lam = lam.astype(at_least_float32(self.dtype))
        return _head(LevelEmbedding(self.width, name="level")(lam))


class FeatureRater(nn.Module):
    """Rater of hand-made statistics of the noise: `noise_features`, and their products with level.

    `h = silu((1 + g) dense(f) + b)` with g and b linear in the embedding of the level, a second
    hidden layer, the head. 5,632 parameters by default.

    Args:
      width: width of embedding and hidden layers, even, at least 4.
      bands: frequency bands of `noise_features`.
      dtype: float32, bfloat16 or float64, of the hidden layers; features and level are float32 at
        least.

    Raises:
      ArgumentError: a field out of range, or `bands` does not fit the image.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.rater import FeatureRater
      >>> rater, x0, lam = FeatureRater(), jnp.ones((2, 8, 8, 1)), jnp.zeros(2)
      >>> scores, params = jax.jit(rater.init_with_output)(jax.random.key(0), x0, x0, lam)
      >>> scores
      Array([0., 0.], dtype=float32)

    Reference: rating of noise, https://arxiv.org/abs/2605.08144; features and network are ours.
    """

    width: int = 32
    bands: int = 4
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        _check_even_width(self.width)
        if self.bands < 1:
            raise ArgumentError("bands", self.bands, "at least 1")
        _check_dtype(self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, x0: jax.Array, eps: jax.Array, lam: jax.Array) -> jax.Array:
        """Scores examples.

        Args:
          x0: float[B, H, W, C], clean images.
          eps: float[B, H, W, C], noise.
          lam: float32[B], log SNR.

        Returns:
          float32[B] (float64 if `dtype` is).

        Raises:
          ArgumentError: `bands` does not fit the image.
        """
        _check_input(x0, eps, lam)
        e = LevelEmbedding(self.width, name="level")(lam.astype(at_least_float32(self.dtype)))
        features = noise_features(x0, eps, self.bands).astype(self.dtype)
        maps = _dense(2 * self.width, e, "modulation").astype(self.dtype)
        gain, shift = jnp.split(maps, 2, axis=1)
        h = nn.silu(_dense(self.width, features, "hidden_0") * (1 + gain) + shift)
        return _head(nn.silu(_dense(self.width, h, "hidden_1")))


def _check_even_width(width: int) -> None:
    if width < 4 or width % 2:
        raise ArgumentError("width", width, "even and at least 4")


def _check_input(x0: jax.Array, eps: jax.Array, lam: jax.Array) -> None:
    check_shape("x0", x0, (None, None, None, None), "[B, H, W, C]")
    check_shape("eps", eps, x0.shape, "that of x0")
    check_shape("lam", lam, (x0.shape[0],), "one log SNR for each image")


RATERS: Mapping[str, type[ConvRater] | type[LevelRater] | type[FeatureRater]] = {
    "conv": ConvRater,
    "level": LevelRater,
    "feature": FeatureRater,
}
