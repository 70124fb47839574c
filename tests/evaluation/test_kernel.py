"""The kernel distance against its double loop, without bias, and the same for the same seed."""

import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import kernel, kernel_distance, squared_mmd


def _by_double_loop(x: np.ndarray, y: np.ndarray) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (float(np.dot(a, b)) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    total = 0.0
    for i in range(n):
        for j in range(n):
            total += k(x[i], x[j]) / (n * (n - 1)) if i != j else 0
    for i in range(m):
        for j in range(m):
            total += k(y[i], y[j]) / (m * (m - 1)) if i != j else 0
    for a in x:
        for b in y:
            total -= 2 * k(a, b) / (n * m)
    return total


@pytest.mark.parametrize("block", [1, 17, 2**24])
def test_discrepancy_equals_its_double_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_BLOCK", block)
    rng = np.random.RandomState(0)
    real, generated = rng.standard_normal((7, 5)), 2 * rng.standard_normal((9, 5)) + 1
    expected = _by_double_loop(real, generated)
    assert squared_mmd(real, generated) == pytest.approx(expected, rel=1e-12)
    assert squared_mmd(generated, real) == pytest.approx(expected, rel=1e-12)


def test_points_have_a_closed_form() -> None:
    # k(a, a) + k(b, b) - 2 k(a, b) with a.a/D = 1, b.b/D = 9, a.b/D = 3.
    real, generated = np.full((2, 3), 1.0), np.full((4, 3), 3.0)
    assert squared_mmd(real, generated) == pytest.approx(2**3 + 10**3 - 2 * 4**3, rel=1e-14)


def test_equal_distributions_are_at_zero_on_average() -> None:
    rng = np.random.RandomState(1)
    sets = rng.uniform(0, 1, (400, 2, 20, 6))
    draws = np.array([squared_mmd(*pair) for pair in sets])
    standard_error = draws.std() / np.sqrt(len(draws))
    assert abs(draws.mean()) < 4 * standard_error
    # Keeping the diagonals, k(x, x) in place of k(x, x'), would be seen.
    own = np.mean((np.sum(sets**2, axis=-1) / 6 + 1) ** 3)
    bias = 2 * (own - (0.25 + 1) ** 3) / 20
    assert bias > 20 * standard_error


def test_subsets_are_unbiased_for_the_full_sample() -> None:
    rng = np.random.RandomState(2)
    real, generated = rng.standard_normal((200, 4)), rng.standard_normal((150, 4)) + 0.5
    result = kernel_distance(real, generated, subset_size=20, subsets=400, seed=3)
    error = result.standard_deviation / np.sqrt(400)
    assert abs(result.mean - squared_mmd(real, generated)) < 4 * error
    assert error < 0.1 * result.mean


def test_mean_and_deviation_are_those_of_the_subsets() -> None:
    rng = np.random.RandomState(3)
    real, generated = rng.standard_normal((12, 2)), rng.standard_normal((10, 2))
    draws = np.random.RandomState(5)
    values = []
    for _ in range(3):
        first, second = draws.permutation(12)[:4], draws.permutation(10)[:4]
        values.append(_by_double_loop(real[first], generated[second]))
    result = kernel_distance(real, generated, subset_size=4, subsets=3, seed=5)
    assert result == pytest.approx((np.mean(values), np.std(values)), rel=1e-10)


def test_whole_sets_as_subsets_leave_no_scatter() -> None:
    real, generated = np.random.RandomState(4).standard_normal((2, 30, 4))
    result = kernel_distance(real, generated, subset_size=30, subsets=5)
    assert result.mean == pytest.approx(squared_mmd(real, generated), rel=1e-10)
    assert result.standard_deviation < 1e-12


def test_the_seed_decides() -> None:
    real, generated = np.random.RandomState(5).standard_normal((2, 60, 4)).astype(np.float32)

    def distance(seed: int) -> tuple[float, float]:
        return kernel_distance(real, generated, subset_size=10, subsets=4, seed=seed)

    assert distance(1) == distance(1)
    assert distance(1) != distance(2)


def test_bad_arguments_are_named() -> None:
    real = np.random.RandomState(6).standard_normal((30, 4))
    with pytest.raises(
        ArgumentError,
        match=r"subset_size=1000: must be in 2..20 \(the smaller set\): generate more",
    ):
        kernel_distance(real, real[:20])
    with pytest.raises(ArgumentError, match=r"subset_size=1:"):
        kernel_distance(real, real, subset_size=1)
    with pytest.raises(ArgumentError, match="subsets=1: must be at least 2"):
        kernel_distance(real, real, subset_size=10, subsets=1)
    with pytest.raises(ArgumentError, match=r"generated=\(30, 3\): .* \[n, 4\]"):
        kernel_distance(real, real[:, :3], subset_size=10)
    with pytest.raises(ArgumentError, match=r"real=\(1, 4\): must be of at least 2 rows"):
        squared_mmd(real[:1], real)
    real[3, 1] = np.inf
    with pytest.raises(ArgumentError, match=r"generated='1 of 30 rows not finite, .* index 3'"):
        squared_mmd(real[:3], real)
