"""What is said of a claim, from scores whose differences are known."""

import numpy as np
import pytest

from jaxnoise.study import Claim
from jaxnoise.study.answers import FAILS, HOLDS, UNKNOWN, answers_of, as_markdown
from jaxnoise.study.tables import Row, paired_difference


def row(arm, values, score="frechet_1step", further=""):
    return Row("digits", further, arm, score, dict(enumerate(values)), None, None, "")


ROWS = [
    row("a", (1.0, 1.2, 1.1)),
    row("b", (2.0, 2.1, 2.2)),
    row("c", (1.0, 1.4, 1.0)),
    row("d", (3.0,)),
    row("a", (0.5, 0.6, 0.7), "recall_1step"),
    row("b", (0.1, 0.2, 0.3), "recall_1step"),
    row("a", (9.0, 9.1, 9.2), further="raw"),
    row("b", (8.0, 8.0, 8.0), further="raw"),
    row("e", (1.0, 1.01)),
]


@pytest.mark.parametrize(
    ("pairs", "given", "verdict"),
    [
        ([("a", "b")], {}, HOLDS),
        ([("b", "a")], {}, FAILS),
        ([("a", "c")], {}, UNKNOWN),
        # One seed has no interval, and that of two may be short by chance.
        ([("a", "d")], {}, UNKNOWN),
        ([("e", "b")], {}, UNKNOWN),
        # Recall is better high.
        ([("a", "b")], {"score": "recall_1step"}, HOLDS),
        ([("b", "a")], {"score": "recall_1step"}, FAILS),
        ([("a", "b")], {"further": "raw"}, FAILS),
    ],
)
def test_a_claim_holds_where_the_interval_lies_on_its_side(pairs, given, verdict):
    (answer,) = answers_of([Claim("it is better", "digits", tuple(pairs), **given)], ROWS)
    assert answer.verdict == verdict
    assert f"| it is better | **{verdict}** |" in as_markdown([answer])


def test_a_main_effect_is_the_mean_over_its_pairs_seed_by_seed():
    claim = Claim("it is better", "digits", (("a", "b"), ("c", "b")), source="a paper")
    (answer,) = answers_of([claim], ROWS)
    expected = paired_difference({0: 1.0, 1: 1.3, 2: 1.05}, {0: 2.0, 1: 2.1, 2: 2.2})
    assert answer.better == pytest.approx(np.mean([1.0, 1.3, 1.05]))
    assert answer.worse == pytest.approx(2.1)
    for name in ("mean", "low", "high", "effect", "seeds"):
        assert getattr(answer.difference, name) == pytest.approx(getattr(expected, name))
    line = as_markdown([answer]).splitlines()[2]
    assert line == (
        "| it is better | **holds here** | digits | frechet_1step | 1.117 | 2.100 "
        "| -0.983 (-1.420 to -0.547), first better in 2 of 2 pairs | -5.6 | 3 | a paper |"
    )


@pytest.mark.parametrize(("score", "ahead"), [("frechet_1step", 2), ("recall_1step", 1)])
def test_a_mean_that_one_pair_decides_is_seen_in_how_many_agree(score, ahead):
    rows = [
        *(row(arm, (1.0, 1.1, 0.9), score) for arm in ("a", "b")),
        *(row(arm, (1.2, 1.4, 1.1), score) for arm in ("c", "d")),
        row("bad", (50.0, 60.0, 55.0), score),
        row("good", (0.5, 0.4, 0.6), score),
    ]
    claim = Claim("it is better", "digits", (("a", "c"), ("b", "d"), ("bad", "good")), score)
    (answer,) = answers_of([claim], rows)
    assert answer.difference.mean > 15
    assert answer.ahead == ahead
    assert f", first better in {ahead} of 3 pairs |" in as_markdown([answer])


def test_small_scores_are_shown_with_three_digits():
    rows = [
        row("a", (0.00032, 0.00031, 0.00033), "denoised_error_0.1-1"),
        row("b", (0.00042, 0.00043, 0.00042), "denoised_error_0.1-1"),
    ]
    claim = Claim("it is better", "digits", (("a", "b"),), "denoised_error_0.1-1")
    line = as_markdown(answers_of([claim], rows)).splitlines()[2]
    assert "| 0.000320 | 0.000423 | -0.000103 (-0.000141 to -0.000065) |" in line


def test_what_has_not_been_run_is_not_answered():
    claims = [
        Claim("of an arm that is not there", "digits", (("a", "f"),)),
        Claim("of a pair that is not there", "digits", (("a", "b"), ("a", "f"))),
        Claim("of another comparison", "clothes", (("a", "b"),)),
        Claim("of another score", "digits", (("a", "b"),), "frechet_2step"),
    ]
    assert answers_of(claims, ROWS) == []
