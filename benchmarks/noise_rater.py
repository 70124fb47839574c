"""Does learned selection of noise pay? Trains raters, arms and controls; writes the page.

    python benchmarks/noise_rater.py             all of it; about an hour and a half on two cores
    python benchmarks/noise_rater.py --write     the page from the runs that are there

Each seed has a rater of its own. Runs lie in runs/noise_rater/<config>/seed_<n>; finished ones are
not run again, interrupted ones go on.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jaxnoise.training.figure_style import (  # noqa: E402
    ARM_COLORS,
    FAINT,
    INK,
    blank_figure,
    legend,
    save,
    style,
)

RUNS = ROOT / "runs" / "noise_rater"
RATERS = ("digits_noise_rater", "digits_noise_rater_level")
ARMS = {
    "plain": "no selection",
    "random": "random of 4",
    "selected": "rater, best of 4",
    "pool": "rater, best quarter of a pool, by level",
    "shuffled": "rater's scores shuffled within levels",
    "level": "rater of the level alone, best quarter of a pool",
    "loss": "highest loss of 4",
    "nearest": "nearest of 4 to the image",
    "assignment": "assignment within the batch",
    "speed": "SpeeD's law of time",
}
BY_RATER = {"selected": RATERS[0], "shuffled": RATERS[0], "pool": RATERS[0], "level": RATERS[1]}
STEPS = 800
SAMPLER = "frechet_heun18"


@dataclass(frozen=True)
class Arm:
    """One way to choose noise, over its seeds.

    Attributes:
      name: key of `ARMS`.
      results: of each seed.
      curves: of each seed, the distance after so many steps.
      operations: of a step.
    """

    name: str
    results: tuple[dict[str, Any], ...]
    curves: tuple[dict[int, float], ...]
    operations: float

    def distances(self, steps: float) -> np.ndarray:
        """The distance of each seed after so many steps, between scores on a log scale."""
        return np.array(
            [
                np.exp(np.interp(steps, list(curve), np.log(list(curve.values()))))
                for curve in self.curves
            ]
        )


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
        env={"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "xla"), **os.environ},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def results_of(config: str) -> list[dict[str, Any]]:
    """The results of the seeds that are done."""
    files = sorted((RUNS / config).glob("seed_*/result.json"))
    return [
        {**json.loads(path.read_text()), **json.loads((path.parent / "cost.json").read_text())}
        for path in files
    ]


def arm_of(name: str) -> Arm | None:
    """An arm from its run folders, or None if no seed is done."""
    config = f"digits_noise_{name}"
    results, curves = results_of(config), []
    if not results:
        return None
    for folder in sorted(path.parent for path in (RUNS / config).glob("seed_*/result.json")):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        curve = {row["step"]: row[SAMPLER] for row in rows if SAMPLER in row}
        last = json.loads((folder / "result.json").read_text())
        curves.append({**curve, max(row["step"] for row in rows): last[SAMPLER]})
    return Arm(name, tuple(results), tuple(curves), results[0]["operations_per_step"])


def said(distances: np.ndarray) -> str:
    """Mean and spread over seeds."""
    if len(distances) == 1:
        return f"{distances[0]:.3f} (one seed)"
    return f"{np.mean(distances):.3f} ± {np.std(distances, ddof=1):.3f}"


def page(arms: list[Arm], raters: list[dict[str, Any]], budget: float) -> str:
    """docs/noise_rater_digits.md."""
    plain = next(arm for arm in arms if arm.name == "plain")
    rows = [
        f"| [{ARMS[arm.name]}](../configs/digits_noise_{arm.name}.py) "
        f"| {said(arm.distances(STEPS))} | {arm.operations / plain.operations:.2f} "
        f"| {budget / arm.operations:,.0f} | {said(arm.distances(budget / arm.operations))} "
        f"| {len(arm.results)} |"
        for arm in arms
    ]
    cost = np.mean([r["operations_per_step"] * r["meta_steps"] for r in raters])
    probes = [
        f"| {i} | {r['score_std']:.3f} | {r['effective_share']:.4f} "
        f"| {show(r['score_autocorrelation'])} | {show(r['first_order_cosine'])} "
        f"| {r['signal_f']:.2f} | {r['signal_ratio']:.3f} |"
        for i, r in enumerate(raters)
    ]
    first = raters[0]
    draws, repeats = first["probe_draws"], first["probe_repeats"]
    return f"""# NoiseRater on the digits: what a rater is worth

Made by `python benchmarks/noise_rater.py`: every number here, from {len(plain.results)} seeds, each
with a rater of its own. [noise_rater.md](noise_rater.md) says how the method works.

| noise is chosen by | distance after {STEPS:,} steps | cost of a step | steps at equal cost | distance at equal cost | seeds |
|---|---|---|---|---|---|
{chr(10).join(rows)}

![every seed of every arm](noise_rater_digits.png)

The distance is Fréchet's in {plain.results[0]["extractor"]} (not FID; smaller is better) of
{plain.results[0]["n"]} images by Heun's method; real images have
{plain.results[0]["frechet_floor"]:.3f}. Means ± standard deviations over seeds. The cost of a step
is XLA's count of operations, beside that of the run without selection; equal cost is that of
{STEPS:,} steps of the best of 4 by a rater, without stage 1. Stage 1 itself cost
{cost / plain.operations:,.0f} plain steps for a rater.

{verdict(arms, budget)}

## What the raters say of themselves

| seed | std of scores | effective share of weights | autocorrelation of scores | cosine, first-order to exact | F of the noise | signal to noise |
|---|---|---|---|---|---|---|
{chr(10).join(probes)}

F compares how much the slope dL/dw differs between {draws} draws of noise for the same image at the
same level with how much it differs between {repeats} outer batches. Without any signal its mean is
{first["signal_f_without_signal"]:.2f}; the signal-to-noise ratio, (F - 1) / {repeats}, would be
about 0.

![scores by noise level](noise_rater_scores.png)
"""  # noqa: E501


def show(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def verdict(arms: list[Arm], budget: float) -> str:
    """What the two comparisons with random selection say, in words."""
    found = {arm.name: arm for arm in arms}
    lines = []
    for title, steps_of in (
        (f"After {STEPS:,} steps", lambda arm: STEPS),
        ("At equal cost", lambda arm: budget / arm.operations),
    ):
        selected = found["selected"].distances(steps_of(found["selected"]))
        for control in ("random", "shuffled", "plain"):
            if control not in found:
                continue
            other = found[control].distances(steps_of(found[control]))
            count = min(len(selected), len(other))
            if count < 2:
                continue
            change = np.mean(selected[:count]) / np.mean(other[:count]) - 1
            p = stats.ttest_ind(np.log(selected[:count]), np.log(other[:count])).pvalue
            word = "better" if change < 0 else "worse"
            sure = "told apart" if p < 0.05 else "not told apart"
            lines.append(
                f"* {title}, the best of 4 by a rater is {abs(change):.1%} {word} than "
                f'"{ARMS[control]}": {sure} by {count} seeds each (p = {p:.2f}, t test of logs).'
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
            found = arm.distances(budget / arm.operations if equal_cost else STEPS)
            axes.plot(found, [row] * len(found), "o", markersize=5, alpha=0.6, color=ARM_COLORS[0])
            axes.plot([np.mean(found)], [row], "|", markersize=16, color=INK)
        axes.axvline(floor, color=FAINT, linestyle="--", linewidth=1.4, label="real images")
        axes.plot([], [], "o", color=ARM_COLORS[0], alpha=0.6, label="one seed")
        axes.plot([], [], "|", markersize=12, color=INK, label="mean")
        legend(axes)
    panels[0].set_yticks(range(len(arms)), [ARMS[arm.name] for arm in arms])
    panels[0].invert_yaxis()
    save(figure, path)


if __name__ == "__main__":
    main()
