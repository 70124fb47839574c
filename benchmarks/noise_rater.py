"""Does learned selection of noise pay? Trains raters, arms and controls; writes the page.

    python benchmarks/noise_rater.py             all of it; about an hour and a half on two cores
    python benchmarks/noise_rater.py --write     the page from the runs that are there

Each seed has a rater of its own. Runs lie in runs/noise_rater/<config>/seed_<n>; finished ones are
not run again, interrupted ones go on.
"""

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jaxnoise.figures.style import (  # noqa: E402
    ARM_COLORS,
    FAINT,
    INK,
    blank_figure,
    legend,
    save,
    style,
)

RUNS = ROOT / "runs" / "noise_rater"
RATERS = ("digits_noise_rater", "digits_noise_rater_batch", "digits_noise_rater_level")
PIXELS = 64
ARMS = {
    "plain": "no selection",
    "random": "random of 4",
    "selected": "rater, best of 4",
    "annealed": "rater, best of 4, annealed to plain",
    "pool": "rater, best quarter of a pool, by level",
    "shuffled": "rater's scores shuffled within levels",
    "level": "rater of the level alone, best quarter of a pool",
    "loss": "highest loss of 4",
    "nearest": "nearest of 4 to the image",
    "assignment": "assignment within the batch",
    "speed": "SpeeD's law of time",
}
BY_RATER = {
    "selected": RATERS[0],
    "annealed": RATERS[0],
    "shuffled": RATERS[0],
    "pool": RATERS[1],
    "level": RATERS[2],
}
PAIRS = (
    ("selected", "random"),
    ("selected", "shuffled"),
    ("selected", "plain"),
    ("annealed", "random"),
    ("pool", "random"),
)
STEPS = 800
SAMPLER = "frechet_heun18"


@dataclass(frozen=True)
class Arm:
    """One way to choose noise, over its seeds.

    Attributes:
      name: key of `ARMS`.
      results: of each seed.
      curves: of each seed, the distance after so many steps.
      operations: of a step; None where they cannot be counted.
      moments: of the noise that was trained on, for each seed a mean over rows; empty without
        selection.
    """

    name: str
    results: tuple[dict[str, Any], ...]
    curves: dict[int, dict[int, float]]
    operations: float | None
    moments: dict[str, list[float]]

    def distances(self, steps: float) -> dict[int, float]:
        """The distance of each seed after so many steps; between scores, linear in both logs."""
        found = {}
        for seed, curve in self.curves.items():
            if not min(curve) <= steps <= max(curve):
                raise ValueError(f"{self.name}, seed {seed}: no score around step {steps:.0f}")
            at = np.interp(np.log(steps), np.log(list(curve)), np.log(list(curve.values())))
            found[seed] = float(np.exp(at))
        return found

    def steps_at(self, budget: float) -> float | None:
        """How many steps cost so many operations."""
        return None if self.operations is None else budget / self.operations


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 on")
    parser.add_argument("--only", nargs="*", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--write", action="store_true", help="train nothing")
    flags = parser.parse_args()
    if not flags.write:
        # Seeds outside: a table that is cut short still compares all arms.
        for seed in range(flags.seeds):
            for rater in sorted({BY_RATER[arm] for arm in flags.only if arm in BY_RATER}):
                train(rater, seed)
            for arm in flags.only:
                settings = [f"--config.evaluate.seed={seed + 1}"]
                if arm in BY_RATER:
                    file = folder_of(BY_RATER[arm], seed) / "rater.npz"
                    settings.append(f"--config.selection.file={file}")
                train(f"digits_noise_{arm}", seed, *settings)
    arms = [arm for arm in map(arm_of, ARMS) if arm is not None]
    raters = results_of(RATERS[0])
    if not {"plain", "selected"} <= {arm.name for arm in arms}:
        sys.exit("no page: it needs a finished seed of plain and of selected")
    docs = ROOT / "docs"
    budget = STEPS * next(arm for arm in arms if arm.name == "selected").operations
    draw(arms, budget, docs / "noise_rater_digits.png")
    shutil.copy(folder_of(RATERS[0], 0) / "scores.png", docs / "noise_rater_scores.png")
    (docs / "noise_rater_digits.md").write_text(page(arms, raters, budget))


def folder_of(config: str, seed: int) -> Path:
    return RUNS / config / f"seed_{seed}"


def train(config: str, seed: int, *settings: str) -> None:
    """Runs a config as a user does, unless it is done."""
    folder = folder_of(config, seed)
    if (folder / "result.json").exists():
        return
    print(f"{config}, seed {seed}", flush=True)
    command = [f"--config=configs/{config}.py", f"--workdir={folder}", f"--config.seed={seed}"]
    subprocess.run(
        [sys.executable, "run.py", *command, *settings],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def done(config: str) -> dict[int, Path]:
    """The run folders of the seeds that are done."""
    found = (RUNS / config).glob("seed_*/result.json")
    folders = {int(path.parent.name.removeprefix("seed_")): path.parent for path in found}
    return dict(sorted(folders.items()))


def results_of(config: str) -> list[dict[str, Any]]:
    """The results of the seeds that are done."""
    files = [folder / "result.json" for folder in done(config).values()]
    return [
        {**json.loads(path.read_text()), **json.loads((path.parent / "cost.json").read_text())}
        for path in files
    ]


def arm_of(name: str) -> Arm | None:
    """An arm from its run folders, or None if no seed is done."""
    config = f"digits_noise_{name}"
    results, curves, moments = results_of(config), {}, {}
    if not results:
        return None
    for seed, folder in done(config).items():
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for key in ("noise_mean", "noise_along_image", "noise_variance", "changed_share"):
            values = [row[key] for row in rows if key in row and row["step"] <= STEPS]
            if values:
                moments.setdefault(key, []).append(float(np.mean(values)))
        curve = {row["step"]: row[SAMPLER] for row in rows if SAMPLER in row}
        last = json.loads((folder / "result.json").read_text())
        curves[seed] = {**curve, max(row["step"] for row in rows): last[SAMPLER]}
    # The Hungarian algorithm is a loop, and XLA counts the body of a loop once.
    operations = None if name == "assignment" else results[0]["operations_per_step"]
    return Arm(name, tuple(results), curves, operations, moments)


def said(distances: dict[int, float]) -> str:
    """Mean and spread over seeds."""
    values = list(distances.values())
    if len(values) == 1:
        return f"{values[0]:.3f} (one seed)"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def line_of(arm: Arm, plain: Arm, budget: float) -> str:
    """The row of an arm."""
    steps = arm.steps_at(budget)
    cost, count, equal = "not counted", "–", "–"
    if steps is not None:
        cost = f"{arm.operations / plain.operations:.2f}"
        count, equal = f"{steps:,.0f}", said(arm.distances(steps))
    return (
        f"| [{ARMS[arm.name]}](../configs/digits_noise_{arm.name}.py) "
        f"| {said(arm.distances(STEPS))} | {cost} | {count} | {equal} | {len(arm.results)} |"
    )


def page(arms: list[Arm], raters: list[dict[str, Any]], budget: float) -> str:
    """docs/noise_rater_digits.md."""
    plain = next(arm for arm in arms if arm.name == "plain")
    rows = [line_of(arm, plain, budget) for arm in arms]
    first = raters[0]
    moments = [
        f"| {ARMS[arm.name]} | {by_seed(np.sqrt(PIXELS) * np.array(arm.moments['noise_mean']))} "
        f"| {by_seed(arm.moments['noise_along_image'])} "
        f"| {np.mean(arm.moments['noise_variance']):.3f} "
        f"| {np.mean(arm.moments['changed_share']):.2f} |"
        for arm in arms
        if arm.moments
    ]
    cost = np.mean([r["operations_per_step"] * r["meta_steps"] for r in raters])
    probes = [
        f"| {r['seed']} | {r['probe_inner_steps']} | {r['score_std']:.3f} "
        f"| {r['effective_share']:.4f} "
        f"| {show(r['score_autocorrelation'])} | {show(r['first_order_cosine'])} "
        f"| {r['signal_f']:.2f} | {r['signal_f_without_signal']:.2f} | {r['signal_p']:.3f} "
        f"| {r['signal_ratio']:.3f} |"
        for r in raters
    ]
    draws, repeats = first["probe_draws"], first["probe_repeats"]
    return f"""# NoiseRater on the digits: what a rater is worth

Made by `python benchmarks/noise_rater.py`, every number of it. Each seed has a rater of its own.
[noise_rater.md](noise_rater.md) says how the method works.

{summary(arms, raters, budget)}

| noise is chosen by | distance after {STEPS:,} steps | cost of a step | steps at equal cost | distance at equal cost | seeds |
|---|---|---|---|---|---|
{chr(10).join(rows)}

![every seed of every arm](noise_rater_digits.png)

The distance is Fréchet's in {plain.results[0]["extractor"]} (not FID; smaller is better) of
{plain.results[0]["n"]} images by Heun's method; real images have
{plain.results[0]["frechet_floor"]:.3f}. Means ± standard deviations over seeds. The cost of a step
is XLA's count of operations, beside that of the run without selection (the assignment is a loop,
which it does not count); equal cost is that of {STEPS:,} steps of the best of 4 by a rater, without
stage 1. Runs are scored every 200 steps; at equal cost, distances are read off between two scores,
along a straight line in both logarithms. Stage 1 itself cost {cost / plain.operations:,.0f} plain
steps for a rater, with {first["meta_steps"]:,} meta-steps (DataRater made 8,000). Its inner models
have the network and the optimizer of stage 2 and live for 780 steps, but see 16 images a step with
four draws of noise each, where stage 2 sees 64 images. When a rater was written, one of its two inner
models was 20 meta-steps old and the other 215.

A rater of the level alone scores all draws for one image alike, so that its quarter of the pool is a
quarter of the images with four draws each, at the levels that it likes; the other levels are not
trained at all.

{verdict(arms, budget)}

## What noise was trained on

| noise is chosen by | mean, in standard errors, by seed | along the image, by seed | variance | share that is not the first draw |
|---|---|---|---|---|
{chr(10).join(moments)}

Over the first {STEPS:,} steps. One draw of noise has mean 0 with a standard error of 1/8 over its
{PIXELS} pixels, inner product 0 with the image (as a unit vector) and variance 1. A model that trains
on other noise learns to denoise that noise, and its samples start from N(0, I) all the same.

## What the raters say of themselves

| seed | steps of the probed model | std of scores | effective share of weights | autocorrelation of scores | cosine, first-order to exact | F of the noise | F without a signal | p | signal to noise |
|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(probes)}

F compares how much the slope dL/dw differs between {draws} draws of noise for the same image at the
same level with how much it differs between {repeats} outer batches. What it would be without any
signal, and how likely it then is to be as large, is found by flipping the signs of whole outer batches,
whose error all draws share. The signal-to-noise ratio is (F - 1) / {repeats}. A large F says that draws have values that another outer batch confirms, for this very
model at this moment. It does not say that a rater, which does not see the model, can tell them.

![scores by noise level](noise_rater_scores.png)
"""  # noqa: E501


def show(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def by_seed(values: Any) -> str:
    return " / ".join(f"{value:+.2f}" for value in values)


def summary(arms: list[Arm], raters: list[dict[str, Any]], budget: float) -> str:
    """The first sentence of the page: whether the best of 4 beats random selection."""
    found = {arm.name: arm for arm in arms}
    if "random" not in found:
        return ""
    whole = {
        "after as many steps": lambda arm: STEPS,
        "at equal cost": lambda a: a.steps_at(budget),
    }
    better = []
    for words, steps_of in whole.items():
        _, change, p = compared(found["selected"], found["random"], steps_of)
        if change < 0 and p < 0.05:
            better.append(words)
    if better:
        where = " and ".join(better)
        return f"**The best of 4 by a learned rater beats random selection here, {where}.**"
    differ = (
        ", although draws of noise do differ in what they do to the outer loss (the last table)"
        if all(r["signal_p"] < 0.05 for r in raters)
        else ", and that draws of noise differ in what they do to the outer loss is not shown for "
        "every seed (the last table)"
    )
    return (
        "**Selecting noise by a learned rater does not beat random selection here**, neither after "
        f"as many steps nor at equal cost{differ}."
    )


def compared(arm: Arm, control: Arm, steps_of: Any) -> tuple[int, float, float]:
    """Seeds in common, the mean relative change of the distance, and the p of a paired t test."""
    mine, other = arm.distances(steps_of(arm)), control.distances(steps_of(control))
    seeds = sorted(mine.keys() & other.keys())
    logs = np.log([mine[seed] for seed in seeds]) - np.log([other[seed] for seed in seeds])
    p = stats.ttest_1samp(logs, 0).pvalue if len(seeds) > 1 else np.nan
    return len(seeds), float(np.exp(np.mean(logs)) - 1), float(p)


def verdict(arms: list[Arm], budget: float) -> str:
    """What the comparisons of raters with their main controls say, in words."""
    found = {arm.name: arm for arm in arms}
    lines = []
    for title, steps_of in (
        (f"After {STEPS:,} steps", lambda arm: STEPS),
        ("At equal cost", lambda arm: arm.steps_at(budget)),
    ):
        for name, control in PAIRS:
            if not {name, control} <= found.keys():
                continue
            count, change, p = compared(found[name], found[control], steps_of)
            word = "better" if change < 0 else "worse"
            sure = "told apart" if p < 0.05 else "not told apart"
            lines.append(
                f'* {title}, "{ARMS[name]}" is {abs(change):.1%} {word} than '
                f'"{ARMS[control]}": {sure} by {count} seeds (p = {p:.2f}).'
            )
    lines.append(
        "\nEach p is that of a t test of log ratios, paired by seed, without a correction."
    )
    return "\n".join(lines)


def draw(arms: list[Arm], budget: float, path: Path) -> None:
    """A point for every seed, a bar for every mean: at equal steps and at equal cost."""
    figure = blank_figure(11.0, 0.4 * len(arms) + 1.6)
    panels = figure.subplots(1, 2, sharey=True)
    floor = arms[0].results[0]["frechet_floor"]
    for axes, title, equal_cost in (
        (panels[0], f"Distance after {STEPS:,} steps", False),
        (panels[1], "Distance at equal cost", True),
    ):
        style(axes, title, "Fréchet distance in raw pixels", legend_line=True)
        for row, arm in enumerate(arms):
            steps = arm.steps_at(budget) if equal_cost else STEPS
            if steps is None:
                continue
            found = list(arm.distances(steps).values())
            axes.plot(found, [row] * len(found), "o", markersize=5, alpha=0.6, color=ARM_COLORS[0])
            axes.plot([np.mean(found)], [row], "|", markersize=16, color=INK)
        axes.axvline(floor, color=FAINT, linestyle="--", linewidth=1.4, label="real images")
        axes.plot([], [], "o", color=ARM_COLORS[0], alpha=0.6, label="one seed")
        axes.plot([], [], "|", markersize=12, color=INK, label="mean")
        legend(axes)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_yticks(range(len(arms)), [ARMS[arm.name] for arm in arms])
    panels[0].invert_yaxis()
    save(figure, path)


if __name__ == "__main__":
    main()
