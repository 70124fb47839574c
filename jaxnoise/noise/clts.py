"""The curriculum timestep schedule as a pacing: towards a Gaussian around one time."""

from dataclasses import dataclass
from math import erf, erfc, log, pi, sqrt
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError, check_positive
from jaxnoise.noise.logsnr_mixture import bisect
from jaxnoise.noise.pacing import Pacing, below_one, check_at_least_one, progress_of
from jaxnoise.noise.parameters import as_level


@dataclass(frozen=True)
class CLTS(Pacing):
    """From all timesteps alike towards a Gaussian around one of them.

    `p_k(t) = w_k N(t; mu, sig^2) + (1 - w_k)`, the Gaussian truncated to [0, 1] and normalised
    there, `w_k = clip(k / ramp_steps, 0, max_weight)`. Drawn by its inverse CDF.

    `sig`, `ramp_steps` and `max_weight` are not published; the defaults are our choice, and half of
    the draws stay uniform. `metrics` gives w_k as `gaussian_weight`.

    For training that dwells on noise of middle strength more and more; its authors combine it with
    `momentum_decay`.

    Args:
      ramp_steps: steps after which w would reach 1.
      mu: middle of the Gaussian in [0, 1]; 0 is clean.
      sig: its width, > 0; worth a sweep over .1, .2, .3, 1.
      max_weight: largest w, in [0, 1].

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import CLTS
      >>> pacing = CLTS(ramp_steps=100)
      >>> [round(float(pacing.warp(0.9, (), step)), 3) for step in (0, 50)]
      [0.9, 0.806]

    Reference: in the style of "Towards Faster Training of Diffusion Models" (arXiv 2404.07946).
    """

    ramp_steps: int
    mu: float = 0.3
    sig: float = 0.2
    max_weight: float = 0.5

    def __post_init__(self) -> None:
        check_at_least_one("ramp_steps", self.ramp_steps)
        check_positive("sig", self.sig)
        for argument in ("mu", "max_weight"):
            if not 0 <= getattr(self, argument) <= 1:
                raise ArgumentError(argument, getattr(self, argument), "a number in [0, 1]")

    def _weight(self, step: ArrayLike, dtype: jnp.dtype) -> jax.Array:
        return jnp.minimum(progress_of(step, self.ramp_steps), self.max_weight).astype(dtype)

    def metrics(self, state: Any, step: ArrayLike) -> dict[str, jax.Array]:
        del state
        return {"gaussian_weight": self._weight(step, jnp.dtype(jnp.float32))}

    def _mass_below(self, t: float) -> float:
        """Mass of the untruncated Gaussian below t."""
        return erfc((self.mu - t) / (self.sig * sqrt(2))) / 2

    def _mass_inside(self) -> float:
        width = self.sig * sqrt(2)
        return (erf((1 - self.mu) / width) + erf(self.mu / width)) / 2

    def warp(self, u: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        u = as_level(u)
        fixed = jax.lax.stop_gradient(u)
        ends = jnp.zeros_like(u), jnp.ones_like(u)
        t = bisect(lambda t: self.cdf(t, state, step) < fixed, *ends)
        # A term of value zero that carries d t / d u = 1 / p.
        density = jnp.exp(jax.lax.stop_gradient(self.log_prob(t, state, step)))
        return below_one(t + (u - fixed) / jnp.where(density > 0, density, 1))

    def cdf(self, t: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        t = as_level(t)
        weight = self._weight(step, t.dtype)
        if self.sig > 1:
            # Phi is 1/2 and little more, of which float32 would lose the little.
            width = self.sig * sqrt(2)
            gaussian = (jax.lax.erf((t - self.mu) / width) + erf(self.mu / width)) / 2
        else:
            gaussian = ndtr((t - self.mu) / self.sig) - self._mass_below(0.0)
        return jnp.clip(weight * (gaussian / self._mass_inside()) + (1 - weight) * t, 0, 1)

    def log_prob(self, t: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        t = as_level(t)
        weight = self._weight(step, t.dtype)
        z = (t - self.mu) / self.sig
        log_gaussian = -z * z / 2 - log(self.sig * sqrt(2 * pi) * self._mass_inside())
        mixed = jnp.logaddexp(jnp.log(weight) + log_gaussian, jnp.log1p(-weight))
        return jnp.where((t >= 0) & (t <= 1), mixed, -jnp.inf)
