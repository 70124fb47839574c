"""Moments of feature vectors that arrive in batches: count, mean and scatter, in float64.

Everything is numpy on the host: in float32 the distance of 2048-dimensional features is wrong in
its second digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ArgumentError, check_shape, describe, is_traced
from jaxnoise.evaluation.checks import check_count, check_kind, real_numbers

Array = npt.NDArray[np.float64]

# Rows turned into float64 at a time.
_CHUNK = 4096


def checked_features(argument: str, features: npt.ArrayLike) -> Array:
    """Features as float64[n, D], refused when a row is not finite.

    Args:
      argument: the caller's name of the parameter, for the message.
      features: float[n, D], D >= 1.

    Returns:
      The same numbers in float64.

    Raises:
      ArgumentError: no numbers, another shape, or rows that are not finite: how many, and the
        first.

    Example:
      >>> checked_features("real", [[0.0], [float("nan")], [float("inf")]])
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: real='2 of 3 rows not finite, the first at index 1': must be \
finite
    """
    rows: Array = real_numbers(argument, features, "float[n, D]")
    if rows.ndim != 2 or not rows.shape[1]:
        raise ArgumentError(argument, rows.shape, "of shape [n, D], D >= 1")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise ArgumentError(
            argument,
            f"{bad.size} of {len(rows)} rows not finite, the first at index {bad[0]}",
            "finite",
        )
    return rows


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and scatter of the vectors seen so far; immutable, merged without cancellation.

    `M = sum_i (x_i - mean)(x_i - mean)^T`. Two sets merge by
    `mean = mean_a + delta n_b / n`, `M = M_a + M_b + delta delta^T n_a n_b / n`, with
    `delta = mean_b - mean_a` and `n = n_a + n_b`. No large sums are subtracted, so that any split
    into batches, processes or devices, in any order, gives the same numbers to rounding (1e-12 of
    the spread); they are not the same bit for bit. The paper states the update for one variable;
    here it is taken for every entry of the matrix.

    Attributes:
      count: number of vectors.
      mean: float64[D].
      scatter: float64[D, D], the sum of outer products about the mean.

    Raises:
      ArgumentError: a field of another kind or shape.

    Example:
      >>> from jaxnoise.evaluation import Moments
      >>> moments = Moments.of([[1.0], [2.0]]).update([[6.0]])
      >>> moments.count, float(moments.mean[0]), float(moments.covariance[0, 0])
      (3, 3.0, 7.0)

    Reference:
      Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
      variances", 1979.
    """

    count: int
    mean: Array
    scatter: Array

    def __post_init__(self) -> None:
        check_count("count", self.count, 0)
        check_shape("mean", self.mean, (None,), "the mean of D features")
        check_shape("scatter", self.scatter, self.mean.shape * 2, "of the same features as mean")

    @classmethod
    def empty(cls, dimension: int) -> Moments:
        """The moments of no vectors, each of length `dimension`.

        Args:
          dimension: length D of a vector, at least 1.

        Returns:
          Moments with count 0.

        Raises:
          ArgumentError: a dimension below 1.
        """
        check_count("dimension", dimension)
        return cls(0, np.zeros(dimension), np.zeros((dimension, dimension)))

    @classmethod
    def of(cls, features: npt.ArrayLike) -> Moments:
        """The moments of the rows of one array.

        Args:
          features: float[n, D], D >= 1.

        Returns:
          Moments with count n.

        Raises:
          ArgumentError: another shape, or rows that are not finite.
        """
        rows = checked_features("features", features)
        return cls.empty(rows.shape[1])._with(rows)

    def update(self, batch: npt.ArrayLike) -> Moments:
        """The moments with the rows of a batch added; `self` stays as it is.

        Args:
          batch: float[n, D]; n = 0 changes nothing.

        Returns:
          New moments.

        Raises:
          ArgumentError: rows of another length, or rows that are not finite.
        """
        rows = checked_features("batch", batch)
        if rows.shape[1] != self.mean.size:
            raise ArgumentError("batch", rows.shape, f"of shape [n, {self.mean.size}]")
        return self._with(rows)

    def _with(self, rows: Array) -> Moments:
        if not len(rows):
            return self
        count = self.count + len(rows)
        mean = rows.mean(axis=0)
        delta = mean - self.mean
        # The merge's third term as one more row: one matrix product, and no D x D outer product.
        shift = delta * np.sqrt(self.count * len(rows) / count)
        centred = np.concatenate([rows - mean, shift[None]])
        scatter = self.scatter + centred.T @ centred
        return Moments(count, self.mean + delta * (len(rows) / count), scatter)

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets together; neither changes.

        Args:
          other: moments of vectors of the same length.

        Returns:
          New moments.

        Raises:
          ArgumentError: another dimension, or no moments.
        """
        check_kind("other", other, Moments, "Moments")
        if other.mean.shape != self.mean.shape:
            raise ArgumentError("other", other.mean.shape, f"of shape {self.mean.shape}")
        count = self.count + other.count
        if not count:
            return self
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * (other.count / count),
            self.scatter
            + other.scatter
            + np.outer(delta, delta) * (self.count * other.count / count),
        )

    @property
    def covariance(self) -> Array:
        """The unbiased covariance `M / (count - 1)`, float64[D, D].

        Raises:
          ArgumentError: fewer than two vectors.
        """
        if self.count < 2:
            raise ArgumentError("count", self.count, "at least 2 for a covariance")
        return self.scatter / (self.count - 1)


def image_moments(images: npt.ArrayLike) -> Moments:
    """Moments of images as raw-pixel vectors in [-1, 1] units.

    `x = p / 127.5 - 1` for uint8 pixels p, a few thousand images at a time in float64. Floats do
    not tell whether they end at 1 or at 255, and are refused: of floats in [-1, 1] units
    `Moments.of(images.reshape(len(images), -1))` gives the moments.

    Args:
      images: uint8[n, ...] in 0..255, typically [n, H, W, C].

    Returns:
      Moments of dimension D = H*W*C.

    Raises:
      ArgumentError: another dtype or shape.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import image_moments
      >>> moments = image_moments(np.array([[[[0]]], [[[255]]]], np.uint8))
      >>> moments.count, float(moments.mean[0]), float(moments.covariance[0, 0])
      (2, 0.0, 2.0)
    """
    if is_traced(images):
        raise ArgumentError("images", "a traced array", "concrete: uint8[n, ...], outside jit")
    try:
        images = np.asarray(images)
    except ValueError:
        raise ArgumentError("images", "images of different sizes", "uint8[n, ...]") from None
    if images.ndim < 2:
        raise ArgumentError("images", images.shape, "of shape [n, ...]")
    if np.issubdtype(images.dtype, np.floating):
        allowed = "uint8 in 0..255, or in [-1, 1] units Moments.of(images.reshape(len(images), -1))"
        raise ArgumentError("images", describe(images), allowed)
    if images.dtype != np.uint8:
        raise ArgumentError("images", str(images.dtype), "uint8 in 0..255")
    images = images.reshape(len(images), int(np.prod(images.shape[1:], dtype=np.int64)))
    moments = Moments.empty(images.shape[1])
    for start in range(0, len(images), _CHUNK):
        rows = images[start : start + _CHUNK].astype(np.float64)
        moments = moments.update(rows / 127.5 - 1)
    return moments
