"""Closed-form laws over lambda = log SNR.

Drawing t ~ U(0, 1) through a schedule lambda(t) is drawing lambda from `p = -dt/dlambda`. For the
variance-exploding form `sigma = exp(-lambda / 2)`; for the variance-preserving one
`alpha^2 = sigmoid(lambda)`.

An importance weight w/p has infinite variance where w^2/p cannot be integrated, e.g. with a Laplace
proposal of b <= 1 and a cosine weight: truncate the law, clip the weight, or mix in a wide law.
"""

from dataclasses import dataclass
from math import log, pi, sqrt

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jax.typing import ArrayLike

from jaxnoise.errors import check_finite, check_numbers, check_positive, is_traced
from jaxnoise.noise.logsnr_law import LogSnrLaw, Tails, within
from jaxnoise.noise.parameters import Number, as_level, log_of, log_of_expm1


class _Symmetric(LogSnrLaw):
    """A law that is symmetric about `_center`, given by one tail: sign and magnitude apart."""

    @property
    def _center(self) -> Number:
        return 0.0

    def _tail(self, a: jax.Array) -> jax.Array:
        """P(Lambda > center + a), a >= 0."""
        raise NotImplementedError

    def _inverse_tail(self, m: jax.Array) -> jax.Array:
        """The a >= 0 whose tail is m, 0 < m <= 1/2."""
        raise NotImplementedError

    def from_tails(self, t: jax.Array, s: jax.Array) -> jax.Array:
        # `where`, not `minimum`: a tie at 1/2 must not halve the gradient.
        m = jnp.where(t <= s, t, s)
        a = self._inverse_tail(jnp.maximum(m, float(jnp.finfo(m.dtype).tiny)))
        return self._center + jnp.where(t <= s, a, -a)

    def tails(self, lam: ArrayLike) -> Tails:
        z = as_level(lam) - self._center
        clean = z >= 0
        m = self._tail(jnp.where(clean, z, -z))
        return jnp.where(clean, m, 1 - m), jnp.where(clean, 1 - m, m)


@dataclass(frozen=True)
class Cosine(_Symmetric):
    """The cosine schedule: `lambda(t) = 2 log cot(pi t / 2)`, `p = sech(lambda/2) / (2 pi)`.

    The usual schedule of diffusion training, and the one that others are compared with.

    Example:
      >>> from jaxnoise.noise import Cosine
      >>> print(f"{Cosine().inverse_survival(0.01):.4f}")
      8.3070

    Reference: improved DDPM (arXiv 2102.09672), without its offset; arXiv 2407.03297.
    """

    def _tail(self, a: jax.Array) -> jax.Array:
        return jnp.arctan(jnp.exp(-a / 2)) * (2 / pi)

    def _inverse_tail(self, m: jax.Array) -> jax.Array:
        return -2 * jnp.log(jnp.tan(m * (pi / 2)))

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        a = jnp.abs(as_level(lam))
        return -a / 2 - jnp.log1p(jnp.exp(-a)) - log(pi)


@dataclass(frozen=True)
class LinearPath(_Symmetric):
    """The straight path of flow matching, `x = (1-t) x0 + t eps`, with t ~ U(0, 1).

    `lambda(t) = 2 log((1-t)/t)`, `p = sech^2(lambda/4) / 8`, `t(lambda) = sigmoid(-lambda/2)`.

    For flow matching and rectified flow with uniform times.

    Example:
      >>> from jaxnoise.noise import LinearPath
      >>> print(f"{LinearPath().inverse_survival(0.01):.4f}")
      9.1902

    Reference: flow matching (arXiv 2210.02747), optimal-transport path.
    """

    def _tail(self, a: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(-a / 2)

    def _inverse_tail(self, m: jax.Array) -> jax.Array:
        return 2 * (jnp.log1p(-m) - jnp.log(m))

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        half = jnp.abs(as_level(lam)) / 2
        return -half - 2 * jnp.log1p(jnp.exp(-half)) - log(2)


@dataclass(frozen=True)
class Laplace(_Symmetric):
    """`p = exp(-|lambda - mu| / b) / (2b)`, `lambda(t) = mu - b sgn(1/2 - t) log(1 - 2|t - 1/2|)`.

    For training that dwells on the middle of the noise range, around lambda = mu, where most of an
    image is decided; (0, 0.5) is the setting of arXiv 2407.03297.

    Args:
      mu: mean of log SNR.
      b: scale, > 0. The best reported are .5 at 256 pixels and .75 at 512; at 256 it is better
        than cosine at guidance 3 (FID 7.96 against 10.85) and not at 1.5 (16.69 against 12.74 of a
        scaled cosine).

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import Laplace
      >>> print(f"{Laplace(mu=0.0, b=0.5).inverse_survival(0.01):.4f}")
      1.9560

    Reference: improved noise schedule (arXiv 2407.03297).
    """

    mu: Number = 0.0
    b: Number = 0.5

    def __post_init__(self) -> None:
        check_finite("mu", self.mu)
        check_positive("b", self.b)

    @property
    def _center(self) -> Number:
        return self.mu

    def _tail(self, a: jax.Array) -> jax.Array:
        return jnp.exp(-a / self.b) / 2

    def _inverse_tail(self, m: jax.Array) -> jax.Array:
        return -self.b * jnp.log(2 * m)

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        return -jnp.abs(as_level(lam) - self.mu) / self.b - log_of(2 * self.b)


@dataclass(frozen=True)
class Cauchy(_Symmetric):
    """`p = gamma / (pi ((lambda-mu)^2 + gamma^2))`, `lambda(t) = mu + gamma tan(pi/2 (1 - 2t))`.

    Like the Laplace law for training that dwells on lambda = mu, where both ends should still be
    seen often: its tails are heavy.

    Args:
      mu: median of log SNR.
      gamma: half-width at half-maximum, > 0.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import Cauchy
      >>> print(f"{Cauchy(mu=0.0, gamma=0.5).inverse_survival(0.01):.4f}")
      15.9103

    Reference: improved noise schedule (arXiv 2407.03297).
    """

    mu: Number = 0.0
    gamma: Number = 0.5

    def __post_init__(self) -> None:
        check_finite("mu", self.mu)
        check_positive("gamma", self.gamma)

    @property
    def _center(self) -> Number:
        return self.mu

    def _tail(self, a: jax.Array) -> jax.Array:
        return jnp.arctan2(jnp.asarray(self.gamma, a.dtype), a) / pi

    def _inverse_tail(self, m: jax.Array) -> jax.Array:
        return self.gamma * jnp.cos(pi * m) / jnp.sin(pi * m)

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        z = (as_level(lam) - self.mu) / self.gamma
        return -jnp.log1p(z * z) - log_of(pi * self.gamma)


_ndtri = jax.jit(ndtri)
"""As one program: outside of one, jax 0.12 makes it of a hundred operations, in 50 ms a call."""


class _Gaussian(_Symmetric):
    """A normal law of standard deviation `_spread`."""

    @property
    def _spread(self) -> Number:
        raise NotImplementedError

    def _tail(self, a: jax.Array) -> jax.Array:
        return jax.lax.erfc(a / (self._spread * sqrt(2))) / 2

    def _inverse_tail(self, m: jax.Array) -> jax.Array:
        return -self._spread * _ndtri(m)

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        z = (as_level(lam) - self._center) / self._spread
        return -z * z / 2 - log_of(self._spread * sqrt(2 * pi))


@dataclass(frozen=True)
class Normal(_Gaussian):
    """`lambda ~ N(mean, std^2)`, `lambda(t) = mean - std Phi^-1(t)`.

    For EDM, whose `ln sigma ~ N(P_mean, P_std^2)` is `mean = -2 P_mean`, `std = 2 P_std`; its
    published setting (-1.2, 1.2) is the default.

    Args:
      mean: mean of log SNR.
      std: standard deviation of log SNR, > 0.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import Normal
      >>> print(f"{Normal(mean=2.4, std=2.4).inverse_survival(0.01):.4f}")
      7.9832

    Reference: EDM (arXiv 2206.00364), table 1.
    """

    mean: Number = 2.4
    std: Number = 2.4

    def __post_init__(self) -> None:
        check_finite("mean", self.mean)
        check_positive("std", self.std)

    @property
    def _center(self) -> Number:
        return self.mean

    @property
    def _spread(self) -> Number:
        return self.std


@dataclass(frozen=True)
class LogitNormal(_Gaussian):
    """The straight path with `logit(t) ~ N(mean, std^2)`: `lambda ~ N(-2 mean, (2 std)^2)`.

    For rectified flow that dwells on the middle of its path, as Stable Diffusion 3 does.

    Args:
      mean: mean of logit(t), t = 1 being noise; above 0 trains on noisier levels.
      std: standard deviation of logit(t), > 0.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import LogitNormal
      >>> float(LogitNormal(mean=0.5, std=1.0).inverse_survival(0.5))
      -1.0

    Reference: Stable Diffusion 3 (arXiv 2403.03206).
    """

    mean: Number = 0.0
    std: Number = 1.0

    def __post_init__(self) -> None:
        check_finite("mean", self.mean)
        check_positive("std", self.std)

    @property
    def _center(self) -> Number:
        return -2 * self.mean

    @property
    def _spread(self) -> Number:
        return 2 * self.std


@dataclass(frozen=True)
class LinearBeta(LogSnrLaw):
    """The linear variance-preserving schedule: `beta(t) = beta_min + (beta_max - beta_min) t`.

    With `B(t) = beta_min t + (beta_max - beta_min) t^2 / 2` and `alpha^2 = exp(-B)`,
    `lambda(t) = -ln(exp(B(t)) - 1)` and `p = sigmoid(-lambda) / beta(t)`. It ends at
    `lambda(1) = -B(1)` about, -10.05 by default, and has no clean end.

    For models of DDPM's kind, and for training as VP score models do.

    Args:
      beta_min: rate at the clean end, > 0.
      beta_max: rate at the noisy end, > beta_min.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import LinearBeta
      >>> print(f"{LinearBeta().inverse_survival(0.5):.4f}")
      -2.4551

    Reference: DDPM (arXiv 2006.11239) in continuous time, as score SDE has it (arXiv 2011.13456).
    """

    beta_min: Number = 0.1
    beta_max: Number = 20.0

    def __post_init__(self) -> None:
        check_positive("beta_min", self.beta_min)
        check_positive("beta_max", self.beta_max)
        if not is_traced(self):
            low = np.asarray(self.beta_min)
            above = f"a number > beta_min={self.beta_min}"
            check_numbers("beta_max", self.beta_max, lambda x: x > low, above)

    def from_tails(self, t: jax.Array, s: jax.Array) -> jax.Array:
        rise = self.beta_max - self.beta_min
        whole = (self.beta_min + self.beta_max) / 2
        from_end = whole - s * (self.beta_max - rise * s / 2)
        total = jnp.where(t <= s, t * (self.beta_min + rise * t / 2), from_end)
        return -log_of_expm1(total)

    def _rate(self, total: jax.Array) -> jax.Array:
        """beta where the integral of beta is `total`."""
        return jnp.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * total)

    def tails(self, lam: ArrayLike) -> Tails:
        whole = (self.beta_min + self.beta_max) / 2
        total = jnp.minimum(jax.nn.softplus(-as_level(lam)), whole)
        rate = self._rate(total)
        return 2 * total / (self.beta_min + rate), 2 * (whole - total) / (self.beta_max + rate)

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        lam = as_level(lam)
        total = jax.nn.softplus(-lam)
        low = jnp.asarray(-log_of_expm1((self.beta_min + self.beta_max) / 2), lam.dtype)
        inside = within(lam, low, jnp.full_like(low, jnp.inf))
        return jnp.where(inside, -jax.nn.softplus(lam) - jnp.log(self._rate(total)), -jnp.inf)


@dataclass(frozen=True)
class Uniform(LogSnrLaw):
    """The same density everywhere between two log SNR: `p = 1 / (hi - lo)`.

    `lambda(t) = hi - (hi - lo) t`: sigma is log-uniform.

    For training that prefers no noise level, and as the proposal of a law that is learned.

    Args:
      lo: noisy end, log SNR.
      hi: clean end, > lo. (-5, 13.3) is where variational diffusion models start.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import Uniform
      >>> print(f"{Uniform(lo=-5.0, hi=13.0).inverse_survival(0.25):.4f}")
      8.5000

    Reference: variational diffusion models (arXiv 2107.00630), appendix on the initial schedule.
    """

    lo: Number = -5.0
    hi: Number = 13.3

    def __post_init__(self) -> None:
        check_finite("lo", self.lo)
        check_finite("hi", self.hi)
        if not is_traced(self):
            low = np.asarray(self.lo)
            check_numbers("hi", self.hi, lambda x: x > low, f"a number > lo={self.lo}")

    def from_tails(self, t: jax.Array, s: jax.Array) -> jax.Array:
        width = self.hi - self.lo
        return jnp.where(t <= s, self.hi - width * t, self.lo + width * s)

    def tails(self, lam: ArrayLike) -> Tails:
        lam, width = as_level(lam), self.hi - self.lo
        return jnp.clip((self.hi - lam) / width, 0, 1), jnp.clip((lam - self.lo) / width, 0, 1)

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        lam = as_level(lam)
        ends = jnp.asarray(self.lo, lam.dtype), jnp.asarray(self.hi, lam.dtype)
        height = jnp.asarray(-log_of(self.hi - self.lo), lam.dtype)
        return jnp.where(within(lam, *ends), height, -jnp.inf)
