"""Kernel distance of two sets of feature vectors (KID when the features are Inception's).

Everything is float64 numpy on the host. A Fréchet distance is biased by the number of samples;
this one is not, so that small sets can be compared, and it can come out slightly negative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation.checks import check_count, check_integer, check_seed
from jaxnoise.evaluation.moments import Array, checked_features

# Entries of a kernel matrix held at a time: 128 MiB.
_BLOCK = 2**24


class KernelDistance(NamedTuple):
    """Mean and standard deviation of the kernel distance over subsets; see `kernel_distance`.

    Attributes:
      mean: over the rounds.
      standard_deviation: over the rounds, the scatter of one subset.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import kernel_distance
      >>> mean, standard_deviation = kernel_distance(np.zeros((9, 1)), np.ones((9, 1)), 5)
      >>> mean, standard_deviation
      (7.0, 0.0)
    """

    mean: float
    standard_deviation: float


def _pair(real: npt.ArrayLike, generated: npt.ArrayLike) -> tuple[Array, Array]:
    first, second = checked_features("real", real), checked_features("generated", generated)
    if first.shape[1] != second.shape[1]:
        raise ArgumentError("generated", second.shape, f"of shape [n, {first.shape[1]}], as real")
    for argument, rows in (("real", first), ("generated", second)):
        if len(rows) < 2:
            raise ArgumentError(argument, rows.shape, "of at least 2 rows")
    return first, second


def _kernel_sum(x: Array, y: Array) -> float:
    """`sum_ij (x_i . y_j / D + 1)^3`, a block of rows at a time."""
    rows = max(1, _BLOCK // len(y))
    total = 0.0
    for start in range(0, len(x), rows):
        base = x[start : start + rows] @ y.T / x.shape[1] + 1
        # Products, because numpy's general power is many times slower.
        total += float(np.sum(base * base * base))
    return total


def _unbiased(x: Array, y: Array) -> float:
    def within(z: Array) -> float:
        own = np.sum((np.sum(z * z, axis=1) / z.shape[1] + 1) ** 3)
        return float(_kernel_sum(z, z) - own) / (len(z) * (len(z) - 1))

    return within(x) + within(y) - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def squared_mmd(real: npt.ArrayLike, generated: npt.ArrayLike) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy, from all vectors of both sets.

    `sum_{i!=j} k(x_i, x_j) / (n (n-1)) + sum_{i!=j} k(y_i, y_j) / (m (m-1))
    - 2 sum_ij k(x_i, y_j) / (n m)`, with `k(x, y) = (x.y / D + 1)^3`. Uses every vector, unlike
    `kernel_distance`, but comes without an error bar.

    Args:
      real: features of real images, float[n, D], n >= 2.
      generated: features of generated images, float[m, D], m >= 2.

    Returns:
      The estimate; its mean over draws is 0 for equal distributions, so that it may be negative.

    Raises:
      ArgumentError: shapes that differ, fewer than two rows, or rows that are not finite.

    Example:
      >>> from jaxnoise.evaluation import squared_mmd
      >>> squared_mmd([[0.0], [0.0]], [[1.0], [1.0]])
      7.0

    Reference:
      Gretton et al., "A kernel two-sample test", 2012 (the estimator); Bińkowski et al., arXiv
      1801.01401 (the kernel).
    """
    return _unbiased(*_pair(real, generated))


def kernel_distance(
    real: npt.ArrayLike,
    generated: npt.ArrayLike,
    subset_size: int = 1000,
    subsets: int = 100,
    seed: int = 0,
) -> KernelDistance:
    """Kernel distance: the mean over random subsets of the unbiased squared discrepancy.

    In every round `subset_size` vectors are drawn from each set, without replacement and
    independently of the other rounds, and `squared_mmd` is taken of the two subsets.

    Args:
      real: features of real images, float[n, D], n >= 2.
      generated: features of generated images, float[m, D], m >= 2.
      subset_size: vectors drawn from each set, in 2..min(n, m).
      subsets: number of rounds, at least 2.
      seed: of the draws; the same seed gives the same number.

    Returns:
      (mean, standard_deviation) over the rounds, with `subsets` as the divisor: the error bar
      that papers print. It tells how much one subset of this size scatters. It is not the error
      of the mean: rounds share vectors, so that dividing by the root of `subsets` promises too
      much, and with a subset_size near n it shrinks towards 0.

    Raises:
      ArgumentError: a set smaller than subset_size, another argument outside its range, shapes
        that differ, or rows that are not finite.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import kernel_distance
      >>> real, generated = np.random.RandomState(0).standard_normal((2, 200, 4))
      >>> result = kernel_distance(real, generated + 1, subset_size=50, subsets=20)
      >>> result.mean > 3 * result.standard_deviation > 0
      True

    Reference:
      Bińkowski et al., arXiv 1801.01401 (Kernel Inception Distance).
    """
    x, y = _pair(real, generated)
    check_integer("subset_size", subset_size)
    check_seed("seed", seed)
    smaller = min(len(x), len(y))
    if not 2 <= subset_size <= smaller:
        advice = "generate more images or lower it, and print it beside the number"
        raise ArgumentError(
            "subset_size", subset_size, f"in 2..{smaller} (the smaller set): {advice}"
        )
    check_count("subsets", subsets, 2)
    # RandomState's stream is frozen for good; numpy's newer generators may change between versions.
    random = np.random.RandomState(seed)
    values = [
        _unbiased(
            x[random.choice(len(x), subset_size, replace=False)],
            y[random.choice(len(y), subset_size, replace=False)],
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))
