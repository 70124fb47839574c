"""The polynomial noise distribution over pairs: a sweep of the index with Gaussian jitter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from jaxnoise.errors import check_positive, is_traced, one_of
from jaxnoise.noise.pairs import (
    Cdf,
    check_levels,
    gauss_legendre,
    normalized,
)
from jaxnoise.noise.parameters import Number, Parameterized, ceil_of
from jaxnoise.noise.uniforms import SOURCES, Warp, unpaced

VARIANTS = ("paper", "prototype")

# Gauss-Legendre nodes per index: a jittered sweep has narrow peaks.
_SWEEP_NODES = 96
# Half-width of a window on the jitter: Phi(-6) = 1e-9.
_TAIL = 6.0
# Cells of a paced sweep for each index, and the window of indices around a cell that it can reach:
# the jitter, and the shift of the prototype, N^(1/5) < 5.
_CELLS = 16
_BELOW, _ABOVE = 12, 8


def _expectation(
    kernel: Callable[[jax.Array], jax.Array],
    low: jax.Array,
    high: jax.Array,
    scale: jax.Array,
    curve: Number,
) -> jax.Array:
    """`E_u[kernel(s) 1{low < s < high}]`, `s = scale u^curve`, u ~ U(0, 1), for every row.

    Gauss-Legendre in t with `u = t^p`, `p = ceil(2/curve)`: no low-order singularity is left at
    t = 0, whether the curve is below or above 1.

    Args:
      kernel: function of `s`, float[rows, nodes] -> float[rows, nodes].
      low: float[rows] >= 0.
      high: float[rows] >= 0; a row with `high < low` is 0.
      scale: scalar >= 0.
      curve: > 0.
    """
    power = ceil_of(2 / curve)
    nodes, weights = gauss_legendre(_SWEEP_NODES, low.dtype)

    def to_t(ratio: jax.Array) -> jax.Array:
        # What lies below u = 1e-9 is dropped: for small curves it would cover the whole window.
        return jnp.clip(ratio ** (1 / (power * curve)), 1e-9 ** (1 / power), 1)[:, None]

    divisor = jnp.maximum(scale, 1)
    start = to_t(low / divisor)
    # With scale = 0 all of u lies below `high` = 0, and none of it below `low` = 0.
    width = jnp.maximum(to_t(jnp.where(high >= scale, 1, high / divisor)) - start, 0)
    t = start + width * nodes
    density = power * t ** (power - 1)
    return jnp.sum(weights * width * density * kernel(scale * t ** (power * curve)), axis=1)


@dataclass(frozen=True)
class PolynomialPairs(Parameterized):
    """A polynomial sweep of the index with Gaussian jitter `eps_i ~ N(0, 1)`, in index units.

    With `u_i = i / (count-1)` the batch is one deterministic sweep from the lowest noise to the
    highest; only the jitter, and which example is where in the sweep, is random. With N levels:

    * "paper": `idx_i = clip(round(u_i^curve (N-1) + eps_i), 0, N-2)`.
    * "prototype": `a_i = u_i^curve (N-2)`, `b_i = a_i + N^(1/5) + eps_i`,
      `idx_i = trunc(b_i if 0 <= b_i < N-2 else a_i)`. Index N-2 is reached by the last example of
      the sweep alone, where `a` is exactly N-2; as a law over u it has probability 0.

    A sweep of one example has no `u`: with `count` = 1 it is drawn, `u ~ U[0, 1)`.

    For high noise scheduling, which trains on more noise than iCT does.

    Args:
      curve: degree of the sweep, > 0. 4 is the paper's best; its authors' code used .5 to 3.5.
      variant: "paper" (the printed formula) or "prototype" (the authors' code).
      sampling: "stratified": the paper's sweep, with its examples in random order; "sorted": the
        sweep in ascending order, as printed; or "iid" or "antithetic": `u_i ~ U[0, 1)`.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import PolynomialPairs
      >>> probs = jax.jit(PolynomialPairs().probs)(jnp.asarray([0.1, 1.0, 10.0, 80.0]), 4)
      >>> [f"{p:.3f}" for p in probs]
      ['0.496', '0.275', '0.229']

    Reference: HNS (arXiv 2404.06353), polynomial noise distribution.
    """

    curve: Number = 4.0
    variant: str = "paper"
    sampling: str = "stratified"

    def __post_init__(self) -> None:
        check_positive("curve", self.curve)
        one_of("variant", self.variant, VARIANTS)
        one_of("sampling", self.sampling, SOURCES)

    def sample(
        self,
        key: jax.Array,
        levels: jax.Array,
        num_levels: int | jax.Array,
        count: int,
        warp: Warp = unpaced,
    ) -> jax.Array:
        """Draws pair indices: one sweep, or `count` places of it.

        Args:
          key: PRNG key.
          levels: float[n], noise levels, ascending, padded at the end.
          num_levels: N, from 2 to n, how many of them are in use; may be traced.
          count: how many indices (static), at least 1; the GLOBAL batch.
          warp: `float[count] -> float[count]`, a map of the places u, as a pacing makes them.

        Returns:
          int32[count], pair indices in 0..N-2.

        Raises:
          ArgumentError: `levels`, `num_levels` or `count` is outside its range.
        """
        last = check_levels(levels, num_levels) - 2
        key_u, key_jitter = jax.random.split(key)
        if self.sampling in ("stratified", "sorted") and count > 1:
            u = jnp.arange(count, dtype=jnp.result_type(float)) / (count - 1)
            if self.sampling == "stratified":
                u = jax.random.permutation(key_u, u)
        else:
            u = SOURCES[self.sampling](key_u, count)
        u = warp(u)
        if self.sampling in ("stratified", "sorted") and count > 1:
            # A pacing stays below 1, where the sweep of the paper ends.
            u = jnp.where(u >= 1 - jnp.finfo(u.dtype).epsneg, 1, u)
        jitter = jax.random.normal(key_jitter, (count,))
        top = last.astype(u.dtype)
        swept = u**self.curve
        if self.variant == "paper":
            index = jnp.round(swept * (top + 1) + jitter)
            return jnp.clip(index, 0, top).astype(jnp.int32)
        if self.sampling in ("iid", "antithetic"):
            # A small curve could round to 1, which u < 1 never reaches: index N-2 stays impossible.
            swept = jnp.minimum(swept, 1 - jnp.finfo(swept.dtype).epsneg)
        a = swept * top
        b = a + (top + 2) ** 0.2 + jitter
        return jnp.trunc(jnp.where((b >= 0) & (b < top), b, a)).astype(jnp.int32)

    def probs(self, levels: jax.Array, num_levels: int | jax.Array) -> jax.Array:
        """Probability of every pair.

        The law of one index over u ~ U(0, 1) and the jitter; a sweep of `count` examples differs
        from it by about `1/count` in each, which may be a factor of 2 for a rare one: where it is
        to weigh draws, draw "iid". By quadrature; absolute error below 1e-6 in float32 for curves
        from .1 to 20.

        Args:
          levels: float[n], noise levels, ascending, padded at the end.
          num_levels: N, from 2 to n, how many of them are in use; may be traced.

        Returns:
          float[n-1], sums to 1, zero past index N-2.

        Raises:
          ArgumentError: `levels` or `num_levels` is outside its range.
        """
        last = check_levels(levels, num_levels) - 2
        dtype = jnp.result_type(float)
        j = jnp.arange(len(levels) - 1, dtype=dtype)
        top = last.astype(dtype)
        row = j[:, None]
        if self.variant == "paper":
            # The clip adds each tail to its end of the index range.
            below = jnp.where(row > 0, row - 0.5, -jnp.inf)
            above = jnp.where(row < top, row + 0.5, jnp.inf)
            mass = _expectation(
                lambda s: ndtr(above - s) - ndtr(below - s),
                jnp.maximum(j - 0.5 - _TAIL, 0),
                jnp.minimum(j + 0.5 + _TAIL, top + 1),
                top + 1,
                self.curve,
            )
            return normalized(mass, last)
        shift = (top + 2) ** 0.2
        kept = _expectation(
            lambda s: ndtr(jnp.minimum(row + 1, top) - shift - s) - ndtr(row - shift - s),
            jnp.maximum(j - shift - _TAIL, 0),
            jnp.clip(j + 1 - shift + _TAIL, 0, top),
            top,
            self.curve,
        )
        fallback = _expectation(
            lambda s: ndtr(-shift - s) + ndtr(s + shift - top),
            j,
            jnp.minimum(j + 1, top),
            top,
            self.curve,
        )
        return normalized(kept + fallback, jnp.maximum(last - 1, 0))

    def paced_probs(self, levels: jax.Array, num_levels: int | jax.Array, cdf: Cdf) -> jax.Array:
        """Probability of every pair where the places u go through a warp.

        The jitter comes after the warp, so that a warp of `probs` would be another law. The mass of
        the sweep is taken in cells of 1/16 of an index, from differences of `cdf`, and spread by
        the jitter; total variation from the exact law below 1e-4.

        Args:
          levels: float[n], noise levels, ascending, padded at the end.
          num_levels: N, from 2 to n, how many of them are in use; may be traced.
          cdf: `t float[...] -> P(u' <= t)`, that of the warped u'.

        Returns:
          float[n-1], sums to 1, zero past index N-2.
        """
        last = check_levels(levels, num_levels) - 2
        dtype = jnp.result_type(float)
        top, count = last.astype(dtype), len(levels) - 1
        scale = top + 1 if self.variant == "paper" else top
        static = np.arange(_CELLS * count + 1) / _CELLS
        ends = jnp.asarray(static, dtype)
        ratio = jnp.where(ends >= scale, 1, ends / jnp.maximum(scale, 1))
        t = (ratio ** (1 / self.curve)).at[0].set(0)
        mass = jnp.maximum(jnp.diff(cdf(t)), 0)
        # The mean of u^curve in each cell, which is far from the middle in the first ones.
        # Not from differences of powers, which a traced curve has in float32 alone.
        xp: Any = jnp if is_traced(self.curve) else np
        shrink = xp.asarray(np.log1p(-1 / (_CELLS * static[2:])))
        rest = xp.expm1((1 + 1 / self.curve) * shrink) / xp.expm1(shrink / self.curve)
        middle = static[1:] / (1 + self.curve) * xp.concatenate([xp.ones(1), rest])
        swept = jnp.minimum(jnp.asarray(middle, dtype), scale)
        row = jnp.arange(count)[:, None]
        cell = row * _CELLS + jnp.arange(-_BELOW * _CELLS, _ABOVE * _CELLS)[None, :]
        inside = (cell >= 0) & (cell < _CELLS * count)
        cell = jnp.clip(cell, 0, _CELLS * count - 1)
        kernel = self._reached(row.astype(dtype), swept[cell], top)
        return normalized(jnp.sum(jnp.where(inside, mass[cell] * kernel, 0), axis=1), last)

    def _reached(self, j: jax.Array, s: jax.Array, top: jax.Array) -> jax.Array:
        """Probability of index j at a place s of the sweep, in index units."""
        if self.variant == "paper":
            below = jnp.where(j > 0, j - 0.5, -jnp.inf)
            above = jnp.where(j < top, j + 0.5, jnp.inf)
            return ndtr(above - s) - ndtr(below - s)
        shift = (top + 2) ** 0.2
        kept = ndtr(jnp.minimum(j + 1, top) - shift - s) - ndtr(jnp.minimum(j, top) - shift - s)
        outside = ndtr(-shift - s) + ndtr(s + shift - top)
        return kept + jnp.where(jnp.floor(s) == j, outside, 0)
