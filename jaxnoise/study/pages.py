"""What a study shows: its tables, its pictures, and the pages of its runs side by side."""

from collections.abc import Sequence
from typing import Any

from jaxnoise.evaluation.score_keys import higher_is_better
from jaxnoise.experiment import RaterRun
from jaxnoise.figures.arms import (
    Change,
    Curve,
    save_arm_curves,
    save_arm_samples,
    save_arms,
    save_changes,
)
from jaxnoise.files import write_whole
from jaxnoise.report import write_comparison
from jaxnoise.report.run_data import read_run
from jaxnoise.study.answers import VERDICTS, Answer, answers_of
from jaxnoise.study.answers import as_markdown as answers_as_markdown
from jaxnoise.study.claims import Claim
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.local import say
from jaxnoise.study.plan import PlannedRun
from jaxnoise.study.question import Comparison, Study
from jaxnoise.study.tables import Row, as_csv, as_markdown, distinct, rows_of


def show(study: Study, folder: StudyFolder, runs: Sequence[PlannedRun]) -> None:
    """Writes and prints the tables; draws the figures and pages of what is scored.

    Args:
      study: what is compared.
      folder: of the study.
      runs: the plan.
    """
    rows = scored_rows(study, folder, runs)
    if not rows:
        say("no run is finished yet")
        return
    table = tables(study, rows, folder, runs)
    write_whole(folder.root / "results.md", table)
    write_whole(folder.root / "results.csv", as_csv(distinct(rows)))
    draw(study, rows, folder, runs)
    for name in study.comparisons:
        roots = [folder.run_folder(planned).root for planned in scored_runs(name, folder, runs)]
        if len(roots) > 1:
            write_comparison(roots, folder.root / name)
    print(table)


def scored_rows(study: Study, folder: StudyFolder, runs: Sequence[PlannedRun]) -> list[Row]:
    """A row for every arm and score, as `rows_of` makes them, beside each comparison's control."""
    controls = {name: comparison.control for name, comparison in study.comparisons.items()}
    return rows_of(folder, runs, controls)


def scored_runs(
    comparison: str, folder: StudyFolder, runs: Sequence[PlannedRun]
) -> list[PlannedRun]:
    """The runs of a comparison that have a score."""
    return [run for run in runs if run.comparison == comparison and "" in folder.results(run)]


def tables(
    study: Study, rows: Sequence[Row], folder: StudyFolder, runs: Sequence[PlannedRun]
) -> str:
    """The question, the answers to claims, all scores, and what they have cost, in Markdown."""
    answered = answered_claims(study, rows, folder, runs)
    parts = f"## Answers\n\n{answered}\n## Scores\n\n" if answered else ""
    scores = as_markdown(distinct(rows))
    return f"# {study.question}\n\n{parts}{scores}\n{_cost_of(folder, runs)}\n"


def answered_claims(
    study: Study, rows: Sequence[Row], folder: StudyFolder, runs: Sequence[PlannedRun]
) -> str:
    """The answers in Markdown, and how many claims wait for runs; "" without any answer."""
    answers = answers_of(study.claims, rows)
    if not answers:
        return ""
    answered = [answer.claim for answer in answers]
    planned = {(run.comparison, run.arm) for run in runs}
    left = {(run.comparison, run.arm) for run in runs if not folder.is_finished(run)}
    # Of this budget: another one may have more arms.
    asked = [claim for claim in study.claims if _arms_of(claim) <= planned]
    waiting = [claim for claim in asked if claim not in answered and _arms_of(claim) & left]
    alike = [claim for claim in asked if claim not in answered and not _arms_of(claim) & left]
    says = answers_as_markdown(answers)
    if waiting:
        says += f"\n{len(waiting)} of {len(asked)} claims wait for runs.\n"
    if alike:
        why = "where steps cost alike, or no score was taken so early"
        says += f"\n{len(alike)} of {len(asked)} claims are about equal cost, {why}.\n"
    return says


def _arms_of(claim: Claim) -> set[tuple[str, str]]:
    return {(claim.comparison, arm) for pair in claim.pairs for arm in pair}


def draw(
    study: Study, rows: Sequence[Row], folder: StudyFolder, runs: Sequence[PlannedRun]
) -> None:
    """Draws answers, the distances of every arm, and each comparison's curves and samples."""
    answers = answers_of(study.claims, rows)
    drawn = [a for a in answers if a.worse > 0 and not higher_is_better(a.claim.score)]
    if drawn:
        changes = list(map(_change, drawn))
        save_changes(study.question, changes, VERDICTS, folder.root / "answers.png")
    distances = [row for row in distinct(rows) if row.score.startswith("frechet_")]
    for scored, score in dict.fromkeys((row.scored, row.score) for row in distances):
        own = [row for row in distances if (row.scored, row.score) == (scored, score)]
        save_arms(
            f"{scored}: {study.question}",
            score,
            {row.arm: list(row.values.values()) for row in own},
            study.comparisons[own[0].comparison].control,
            folder.root / f"{scored}_{score}.png",
            own[0].floor,
        )
    for name, comparison in study.comparisons.items():
        if own_runs := scored_runs(name, folder, runs):
            draw_curves(name, comparison, folder, own_runs)
            draw_levels(name, comparison, folder, own_runs)
            draw_samples(name, comparison, folder, own_runs)


def _change(answer: Answer) -> Change:
    claim, difference, scale = answer.claim, answer.difference, 1 / answer.worse
    where = ", ".join(filter(None, (claim.comparison, claim.further, claim.score)))
    ends = difference.mean * scale, difference.low * scale, difference.high * scale
    return Change(f"{claim.says}: {where}", *ends, answer.verdict)


def _cost_of(folder: StudyFolder, runs: Sequence[PlannedRun]) -> str:
    """How long the runs have trained, and on what."""
    own = [planned for planned in runs if "" in folder.results(planned)]
    kinds = [folder.results(planned)[""].get("devices", {}) for planned in own]
    machines = sorted({f"{kind['count']} x {kind['kind']}" for kind in kinds if kind})
    hours = sum(map(folder.hours, own))
    where = f", each on {' or '.join(machines)}" if machines else ""
    untold = any(isinstance(run.run, RaterRun) for run in runs if run not in own)
    aside = " Raters of noise are not among them." if untold else ""
    return f"{len(own)} runs, {hours:.1f} hours of training{where}.{aside}"


def draw_curves(
    name: str, comparison: Comparison, folder: StudyFolder, runs: Sequence[PlannedRun]
) -> None:
    """Draws the distances over the images seen, where runs were scored on the way."""
    panels: dict[str, dict[str, list[Curve]]] = {}
    for planned in _shown(comparison, runs):
        rows = folder.run_folder(planned).rows()
        # A rater of noise draws no images.
        for sampler in folder.results(planned)[""].get("nfe", ()):
            key = f"frechet_{sampler}"
            scored = [row for row in rows if row.get(key) is not None]
            if len(scored) > 1:
                curve = [row["images_seen"] for row in scored], [row[key] for row in scored]
                panels.setdefault(key, {}).setdefault(planned.arm, []).append(curve)
    if panels:
        path = folder.root / f"{name}_curves.png"
        save_arm_curves(f"{name}: over training", "images seen", panels, comparison.control, path)


def draw_levels(
    name: str, comparison: Comparison, folder: StudyFolder, runs: Sequence[PlannedRun]
) -> None:
    """Draws what one step makes of noised images, level by level, where that was measured."""
    for further in ("", *comparison.further):
        panels: dict[str, dict[str, list[Curve]]] = {}
        for planned in _shown(comparison, runs):
            found: dict[str, Any] = folder.results(planned).get(further, {}).get("denoised", {})
            for key, says in (
                ("frechet", "Fréchet distance of one-step estimates"),
                ("error", "mean squared error of one-step estimates"),
            ):
                if found:
                    curves = panels.setdefault(says, {}).setdefault(planned.arm, [])
                    curves.append((found["sigma"], found[key]))
        if panels:
            scored = f"{name}_{further}" if further else name
            save_arm_curves(
                f"{scored}: by level of noise",
                "noise level sigma",
                panels,
                comparison.control,
                folder.root / f"{scored}_by_level.png",
                log_x=True,
            )


def draw_samples(
    name: str, comparison: Comparison, folder: StudyFolder, runs: Sequence[PlannedRun]
) -> None:
    """Draws the samples at the end of training of the first seed that most arms have any of."""
    seeds: dict[int, dict[str, bytes]] = {}
    for planned in _shown(comparison, runs):
        for grid in read_run(folder.run_folder(planned).root).grids:
            if grid.step == planned.run.train.last_step:
                seeds.setdefault(planned.seed, {})[planned.arm] = grid.picture.png
    if seeds:
        seed = min(seeds, key=lambda seed: (-len(seeds[seed]), seed))
        path = folder.root / f"{name}_samples.png"
        save_arm_samples(f"{name}: samples, seed {seed}", seeds[seed], path)


def _shown(comparison: Comparison, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    return [run for run in runs if not comparison.shown or run.arm in comparison.shown]
