"""What a study answers to its claims: holds here, does not, or cannot tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jaxnoise.evaluation.score_keys import higher_is_better
from jaxnoise.study.claims import Claim
from jaxnoise.study.tables import Difference, Row, decimals, paired_difference

HOLDS, FAILS, UNKNOWN = VERDICTS = "holds here", "does not hold here", "cannot tell"
LEAST_SEEDS = 3
"""For a verdict: two seeds may lie close together by chance."""


@dataclass(frozen=True)
class Answer:
    """A claim, and what the finished runs say of it.

    Args:
      claim: what is said.
      better: the mean score of the arms that are said to be better, over the seeds that all have.
      worse: of those that they are said to beat.
      difference: of the former minus the latter, paired by seed.
      ahead: in how many of the claim's pairs the former scores better, by its mean over these
        seeds; far from all or none where a single pair decides the mean of several.
    """

    claim: Claim
    better: float
    worse: float
    difference: Difference
    ahead: int

    @property
    def verdict(self) -> str:
        """Whether the 95% interval lies on the side that is claimed, on the other, or on both.

        With fewer than three seeds nothing can be told.
        """
        if self.difference.seeds < LEAST_SEEDS:
            return UNKNOWN
        low, high = self.difference.low, self.difference.high
        if higher_is_better(self.claim.score):
            low, high = -high, -low
        return HOLDS if high < 0 else FAILS if low > 0 else UNKNOWN


def answers_of(claims: Sequence[Claim], rows: Sequence[Row]) -> list[Answer]:
    """An answer to every claim of which one seed has all arms.

    Args:
      claims: of the study.
      rows: as `rows_of` makes them.
    """
    values = {(row.comparison, row.further, row.score, row.arm): row.values for row in rows}
    found = []
    for claim in claims:
        place = claim.comparison, claim.further, claim.score
        of_pairs = [[values.get((*place, arm), {}) for arm in pair] for pair in claim.pairs]
        seeds = set.intersection(*(set(scores) for pair in of_pairs for scores in pair))
        better, worse = (
            {seed: float(np.mean([pair[side][seed] for pair in of_pairs])) for seed in seeds}
            for side in (0, 1)
        )
        if difference := paired_difference(better, worse):
            sign = -1.0 if higher_is_better(claim.score) else 1.0
            gaps = [sign * np.mean([p[0][seed] - p[1][seed] for seed in seeds]) for p in of_pairs]
            ahead = sum(bool(gap < 0) for gap in gaps)
            found.append(Answer(claim, _mean(better), _mean(worse), difference, ahead))
    return found


def _mean(scores: Mapping[int, float]) -> float:
    return float(np.mean(list(scores.values())))


def as_markdown(answers: Sequence[Answer]) -> str:
    """A table of answers, in the order of the claims: means of the first arms, of the second.

    Where a claim is about several pairs, the difference is followed by how many agree with it.
    """
    columns = (
        *("claim", "answer", "where", "score", "first", "second"),
        *("difference, 95% interval", "effect", "seeds", "who claims it"),
    )
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return head + "\n".join(map(_line, answers)) + "\n"


def _line(answer: Answer) -> str:
    claim, d = answer.claim, answer.difference
    where = claim.comparison + (f", {claim.further}" if claim.further else "")
    digits = decimals(answer.better, answer.worse)
    interval = f" ({d.low:+.{digits}f} to {d.high:+.{digits}f})" if d.seeds > 1 else ""
    pairs = len(claim.pairs)
    agree = f", first better in {answer.ahead} of {pairs} pairs" if pairs > 1 else ""
    effect = "" if d.effect is None else f"{d.effect:+.1f}"
    return (
        f"| {claim.says} | **{answer.verdict}** | {where} | {claim.score} "
        f"| {answer.better:.{digits}f} | {answer.worse:.{digits}f} "
        f"| {d.mean:+.{digits}f}{interval}{agree} | {effect} | {d.seeds} | {claim.source} |"
    )
