"""Raters of noise: networks that score a pair of image and noise at a noise level.

A rater is `r(x0, eps, lambda) -> scalar per example`, lambda = log SNR = -2 ln sigma; it does not
see the denoiser. The idea is NoiseRater's (https://arxiv.org/abs/2605.08144), of which we know the
abstract only: the networks and their features are our choice. A rater of the noisy image sees what
the denoiser sees and no more, `r(x_lambda, lambda, label)`, so that its weights leave the best
denoiser alone. What a network sees its attribute `sees` says, one of
`jaxnoise.models.rater_layers.SEES`.

Every score of a network is exactly 0 at initialisation, because the head is, so that training
starts with equal weights; the head's own gradient is not 0 there. The head has no bias: a softmax
over scores would cancel it. All layers are plain `jax.numpy`, so that every order of forward and
reverse mode works.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError, check_shape
from jaxnoise.models.fused import at_least_float32
from jaxnoise.models.neutral_raters import LawRater, NoisyRater
from jaxnoise.models.noise_features import noise_features
from jaxnoise.models.rater_layers import (
    DRAW,
    LEVEL,
    NOISY,
    SEES,
    LevelEmbedding,
    check_convolutions,
    check_dtype,
    check_even_width,
    convolved,
    dense,
    head,
)


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

    sees: ClassVar[str] = DRAW
    width: int = 32
    depth: int = 2
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_convolutions(self.width, self.depth, self.dtype)
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
        return convolved(x, e, self.width, self.depth)


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

    sees: ClassVar[str] = DRAW
    width: int = 32
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_even_width(self.width)
        check_dtype(self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, x0: jax.Array, eps: jax.Array, lam: jax.Array) -> jax.Array:
        """Scores levels: float32[B] from lam, float32[B] (float64 if `dtype` is)."""
        _check_input(x0, eps, lam)
        lam = lam.astype(at_least_float32(self.dtype))
        return head(LevelEmbedding(self.width, name="level")(lam))


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

    sees: ClassVar[str] = DRAW
    width: int = 32
    bands: int = 4
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_even_width(self.width)
        if self.bands < 1:
            raise ArgumentError("bands", self.bands, "at least 1")
        check_dtype(self.dtype)
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
        maps = dense(2 * self.width, e, "modulation").astype(self.dtype)
        gain, shift = jnp.split(maps, 2, axis=1)
        h = nn.silu(dense(self.width, features, "hidden_0") * (1 + gain) + shift)
        return head(nn.silu(dense(self.width, h, "hidden_1")))


def _check_input(x0: jax.Array, eps: jax.Array, lam: jax.Array) -> None:
    check_shape("x0", x0, (None, None, None, None), "[B, H, W, C]")
    check_shape("eps", eps, x0.shape, "that of x0")
    check_shape("lam", lam, (x0.shape[0],), "one log SNR for each image")


Rater = ConvRater | LevelRater | FeatureRater | NoisyRater | LawRater

RATERS: Mapping[str, type[Rater]] = {
    "conv": ConvRater,
    "level": LevelRater,
    "feature": FeatureRater,
    "noisy": NoisyRater,
    "law": LawRater,
}


__all__ = [
    "RATERS",
    "SEES",
    "ConvRater",
    "FeatureRater",
    "LawRater",
    "LevelRater",
    "NoisyRater",
    "Rater",
    "inputs_of",
    "sees_of",
]


def sees_of(network: nn.Module) -> str:
    """What a rater sees, one of `SEES`; a module that does not say so sees draws of noise."""
    return getattr(network, "sees", DRAW)


def inputs_of(network: nn.Module, image_shape: tuple[int, ...], count: int = 1) -> tuple[Any, ...]:
    """Zeros in the place of what a rater sees, to make its parameters from.

    Args:
      network: a rater with an attribute `sees`.
      image_shape: (H, W, C).
      count: B, examples.

    Returns:
      The arguments of the network, as `SEES` names them.

    Example:
      >>> from jaxnoise.models.rater import LawRater, inputs_of
      >>> [x.shape for x in inputs_of(LawRater(), (8, 8, 1))]
      [(1,), (1,)]
    """
    images, lam = jnp.zeros((count, *image_shape), jnp.float32), jnp.zeros(count, jnp.float32)
    labels = jnp.zeros(count, jnp.int32) if getattr(network, "num_classes", 0) else None
    given = {DRAW: (images, images, lam), NOISY: (images, lam, labels), LEVEL: (lam, lam)}
    return given[sees_of(network)]
