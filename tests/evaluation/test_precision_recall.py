"""Precision and recall against brute force, and where they are known exactly."""

import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import precision_and_recall, precision_recall


def _covered(manifold: np.ndarray, points: np.ndarray, k: int) -> float:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sqrt(np.sum((a - b) ** 2)))

    radii = [
        sorted(distance(a, b) for j, b in enumerate(manifold) if j != i)[k - 1]
        for i, a in enumerate(manifold)
    ]
    inside = [
        any(distance(p, c) <= r for c, r in zip(manifold, radii, strict=True)) for p in points
    ]
    return float(np.mean(inside))


@pytest.mark.parametrize("block", [1, 100, 2**24])
@pytest.mark.parametrize("k", [1, 3, 7])
def test_fractions_equal_brute_force(k: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_recall, "_BLOCK", block)
    rng = np.random.RandomState(k)
    real, generated = rng.standard_normal((40, 3)), rng.standard_normal((31, 3)) + 1.2
    result = precision_and_recall(real, generated, k)
    assert result.precision == _covered(real, generated, k)
    assert result.recall == _covered(generated, real, k)
    assert 0 < result.precision < 1
    assert 0 < result.recall < 1
    assert precision_and_recall(generated, real, k) == result[::-1]


def test_boundaries_and_copies_count_as_inside() -> None:
    # Integers: many distances are equal to a radius, and many vectors are copies.
    rng = np.random.RandomState(0)
    real, generated = rng.randint(0, 4, (30, 3)), rng.randint(1, 6, (30, 3))
    result = precision_and_recall(real, generated, 2)
    assert result == (_covered(real, generated, 2), _covered(generated, real, 2))
    assert result.precision < 1


@pytest.mark.parametrize("block", [50, 2**24])
def test_boundaries_do_not_hang_on_the_scale(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of features of few values, whose equal distances are rounded unlike."""
    monkeypatch.setattr(precision_recall, "_BLOCK", block)
    real, generated = np.rint(2 * np.random.RandomState(0).standard_normal((2, 100, 4)))
    expected = _covered(real, generated, 3), _covered(generated, real, 3)
    for scale in (1, 0.1, 2 / 255):
        assert precision_and_recall(scale * real - 1, scale * generated - 1) == expected


def test_identical_sets_hold_each_other() -> None:
    features = np.random.RandomState(1).standard_normal((50, 200)).astype(np.float32)
    assert precision_and_recall(features, features) == (1, 1)
    # All radii are 0, and rounding in the distances must not empty the manifold.
    copies = np.tile(features[:1], (9, 1))
    assert precision_and_recall(copies, copies[:6]) == (1, 1)


def test_disjoint_sets_miss_each_other() -> None:
    features = np.random.RandomState(2).uniform(0, 1, (2, 40, 5))
    assert precision_and_recall(features[0], features[1] + 10) == (0, 0)


def test_a_collapsed_generator_is_precise_without_recall() -> None:
    real = np.random.RandomState(3).standard_normal((60, 4))
    result = precision_and_recall(real, np.tile(real[:1], (20, 1)))
    assert result == (1.0, 1 / 60)


def test_distances_are_exact_at_zero_and_close_elsewhere() -> None:
    rows = 100 + np.random.RandomState(4).standard_normal((30, 500))
    squares = precision_recall._squared_distances(rows[:7], rows)
    expected = np.sum((rows[:7, None] - rows[None]) ** 2, axis=-1)
    np.testing.assert_array_equal(np.diag(squares), 0)
    np.testing.assert_allclose(squares, expected, rtol=1e-10)


def test_bad_arguments_are_named() -> None:
    real = np.zeros((5, 2))
    with pytest.raises(ArgumentError, match=r"k=3: must be in 1..2, below the size of both sets"):
        precision_and_recall(real, real[:3])
    with pytest.raises(ArgumentError, match="k=0"):
        precision_and_recall(real, real, 0)
    with pytest.raises(ArgumentError, match=r"generated=\(5, 1\): must be of shape \[n, 2\]"):
        precision_and_recall(real, real[:, :1])
    with pytest.raises(ArgumentError, match="real='1 of 1 rows not finite"):
        precision_and_recall([[np.nan]], [[0.0]], 1)
