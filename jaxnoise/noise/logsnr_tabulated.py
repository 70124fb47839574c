"""A law over lambda = log SNR from a table of its density."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError, check_shape, describe, is_traced
from jaxnoise.noise.logsnr_law import LogSnrLaw, Tails, within
from jaxnoise.noise.parameters import as_level


class _Cells(NamedTuple):
    """The cells between `n` nodes; probabilities are summed in float64 on the host."""

    start: jax.Array  # [n-1] lower node
    width: jax.Array  # [n-1]
    mass: jax.Array  # [n-1] probability
    left: jax.Array  # [n-1] share of the lower node in the cell's two densities, 1/2 if both are 0
    right: jax.Array  # [n-1] 1 - left
    below: jax.Array  # [n] P(Lambda < node)
    above: jax.Array  # [n] P(Lambda > node)


def _share(near: jax.Array, w: jax.Array) -> jax.Array:
    """Mass in the first w of a cell whose density runs from `near` to `1 - near`."""
    return w * (2 * near + (1 - 2 * near) * w)


def _inverse_share(near: jax.Array, r: jax.Array) -> jax.Array:
    square = near**2 + (1 - 2 * near) * r
    return r / (near + jnp.sqrt(jnp.maximum(square, float(jnp.finfo(r.dtype).tiny))))


@dataclass(frozen=True)
class Tabulated(LogSnrLaw):
    """Any density over lambda, given at nodes and linear between them.

    The CDF is exact for that density (quadratic in each cell), and so is its inverse.

    For schedules that are known only by their curve.

    Args:
      lam: float[n], ascending log SNR of the nodes, n >= 2; outside of them the density is 0.
      density: float[n] >= 0, not all 0; normalised here. Both may be traced.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import Tabulated
      >>> triangle = Tabulated(lam=(-2.0, 0.0, 2.0), density=(0.0, 1.0, 0.0))
      >>> print(triangle.inverse_survival([0.125, 0.5]))
      [1. 0.]
    """

    lam: Sequence[float] | jax.Array
    density: Sequence[float] | jax.Array

    def __post_init__(self) -> None:
        if is_traced(self):
            # A number's value is not known here; how many there are is.
            nodes = jnp.shape(jnp.asarray(self.lam))
            if len(nodes) != 1 or nodes[0] < 2:
                raise ArgumentError("lam", describe(self.lam), "of shape [n], n >= 2")
            check_shape("density", jnp.asarray(self.density), nodes, "one number for each node")
            return
        lam, density = np.asarray(self.lam, np.float64), np.asarray(self.density, np.float64)
        if lam.ndim != 1 or len(lam) < 2 or not np.isfinite(lam).all() or (np.diff(lam) <= 0).any():
            raise ArgumentError("lam", self.lam, "at least two ascending finite numbers")
        allowed = f"{len(lam)} finite numbers >= 0, not all 0"
        if density.shape != lam.shape or not np.isfinite(density).all():
            raise ArgumentError("density", self.density, allowed)
        if (density < 0).any() or not density.any():
            raise ArgumentError("density", self.density, allowed)
        # Tuples of numbers, so that the law can be hashed.
        object.__setattr__(self, "lam", tuple(lam.tolist()))
        object.__setattr__(self, "density", tuple(density.tolist()))

    def _cells(self, dtype: jnp.dtype) -> _Cells:
        xp: Any = jnp if is_traced(self) else np
        lam, density = xp.asarray(self.lam), xp.asarray(self.density)
        width = xp.diff(lam)
        pair = density[:-1] + density[1:]
        mass = pair * width / xp.sum(pair * width)
        left = xp.where(pair > 0, density[:-1] / xp.where(pair > 0, pair, 1), 0.5)
        below = xp.concatenate([xp.zeros(1), xp.cumsum(mass)])
        above = xp.concatenate([xp.cumsum(mass[::-1])[::-1], xp.zeros(1)])
        fields = lam[:-1], width, mass, left, 1 - left, below, above
        return _Cells(*(jnp.asarray(field, dtype) for field in fields))

    def _cell_of(self, lam: jax.Array, cells: _Cells) -> tuple[jax.Array, jax.Array]:
        """Index of the cell nearest to `lam`, and the place in it from 0 (lower node) to 1."""
        j = jnp.clip(jnp.searchsorted(cells.start, lam, side="right") - 1, 0)
        return j, jnp.clip((lam - cells.start[j]) / cells.width[j], 0, 1)

    def from_tails(self, t: jax.Array, s: jax.Array) -> jax.Array:
        cells = self._cells(t.dtype)
        tiny = float(jnp.finfo(t.dtype).tiny)
        last = len(self.lam) - 2
        clean = t <= s
        from_below = jnp.searchsorted(cells.below, s, side="right") - 1
        from_above = last + 1 - jnp.searchsorted(cells.above[::-1], t, side="right")
        j = jnp.clip(jnp.where(clean, from_above, from_below), 0, last)
        inside = jnp.where(clean, t - cells.above[j + 1], s - cells.below[j])
        r = inside / jnp.maximum(cells.mass[j], tiny)
        # `where`, not `clip`: a tie at a node must not halve the gradient.
        r = jnp.where(r < 0, 0, jnp.where(r > 1, 1, r))
        w = _inverse_share(jnp.where(clean, cells.right[j], cells.left[j]), r)
        return cells.start[j] + cells.width[j] * jnp.where(clean, 1 - w, w)

    def tails(self, lam: ArrayLike) -> Tails:
        lam = as_level(lam)
        cells = self._cells(lam.dtype)
        j, w = self._cell_of(lam, cells)
        return (
            cells.above[j + 1] + cells.mass[j] * _share(cells.right[j], 1 - w),
            cells.below[j] + cells.mass[j] * _share(cells.left[j], w),
        )

    def log_prob(self, lam: ArrayLike) -> jax.Array:
        lam = as_level(lam)
        cells = self._cells(lam.dtype)
        j, w = self._cell_of(lam, cells)
        slope = cells.left[j] + (cells.right[j] - cells.left[j]) * w
        density = 2 * cells.mass[j] / cells.width[j] * slope
        ends = cells.start[0], cells.start[-1] + cells.width[-1]
        inside = within(lam, *ends) & (density > 0)
        return jnp.where(inside, jnp.log(jnp.where(inside, density, 1)), -jnp.inf)
