"""What every law over lambda = log SNR has in common, and how laws are composed.

Every law is written in terms of its survival function `t = P(Lambda > lambda)`, a uniform variable
that serves as time: t = 0 is clean (lambda large), t = 1 is noise (lambda very negative). Near 1 a
float keeps few digits of 1 - t, so laws work on `(t, s)`, `s = 1 - t`, in which each number
is accurate where it is small. Compositions map both numbers, so that neither tail is rounded away.
"""

from dataclasses import dataclass
from math import inf

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxnoise.errors import (
    ArgumentError,
    check_finite,
    check_numbers,
    check_positive,
    describe,
    is_traced,
    one_of,
)
from jaxnoise.noise.parameters import Number, Parameterized, as_level, floor_of, log_of
from jaxnoise.noise.uniforms import SOURCES, Warp, unpaced

Tails = tuple[jax.Array, jax.Array]


def check_law(argument: str, value: object) -> None:
    """Raises ArgumentError unless `value` is a law over log SNR."""
    if not isinstance(value, LogSnrLaw):
        allowed = "a law over log SNR, such as jaxnoise.noise.Cosine()"
        raise ArgumentError(argument, describe(value), allowed)


def within(lam: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """Whether `low <= lam <= high`, a few roundings apart: a drawn end point is still inside."""
    slack = 8 * jnp.finfo(lam.dtype).eps
    return (lam >= low - slack * jnp.maximum(jnp.abs(low), 1)) & (
        lam <= high + slack * jnp.maximum(jnp.abs(high), 1)
    )


class LogSnrLaw(Parameterized):
    """A law over lambda = log SNR; for one of your own, define `from_tails`, `tails`, `log_prob`.

    Subclasses are frozen dataclasses. Their numbers may be traced: close over a law, or hand it to
    a jitted, vmapped or differentiated function as a pytree. All methods are elementwise.

    Example:
      >>> import jax
      >>> from jaxnoise.noise import Laplace
      >>> scales = jax.numpy.asarray([1.0, 2.0])
      >>> print(jax.vmap(lambda b: Laplace(0.0, b).inverse_survival(0.25))(scales))
      [0.6931472 1.3862944]
    """

    def from_tails(self, t: jax.Array, s: jax.Array) -> jax.Array:
        """lambda at `P(Lambda > lambda) = t` and `P(Lambda < lambda) = s`, `s = 1 - t`.

        Exact where 1 - t would round: the smaller of the two decides.

        Args:
          t: float[...] in [0, 1].
          s: float[...], same shape and dtype, in [0, 1].

        Returns:
          float[...], finite where both are positive.
        """
        raise NotImplementedError

    def tails(self, lam: ArrayLike) -> Tails:
        """`(P(Lambda > lam), P(Lambda < lam))`, each with full relative accuracy where small.

        Args:
          lam: float[...], log SNR.

        Returns:
          Two arrays float[...] in [0, 1].
        """
        raise NotImplementedError

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        """Natural logarithm of the density `p(lam) = -dt/dlambda`; -inf outside the support.

        Args:
          lam: float[...], log SNR.

        Returns:
          float[...].
        """
        raise NotImplementedError

    def survival(self, lam: ArrayLike) -> jax.Array:
        """`t(lam) = P(Lambda > lam)`.

        Args:
          lam: float[...], log SNR.

        Returns:
          float[...] in [0, 1].
        """
        return self.tails(lam)[0]

    def inverse_survival(self, t: ArrayLike) -> jax.Array:
        """The schedule `lambda(t)`: uniform t gives lambda distributed by the law.

        t and 1 - t are held at or above half of the spacing of uniform draws (2^-24 in float32,
        2^-53 in float64), the middle of the cell that a draw of exactly 0 stands for: lambda is
        finite at t = 0 and t = 1, and both tails end at the same probability. A t outside [0, 1]
        gives NaN.

        Args:
          t: float[...] in [0, 1]; 0 is clean.

        Returns:
          float[...], descending in t.
        """
        t = as_level(t)
        floor = floor_of(t.dtype)
        lam = self.from_tails(jnp.maximum(t, floor), jnp.maximum(1 - t, floor))
        return jnp.where((t >= 0) & (t <= 1), lam, jnp.nan)

    def sample(
        self, key: jax.Array, count: int, sampling: str = "stratified", warp: Warp = unpaced
    ) -> jax.Array:
        """Draws `count` values of lambda, `inverse_survival(warp(u))` of a source of uniforms.

        Args:
          key: PRNG key.
          count: how many (static), at least 1; the GLOBAL batch.
          sampling: "stratified" (once in each of `count` equal parts, in random order), "iid",
            "antithetic" or "sorted" (stratified, with ascending noise).
          warp: `float[count] -> float[count]`, a map of the uniforms, as a pacing makes them.

        Returns:
          float[count], log SNR.

        Raises:
          ArgumentError: an unknown `sampling` or `count < 1`.
        """
        one_of("sampling", sampling, SOURCES)
        return self.inverse_survival(warp(SOURCES[sampling](key, count)))

    def shifted(self, c: Number) -> "Affine":
        """The law of `Lambda + c`. Stable Diffusion 3's resolution shift s is `c = -2 log s`.

        Args:
          c: finite, in units of log SNR; above 0 moves the law to cleaner images.

        Returns:
          A law over lambda.

        Example:
          >>> from jaxnoise.noise import Cosine
          >>> print(f"{Cosine().shifted(2.0).inverse_survival(0.5):.4f}")
          2.0000

        Reference: simple diffusion (arXiv 2301.11093); Stable Diffusion 3 (arXiv 2403.03206).
        """
        return Affine(self, c=c)

    def scaled(self, s: Number) -> "Affine":
        """The law of `Lambda / s`, `p(lambda) = s p_Lambda(s lambda)`.

        Args:
          s: > 0; s > 1 narrows the law.

        Returns:
          A law over lambda.

        Example:
          >>> from jaxnoise.noise import Cosine
          >>> print(f"{Cosine().scaled(2.0).inverse_survival(0.1):.4f}")
          1.8427

        Reference: improved noise schedule (arXiv 2407.03297), cosine-scaled.
        """
        return Affine(self, s=s)

    def truncated(self, lo: Number, hi: Number) -> "Truncated":
        """The law of Lambda given `lo <= Lambda <= hi`.

        Args:
          lo: lower end, log SNR; -inf leaves the noisy tail.
          hi: upper end, > lo; inf leaves the clean tail.

        Returns:
          A law over lambda.

        Example:
          >>> from jaxnoise.noise import Cosine
          >>> print(f"{Cosine().truncated(-5.0, 5.0).inverse_survival(0.0):.4f}")
          5.0000
        """
        return Truncated(self, lo, hi)


@dataclass(frozen=True)
class Affine(LogSnrLaw):
    """The law of `Lambda / s + c`; made by `.shifted(c)` and `.scaled(s)`.

    Args:
      law: law of Lambda.
      c: shift, finite.
      s: scale, > 0.

    Raises:
      ArgumentError: `c` is not finite or `s` is not positive.
    """

    law: LogSnrLaw
    c: Number = 0.0
    s: Number = 1.0

    def __post_init__(self) -> None:
        check_law("law", self.law)
        check_finite("c", self.c)
        check_positive("s", self.s)

    def from_tails(self, t: jax.Array, s: jax.Array) -> jax.Array:
        return self.law.from_tails(t, s) / self.s + self.c

    def tails(self, lam: ArrayLike) -> Tails:
        return self.law.tails((as_level(lam) - self.c) * self.s)

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        return self.law.log_prob((as_level(lam) - self.c) * self.s) + log_of(self.s)


def _mass_between(clean: Tails, noisy: Tails) -> jax.Array:
    """Mass between two points given by their tails, from the tails that do not cancel."""
    return jnp.where(
        clean[1] <= 0.5,
        clean[1] - noisy[1],
        jnp.where(noisy[0] <= 0.5, noisy[0] - clean[0], 1 - clean[0] - noisy[1]),
    )


class _Restricted(LogSnrLaw):
    """`law` between two points: `t -> t_clean + mass t`, `s -> s_noisy + mass s`."""

    law: LogSnrLaw

    def _edges(self, dtype: jnp.dtype) -> tuple[Tails, Tails]:
        """Tails of `law` at the clean (upper) and at the noisy (lower) end."""
        raise NotImplementedError

    def _support(self, dtype: jnp.dtype) -> Tails:
        """Lowest and highest lambda."""
        raise NotImplementedError

    def from_tails(self, t: jax.Array, s: jax.Array) -> jax.Array:
        clean, noisy = self._edges(t.dtype)
        mass = _mass_between(clean, noisy)
        return self.law.from_tails(clean[0] + mass * t, noisy[1] + mass * s)

    def tails(self, lam: ArrayLike) -> Tails:
        lam = as_level(lam)
        clean, noisy = self._edges(lam.dtype)
        mass = _mass_between(clean, noisy)
        t, s = self.law.tails(lam)
        t, s = (
            jnp.where(clean[1] <= 0.5, clean[1] - s, t - clean[0]) / mass,
            jnp.where(noisy[0] <= 0.5, noisy[0] - t, s - noisy[1]) / mass,
        )
        return jnp.clip(t, 0, 1), jnp.clip(s, 0, 1)

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        lam = as_level(lam)
        mass = _mass_between(*self._edges(lam.dtype))
        inside = within(lam, *self._support(lam.dtype))
        return jnp.where(inside, self.law.log_prob(lam) - jnp.log(mass), -jnp.inf)


def _tails_at(law: LogSnrLaw, end: jax.Array, survival: int) -> Tails:
    """A law's tails at an end, which may be infinite: 0 inf in a derivative would be NaN."""
    finite = jnp.isfinite(end)
    t, s = law.tails(jnp.where(finite, end, 0))
    return jnp.where(finite, t, survival), jnp.where(finite, s, 1 - survival)


@dataclass(frozen=True)
class Truncated(_Restricted):
    """`law` restricted to `lo <= lambda <= hi`; made by `.truncated(lo, hi)`.

    Truncation is by survival: t runs over `[S(hi), S(lo)]`, so every end is reached and none is
    heaped up as by clipping.

    Args:
      law: law of Lambda.
      lo: lower end, log SNR, or -inf.
      hi: upper end, > lo, or inf.

    Raises:
      ArgumentError: `hi <= lo`, or the law has no mass between them in the working precision.
    """

    law: LogSnrLaw
    lo: Number
    hi: Number

    def __post_init__(self) -> None:
        check_law("law", self.law)
        check_numbers("lo", self.lo, lambda x: x < inf, "a number below inf")
        check_numbers("hi", self.hi, lambda x: x > -inf, "a number above -inf")
        if is_traced((self.lo, self.hi)):
            return
        check_numbers("hi", self.hi, lambda x: x > np.asarray(self.lo), f"> lo={self.lo}")
        if is_traced(self.law):
            return
        with jax.ensure_compile_time_eval():
            mass = _mass_between(*self._edges(jnp.result_type(float)))
        if not np.all(np.asarray(mass) > 0):
            raise ArgumentError("hi", self.hi, f"such that the law has mass above lo={self.lo}")

    def _support(self, dtype: jnp.dtype) -> Tails:
        return jnp.asarray(self.lo, dtype), jnp.asarray(self.hi, dtype)

    def _edges(self, dtype: jnp.dtype) -> tuple[Tails, Tails]:
        low, high = self._support(dtype)
        return _tails_at(self.law, high, 0), _tails_at(self.law, low, 1)

    def from_tails(self, t: jax.Array, s: jax.Array) -> jax.Array:
        return jnp.clip(super().from_tails(t, s), self.lo, self.hi)


@dataclass(frozen=True)
class Window(_Restricted):
    """`law` with its time t drawn from U(lo, hi) instead of U(0, 1); made by `window(law, lo, hi)`.

    Args:
      law: law of Lambda.
      lo: clean end of the window, 0 <= lo < hi; may be traced.
      hi: noisy end of the window, <= 1; may be traced.

    Raises:
      ArgumentError: static ends are outside [0, 1] or not ascending.
    """

    law: LogSnrLaw
    lo: Number
    hi: Number

    def __post_init__(self) -> None:
        check_law("law", self.law)
        check_numbers("lo", self.lo, lambda x: (x >= 0) & (x < 1), "a number in [0, 1)")
        check_numbers("hi", self.hi, lambda x: (x > 0) & (x <= 1), "a number in (0, 1]")
        if is_traced((self.lo, self.hi)):
            return
        above = f"a number > lo={self.lo} and <= 1"
        check_numbers("hi", self.hi, lambda x: x > np.asarray(self.lo), above)

    def _edges(self, dtype: jnp.dtype) -> tuple[Tails, Tails]:
        lo, hi = jnp.asarray(self.lo, dtype), jnp.asarray(self.hi, dtype)
        return (lo, 1 - lo), (hi, 1 - hi)

    def _support(self, dtype: jnp.dtype) -> Tails:
        clean, noisy = self._edges(dtype)
        low = jnp.where(noisy[1] > 0, self.law.from_tails(*noisy), -jnp.inf)
        high = jnp.where(clean[0] > 0, self.law.from_tails(*clean), jnp.inf)
        return low, high


def window(law: LogSnrLaw, lo: Number, hi: Number) -> Window:
    """The law of `lambda(u)`, `u ~ U(lo, hi)`: a quantile window of `law`.

    For training on a part of the noise. `lo` and `hi` may be traced, so that an annealed window
    never recompiles.

    Args:
      law: law of Lambda.
      lo: clean end of the window in t = P(Lambda > lambda), 0 <= lo < hi.
      hi: noisy end of the window, <= 1.

    Returns:
      A law over lambda.

    Raises:
      ArgumentError: static ends are outside [0, 1] or not ascending.

    Example:
      >>> from jaxnoise.noise import Cosine, window
      >>> noisy_half = window(Cosine(), 0.5, 1.0)
      >>> print(f"{noisy_half.inverse_survival(0.5):.4f}")
      -1.7627
    """
    return Window(law, lo, hi)
