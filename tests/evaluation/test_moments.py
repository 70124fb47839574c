"""Moments: the two-pass ones, by any split and in any order."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import Moments, image_moments

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
    with pytest.raises(
        ArgumentError, match=r"batch='1 of 1 rows not finite, the first at index 0'"
    ):
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
    from_floats = Moments.of(floats.astype(np.float32).reshape(5000, 4))
    np.testing.assert_allclose(from_floats.covariance, moments.covariance, atol=1e-7)


def test_image_moments_refuse_other_arrays() -> None:
    with pytest.raises(ArgumentError, match="images='int64'"):
        image_moments(np.zeros((3, 2), np.int64))
    with pytest.raises(ArgumentError, match=r"images=\(3,\)"):
        image_moments(np.zeros(3))


@pytest.mark.parametrize("largest", [1.0, 255.0])
def test_floats_do_not_tell_their_range(largest: float) -> None:
    images = np.linspace(0, largest, 8).reshape(2, 2, 2, 1)
    with pytest.raises(ArgumentError, match=r"^images=float64\[2,2,2,1\]: must be uint8 in 0..255"):
        image_moments(images)


# Features like a network's: positive, skewed, correlated, of unequal spread.
FEATURES = np.maximum(
    np.random.RandomState(6).standard_normal((10_000, 24))
    @ np.random.RandomState(7).uniform(-1, 1, (24, 24))
    + 1,
    0,
).astype(np.float32)


def _in_batches(rows: np.ndarray, batch_size: int) -> Moments:
    moments = Moments.empty(rows.shape[1])
    for start in range(0, len(rows), batch_size):
        moments = moments.update(rows[start : start + batch_size])
    return moments


@pytest.mark.parametrize("parts", [1, 2, 8])
@pytest.mark.parametrize("batch_size", [1, 128, 3333])
def test_ten_thousand_samples_under_any_split(parts: int, batch_size: int) -> None:
    moments = Moments.empty(24)
    for rows in np.array_split(FEATURES, parts):
        moments = moments.merge(_in_batches(rows, batch_size))
    double = FEATURES.astype(np.float64)
    assert moments.count == 10_000
    np.testing.assert_allclose(moments.mean, double.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(double.T), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(moments.covariance, moments.covariance.T)


def test_of_is_the_two_pass_formula() -> None:
    moments = Moments.of(FEATURES)
    double = FEATURES.astype(np.float64)
    centred = double - double.mean(axis=0)
    scale = np.sqrt(np.outer(*[np.sum(centred**2, axis=0)] * 2))
    np.testing.assert_array_equal(moments.mean, double.mean(axis=0))
    assert np.abs(moments.scatter - centred.T @ centred).max() < 1e-12 * scale.min()


def test_merging_is_associative_and_commutative_to_rounding() -> None:
    a, b, c = (Moments.of(rows) for rows in np.split(FEATURES, [1, 700]))
    merged = [Moments.merge(a.merge(b), c), a.merge(b.merge(c)), c.merge(a).merge(b)]
    for other in merged[1:]:
        np.testing.assert_allclose(other.mean, merged[0].mean, rtol=1e-13)
        np.testing.assert_allclose(other.scatter, merged[0].scatter, rtol=1e-11, atol=1e-9)


def test_a_distant_mean_does_not_cancel() -> None:
    rows = np.random.RandomState(8).randint(-4, 5, (64, 3)) + 2.0**40
    moments = _in_batches(rows, 5)
    expected = np.cov(rows.T - 2.0**40)
    # 2^40 leaves 13 bits: sums of squares would leave none.
    np.testing.assert_allclose(moments.covariance, expected, atol=1e-3)


def test_rows_that_are_not_finite_are_counted_and_located() -> None:
    features = np.zeros((40, 3), np.float32)
    features[17, 2], features[30] = np.nan, np.inf
    with pytest.raises(ArgumentError) as error:
        Moments.of(features)
    assert str(error.value) == (
        "features='2 of 40 rows not finite, the first at index 17': must be finite"
    )


def test_features_of_jax_are_taken_in_float64() -> None:
    features = jnp.asarray(FEATURES[:50])
    np.testing.assert_array_equal(Moments.of(features).scatter, Moments.of(FEATURES[:50]).scatter)
    assert Moments.of(features.astype(jnp.bfloat16)).mean.dtype == np.float64


@pytest.mark.parametrize("features", [np.zeros(3), np.zeros((3, 0)), np.zeros((2, 2, 2))])
def test_of_needs_a_matrix(features: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match=r"features=\(.*of shape \[n, D\]"):
        Moments.of(features)
