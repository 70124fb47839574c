"""What a study found: means, differences to the control paired by seed, and their intervals."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from scipy import stats

from jaxnoise.evaluation.score_keys import FLOOR, higher_is_better, is_untrained
from jaxnoise.report.formats import with_deviation
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.plan import PlannedRun

CONFIDENCE = 0.95
Scores = Mapping[str, Mapping[int, float]]
"""`arm -> seed -> score`."""


@dataclass(frozen=True)
class Difference:
    """How far an arm lies above the control, over the seeds that both have.

    Args:
      mean: of arm minus control.
      low: lower end of its 95% confidence interval, by Student's t; -inf for one seed.
      high: upper end.
      effect: mean over standard deviation of the differences (Cohen's d of pairs), or None where
        that is not defined.
      seeds: how many pairs.
    """

    mean: float
    low: float
    high: float
    effect: float | None
    seeds: int


@dataclass(frozen=True)
class Row:
    """One arm and one score.

    Args:
      comparison: the comparison's name.
      arm: the arm's name.
      score: the key of the score, such as "frechet_1step".
      values: seed -> score.
      floor: the score of real images, if there is one.
      difference: to the control; None for the control itself, or without a common seed.
      images_seen: by each run.
    """

    comparison: str
    arm: str
    score: str
    values: Mapping[int, float]
    floor: float | None
    difference: Difference | None
    images_seen: int

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(list(self.values.values())))

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; 0 for one."""
        values = list(self.values.values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def paired_difference(arm: Mapping[int, float], control: Mapping[int, float]) -> Difference | None:
    """The difference of two arms over their common seeds.

    Args:
      arm: seed -> score.
      control: seed -> score.

    Returns:
      The difference, or None without a common seed.

    Example:
      >>> found = paired_difference({0: 2.0, 1: 3.5}, {0: 1.0, 1: 2.0, 2: 9.0})
      >>> found.mean, found.seeds, round(found.low, 3), round(found.high, 3)
      (1.25, 2, -1.927, 4.427)
    """
    seeds = sorted(arm.keys() & control.keys())
    if not seeds:
        return None
    gaps = np.array([arm[seed] - control[seed] for seed in seeds])
    mean = float(np.mean(gaps))
    if len(gaps) == 1:
        return Difference(mean, -np.inf, np.inf, None, 1)
    deviation = float(np.std(gaps, ddof=1))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1)) * deviation / sqrt(len(gaps))
    effect = mean / deviation if deviation > 0 else None
    return Difference(mean, mean - reach, mean + reach, effect, len(gaps))


def score_keys(result: Mapping[str, Any]) -> list[str]:
    """The keys of a result that are scores of a sampler's images, such as "frechet_1step"."""
    samplers = tuple(result["nfe"])
    return [
        key
        for key, value in result.items()
        if isinstance(value, float) and not is_untrained(key) and key.endswith(samplers)
    ]


def rows_of(
    folder: StudyFolder, runs: Sequence[PlannedRun], controls: Mapping[str, str]
) -> list[Row]:
    """A row for every arm and score of the runs that are finished, the best arms first.

    Args:
      folder: of the study.
      runs: the plan.
      controls: comparison -> the arm that others are compared with.
    """
    finished = [(p, result) for p in runs if (result := folder.result(p)) is not None]
    rows: list[Row] = []
    for comparison, control in controls.items():
        own = [(p, result) for p, result in finished if p.comparison == comparison]
        keys = list(dict.fromkeys(key for _, result in own for key in score_keys(result)))
        for key in keys:
            by_arm: dict[str, dict[int, float]] = {}
            for planned, result in own:
                if key in result:
                    by_arm.setdefault(planned.arm, {})[planned.seed] = result[key]
            first = own[0][1]
            floor_key = FLOOR if key.startswith("frechet_") else f"{key.rpartition('_')[0]}_floor"
            found = [
                Row(
                    comparison,
                    arm,
                    key,
                    values,
                    first.get(floor_key),
                    None if arm == control else paired_difference(values, by_arm.get(control, {})),
                    first["images_seen"],
                )
                for arm, values in by_arm.items()
            ]
            rows += sorted(found, key=lambda row: row.mean, reverse=higher_is_better(key))
    return rows


def as_csv(rows: Sequence[Row]) -> str:
    """One line for every arm, score and seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["comparison", "arm", "score", "seed", "value"])
    for row in rows:
        for seed, value in sorted(row.values.items()):
            writer.writerow([row.comparison, row.arm, row.score, seed, repr(value)])
    return text.getvalue()


def as_markdown(rows: Sequence[Row]) -> str:
    """A table for every comparison and score, in Markdown."""
    parts = []
    for comparison, score in dict.fromkeys((row.comparison, row.score) for row in rows):
        own = [row for row in rows if (row.comparison, row.score) == (comparison, score)]
        floor = "" if own[0].floor is None else f"; floor {own[0].floor:.3f}"
        parts.append(
            f"### {comparison}: {score}\n\n{own[0].images_seen:,} images seen{floor}\n\n"
            "| arm | mean ± spread | seeds | difference to the control, 95% interval | effect |\n"
            "|---|---|---|---|---|\n" + "\n".join(map(_line, own)) + "\n"
        )
    return "\n".join(parts)


def _line(row: Row) -> str:
    difference, effect = "control", ""
    if row.difference is not None:
        d = row.difference
        interval = f" ({d.low:+.3f} to {d.high:+.3f})" if d.seeds > 1 else " (one seed)"
        difference = f"{d.mean:+.3f}{interval}"
        effect = "" if d.effect is None else f"{d.effect:+.1f}"
    mean = with_deviation(row.mean, row.spread) if len(row.values) > 1 else f"{row.mean:.3f}"
    return f"| {row.arm} | {mean} | {len(row.values)} | {difference} | {effect} |"
