"""What a study found: means, differences to the control paired by seed, and their intervals."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import floor, inf, log10, sqrt
from typing import Any

import numpy as np
from scipy import stats

from jaxnoise.evaluation.denoised import by_band
from jaxnoise.evaluation.score_keys import (
    FLOOR,
    higher_is_better,
    is_untrained,
    sampler_of,
    without_average,
)
from jaxnoise.report.formats import with_deviation
from jaxnoise.study.agreement import check_agreement
from jaxnoise.study.claims import EQUAL_COST
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.plan import PlannedRun

CONFIDENCE = 0.95
EACH_AS_DEAR = (
    "each arm where it has cost as much as the cheapest run at its end; training the rater that it "
    "selects by, if any, is not counted"
)
SAME_COST = 0.02
"""Steps whose costs differ by less are equally dear."""
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
      further: the name of a further score, or "" for a run's own.
      arm: the arm's name.
      score: the key of the score, such as "frechet_1step".
      values: seed -> score.
      floor: the score of real images, if there is one.
      difference: to the control; None for the control itself, or without a common seed.
      about: what was scored how, in one line.
    """

    comparison: str
    further: str
    arm: str
    score: str
    values: Mapping[int, float]
    floor: float | None
    difference: Difference | None
    about: str

    @property
    def scored(self) -> str:
        """What was scored how, as the name of a table or file."""
        return f"{self.comparison}_{self.further}" if self.further else self.comparison

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
    # Equal differences are unlike by rounding, and no effect is that many deviations large.
    size = max(abs(scores[seed]) for scores in (arm, control) for seed in seeds)
    effect = mean / deviation if deviation > 1e-12 * size else None
    return Difference(mean, mean - reach, mean + reach, effect, len(gaps))


def scores_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a result that tell arms apart, by their keys.

    Args:
      result: of a run.

    Returns:
      Those of a sampler's images, such as "frechet_1step", and of each noise band, such as
      "denoised_error_0.1-1"; none of a rater's.
    """
    samplers = tuple(result.get("nfe", ()))
    own = {
        key: value
        for key, value in result.items()
        if isinstance(value, float) and not is_untrained(key) and key.endswith(samplers)
    }
    return own | by_band(result["denoised"]) if "denoised" in result else own


def rows_of(
    folder: StudyFolder, runs: Sequence[PlannedRun], controls: Mapping[str, str]
) -> list[Row]:
    """A row for every arm and score of the runs that are there, the best arms first.

    Args:
      folder: of the study.
      runs: the plan.
      controls: comparison -> the arm that others are compared with.

    Raises:
      ConfigError: scores that do not mean the same.
    """
    check_agreement(folder, runs)
    found: dict[tuple[str, str, str], dict[str, dict[int, float]]] = {}
    first: dict[tuple[str, str], dict[str, Any]] = {}
    seen: dict[tuple[str, str], set[int]] = {}
    weights: dict[tuple[str, str], set[str]] = {}
    for planned in sorted(runs, key=lambda planned: list(controls).index(planned.comparison)):
        for further, result in folder.results(planned).items():
            place = planned.comparison, further
            first.setdefault(place, result)
            seen.setdefault(place, set()).add(result.get("images_seen", 0))
            weights.setdefault(place, set()).add(result.get("weights", ""))
            for key, value in scores_of(result).items():
                by_arm = found.setdefault((planned.comparison, further, key), {})
                by_arm.setdefault(planned.arm, {})[planned.seed] = value
    for (comparison, key), by_arm in at_equal_cost(folder, runs).items():
        found[comparison, EQUAL_COST, key] = by_arm
        first[comparison, EQUAL_COST] = first[comparison, ""]
        weights[comparison, EQUAL_COST] = weights[comparison, ""]
    rows: list[Row] = []
    # Own scores of a comparison before the further ones.
    order = {name: place for place, name in enumerate(controls)}
    for (comparison, further, key), by_arm in sorted(
        found.items(), key=lambda item: (order[item[0][0]], item[0][1])
    ):
        result, control = first[comparison, further], controls[comparison]
        equal = further == EQUAL_COST
        far = EACH_AS_DEAR if equal else images_seen(seen[comparison, further])
        about = protocol_of(result, far, weights[comparison, further])
        of_images = without_average(key)
        floor_key = FLOOR if sampler_of(of_images) else f"{of_images.rpartition('_')[0]}_floor"
        own = [
            Row(
                comparison,
                further,
                arm,
                key,
                values,
                result.get(floor_key),
                None if arm == control else paired_difference(values, by_arm.get(control, {})),
                about,
            )
            for arm, values in by_arm.items()
        ]
        rows += sorted(own, key=lambda row: row.mean, reverse=higher_is_better(key))
    return rows


def distinct(rows: Sequence[Row]) -> list[Row]:
    """Without further scores that are a run's own again, taken where only another was wanted."""
    own = {(row.comparison, row.score, row.arm): row.values for row in rows if not row.further}
    new = {
        (row.scored, row.score)
        for row in rows
        if not row.further
        or not row.values.items() <= own.get((row.comparison, row.score, row.arm), {}).items()
    }
    return [row for row in rows if (row.scored, row.score) in new]


def images_seen(counts: Collection[int]) -> str:
    """How many images the runs of a table have seen; arms may differ, such as pools.

    Example:
      >>> images_seen({51200}), images_seen({51200, 204800})
      ('51,200 images seen', '51,200 to 204,800 images seen')
    """
    ends = dict.fromkeys((min(counts), max(counts)))
    return f"{' to '.join(f'{count:,}' for count in ends)} images seen"


def protocol_of(result: Mapping[str, Any], seen: str, weights: Collection[str]) -> str:
    """What the distances of a table mean, and on what they were made.

    Args:
      result: of one of its runs.
      seen: how far the runs are.
      weights: which ones images were drawn with, "ema" or "raw"; arms may differ.
    """
    names = {"ema": "moving average of the weights", "raw": "raw weights"}
    drawn_with = " or the ".join(name for kind, name in names.items() if kind in weights)
    images = f"{result['n']:,} images drawn with the {drawn_with}"
    return (
        f"{seen}; {result['distance']}; {images}, against "
        f"{result['reference_count'] or 'published statistics'} of {result['reference']}"
    )


def at_equal_cost(
    folder: StudyFolder, runs: Sequence[PlannedRun]
) -> dict[tuple[str, str], dict[str, dict[int, float]]]:
    """The distances of runs where each has cost as much, where their steps cost unlike much.

    The cost is that of the cheapest run at its end. Between two scores that were taken on the way,
    a distance is linear in the logarithms of both; a run that has no score so early is left out.

    Args:
      folder: of the study.
      runs: the plan.

    Returns:
      `(comparison, score) -> arm -> seed -> distance`.
    """
    found: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for comparison in dict.fromkeys(run.comparison for run in runs):
        own = [run for run in runs if run.comparison == comparison and "" in folder.results(run)]
        counted = [(run, folder.operations(run)) for run in own]
        costs = [(run, cost) for run, cost in counted if cost is not None]
        each = [cost for _, cost in costs]
        if not each or max(each) < (1 + SAME_COST) * min(each):
            continue
        budget = min(cost * run.run.train.last_step for run, cost in costs)
        for run, cost in costs:
            # The quotient of the cheapest may be a rounding above its last step.
            place = min(budget / cost, run.run.train.last_step)
            for key, (steps, values) in _curves_of(folder, run).items():
                if steps[0] <= place <= steps[-1]:
                    value = np.exp(np.interp(np.log(place), np.log(steps), np.log(values)))
                    by_arm = found.setdefault((comparison, key), {})
                    by_arm.setdefault(run.arm, {})[run.seed] = float(value)
    return found


def _curves_of(folder: StudyFolder, run: PlannedRun) -> dict[str, tuple[list[int], list[float]]]:
    """The Fréchet distances of a run by their keys, and the steps after which they were taken."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for row in folder.run_folder(run).rows():
        for key, value in row.items():
            if sampler_of(key) and value:
                steps, values = curves.setdefault(key, ([], []))
                steps.append(row["step"])
                values.append(value)
    return curves


def decimals(*scores: float) -> int:
    """How many decimals show three digits of the largest of some scores; at least three.

    Example:
      >>> decimals(45.6, 0.7), decimals(0.00042, 0.00032)
      (3, 6)
    """
    largest = max(map(abs, scores))
    return max(3, 2 - floor(log10(largest))) if 0 < largest < inf else 3


def as_csv(rows: Sequence[Row]) -> str:
    """One line for every arm, score and seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["comparison", "further", "arm", "score", "seed", "value"])
    for row in rows:
        for seed, value in sorted(row.values.items()):
            writer.writerow([row.comparison, row.further, row.arm, row.score, seed, repr(value)])
    return text.getvalue()


def as_markdown(rows: Sequence[Row]) -> str:
    """Tables in Markdown: of every score side by side, then of the distances one by one."""
    parts = []
    for scored in dict.fromkeys(row.scored for row in rows):
        own = [row for row in rows if row.scored == scored]
        parts.append(f"### {scored}\n\n{own[0].about}\n\n{_side_by_side(own)}")
        for score in dict.fromkeys(row.score for row in own):
            if score.startswith("frechet_"):
                some = [row for row in own if row.score == score]
                floor = "" if some[0].floor is None else f", floor {some[0].floor:.3f}"
                parts.append(
                    f"**{scored}: {score}**{floor}\n\n"
                    "| arm | mean ± spread | seeds | difference to the control, 95% interval "
                    "| effect |\n|---|---|---|---|---|\n" + "\n".join(map(_line, some)) + "\n"
                )
    return "\n".join(parts)


def _side_by_side(rows: Sequence[Row]) -> str:
    """Means of every score, a line for each arm, best first by the first score."""
    scores = list(dict.fromkeys(row.score for row in rows))
    means = {(row.arm, row.score): f"{row.mean:.3g}" for row in rows}
    floors = {row.score: "" if row.floor is None else f"{row.floor:.3g}" for row in rows}
    lines = [
        f"| {arm} | " + " | ".join(means.get((arm, score), "") for score in scores) + " |"
        for arm in dict.fromkeys(row.arm for row in rows)
    ]
    if any(floors.values()):
        lines.append("| *real images* | " + " | ".join(floors[s] for s in scores) + " |")
    head = f"| arm | {' | '.join(scores)} |\n|---|{'---|' * len(scores)}\n"
    return head + "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    difference, effect, digits = "control", "", decimals(row.mean)
    if row.difference is not None:
        d = row.difference
        interval = f" ({d.low:+.{digits}f} to {d.high:+.{digits}f})"
        difference = f"{d.mean:+.{digits}f}{interval if d.seeds > 1 else ' (one seed)'}"
        effect = "" if d.effect is None else f"{d.effect:+.1f}"
    mean = f"{row.mean:.{digits}f}"
    if len(row.values) > 1:
        mean = with_deviation(row.mean, row.spread)
    return f"| {row.arm} | {mean} | {len(row.values)} | {difference} | {effect} |"
