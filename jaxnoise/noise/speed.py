"""SpeeD's law of time as a pacing: the noisiest levels, where little changes, are drawn rarely."""

from dataclasses import dataclass
from math import inf, log
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError
from jaxnoise.noise.pacing import Pacing, below_one
from jaxnoise.noise.parameters import as_level


@dataclass(frozen=True)
class Asymmetric(Pacing):
    """Time steps beyond a boundary are drawn `suppression` times less often than the others.

    `p(t) = 1/Z` for `t < boundary` and `1/(suppression Z)` beyond it, t in [0, 1) (t = 1 is noise),
    `Z = boundary + (1 - boundary)/suppression`. It does not move with the step.

    Known: SpeeD divides the time steps into acceleration, deceleration and convergence areas and
    draws the last, noisiest one less often. Its code does so 5 times less (weights 2.5 and .5), and
    the boundary lies where sqrt(1 - alpha_bar) grows by less than 1e-4 a step: step 642 of 1000
    under linear betas from 1e-4 to .02, `boundary=0.642`, lambda = -4.18. That is a quantile of
    the linear-beta law; with another law the same noise level is `law.survival(-4.18)`.

    For training that should not spend its steps where little changes.

    Our choice: a pacing, so that it composes with every law. Left out: that code also replaces half
    of the draws by `|t - boundary|`, and its weighting, which there is P2's.

    Args:
      boundary: where the convergence area begins, in (0, 1).
      suppression: how many times less often it is drawn, at least 1; 1 changes nothing.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import Asymmetric
      >>> pacing = Asymmetric(boundary=0.5, suppression=4.0)
      >>> [round(float(pacing.warp(u, (), step=0)), 4) for u in (0.4, 0.8, 0.9)]
      [0.25, 0.5, 0.75]

    Reference: in the style of "A Closer Look at Time Steps is Worthy of Triple Speed-Up for
    Diffusion Model Training" (https://arxiv.org/abs/2405.17403), asymmetric sampling.
    """

    boundary: float
    suppression: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.boundary < 1:
            raise ArgumentError("boundary", self.boundary, "a number in (0, 1)")
        if not 1 <= self.suppression < inf:
            raise ArgumentError("suppression", self.suppression, "a finite number >= 1")

    @property
    def _total(self) -> float:
        return self.boundary + (1 - self.boundary) / self.suppression

    def warp(self, u: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        del state, step
        u = as_level(u)
        # Counted from the noisy end, so that t stays below 1 wherever u does.
        beyond = 1 - self.suppression * self._total * (1 - u)
        return below_one(jnp.where(u < self.boundary / self._total, u * self._total, beyond))

    def cdf(self, t: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        del state, step
        t = as_level(t)
        beyond = 1 - (1 - t) / (self.suppression * self._total)
        return jnp.where(t < self.boundary, t / self._total, beyond)

    def log_prob(self, t: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        del state, step
        t = as_level(t)
        common, rare = -log(self._total), -log(self.suppression * self._total)
        inside = jnp.where(t < self.boundary, jnp.full_like(t, common), rare)
        return jnp.where((t >= 0) & (t <= 1), inside, -jnp.inf)
