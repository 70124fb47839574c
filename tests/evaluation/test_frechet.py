"""The Fréchet distance against matrix square roots and closed forms."""

import numpy as np
import pytest
import scipy.linalg

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import FrechetReference, Moments, frechet, frechet_distance

DIMENSION = 12


def _gaussian(rng: np.random.RandomState, rank: int) -> tuple[np.ndarray, np.ndarray]:
    root = rng.standard_normal((DIMENSION, rank)) * rng.uniform(0.2, 3, rank)
    return rng.standard_normal(DIMENSION), root @ root.T


def _by_square_root(mu1: np.ndarray, cov1: np.ndarray, mu2: np.ndarray, cov2: np.ndarray) -> float:
    cross = scipy.linalg.sqrtm(cov1 @ cov2)
    return float(
        np.sum((mu1 - mu2) ** 2) + np.trace(cov1) + np.trace(cov2) - 2 * np.trace(cross).real
    )


# Full rank, one of the two deficient, both deficient, and overlapping in no full direction.
RANKS = [(30, 30), (30, 5), (5, 30), (5, 4), (11, 12)]


@pytest.mark.parametrize("seed", range(20))
def test_distance_equals_that_of_the_matrix_square_root(seed: int) -> None:
    rng = np.random.RandomState(seed)
    rank1, rank2 = RANKS[seed % len(RANKS)]
    first, second = _gaussian(rng, rank1), _gaussian(rng, rank2)
    distance = frechet_distance(*first, *second)
    assert distance == pytest.approx(_by_square_root(*first, *second), rel=1e-6)
    assert distance == pytest.approx(frechet_distance(*second, *first), rel=1e-12)


def test_diagonal_gaussians_have_a_closed_form() -> None:
    rng = np.random.RandomState(0)
    mu1, mu2 = rng.standard_normal((2, 50))
    deviation1, deviation2 = rng.uniform(0, 2, (2, 50))
    deviation1[:20] = 0
    deviation2[10:30] = 0
    expected = np.sum((mu1 - mu2) ** 2) + np.sum((deviation1 - deviation2) ** 2)
    distance = frechet_distance(mu1, np.diag(deviation1**2), mu2, np.diag(deviation2**2))
    assert distance == pytest.approx(expected, rel=1e-13)


def test_commuting_covariances_in_a_rotated_basis() -> None:
    rng = np.random.RandomState(1)
    basis, _ = np.linalg.qr(rng.standard_normal((40, 40)))
    values1, values2 = 10.0 ** rng.uniform(-12, 2, (2, 40))
    expected = np.sum((np.sqrt(values1) - np.sqrt(values2)) ** 2)
    distance = frechet_distance(
        np.zeros(40), (basis * values1) @ basis.T, np.zeros(40), (basis * values2) @ basis.T
    )
    # Eigenvalues below 1e-14 of the largest are lost to rounding in the matrices themselves.
    assert distance == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("rank", [1, 7, DIMENSION, 40])
def test_identical_sets_are_at_distance_zero(rank: int) -> None:
    mu, covariance = _gaussian(np.random.RandomState(rank), rank)
    assert 0 <= frechet_distance(mu, covariance, mu, covariance) <= 1e-12 * np.trace(covariance)


def test_fewer_vectors_than_dimensions() -> None:
    rng = np.random.RandomState(2)
    first, second = rng.standard_normal((2, 5, 100))
    moments1, moments2 = (Moments.empty(100).update(rows) for rows in (first, second))
    # In the span of the data the trace needs only the 5 x 5 matrix of inner products.
    centred1, centred2 = (rows - rows.mean(axis=0) for rows in (first, second))
    cross = np.linalg.svd(centred1 @ centred2.T / 4, compute_uv=False).sum()
    expected = (
        np.sum((moments1.mean - moments2.mean) ** 2)
        + (np.sum(centred1**2) + np.sum(centred2**2)) / 4
        - 2 * cross
    )
    distance = frechet_distance(
        moments1.mean, moments1.covariance, moments2.mean, moments2.covariance
    )
    assert distance == pytest.approx(expected, rel=1e-12)


def test_constant_sets_differ_by_their_means() -> None:
    zero = np.zeros((2, 2))
    assert frechet_distance([0.0, 1.0], zero, [3.0, 5.0], zero) == 25.0
    assert frechet_distance([0.0, 1.0], zero, [0.0, 1.0], np.eye(2)) == 2.0


@pytest.mark.parametrize(
    "arguments, named",
    [
        (([[0.0]], [[1.0]], [0.0], [[1.0]]), "mu1"),
        (([np.nan], [[1.0]], [0.0], [[1.0]]), "mu1"),
        (([0.0], [[1.0]], [0.0, 0.0], np.eye(2)), "mu2"),
        (([0.0], np.eye(2), [0.0], [[1.0]]), "cov1"),
        (([0.0], [[1.0]], [0.0], [[np.inf]]), "cov2"),
        (([0.0, 0.0], np.eye(2), [0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]]), "cov2"),
        (([0.0, 0.0], np.diag([1.0, -0.1]), [0.0, 0.0], np.eye(2)), "cov1"),
        (([0.0], [[1.0]], [0.0], [[-1.0]]), "cov2"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple, named: str) -> None:
    with pytest.raises(ArgumentError) as error:
        frechet_distance(*arguments)
    assert error.value.argument == named


def test_covariances_of_float32_are_accepted() -> None:
    rng = np.random.RandomState(3)
    rows = rng.standard_normal((50, 8)).astype(np.float32)
    single, double = np.cov(rows.T, dtype=np.float32), np.cov(rows.T, dtype=np.float64)
    distance = frechet_distance(np.zeros(8), single, np.zeros(8), np.eye(8))
    assert distance == pytest.approx(
        frechet_distance(np.zeros(8), double, np.zeros(8), np.eye(8)), rel=1e-5
    )


def test_rounding_below_zero_is_clipped_and_more_is_not() -> None:
    slightly = np.diag([1.0, -1e-16])
    assert frechet_distance([0.0, 0.0], slightly, [0.0, 0.0], np.eye(2)) == pytest.approx(1.0)
    with pytest.raises(ArgumentError, match=r"cov1='eigenvalue -0\.0001': must be a positive semi"):
        frechet_distance([0.0, 0.0], np.diag([1.0, -1e-4]), [0.0, 0.0], np.eye(2))


def test_a_decomposed_reference_gives_the_same_distances() -> None:
    rng = np.random.RandomState(6)
    real = _gaussian(rng, 7)
    reference = FrechetReference.of(*real)
    for rank in (30, 5):
        generated = _gaussian(rng, rank)
        assert reference.distance(*generated) == frechet_distance(*real, *generated)
    assert reference.factor.shape == (DIMENSION, 7)


def test_a_decomposed_reference_names_what_does_not_fit() -> None:
    reference = FrechetReference.of([0.0, 0.0], np.eye(2))
    with pytest.raises(ArgumentError, match=r"mean=\(3,\): must be of the reference's .* \(2,\)"):
        reference.distance(np.zeros(3), np.eye(3))
    with pytest.raises(ArgumentError, match=r"covariance=\(3, 3\): must be of shape \(2, 2\)"):
        reference.distance(np.zeros(2), np.eye(3))
    with pytest.raises(ArgumentError, match="covariance='eigenvalue -1'"):
        FrechetReference.of([0.0], [[-1.0]])


def test_the_quicker_way_is_taken_where_its_rounding_cannot_be_seen() -> None:
    """Eigenvalues instead of singular values: the same number, or none."""
    rng = np.random.RandomState(7)
    values = 10 ** np.linspace(0, -4, 200)
    bases = [np.linalg.qr(rng.standard_normal((200, 200)))[0] for _ in range(2)]
    first, second = bases[0] * np.sqrt(values), bases[1] * np.sqrt(values)
    covariance = second @ second.T
    quick = frechet._by_eigenvalues(first, covariance, negligible=1e-9 * 2 * values.sum())
    slow = frechet._by_singular_values(first, second)
    assert quick == pytest.approx(slow, rel=1e-11)
    deficient = second[:, :150] @ second[:, :150].T
    assert frechet._by_eigenvalues(first, deficient, negligible=1e-9) is None
    assert frechet._by_eigenvalues(first, covariance - np.eye(200), negligible=1e-9) is None
    assert frechet._by_eigenvalues(first, covariance, negligible=1e-30) is None
