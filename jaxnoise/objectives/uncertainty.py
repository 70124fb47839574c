"""A learned uncertainty u(lambda) that balances the noise levels of a loss."""

from dataclasses import dataclass
from math import pi

import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError, check_count

Params = dict[str, jax.Array]


@dataclass(frozen=True)
class LearnedUncertainty:
    """u(lambda), trained with the network by `L / e^u + u`, which is smallest at `u = ln L`.

    There every level's loss is 1, so that no level drowns the others. u is a Fourier series,

      u(lambda) = b + sum_j a_j cos(2 pi j lambda / period) + c_j sin(2 pi j lambda / period),

    with j = 1..harmonics and all coefficients 0 at the start: then the loss is the plain one.
    The series is our choice of features, in the style of EDM2, whose frequencies are random.

    For `DenoisingObjective` and `SCMObjective`, where a weight of the noise levels should not be
    chosen by hand.

    Args:
      harmonics: how many frequencies, at least 1.
      period: of the series, > 0, in units of log SNR, about the width of the law: wider learns
        slowly, and lambda further apart than this share their u.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import LearnedUncertainty
      >>> uncertainty = LearnedUncertainty()
      >>> params = uncertainty.init(jax.random.key(0))
      >>> float(uncertainty(params, jnp.array([2.0]))[0])
      0.0

    Reference: EDM2, Karras et al. (arXiv 2312.02696).
    """

    harmonics: int = 16
    period: float = 40.0

    def __post_init__(self) -> None:
        check_count("harmonics", self.harmonics)
        if not self.period > 0:
            raise ArgumentError("period", self.period, "a number > 0")

    def init(self, key: jax.Array) -> Params:
        """The parameters at the start of training: zeros.

        Args:
          key: PRNG key, of no effect.

        Returns:
          {"weight": float32[2 harmonics], "bias": float32[]}.
        """
        del key
        return {
            "weight": jnp.zeros(2 * self.harmonics, jnp.float32),
            "bias": jnp.zeros((), jnp.float32),
        }

    def __call__(self, params: Params, lam: jax.Array) -> jax.Array:
        """u at each lambda.

        Args:
          params: from `init`, or trained.
          lam: float[B], log SNR.

        Returns:
          float[B].
        """
        frequency = (2 * pi / self.period) * jnp.arange(1, self.harmonics + 1, dtype=lam.dtype)
        phase = lam[:, None] * frequency[None, :]
        features = jnp.concatenate([jnp.cos(phase), jnp.sin(phase)], axis=1)
        return features @ params["weight"].astype(lam.dtype) + params["bias"].astype(lam.dtype)
