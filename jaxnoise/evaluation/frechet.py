"""Fréchet distance between two sets of feature vectors, and the moments that it needs.

Everything is float64 numpy on the host: in float32 the distance of 2048-dimensional features is
wrong in its second digit.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ArgumentError

Array = npt.NDArray[np.float64]

# Relative rounding that a covariance computed in float32 may carry.
_TOLERANCE = 1e-5
# Rows turned into float64 at a time by `image_moments`.
_CHUNK = 4096


def _checked_mean(argument: str, mean: npt.ArrayLike) -> Array:
    mean = np.asarray(mean, np.float64)
    if mean.ndim != 1 or not mean.size:
        raise ArgumentError(argument, mean.shape, "of shape [D], D >= 1")
    if not np.isfinite(mean).all():
        raise ArgumentError(argument, "nan or inf", "finite")
    return mean


def _checked_covariance(argument: str, covariance: npt.ArrayLike, dimension: int) -> Array:
    covariance = np.asarray(covariance, np.float64)
    if covariance.shape != (dimension, dimension):
        raise ArgumentError(argument, covariance.shape, f"of shape {(dimension, dimension)}")
    if not np.isfinite(covariance).all():
        raise ArgumentError(argument, "nan or inf", "finite")
    asymmetry = np.abs(covariance - covariance.T).max()
    if asymmetry > _TOLERANCE * np.abs(covariance).max():
        raise ArgumentError(argument, f"asymmetric by {asymmetry:.3g}", "a symmetric matrix")
    return (covariance + covariance.T) / 2


def _factor(argument: str, covariance: Array) -> Array:
    """`h[D, rank]` with `h h^T = covariance`, from the eigenvalues above rounding."""
    values, vectors = np.linalg.eigh(covariance)
    top = values[-1]
    if values[0] < -_TOLERANCE * max(top, 0.0):
        raise ArgumentError(
            argument, f"eigenvalue {values[0]:.3g}", "a positive semi-definite matrix"
        )
    # Eigenvalues of a null space come out as +-rounding, and their roots would be 1e-8, not 0.
    keep = values > top * len(values) * np.finfo(np.float64).eps
    factor: Array = vectors[:, keep] * np.sqrt(values[keep])
    return factor


def frechet_distance(
    mu1: npt.ArrayLike, cov1: npt.ArrayLike, mu2: npt.ArrayLike, cov2: npt.ArrayLike
) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians.

    `d = |mu1 - mu2|^2 + tr(cov1) + tr(cov2) - 2 tr (cov1^1/2 cov2 cov1^1/2)^1/2`. With the
    eigendecompositions `cov_i = h_i h_i^T`, the last trace is the sum of the square roots of the
    eigenvalues of `h1^T cov2 h1`, which are the singular values of `h1^T h2`. Taken as singular
    values they lose nothing to the square root, so that covariances of any rank (fewer samples
    than dimensions) work, the arguments can be swapped, and identical moments give 0.

    Args:
      mu1: mean of the first set, float[D].
      cov1: covariance of the first set, float[D, D], symmetric positive semi-definite.
      mu2: mean of the second set, float[D].
      cov2: covariance of the second set, float[D, D], symmetric positive semi-definite.

    Returns:
      The distance, >= 0, in squared units of the features.

    Raises:
      ArgumentError: shapes that differ, a value that is not finite, or a matrix that is not
        symmetric positive semi-definite within 1e-5 of its largest entry.

    Example:
      >>> import numpy as np
      >>> round(frechet_distance([0.0, 0.0], np.diag([4.0, 0.0]), [1.0, 2.0], np.eye(2)), 9)
      7.0

    Reference:
      Dowson and Landau, "The Fréchet distance between multivariate normal distributions", 1982;
      as a measure of generated images: Heusel et al., arXiv 1706.08500.
    """
    mean1 = _checked_mean("mu1", mu1)
    mean2 = _checked_mean("mu2", mu2)
    if mean1.shape != mean2.shape:
        raise ArgumentError("mu2", mean2.shape, f"of the shape of mu1, {mean1.shape}")
    covariance1 = _checked_covariance("cov1", cov1, mean1.size)
    covariance2 = _checked_covariance("cov2", cov2, mean1.size)
    overlap = _factor("cov1", covariance1).T @ _factor("cov2", covariance2)
    # A set of identical vectors has rank 0, and numpy refuses to decompose an empty matrix.
    cross = np.linalg.svd(overlap, compute_uv=False).sum() if overlap.size else 0.0
    distance = (
        np.sum((mean1 - mean2) ** 2)
        + np.trace(covariance1)
        + np.trace(covariance2)
        - 2 * float(cross)
    )
    # Rounding may leave a negative number of the size of one unit in the last place of the traces.
    return max(float(distance), 0.0)


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and scatter of the vectors seen so far; immutable, merged exactly.

    `M = sum_i (x_i - mean)(x_i - mean)^T`. Two sets merge by
    `mean = mean_a + delta n_b / n`, `M = M_a + M_b + delta delta^T n_a n_b / n`, with
    `delta = mean_b - mean_a`: no cancellation of large sums, so that any split into batches gives
    the same numbers to rounding.

    Attributes:
      count: number of vectors.
      mean: float64[D].
      scatter: float64[D, D], the sum of outer products about the mean.

    Example:
      >>> moments = Moments.empty(1).update([[1.0], [2.0]]).update([[6.0]])
      >>> moments.count, float(moments.mean[0]), float(moments.covariance[0, 0])
      (3, 3.0, 7.0)

    Reference:
      Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
      variances", 1979.
    """

    count: int
    mean: Array
    scatter: Array

    @classmethod
    def empty(cls, dimension: int) -> "Moments":
        """The moments of no vectors, each of length `dimension`.

        Args:
          dimension: length D of a vector, at least 1.

        Returns:
          Moments with count 0.

        Raises:
          ArgumentError: a dimension below 1.
        """
        if dimension < 1:
            raise ArgumentError("dimension", dimension, "at least 1")
        return cls(0, np.zeros(dimension), np.zeros((dimension, dimension)))

    def update(self, batch: npt.ArrayLike) -> "Moments":
        """The moments with the rows of a batch added; `self` stays as it is.

        Args:
          batch: float[n, D]; n = 0 changes nothing.

        Returns:
          New moments.

        Raises:
          ArgumentError: rows of another length, or values that are not finite.
        """
        batch = np.asarray(batch, np.float64)
        if batch.ndim != 2 or batch.shape[1] != self.mean.size:
            raise ArgumentError("batch", batch.shape, f"of shape [n, {self.mean.size}]")
        if not np.isfinite(batch).all():
            raise ArgumentError("batch", "nan or inf", "finite")
        if not len(batch):
            return self
        mean = batch.mean(axis=0)
        centred = batch - mean
        return self.merge(Moments(len(batch), mean, centred.T @ centred))

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets together; neither changes.

        Args:
          other: moments of vectors of the same length.

        Returns:
          New moments.

        Raises:
          ArgumentError: another dimension.
        """
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

    def distance(self, other: "Moments") -> float:
        """The Fréchet distance to another set's moments; see `frechet_distance`."""
        return frechet_distance(self.mean, self.covariance, other.mean, other.covariance)


def image_moments(images: npt.ArrayLike) -> Moments:
    """Moments of images as raw-pixel vectors in [-1, 1] units.

    `x = p / 127.5 - 1` for uint8 pixels p; floats are taken to be in these units already and are
    not clipped. A few thousand images at a time are turned into float64.

    Args:
      images: uint8 in 0..255, or floats in [-1, 1] units; [n, ...], typically [n, H, W, C].

    Returns:
      Moments of dimension D = H*W*C.

    Raises:
      ArgumentError: another dtype or shape, or values that are not finite.

    Example:
      >>> import numpy as np
      >>> moments = image_moments(np.array([[[[0]]], [[[255]]]], np.uint8))
      >>> moments.count, float(moments.mean[0]), float(moments.covariance[0, 0])
      (2, 0.0, 2.0)
    """
    images = np.asarray(images)
    if images.ndim < 2:
        raise ArgumentError("images", images.shape, "of shape [n, ...]")
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise ArgumentError("images", str(images.dtype), "uint8 or floating")
    images = images.reshape(len(images), int(np.prod(images.shape[1:], dtype=np.int64)))
    moments = Moments.empty(images.shape[1])
    for start in range(0, len(images), _CHUNK):
        rows = images[start : start + _CHUNK].astype(np.float64)
        moments = moments.update(rows / 127.5 - 1 if images.dtype == np.uint8 else rows)
    return moments
