"""The page of one run: report.html in its folder."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from jaxnoise.evaluation.score_keys import sampler_of
from jaxnoise.figures.style import ARM_COLORS
from jaxnoise.report import markup
from jaxnoise.report.axes import fitted
from jaxnoise.report.charts import Mark, strip, strip_ticks
from jaxnoise.report.curves import curves
from jaxnoise.report.formats import described, duration, finite, number, quantity, setting
from jaxnoise.report.run_data import Run, read_run
from jaxnoise.report.scores import floor, protocol, scores
from jaxnoise.training.records import RunFolder, flatten

NOT_SET = "not set"
_MODEL_KEYS = ("model_channels", "channel_mult", "num_blocks", "hidden_size", "depth", "patch_size")
_RATER_LINES = (
    ("Outer loss", "loss"),
    ("Effective share of weights", "effective_share"),
    ("Standard deviation of scores", "score_std"),
    ("Autocorrelation of scores", "score_autocorrelation"),
    ("Cosine, first-order to exact", "first_order_cosine"),
    ("F of the noise in dL/dw", "signal_f"),
    ("F without a signal", "signal_f_without_signal"),
    ("p of this F without a signal", "signal_p"),
)
_NO_RECORD = "The run has no record of its training yet (metrics.jsonl)."


def write_report(folder: RunFolder, twin: Mapping[str, Any] | None = None) -> Path:
    """Writes report.html into a run folder: one file that needs no other and no network.

    Whatever of config.json, metrics.jsonl, samples/, result.json and noise.png is missing is left
    out with a sentence; the same folder gives the same file, to the byte.

    Args:
      folder: of the run; made if missing.
      twin: the resolved config of the run to compare with: settings that differ from it are
        marked, with both values.

    Returns:
      Path of the page.
    """
    run = read_run(folder.root)
    title = f"{run.name} - jaxnoise"
    return markup.write_page(folder.report, title, _body(run, twin))


def _body(run: Run, twin: Mapping[str, Any] | None) -> str:
    result = [_rater(run)] if run.setting("rater") else [_score(run), _samples(run)]
    parts = [
        _header(run),
        *result,
        _curves(run),
        _noise(run),
        _config(run.config, twin),
        "<footer>Made by jaxnoise from the run folder's own files.</footer>",
    ]
    return "".join(parts)


def _header(run: Run) -> str:
    total = run.setting("train.steps")
    of = f" of {total:,}" if finite(total) else ""
    if finite(further := run.setting("train.further_steps")) and further:
        of += f" and {further:,} further ones"
    if run.finished:
        chip = f'<span class="chip">finished, {run.steps_done:,} steps</span>'
    elif run.steps_done:
        chip = f'<span class="chip open">at step {run.steps_done:,}{of}</span>'
    else:
        chip = '<span class="chip open">not started</span>'
    facts = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(value)}"
        + (f"<small>{escape(detail)}</small>" if detail else "")
        + "</dd></div>"
        for label, value, detail in _facts(run)
    )
    warnings = "".join(f'<p class="warning">{escape(line)}</p>' for line in run.problems)
    return (
        f'<header><p class="eyebrow">jaxnoise run</p><h1>{escape(run.name)}{chip}</h1>'
        f'{warnings}<dl class="facts">{facts}</dl></header>\n'
    )


def _facts(run: Run) -> list[tuple[str, str, str]]:
    """Label, value and detail of what the run is."""
    facts = []
    for label, key, keys in (
        ("Objective", "objective", None),
        ("Noise law", "law", None),
        ("Noise levels", "grid", None),
        ("Curriculum N(k)", "curriculum", None),
        ("Pacing of noise", "pacing", None),
        ("Selection of noise", "selection", None),
        ("Rater of noise", "rater", None),
        ("Model", "model", _MODEL_KEYS),
        ("Optimizer", "optimizer", None),
    ):
        held = run.setting(key)
        chosen = isinstance(held, dict) and (key != "selection" or held.get("name") != "none")
        if chosen:
            facts.append((label, setting(held.get("name", "")), described(held, keys)))
    dataset = run.setting("data.dataset")
    if dataset is not None:
        facts.append(("Images", setting(dataset), f"split {setting(run.setting('data.split'))}"))
    steps, batch = run.setting("train.steps"), run.images_per_step
    details = []
    if run.images_seen is not None:
        details.append(f"{run.images_seen:,} images seen")
    if "seed" in run.config:
        details.append(f"seed {setting(run.config['seed'])}")
    if finite(steps) and batch is not None:
        facts.append(("Training", f"{steps:,} steps of {batch:,} images", ", ".join(details)))
    elif details:
        facts.append(("Training", ", ".join(details), ""))
    rate = run.images_per_second
    if rate is not None:
        spent = f", {duration(run.seconds)} in all" if run.seconds is not None else ""
        facts.append(("Rate", f"{number(rate)} images/s", f"median{spent}"))
    return facts


def _score(run: Run) -> str:
    found, lowest = scores(run.result), floor(run.result)
    if not found:
        text = "The run has no score yet (result.json)."
        if run.setting("evaluate.n") == 0:
            text = "The config asks for no score (evaluate.n is 0)."
        return markup.section("Score", markup.absent(text), "score")
    numbers = [
        f'<div><span class="label">{escape(score.sampler)}</span>'
        f"<b>{number(score.distance)}</b></div>"
        for score in found
    ]
    values = [score.distance for score in found]
    values += [score.untrained for score in found if score.untrained is not None]
    if lowest is not None:
        numbers.append(
            '<div class="quiet"><span class="label">real images (floor)</span>'
            f"<b>{number(lowest)}</b></div>"
        )
        values.append(lowest)
    untrained = [score.untrained for score in found if score.untrained is not None]
    if untrained:
        shown = " / ".join(dict.fromkeys(number(value) for value in untrained))
        numbers.append(
            f'<div class="quiet"><span class="label">untrained</span><b>{shown}</b></div>'
        )
    axis = fitted(values)
    rows = []
    for score, color in zip(found, _colors(len(found)), strict=True):
        marks = [Mark(score.distance, color, score.sampler)]
        if score.untrained is not None:
            marks.insert(0, Mark(score.untrained, color, f"{score.sampler} untrained", True))
        rows.append(f"<span>{escape(score.sampler)}</span>{strip(axis, marks, lowest)}")
    apart = "may be" if run.result.get("floor_may_be_in_reference") else "are not"
    strips = (
        f'<div class="strips">{"".join(rows)}<span></span>{strip_ticks(axis)}</div>'
        '<p class="caption">Filled: after training. Hollow: before it. Dashed: real images that '
        f"{apart} in the reference; perfect samples would score about the same."
        f"{' Log scale.' if axis.log else ''}</p>"
    )
    lines = "".join(
        f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>"
        for label, value in protocol(run.result, run.config)
    )
    body = (
        f'<div class="score"><div><div class="numbers">{"".join(numbers)}</div>{strips}</div>'
        f'<table class="protocol">{lines}</table></div>'
    )
    distance = run.result.get("distance")
    title = f"Score: {distance}" if isinstance(distance, str) else "Score"
    return markup.section(title, body, "score")


def _rater(run: Run) -> str:
    title = "What the rater says"
    if run.scores is None:
        text = "The run has no picture of scores yet (scores.png)."
        return markup.section(title, markup.absent(text), "rater")
    lines = "".join(
        f"<tr><th>{escape(label)}</th><td>{number(run.result[key])}</td></tr>"
        for label, key in _RATER_LINES
        if finite(run.result.get(key))
    )
    picture = markup.image(run.scores, "scores of fixed held-out images by noise level")
    caption = (
        '<p class="caption">Scores of the same held-out images and noise, higher is better.</p>'
    )
    body = f'<div class="noise" tabindex="0">{picture}</div>{caption}'
    if lines:
        body += f'<table class="protocol">{lines}</table>'
    return markup.section(title, body, "rater")


def _samples(run: Run) -> str:
    title = "Samples through training"
    if not run.grids:
        text = "The run has no grids of samples yet (samples/step_*.png)."
        return markup.section(title, markup.absent(text), "samples")
    kept = markup.evenly_kept([markup.embedded_bytes(grid.picture) for grid in run.grids])
    if not kept:
        text = "The grids of samples are too large for this page; they lie in the folder samples."
        return markup.section(title, markup.absent(text), "samples")
    pictures = []
    for i in kept:
        grid = run.grids[i]
        step = f"step {grid.step:,}"
        seen = "" if grid.images_seen is None else f"{quantity(grid.images_seen)} images seen"
        picture = markup.image(
            grid.picture, f"samples at {step}{f', {seen}' if seen else ''}", hidden=i != kept[-1]
        )
        pictures.append(picture.replace("<img ", f'<img data-step="{step}" data-seen="{seen}" ', 1))
    caption = []
    count, seed = run.setting("sample.count"), run.setting("sample.seed")
    if finite(count) and seed is not None:
        caption.append(
            f"The same {count:,} draws of noise (seed {setting(seed)}) at every point of training."
        )
    if len(kept) < len(run.grids):
        caption.append(
            f"{len(kept)} of {len(run.grids)} grids, evenly spaced; the others lie in the folder "
            "samples, since this page has room for no more."
        )
    control = (
        '<div class="slider"><input type="range" min="0" '
        f'max="{len(kept) - 1}" value="{len(kept) - 1}" step="1" autocomplete="off" '
        'aria-label="point of training"><button type="button">Play</button></div>'
        if len(kept) > 1
        else ""
    )
    body = (
        f'<div class="samples"><div class="frame">{"".join(pictures)}</div>'
        f'<div><p class="step">{step}</p><p class="seen">{seen}</p>{control}'
        f'<p class="caption">{escape(" ".join(caption))}</p></div></div>'
    )
    return markup.section(title, body, "samples")


def _curves(run: Run) -> str:
    charts = curves(run)
    if not charts:
        return markup.section("Training", markup.absent(_NO_RECORD), "training")
    caption = "Faint lines are the recorded values, strong ones their running mean."
    if not run.setting("rater") and not any(map(sampler_of, run.keys)):
        caption += " No distance was taken while training."
    body = f'<p class="note">{caption}</p><div class="charts">{"".join(charts)}</div>'
    return markup.section("Training", body, "training")


def _noise(run: Run) -> str:
    title = "Which noise, and when"
    if run.noise is None:
        text = "The folder holds no picture of the noise (noise.png); --mode=plot draws it."
        return markup.section(title, markup.absent(text), "noise")
    if markup.embedded_bytes(run.noise) > markup.MOST_NOISE_BYTES:
        text = "The picture of the noise is too large for this page: see noise.png in the folder."
        return markup.section(title, markup.absent(text), "noise")
    body = markup.image(run.noise, "the noise levels that training draws, and when")
    if run.law is not None:
        body += markup.image(run.law, "how the law that learns itself moved while training")
    return markup.section(title, f'<div class="noise" tabindex="0">{body}</div>', "noise")


def _config(config: dict[str, Any], twin: Mapping[str, Any] | None) -> str:
    if not config:
        text = "The folder holds no config (config.json)."
        return markup.section("Config", markup.absent(text), "config")
    here = flatten(config)
    # As JSON holds it: a tuple there is a list here.
    there = None if twin is None else flatten(json.loads(json.dumps(twin)))
    keys = here if there is None else sorted(here.keys() | there.keys())
    changed = [] if there is None else [key for key in keys if _differs(key, here, there)]
    tables: dict[str, list[str]] = {}
    for key in sorted(keys, key=lambda key: ("." in key, key)):
        top, _, rest = key.partition(".")
        value = escape(setting(here[key]) if key in here else NOT_SET)
        mark = ""
        if there is not None and key in changed:
            other = escape(setting(there[key]) if key in there else NOT_SET)
            mark, value = ' class="changed"', f"{value}<del>twin: {other}</del>"
        row = f"<tr{mark}><th>{escape(rest or top)}</th><td>{value}</td></tr>"
        tables.setdefault(top if rest else "run", []).append(row)
    body = "".join(
        f"<table><caption>{escape(name)}</caption>{''.join(rows)}</table>"
        for name, rows in tables.items()
    )
    lead = ""
    if there is not None:
        names = ", ".join(f"<code>{escape(key)}</code>" for key in changed)
        lead = f"Differs from its twin in {names}." if names else "Equal to its twin."
        lead = f'<p class="twin">{lead}</p>'
    return markup.section("Config", f'{lead}<div class="config">{body}</div>', "config")


def _differs(key: str, here: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    return (key in here) != (key in there) or here.get(key) != there.get(key)


def _colors(count: int) -> list[str]:
    return [ARM_COLORS[i % len(ARM_COLORS)] for i in range(count)]
