"""Fréchet distance between two sets of feature vectors, from their means and covariances.

Everything is float64 numpy on the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ArgumentError, check_finite, check_shape
from jaxnoise.evaluation.checks import real_numbers
from jaxnoise.evaluation.moments import Array, Moments, image_moments

__all__ = ["FrechetReference", "Moments", "frechet_distance", "image_moments"]

# Relative rounding that a covariance computed in float32 may carry.
TOLERANCE = 1e-5
# Of the sum of the traces: what rounding may add where the quicker of two ways is taken.
NEGLIGIBLE = 1e-9


def _checked_mean(argument: str, mean: npt.ArrayLike) -> Array:
    mean = real_numbers(argument, mean, "float[D]")
    if mean.ndim != 1 or not mean.size:
        raise ArgumentError(argument, mean.shape, "of shape [D], D >= 1")
    if not np.isfinite(mean).all():
        raise ArgumentError(argument, "nan or inf", "finite")
    return mean


def _checked_covariance(argument: str, covariance: npt.ArrayLike, dimension: int) -> Array:
    covariance = real_numbers(argument, covariance, "float[D, D]")
    if covariance.shape != (dimension, dimension):
        raise ArgumentError(argument, covariance.shape, f"of shape {(dimension, dimension)}")
    if not np.isfinite(covariance).all():
        raise ArgumentError(argument, "nan or inf", "finite")
    asymmetry = np.abs(covariance - covariance.T).max()
    if asymmetry > TOLERANCE * np.abs(covariance).max():
        raise ArgumentError(argument, f"asymmetric by {asymmetry:.3g}", "a symmetric matrix")
    return (covariance + covariance.T) / 2


def _factor(argument: str, covariance: Array) -> Array:
    """`h[D, rank]` with `h h^T = covariance`, from the eigenvalues above rounding."""
    values, vectors = np.linalg.eigh(covariance)
    top = values[-1]
    if values[0] < -TOLERANCE * max(top, 0.0):
        raise ArgumentError(
            argument, f"eigenvalue {values[0]:.3g}", "a positive semi-definite matrix"
        )
    # Eigenvalues of a null space come out as +-rounding, and their roots would be 1e-8, not 0.
    keep = values > top * len(values) * np.finfo(np.float64).eps
    factor: Array = vectors[:, keep] * np.sqrt(values[keep])
    return factor


@dataclass(frozen=True, eq=False)
class FrechetReference:
    """A reference's mean and covariance, decomposed once for many distances; made by `of`.

    A distance then costs the eigenvalues of one matrix, where `frechet_distance` takes an
    eigendecomposition more; the numbers are the same.

    Attributes:
      mean: float64[D].
      trace: of the covariance.
      factor: float64[D, rank], `factor @ factor.T` is the covariance.

    Raises:
      ArgumentError: a field of another kind or shape.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import FrechetReference
      >>> reference = FrechetReference.of([0.0, 0.0], np.eye(2))
      >>> [round(reference.distance([s, 0.0], np.diag([s * s, 1.0])), 9) for s in (1.0, 2.0)]
      [1.0, 5.0]
    """

    mean: Array
    trace: float
    factor: Array

    def __post_init__(self) -> None:
        check_shape("mean", self.mean, (None,), "the mean of D features")
        check_finite("trace", self.trace)
        check_shape("factor", self.factor, (*self.mean.shape, None), "the same D features")

    @classmethod
    def of(cls, mean: npt.ArrayLike, covariance: npt.ArrayLike) -> FrechetReference:
        """Decomposes the reference's covariance.

        Args:
          mean: float[D].
          covariance: float[D, D], symmetric positive semi-definite.

        Returns:
          What `distance` compares other sets with.

        Raises:
          ArgumentError: as `frechet_distance`.
        """
        return _decomposed(("mean", "covariance"), mean, covariance)

    def distance(self, mean: npt.ArrayLike, covariance: npt.ArrayLike) -> float:
        """The Fréchet distance to another set; see `frechet_distance`.

        Args:
          mean: of the other set, float[D].
          covariance: of the other set, float[D, D], symmetric positive semi-definite.

        Returns:
          The distance, >= 0, in squared units of the features.

        Raises:
          ArgumentError: another dimension than the reference's, or as `frechet_distance`.
        """
        return _between(self, ("mean", "covariance"), mean, covariance)


def _decomposed(
    names: tuple[str, str], mean: npt.ArrayLike, covariance: npt.ArrayLike
) -> FrechetReference:
    mean = _checked_mean(names[0], mean)
    covariance = _checked_covariance(names[1], covariance, mean.size)
    return FrechetReference(mean, float(np.trace(covariance)), _factor(names[1], covariance))


def _between(
    first: FrechetReference, names: tuple[str, str], mean: npt.ArrayLike, covariance: npt.ArrayLike
) -> float:
    mean = _checked_mean(names[0], mean)
    if mean.size != first.mean.size:
        allowed = f"of the reference's shape, ({first.mean.size},)"
        raise ArgumentError(names[0], mean.shape, allowed)
    covariance = _checked_covariance(names[1], covariance, mean.size)
    traces = first.trace + float(np.trace(covariance))
    cross = _by_eigenvalues(first.factor, covariance, NEGLIGIBLE * traces)
    if cross is None:
        cross = _by_singular_values(first.factor, _factor(names[1], covariance))
    distance = np.sum((first.mean - mean) ** 2) + traces - 2 * cross
    # Rounding may leave a negative number of the size of one unit in the last place of the traces.
    return max(float(distance), 0.0)


def _by_eigenvalues(factor: Array, covariance: Array, negligible: float) -> float | None:
    """`tr (h^T cov h)^1/2`, or None where rounding may be more than negligible.

    That is where eigenvalues are so small beside the largest that their roots lose digits, as under
    a covariance of less than full rank.
    """
    try:
        # Finds what is not positive semi-definite, in a tenth of the time of its eigenvalues.
        shift = TOLERANCE * np.max(np.diagonal(covariance))
        np.linalg.cholesky(covariance + shift * np.eye(len(covariance)))
    except np.linalg.LinAlgError:
        return None
    if not factor.size:
        return None
    values = np.linalg.eigvalsh(factor.T @ covariance @ factor)
    rounding = np.finfo(np.float64).eps * np.sqrt(len(values)) * values[-1]
    if values[0] <= rounding:
        return None
    roots = np.sqrt(values)
    return float(roots.sum()) if np.sum(rounding / roots) < negligible else None


def _by_singular_values(first: Array, second: Array) -> float:
    """The same from both factors; it loses nothing to the square root."""
    overlap = first.T @ second
    # A set of identical vectors has rank 0, and numpy refuses to decompose an empty matrix.
    return float(np.linalg.svd(overlap, compute_uv=False).sum()) if overlap.size else 0.0


def frechet_distance(
    mu1: npt.ArrayLike, cov1: npt.ArrayLike, mu2: npt.ArrayLike, cov2: npt.ArrayLike
) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians.

    `d = |mu1 - mu2|^2 + tr(cov1) + tr(cov2) - 2 tr (cov1^1/2 cov2 cov1^1/2)^1/2`. With the
    eigendecompositions `cov_i = h_i h_i^T`, the last trace is the sum of the square roots of the
    eigenvalues of `h1^T cov2 h1`, whose roots are the singular values of `h1^T h2`. Eigenvalues are
    quicker; where they span so much that their roots would lose digits (a bound on it is 1e-9 of
    the traces), singular values are taken, which lose none. So covariances of any rank (fewer
    samples than dimensions) work, the arguments can be swapped, and identical moments give 0.

    Args:
      mu1: mean of the first set, float[D].
      cov1: covariance of the first set, float[D, D], symmetric positive semi-definite.
      mu2: mean of the second set, float[D].
      cov2: covariance of the second set, float[D, D], symmetric positive semi-definite.

    Returns:
      The distance, >= 0, in squared units of the features.

    Raises:
      ArgumentError: shapes that differ, a value that is no finite number, or a matrix that is not
        symmetric positive semi-definite within the rounding of float32 (1e-5 of its largest
        entry or eigenvalue); a larger negative eigenvalue is never clipped.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import frechet_distance
      >>> round(frechet_distance([0.0, 0.0], np.diag([4.0, 0.0]), [1.0, 2.0], np.eye(2)), 9)
      7.0

    Reference:
      Dowson and Landau, "The Fréchet distance between multivariate normal distributions", 1982;
      as a measure of generated images: Heusel et al., arXiv 1706.08500.
    """
    return _between(_decomposed(("mu1", "cov1"), mu1, cov1), ("mu2", "cov2"), mu2, cov2)
