"""The Fréchet distance against matrix square roots and closed forms; moments by any split."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import Moments, frechet_distance, image_moments

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
    assert moments1.distance(moments2) == pytest.approx(expected, rel=1e-12)


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


ROWS = np.random.RandomState(4).standard_normal((60, 5)) * [1, 10, 1e-3, 1, 1] + [0, 1e4, 0, 3, -1]


@settings(deadline=None, max_examples=40, derandomize=True)
@given(cuts=st.lists(st.integers(0, 60), max_size=6), merged_at=st.integers(0, 8))
def test_any_split_into_batches_gives_the_same_moments(cuts: list[int], merged_at: int) -> None:
    batches = np.split(ROWS, sorted(cuts))
    left, right = Moments.empty(5), Moments.empty(5)
    for batch in batches[:merged_at]:
        left = left.update(batch)
    for batch in batches[merged_at:]:
        right = right.update(batch)
    moments = left.merge(right)
    assert moments.count == 60
    np.testing.assert_allclose(moments.mean, ROWS.mean(axis=0), rtol=1e-12, atol=1e-15)
    scale = np.sqrt(np.outer(ROWS.var(axis=0), ROWS.var(axis=0)))
    np.testing.assert_allclose(
        moments.covariance / scale, np.cov(ROWS.T) / scale, rtol=1e-12, atol=1e-12
    )


def test_update_leaves_the_old_moments_alone() -> None:
    first = Moments.empty(5).update(ROWS[:10])
    mean, scatter = first.mean.copy(), first.scatter.copy()
    second = first.update(ROWS[10:])
    assert (first.count, second.count) == (10, 60)
    np.testing.assert_array_equal(first.mean, mean)
    np.testing.assert_array_equal(first.scatter, scatter)


def test_moments_refuse_what_they_cannot_hold() -> None:
    moments = Moments.empty(2)
    with pytest.raises(ArgumentError, match=r"batch=\(1, 3\)"):
        moments.update([[1.0, 2.0, 3.0]])
    with pytest.raises(ArgumentError, match=r"batch=.*finite"):
        moments.update([[1.0, np.nan]])
    with pytest.raises(ArgumentError, match=r"count=1: must be at least 2"):
        _ = moments.update([[1.0, 2.0]]).covariance
    with pytest.raises(ArgumentError, match=r"other=\(3,\)"):
        moments.merge(Moments.empty(3))
    with pytest.raises(ArgumentError, match="dimension=0"):
        Moments.empty(0)


def test_images_are_mapped_to_minus_one_to_one() -> None:
    images = np.random.RandomState(5).randint(0, 256, (5000, 2, 2, 1)).astype(np.uint8)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 0, 255
    floats = images / 127.5 - 1
    assert (floats[0, 0, 0, 0], floats[1, 0, 0, 0]) == (-1.0, 1.0)
    # 5000 images are more than one chunk.
    moments = image_moments(images)
    np.testing.assert_allclose(moments.mean, floats.reshape(5000, 4).mean(axis=0), atol=1e-13)
    np.testing.assert_allclose(moments.covariance, np.cov(floats.reshape(5000, 4).T), atol=1e-13)
    from_floats = image_moments(floats.astype(np.float32))
    np.testing.assert_allclose(from_floats.covariance, moments.covariance, atol=1e-7)


def test_image_moments_refuse_other_arrays() -> None:
    with pytest.raises(ArgumentError, match="images='int64'"):
        image_moments(np.zeros((3, 2), np.int64))
    with pytest.raises(ArgumentError, match=r"images=\(3,\)"):
        image_moments(np.zeros(3))
