"""Layers that raters of noise are made of, and what a rater may see."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError, one_of
from jaxnoise.models import layers
from jaxnoise.models.fused import at_least_float32, group_count, group_norm

DRAW, NOISY, LEVEL = "draw of noise", "noisy image", "density of the level"
SEES: Mapping[str, str] = {
    DRAW: "(x0, eps, lam)",
    NOISY: "(x, lam, labels)",
    LEVEL: "(lam, log_prob)",
}
"""What raters see, and the arguments after their parameters: clean images, noise and log SNR; noisy
images as the network is shown them, log SNR and labels int32[B] or None; or log SNR and the log of
the density that it was drawn from."""


def check_dtype(dtype: Any) -> None:
    """Raises ArgumentError unless a rater can compute in `dtype`."""
    one_of("dtype", jnp.dtype(dtype).name, ("float32", "bfloat16", "float64"))


def dense(features: int, x: jax.Array, name: str) -> jax.Array:
    """A dense layer of the calling module, in the dtype of x."""
    init = layers.xavier_uniform()
    return layers.Dense(features, kernel_init=init, name=name)(x)


def head(x: jax.Array) -> jax.Array:
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
            e = nn.silu(dense(self.width, e, f"dense_{i}"))
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
            maps = dense(2 * channels, e, f"level_{i}")
            gain, shift = jnp.split(maps[:, None, None, :], 2, axis=3)
            wide = gain.dtype
            h = nn.silu((h.astype(wide) * (1 + gain) + shift).astype(h.dtype))
            h = layers.Conv(channels, fused=False, name=f"conv_{i}")(h)
        return (x + h) * math.sqrt(0.5)


def check_even_width(width: int) -> None:
    """Raises ArgumentError unless a level can be embedded in so many numbers."""
    if width < 4 or width % 2:
        raise ArgumentError("width", width, "even and at least 4")


def check_convolutions(width: int, depth: int, dtype: Any) -> None:
    """Raises ArgumentError unless `convolved` can be of this width and depth."""
    try:
        group_count(width)
    except ArgumentError:
        allowed = "at least 4, a multiple of min(32, width // 4)"
        raise ArgumentError("width", width, allowed) from None
    if depth < 1:
        raise ArgumentError("depth", depth, "at least 1")
    check_dtype(dtype)


def convolved(x: jax.Array, e: jax.Array, width: int, depth: int) -> jax.Array:
    """Scores from images and the level's embedding; its layers are the calling module's."""
    x = layers.Conv(width, fused=False, name="input")(x)
    pooled = []
    for i in range(depth):
        height, breadth = x.shape[1:3]
        if i and min(height, breadth) >= 8 and height % 2 == breadth % 2 == 0:
            x = layers.downsample(x)
        x = AdaptiveBlock(name=f"block_{i}")(x, e)
        y = x.astype(e.dtype)
        pooled += [y.mean(axis=(1, 2)), (y * y).mean(axis=(1, 2)), y.max(axis=(1, 2))]
    h = jnp.concatenate([*pooled, e], axis=1)
    return head(nn.silu(dense(2 * width, h, "hidden")))
