"""Mixtures of laws over lambda = log SNR, drawn through their inverse CDF."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError, check_numbers
from jaxnoise.noise.logsnr_law import LogSnrLaw, Tails, check_law
from jaxnoise.noise.parameters import Number, as_level, log_of

Bracket = tuple[jax.Array, jax.Array]


def bisect(too_low: Callable[[jax.Array], jax.Array], low: jax.Array, high: jax.Array) -> jax.Array:
    """The smallest number in `(low, high]` that is not too low, to the last digit.

    The number of halvings is fixed by the dtype, so that it runs under jit; twice the mantissa also
    resolves a point that is small beside its bracket. No gradient passes through it.

    Args:
      too_low: float[...] -> bool[...], true below a point and false from there on.
      low: float[...], lower ends.
      high: float[...], upper ends; never tested.

    Returns:
      float[...].
    """

    def halve(_: int, bracket: Bracket) -> Bracket:
        low, high = bracket
        middle = low + (high - low) / 2
        up = too_low(middle)
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    halvings = 2 * int(jnp.finfo(low.dtype).nmant) + 20
    return jax.lax.fori_loop(0, halvings, halve, jax.lax.stop_gradient((low, high)))[1]


@dataclass(frozen=True)
class Mixture(LogSnrLaw):
    """`p(lambda) = sum_j w_j p_j(lambda)`; made by `mixture(laws, weights)`.

    Args:
      laws: the components.
      weights: as many positive numbers that sum to 1.
    """

    laws: tuple[LogSnrLaw, ...]
    weights: tuple[Number, ...]

    def tails(self, lam: ArrayLike) -> Tails:
        lam = as_level(lam)
        t, s = jnp.zeros_like(lam), jnp.zeros_like(lam)
        for law, weight in zip(self.laws, self.weights, strict=True):
            law_t, law_s = law.tails(lam)
            t, s = t + weight * law_t, s + weight * law_s
        return t, s

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        parts = [
            law.log_prob(lam) + log_of(weight)
            for law, weight in zip(self.laws, self.weights, strict=True)
        ]
        stacked = jnp.stack(jnp.broadcast_arrays(*parts))
        # Outside of every component the slope of logsumexp is 0 / 0, and 0 times that is NaN too.
        outside = jnp.all(stacked == -inf, axis=0)
        inside = jax.nn.logsumexp(jnp.where(outside, 0, stacked), axis=0)
        return jnp.where(outside, -inf, inside)

    def from_tails(self, t: jax.Array, s: jax.Array) -> jax.Array:
        # The quantile of a mixture lies between the quantiles of its components.
        quantiles = [law.from_tails(t, s) for law in self.laws]
        points = jnp.stack(jnp.broadcast_arrays(*quantiles))
        # On the side with fewer digits the other tail decides, as everywhere.
        clean = t <= s
        target_t, target_s = jax.lax.stop_gradient((t, s))

        def too_low(lam: jax.Array) -> jax.Array:
            lam_t, lam_s = self.tails(lam)
            return jnp.where(clean, lam_t > target_t, lam_s < target_s)

        root = bisect(too_low, jnp.min(points, axis=0), jnp.max(points, axis=0))
        # A term of value zero that carries the derivatives, by t and by the law's numbers.
        density = jnp.exp(jax.lax.stop_gradient(self.log_prob(root)))
        root_t, root_s = self.tails(root)
        held_t, held_s = jax.lax.stop_gradient((root_t, root_s))
        moved = jnp.where(
            clean, (root_t - held_t) + (target_t - t), (s - target_s) + (held_s - root_s)
        )
        return root + moved / jnp.where(density > 0, density, 1)


def mixture(
    laws: Sequence[LogSnrLaw], weights: Sequence[Number] | jax.Array | None = None
) -> Mixture:
    """The mixture of laws, `p(lambda) = sum_j w_j p_j(lambda)`.

    Drawn through its inverse CDF (bisection with a fixed number of halvings), so that stratified
    and antithetic sources work. A few percent of a wide law bound the importance weights w/p that a
    narrow proposal alone would leave with infinite variance.

    Args:
      laws: one or more laws.
      weights: as many positive numbers, normalised to sum to 1, traced or not; equal by default.

    Returns:
      A law over lambda.

    Raises:
      ArgumentError: no law, a weight that is not positive, or lengths that differ.

    Example:
      >>> from jaxnoise.noise import Cosine, Laplace, mixture
      >>> mixed = mixture([Laplace(0.0, 0.5), Cosine()], [0.95, 0.05])
      >>> round(float(mixed.survival(mixed.inverse_survival(0.01))), 6)
      0.01
    """
    laws = tuple(laws)
    if not laws:
        raise ArgumentError("laws", laws, "at least one law")
    for law in laws:
        check_law("laws", law)
    shares: tuple[Number, ...] = (1.0,) * len(laws) if weights is None else tuple(weights)
    allowed = f"{len(laws)} finite numbers > 0"
    if len(shares) != len(laws):
        raise ArgumentError("weights", weights, allowed)
    for share in shares:
        check_numbers("weights", share, lambda x: (x > 0) & (x < inf), allowed)
    total = sum(shares)
    return Mixture(laws, tuple(share / total for share in shares))
