"""Raters whose weights leave the best denoiser alone: of the noisy image, and of its level.

Weights w move the best denoiser from `E[x0 | x, lambda, label]` to `E[w x0 | ...] / E[w | ...]`.
The two agree for every data set if and only if w is a function of what the network sees.
"""

import math
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError, check_finite, check_positive, check_shape
from jaxnoise.models.fused import at_least_float32
from jaxnoise.models.rater_layers import (
    LEVEL,
    NOISY,
    LevelEmbedding,
    check_convolutions,
    check_dtype,
    convolved,
)
from jaxnoise.noise import Laplace


class NoisyRater(nn.Module):
    """Convolutional rater of the noisy image: sees what the denoiser sees, and nothing else.

    `r(x, lambda, label)` with x the noisy image as the network is shown it (for consistency
    training the student's, at sigma_hi). Neither x0 nor eps can be read off it beyond what the
    denoiser knows too, so weights and pools by it change what the denoiser learns first and not
    what it learns: for a rater that cannot bend the model. Layers are those of `ConvRater`, on x
    alone; a label is embedded and added to the level's embedding.

    Args:
      width: channels, at least 4 and a multiple of `min(32, width // 4)`, the groups of a norm; the
        level's embedding and the hidden layer are twice as wide.
      depth: residual blocks, at least 1.
      num_classes: labels are below it, or equal to it for "none of them"; 0 for a rater that sees
        no label.
      dtype: float32, bfloat16 or float64, in which convolutions compute; parameters are float32,
        and norms' statistics, the level, pooling and head float32 at least.

    Raises:
      ArgumentError: a field out of range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models import NoisyRater
      >>> rater, x, lam = NoisyRater(8, depth=1), jnp.ones((2, 8, 8, 1)), jnp.zeros(2)
      >>> scores, params = jax.jit(rater.init_with_output)(jax.random.key(0), x, lam)
      >>> scores
      Array([0., 0.], dtype=float32)

    Reference: rating of noise, https://arxiv.org/abs/2605.08144; that a rater sees the noisy image
    alone, and why, is ours.
    """

    sees: ClassVar[str] = NOISY
    width: int = 32
    depth: int = 2
    num_classes: int = 0
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_convolutions(self.width, self.depth, self.dtype)
        if self.num_classes < 0:
            raise ArgumentError("num_classes", self.num_classes, "at least 0")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, lam: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """Scores examples.

        Args:
          x: float[B, H, W, C], noisy images.
          lam: float32[B], log SNR.
          labels: int32[B] in 0..num_classes; None, or of no effect, if `num_classes` is 0.

        Returns:
          float32[B] (float64 if `dtype` is).

        Raises:
          ArgumentError: shapes that differ, or no labels where they are seen.
        """
        check_shape("x", x, (None, None, None, None), "[B, H, W, C]")
        check_shape("lam", lam, (x.shape[0],), "one log SNR for each image")
        wide = at_least_float32(self.dtype)
        e = LevelEmbedding(2 * self.width, name="level")(lam.astype(wide))
        if self.num_classes:
            if labels is None:
                raise ArgumentError("labels", None, "int32[B], which this rater sees")
            zeros = nn.initializers.zeros
            width = 2 * self.width
            known = nn.Embed(self.num_classes + 1, width, embedding_init=zeros, name="label")
            e = e + known(labels).astype(wide)
        return convolved(x.astype(self.dtype), e, self.width, self.depth)


class LawRater(nn.Module):
    """A law over log SNR with learned numbers, in the place of a rater.

      r = ln p_eta(lambda) - ln p0(lambda),     p_eta = Laplace(mu, b),     eta = (mu, ln b)

    A softmax of r over a batch that was drawn from p0 is the importance weight `p_eta / p0`,
    normalised over the batch: inner models train on p_eta, and what that leads to is differentiated
    in mu and b. For finding the law of the levels by what training on it leads to, instead of
    trying laws one by one. The weights see the level alone, so they are neutral.

    Where p0 has little mass p_eta is learned from few examples: let p0 be wide.

    Args:
      mu: where the mean starts, in log SNR.
      b: where the scale starts, > 0.
      dtype: float32, bfloat16 or float64. A level is float32 at least, so the first two agree.

    Raises:
      ArgumentError: a field out of range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models import LawRater
      >>> rater, lam = LawRater(mu=0.0, b=0.5), jnp.array([0.0, 1.0])
      >>> params = rater.init(jax.random.key(0), lam, 0 * lam)
      >>> print(jax.nn.softmax(rater.apply(params, lam, 0 * lam)).round(2))
      [0.88 0.12]
      >>> print(rater.law(params).b)
      0.5

    Reference: Laplace law, https://arxiv.org/abs/2407.03297; that its numbers are learned by a
    meta-gradient is our choice.
    """

    sees: ClassVar[str] = LEVEL
    mu: float = 0.0
    b: float = 0.5
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_finite("mu", self.mu)
        check_positive("b", self.b)
        check_dtype(self.dtype)
        super().__post_init__()

    @nn.compact
    def __call__(self, lam: jax.Array, log_prob: jax.Array) -> jax.Array:
        """Scores levels.

        Args:
          lam: float[B], log SNR.
          log_prob: float[B], ln of the density p0 that it was drawn from.

        Returns:
          float32[B] (float64 if `dtype` is).

        Raises:
          ArgumentError: shapes that differ.
        """
        check_shape("lam", lam, (None,), "one log SNR for each example")
        check_shape("log_prob", log_prob, lam.shape, "that of lam")
        mu, log_b = (
            self.param(name, nn.initializers.constant(value), (), jnp.float32)
            for name, value in (("mu", self.mu), ("log_b", math.log(self.b)))
        )
        lam, log_prob = (x.astype(at_least_float32(self.dtype)) for x in (lam, log_prob))
        mu, log_b = (x.astype(lam.dtype) for x in (mu, log_b))
        return Laplace(mu, jnp.exp(log_b)).log_prob(lam) - log_prob

    def law(self, params: Any) -> Laplace:
        """The law that parameters stand for, its numbers arrays float[].

        Args:
          params: of this network.
        """
        own = params["params"]
        return Laplace(own["mu"], jnp.exp(own["log_b"]))
