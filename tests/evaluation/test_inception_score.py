"""The Inception score against its formula, and where it is known exactly."""

from itertools import pairwise

import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import inception_score


def _by_formula(logits: np.ndarray) -> float:
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return float(np.exp(np.mean(np.sum(p * np.log(p / p.mean(axis=0)), axis=1))))


@pytest.mark.parametrize("n, splits", [(40, 1), (40, 4), (43, 10), (10, 10)])
def test_score_equals_its_formula(n: int, splits: int) -> None:
    logits = (3 * np.random.RandomState(n).standard_normal((n, 6))).astype(np.float32)
    edges = [i * n // splits for i in range(splits + 1)]
    expected = [_by_formula(logits[a:b].astype(np.float64)) for a, b in pairwise(edges)]
    score = inception_score(logits, splits)
    assert score.mean == pytest.approx(np.mean(expected), rel=1e-12)
    assert score.standard_deviation == pytest.approx(np.std(expected), rel=1e-9, abs=1e-14)


def test_equal_logits_score_one() -> None:
    assert inception_score(np.full((20, 1000), 3.0)) == pytest.approx((1.0, 0.0), abs=1e-12)
    # Confident, but always in the same class.
    assert inception_score(np.eye(7)[[2] * 20] * 1e4) == pytest.approx((1.0, 0.0), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 5, 10])
def test_confident_and_even_over_k_classes_scores_k(classes: int) -> None:
    # 1e4 underflows every other probability: 0 log 0 must count as 0. The 11th class never occurs.
    logits = 1e4 * np.tile(np.eye(11)[:classes], (10, 1))
    assert inception_score(logits) == pytest.approx((classes, 0.0), rel=1e-12, abs=1e-9)


def test_a_shift_of_all_logits_changes_nothing() -> None:
    logits = np.random.RandomState(0).standard_normal((30, 5))
    shift = np.random.RandomState(1).uniform(-500, 500, (30, 1))
    assert inception_score(logits + shift) == pytest.approx(inception_score(logits), rel=1e-10)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"splits=10: must be in 1..9, the number of images"):
        inception_score(np.zeros((9, 3)))
    with pytest.raises(ArgumentError, match="splits=0"):
        inception_score(np.zeros((9, 3)), splits=0)
    with pytest.raises(ArgumentError, match="logits='1 of 2 rows not finite"):
        inception_score([[0.0, 1.0], [np.nan, 0.0]], splits=1)
    with pytest.raises(ArgumentError, match=r"logits=\(3,\)"):
        inception_score(np.zeros(3))
