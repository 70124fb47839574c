"""The noise levels of a batch, as objectives draw them."""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from jaxnoise.errors import check_shape
from jaxnoise.noise.logsnr_law import LogSnrLaw
from jaxnoise.noise.pacing import Pacing
from jaxnoise.noise.uniforms import SOURCES


class Levels(Protocol):
    """The noise levels of a batch: a pytree whose leaves have the leading axis [B].

    `Pairs`, `LogSnrLevels` and `TangentLevels` are such; a class of one's own needs no base.

    Attributes:
      sigma: float[B], noise over signal, by which an example is reported; may overflow.
      lam: float[B], log SNR, by which noise is rated, selected and paced; finite.
      importance: float[B], by which the loss of an example is multiplied to undo what a pacing
        makes of the law; None without. A class of one's own may go without it.
    """

    @property
    def sigma(self) -> jax.Array: ...

    @property
    def lam(self) -> jax.Array: ...


@struct.dataclass
class Pairs:
    """Noise levels of a batch of training pairs, as `draw` of consistency objectives gives them.

    Args:
      sigma_lo: float[B], the teacher's level; of MeanFlow, where a jump ends.
      sigma_hi: float[B], the student's level, > sigma_lo; of MeanFlow >= it.
      log_prob: float[B], ln of the probability that the pair was drawn with, pacing included, or
        of the density of lam where pairs have no grid; None where nobody drew it. For importance
        weights; of a `PolynomialPairs` sweep it is that of the law, which few examples follow
        roughly: draw "iid" there.
      importance: float[B], the density of the law alone over the one that was drawn from, where a
        pacing compensates: the loss of an example is multiplied by it. Else None.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import Pairs
      >>> pairs = Pairs(sigma_lo=jnp.array([0.5]), sigma_hi=jnp.array([1.0]))
      >>> pairs.sigma.tolist(), pairs.lam.tolist()
      ([1.0], [-0.0])
    """

    sigma_lo: jax.Array
    sigma_hi: jax.Array
    log_prob: jax.Array | None = None
    importance: jax.Array | None = None

    @property
    def sigma(self) -> jax.Array:
        """float[B], the level by which an example is reported."""
        return self.sigma_hi

    @property
    def lam(self) -> jax.Array:
        """float[B], `-2 ln sigma_hi`, log SNR."""
        return -2 * jnp.log(self.sigma_hi)


@struct.dataclass
class LogSnrLevels:
    """Noise levels of a batch of denoising examples, as `DenoisingObjective.draw` gives them.

    Args:
      lam: float[B], log SNR.
      log_prob: float[B], ln of the density that lam was drawn from, pacing included.
      importance: float[B], the density of the law alone over the one that was drawn from, where a
        pacing compensates: the loss of an example is multiplied by it. Else None.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import LogSnrLevels
      >>> levels = LogSnrLevels(lam=jnp.array([0.0, -4.0]), log_prob=jnp.zeros(2))
      >>> [round(sigma, 3) for sigma in levels.sigma.tolist()]
      [1.0, 7.389]
    """

    lam: jax.Array
    log_prob: jax.Array
    importance: jax.Array | None = None

    @property
    def sigma(self) -> jax.Array:
        """float[B], `exp(-lambda / 2)`, noise over signal."""
        return jnp.exp(-self.lam / 2)


@struct.dataclass
class TangentLevels:
    """Noise levels of a batch of continuous-time consistency, as `SCMObjective.draw` gives them.

    Args:
      lam: float[B], log SNR.
      warmup: float[B] in [0, 1], how much of the derivative along the trajectory counts.
      log_prob: float[B], ln of the density that lam was drawn from, pacing included; None where
        nobody drew it.
      importance: float[B], the density of the law alone over the one that was drawn from, where a
        pacing compensates: the loss of an example is multiplied by it. Else None.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import TangentLevels
      >>> levels = TangentLevels(lam=jnp.array([0.0]), warmup=jnp.ones(1))
      >>> levels.sigma.tolist()
      [1.0]
    """

    lam: jax.Array
    warmup: jax.Array
    log_prob: jax.Array | None = None
    importance: jax.Array | None = None

    @property
    def sigma(self) -> jax.Array:
        """float[B], `exp(-lambda / 2)`, noise over signal."""
        return jnp.exp(-self.lam / 2)


def drawn_levels(
    law: LogSnrLaw,
    pacing: Pacing,
    sampling: str,
    key: jax.Array,
    count: int,
    step: jax.Array,
    pace: Any,
) -> LogSnrLevels:
    """The log SNR of one whole global batch, from a law that a pacing moves.

    Args:
      law: over log SNR.
      pacing: of its quantiles.
      sampling: name of a source of uniforms.
      key: PRNG key of this step.
      count: the GLOBAL batch (static), since a stratified source sees the batch.
      step: int32[], training step.
      pace: the pacing's state.

    Returns:
      LogSnrLevels of float[count].
    """
    pacing = pacing.on(law.survival)
    t = pacing.warp(SOURCES[sampling](key, count), pace, step)
    lam, log_paced = law.inverse_survival(t), pacing.log_prob(t, pace, step)
    return LogSnrLevels(
        lam=lam,
        log_prob=law.log_prob(lam) + log_paced,
        importance=jnp.exp(-log_paced) if pacing.compensate else None,
    )


def check_importance(importance: Any, per_example: jax.Array) -> None:
    """Raises ArgumentError unless it is None or one number for each: [B, 1] would make [B, B]."""
    if importance is not None:
        check_shape("importance", importance, per_example.shape, "one number for each image")


def uncompensated(losses: jax.Array, levels: Any) -> jax.Array:
    """Losses without the factor by which a pacing is compensated: those of the levels themselves.

    For means by noise level, and for whatever compares examples of different levels.

    Args:
      losses: float[B], as an objective gives them.
      levels: what they were computed at.

    Returns:
      float[B].

    Raises:
      ArgumentError: an importance that is not one number for each loss.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import LogSnrLevels, uncompensated
      >>> zero = jnp.zeros(1)
      >>> levels = LogSnrLevels(lam=zero, log_prob=zero, importance=jnp.array([4.0]))
      >>> uncompensated(jnp.array([2.0]), levels).tolist()
      [0.5]
    """
    importance = getattr(levels, "importance", None)
    check_importance(importance, losses)
    return losses if importance is None else losses / importance.astype(losses.dtype)
