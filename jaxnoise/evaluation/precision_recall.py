"""Precision and recall of generated images, from nearest-neighbour estimates of two manifolds.

Everything is float64 numpy on the host: in float32 the distance of two equal vectors is not 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation.checks import check_count
from jaxnoise.evaluation.moments import Array, checked_features

# Distances held at a time: 128 MiB.
_BLOCK = 2**24


class PrecisionRecall(NamedTuple):
    """Fractions in [0, 1]; see `precision_and_recall`.

    Attributes:
      precision: of the generated vectors within the real manifold.
      recall: of the real vectors within the generated manifold.

    Example:
      >>> from jaxnoise.evaluation import precision_and_recall
      >>> precision, recall = precision_and_recall([[0.0], [1.0]], [[0.0], [9.0]], k=1)
      >>> precision, recall
      (0.5, 1.0)
    """

    precision: float
    recall: float


def _squared_distances(x: Array, y: Array) -> Array:
    sizes = np.sum(x * x, axis=1)[:, None] + np.sum(y * y, axis=1)[None]
    squares: Array = x @ y.T
    squares *= -2
    squares += sizes
    # Copies are at distance 0, not at +-rounding: else a manifold of copies would not hold itself.
    sizes *= 8 * np.finfo(np.float64).eps
    squares[squares <= sizes] = 0
    return squares


def _rows(x: Array, columns: int) -> range:
    return range(0, len(x), max(1, _BLOCK // columns))


def _squared_radii(x: Array, k: int) -> Array:
    """Squared distance from each vector to its k-th nearest other vector."""
    starts = _rows(x, len(x))
    radii = np.empty(len(x))
    for start in starts:
        stop = start + starts.step
        squares = _squared_distances(x[start:stop], x)
        # Its distance to itself, 0, comes first.
        squares.partition(k, axis=1)
        radii[start:stop] = squares[:, k]
    # What lies on the boundary is inside, whichever way two equal distances are rounded.
    return radii + 48 * np.finfo(np.float64).eps * (np.sum(x * x, axis=1) + radii)


def precision_and_recall(
    real: npt.ArrayLike, generated: npt.ArrayLike, k: int = 3
) -> PrecisionRecall:
    """Precision (how many samples look real) and recall (how much of the real set is reached).

    A set's manifold is the union of balls around its vectors, each with the distance to the k-th
    nearest OTHER vector of the set as its radius, boundary included. Precision is the fraction of
    generated vectors within the real manifold, recall the fraction of real vectors within the
    generated one. Distances are taken in blocks of 128 MiB, whatever the sizes.

    Args:
      real: features of real images, float[n, D], n > k.
      generated: features of generated images, float[m, D], m > k. The radii shrink with more
        vectors, so that numbers compare only at the same n, m and k; the literature takes n = m.
      k: neighbours, at least 1.

    Returns:
      (precision, recall), each in [0, 1]; both 1 for identical sets.

    Raises:
      ArgumentError: shapes that differ, sets of k vectors or fewer, or rows that are not finite.

    Example:
      >>> from jaxnoise.evaluation import precision_and_recall
      >>> real = [[0.0], [1.0], [2.0], [3.0]]
      >>> precision_and_recall(real, [[0.5], [1.5], [9.0], [2.5]], k=1)
      PrecisionRecall(precision=0.75, recall=1.0)

    Reference:
      Kynkäänniemi et al., arXiv 1904.06991, equations 1 and 2.
    """
    x, y = checked_features("real", real), checked_features("generated", generated)
    if x.shape[1] != y.shape[1]:
        raise ArgumentError("generated", y.shape, f"of shape [n, {x.shape[1]}], as real")
    check_count("k", k)
    for argument, rows in (("real", x), ("generated", y)):
        if len(rows) < 2:
            raise ArgumentError(argument, rows.shape, "of at least 2 rows")
    smaller = min(len(x), len(y))
    if not 1 <= k < smaller:
        raise ArgumentError("k", k, f"in 1..{smaller - 1}, below the size of both sets")
    real_radii, generated_radii = _squared_radii(x, k), _squared_radii(y, k)
    reached, real_like = np.zeros(len(x), bool), np.zeros(len(y), bool)
    starts = _rows(x, len(y))
    for start in starts:
        stop = start + starts.step
        squares = _squared_distances(x[start:stop], y)
        real_like |= np.any(squares <= real_radii[start:stop, None], axis=0)
        reached[start:stop] = np.any(squares <= generated_radii[None], axis=1)
    return PrecisionRecall(float(np.mean(real_like)), float(np.mean(reached)))
