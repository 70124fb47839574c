"""The page of several runs: compare.html."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from jaxnoise.errors import ConfigError
from jaxnoise.evaluation.score_keys import FLOOR, sampler_of
from jaxnoise.figures.style import ARM_COLORS, FAINT
from jaxnoise.report import markup
from jaxnoise.report.axes import fitted
from jaxnoise.report.charts import Level, Line, Mark, line_chart, running_mean, strip, strip_ticks
from jaxnoise.report.formats import number, quantity, setting, with_deviation
from jaxnoise.report.groups import Group, differing_keys, grouped, spread, warnings
from jaxnoise.report.run_data import Run, read_run
from jaxnoise.report.scores import PROTOCOL_KEYS, floor, protocol, scores
from jaxnoise.training.records import RunFolder

MOST_COLUMNS = 8
"""Settings that are columns of the table of scores; more get a table of their own."""


def write_comparison(roots: Sequence[Path], folder: Path) -> Path:
    """Writes compare.html, which shows several runs side by side and needs no other file.

    Runs whose configs differ in seeds only are one group with a mean and a spread.

    Args:
      roots: run folders, two or more different ones.
      folder: where to write; made if missing.

    Returns:
      Path of the page.

    Raises:
      ConfigError: fewer than two runs, one given twice, or a folder that holds no run.
    """
    if len(roots) < 2:
        raise ConfigError(f"--runs: needs at least two run folders, got {len(roots)}")
    seen: set[Path] = set()
    for root in roots:
        held = RunFolder(root)
        if not (held.config.is_file() or held.metrics.is_file() or held.result.is_file()):
            raise ConfigError(f"--runs: {root} holds no run")
        if root.resolve() in seen:
            raise ConfigError(f"--runs: {root} is given twice")
        seen.add(root.resolve())
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--workdir={folder}: is no folder")
    groups = grouped([read_run(root) for root in roots], ARM_COLORS)
    title = f"{' / '.join(group.name for group in groups)} - jaxnoise"
    return markup.write_page(folder / "compare.html", title, _body(groups))


def _body(groups: list[Group]) -> str:
    return "".join(
        [
            _header(groups),
            _scores(groups),
            _grids(groups),
            _charts(groups),
            _each_run(groups),
            "<footer>Made by jaxnoise from the run folders' own files.</footer>",
        ]
    )


def _header(groups: list[Group]) -> str:
    runs = sum(len(group.runs) for group in groups)
    keys = differing_keys(groups)
    lead = f"{runs} runs of {len(groups)} config{'s' * (len(groups) > 1)}. "
    if len(groups) > 1:
        first = ", ".join(keys[:MOST_COLUMNS])
        more = f" and {len(keys) - MOST_COLUMNS} more" if len(keys) > MOST_COLUMNS else ""
        lead += f"They differ in {first}{more}." if keys else "Their configs are not recorded."
    else:
        lead += "They differ in seeds only."
    lines = [
        f"{run.name}: {problem}"
        for group in groups
        for run in group.runs
        for problem in run.problems
    ]
    shown = "".join(f'<p class="warning">{escape(line)}</p>' for line in warnings(groups) + lines)
    return (
        '<header><p class="eyebrow">jaxnoise runs compared</p>'
        f"<h1>{escape(' / '.join(group.name for group in groups))}</h1>"
        f'<p class="lead">{escape(lead)}</p>{shown}</header>\n'
    )


def _scores(groups: list[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    samplers = list(dict.fromkeys(score.sampler for run in runs for score in scores(run.result)))
    table = _table(groups, samplers)
    if not samplers:
        return markup.section("Scores", markup.absent("No run has a score yet.") + table, "scores")
    scored = [run for run in runs if scores(run.result)]
    strips = "".join(_strips(groups, sampler) for sampler in samplers)
    shared = [
        f"{label[0].lower()}{label[1:]} {value}" for label, value in protocol(_common(scored), {})
    ]
    caption = (
        f"Every score: {'; '.join(shared)}. " if shared else ""
    ) + "Lower is better. One dot is one run, the bar is the mean of its group."
    if any(floor(run.result) is not None for run in scored):
        unknown = any(run.result.get("floor_may_be_in_reference") for run in scored)
        caption += (
            f" Dashed: real images that {'may be' if unknown else 'are not'} in the reference."
        )
    body = f'<div class="arms">{strips}</div><p class="caption">{escape(caption)}</p>{table}'
    return markup.section("Scores", body, "scores")


def _common(runs: list[Run]) -> dict[str, object]:
    """The part of the protocol that all results share."""
    first = runs[0].result
    keys = (*PROTOCOL_KEYS, "reference_count", "nfe", "weights", "images_seen")
    return {
        key: first[key]
        for key in keys
        if key in first and all(run.result.get(key) == first[key] for run in runs)
    }


def _strips(groups: list[Group], sampler: str) -> str:
    """One row of dots for each group."""
    held = {group.name: group.distances(sampler) for group in groups}
    floors = {floor(run.result) for group in groups for run in group.runs} - {None}
    lowest = floors.pop() if len(floors) == 1 else None
    values = [value for distances in held.values() for value in distances]
    axis = fitted([*values, lowest] if lowest is not None else values)
    rows = []
    for group in groups:
        distances = held[group.name]
        marks = [Mark(value, group.color, group.name) for value in distances]
        several = len(distances) > 1 and group.comparable
        middle = spread(distances).mean if several else None
        rows.append(
            f"<span>{escape(group.name)}</span>"
            + (strip(axis, marks, lowest, middle) if marks else "<small>no score</small>")
        )
    log = " <span>log scale</span>" if axis.log else ""
    return (
        f"<figure><figcaption><h3>{escape(sampler)}</h3>{log}</figcaption>"
        f'<div class="strips">{"".join(rows)}<span></span>{strip_ticks(axis)}</div></figure>'
    )


def _table(groups: list[Group], samplers: list[str]) -> str:
    keys = differing_keys(groups)
    columns = keys if len(keys) <= MOST_COLUMNS else []
    head = ["config", "runs", "images seen", *samplers, "floor"]
    cells = [f"<th>{escape(name)}</th>" for name in head]
    cells += [f'<th class="mono">{_breakable(key)}</th>' for key in columns]
    rows = []
    for group in groups:
        seen = {run.images_seen for run in group.runs if run.images_seen is not None}
        floors = {number(low) for run in group.runs if (low := floor(run.result)) is not None}
        row = [
            f'<th><span class="key" style="color:{group.color}"></span>{escape(group.name)}</th>',
            f"<td>{len(group.runs)}</td>",
            f"<td>{escape(' / '.join(quantity(value) for value in sorted(seen)) or '-')}</td>",
            *(_mean_cell(group, sampler) for sampler in samplers),
            f"<td>{escape(' / '.join(sorted(floors)) or '-')}</td>",
            *(f"<td>{_value(group, key)}</td>" for key in columns),
        ]
        rows.append(f"<tr>{''.join(row)}</tr>")
    tables = _as_table(cells, rows)
    if keys and not columns:
        names = "".join(f"<th>{escape(group.name)}</th>" for group in groups)
        lines = [
            f'<tr><th class="mono">{_breakable(key)}</th>'
            + "".join(f"<td>{_value(group, key)}</td>" for group in groups)
            + "</tr>"
            for key in keys
        ]
        tables += "<h3>Settings that differ</h3>" + _as_table([f"<th></th>{names}"], lines)
    return tables


def _as_table(head: list[str], rows: list[str]) -> str:
    return (
        '<div class="scroll" tabindex="0"><table class="runs">'
        f"<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _mean_cell(group: Group, sampler: str) -> str:
    distances = group.distances(sampler)
    if not distances:
        return "<td>-</td>"
    if not group.comparable:
        shown = " / ".join(number(distance) for distance in distances)
        return f"<td>{shown} <small>not comparable</small></td>"
    held = spread(distances)
    if held.deviation is None:
        return f'<td class="number">{number(held.mean)} <small>1 run</small></td>'
    return (
        f'<td class="number">{with_deviation(held.mean, held.deviation)} '
        f"<small>{held.count} runs</small></td>"
    )


def _value(group: Group, key: str) -> str:
    return (
        escape(setting(group.settings[key])) if key in group.settings else "<small>not set</small>"
    )


def _breakable(key: str) -> str:
    return escape(key).replace(".", ".<wbr>")


def _grids(groups: list[Group]) -> str:
    shown = [(group, run) for group in groups if (run := _with_grid(group)) is not None]
    if not shown:
        text = "No run has a grid of samples yet (samples/step_*.png)."
        return markup.section("Last samples", markup.absent(text), "samples")
    room = markup.MOST_PICTURE_BYTES // len(shown)
    figures = []
    for group, run in shown:
        grid = run.grids[-1]
        seen = "" if grid.images_seen is None else f", {quantity(grid.images_seen)} images seen"
        where = f"{run.name}, step {grid.step:,}{seen}"
        picture = (
            markup.image(grid.picture, f"samples of {where}")
            if markup.embedded_bytes(grid.picture) <= room
            else markup.absent("The grid is too large for this page; it lies in the run folder.")
        )
        figures.append(
            f'<figure><figcaption><span class="key" style="color:{group.color}"></span>'
            f"<h3>{escape(group.name)}</h3><small>{escape(where)}</small></figcaption>"
            f"{picture}</figure>"
        )
    body = f'<div class="gallery">{"".join(figures)}</div>'
    return markup.section("Last samples", body, "samples")


def _with_grid(group: Group) -> Run | None:
    return next((run for run in group.runs if run.grids), None)


def _charts(groups: list[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    keys = list(dict.fromkeys(key for run in runs for key in run.keys))
    charts = []
    if "loss" in keys:
        note = ""
        if any(key.startswith(("objective.", "law.", "pacing.")) for key in differing_keys(groups)):
            note = "Each loss is an average under its own noise: compare shapes, not heights."
        charts.append(_overlay(groups, "loss", "Loss", note, smooth=True))
    for key in keys:
        if sampler := sampler_of(key):
            charts.append(_overlay(groups, key, f"Fréchet distance, {sampler}", ""))
    if not charts:
        text = "No run has a record of its training yet (metrics.jsonl)."
        return markup.section("Training", markup.absent(text), "training")
    caption = '<p class="note">One thin line is one run, a strong one the mean of its group.</p>'
    body = f'{caption}<div class="charts">{"".join(charts)}</div>'
    return markup.section("Training", body, "training")


def _overlay(groups: list[Group], key: str, title: str, note: str, smooth: bool = False) -> str:
    lines, legend = [], []
    for group in groups:
        held = [(run, run.series(key)) for run in group.runs]
        held = [(run, points) for run, points in held if points]
        if not held:
            continue
        legend.append((group.name, group.color))
        if smooth:
            held = [(run, _smoothed(points)) for run, points in held]
        several = len(held) > 1
        names = [f"{group.name}, {_seed_name(run)}" if several else group.name for run, _ in held]
        for name, (_, points) in zip(names, held, strict=True):
            lines.append(
                Line(name, group.color, points, thin=several, dots=not smooth and not several)
            )
        places = [[x for x, _ in points] for _, points in held]
        if several and all(place == places[0] for place in places):
            values = zip(*([y for _, y in points] for _, points in held), strict=True)
            means = [(x, spread(ys).mean) for x, ys in zip(places[0], values, strict=True)]
            lines.append(Line(f"{group.name}, mean", group.color, means))
    floors = {y for g in groups for run in g.runs for _, y in run.series(FLOOR)}
    levels = []
    if key != "loss" and len(floors) == 1:
        levels.append(Level("real images (floor)", FAINT, floors.pop()))
    unit = "running mean" if smooth else "while training"
    return line_chart(title, lines, unit=unit, legend=legend, levels=levels, note=note)


def _smoothed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    means = running_mean([y for _, y in points])
    return [(x, y) for (x, _), y in zip(points, means, strict=True)]


def _seed_name(run: Run) -> str:
    return f"seed {setting(run.setting('seed'))}"


def _each_run(groups: list[Group]) -> str:
    rows = []
    for group in groups:
        for run in group.runs:
            found = "; ".join(
                f"{score.sampler} {number(score.distance)}" for score in scores(run.result)
            )
            steps = "finished" if run.finished else f"at step {run.steps_done:,}"
            seeds = [run.setting(key) for key in ("seed", "evaluate.seed", "sample.seed")]
            shown = " / ".join("-" if seed is None else setting(seed) for seed in seeds)
            rate = run.images_per_second
            row = [
                f'<th><span class="key" style="color:{group.color}"></span>{escape(run.name)}</th>',
                f"<td>{escape(shown)}</td>",
                f"<td>{steps}</td>",
                f"<td>{escape(found or '-')}</td>",
                f"<td>{'-' if rate is None else f'{number(rate)} images/s'}</td>",
            ]
            rows.append(f"<tr>{''.join(row)}</tr>")
    names = ("run", "seed of training / evaluation / samples", "state", "score", "rate")
    head = [f"<th>{name}</th>" for name in names]
    return markup.section("Each run", _as_table(head, rows), "runs")
