"""Trains every digits config of a model with several seeds, for docs/digits.md and docs/digits.png.

    python benchmarks/digits.py                      all of it; about two hours on two cores
    python benchmarks/digits.py --only digits_cosine digits_laplace
    python benchmarks/digits.py --write              the page from the runs that are there

Runs lie in runs/digits/<config>/seed_<n>; finished ones are not run again, interrupted ones go on.
"""

import argparse
import importlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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

RUNS = ROOT / "runs" / "digits"
CONFIGS = tuple(
    sorted(
        path.stem
        for path in (ROOT / "configs").glob("digits_*.py")
        # Those have a page of their own, or train a rater of noise.
        if not path.stem.startswith(("digits_noise_", "digits_law_"))
    )
)


@dataclass(frozen=True)
class Arm:
    """One sampler of one config over its seeds."""

    config: str
    sampler: str
    nfe: int
    images_seen: int
    distances: tuple[float, ...]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 on")
    parser.add_argument("--only", nargs="*", default=CONFIGS, choices=CONFIGS, metavar="CONFIG")
    parser.add_argument("--write", action="store_true", help="train nothing")
    flags = parser.parse_args(arguments)
    if not flags.write:
        # Seeds outside: a table that is cut short still compares all configs.
        for seed in range(flags.seeds):
            for config in flags.only:
                train(config, seed)
    results = {config: results_of(config) for config in CONFIGS}
    arms = sorted(
        (arm for config, found in results.items() for arm in arms_of(config, found)),
        key=lambda arm: float(np.mean(arm.distances)),
    )
    found = [result for several in results.values() for result in several]
    if not found:
        sys.exit("no page: it needs a finished seed of a config")
    draw(arms, found[0]["frechet_floor"], ROOT / "docs" / "digits.png")
    (ROOT / "docs" / "digits.md").write_text(page(arms, found))


def train(config: str, seed: int) -> None:
    """Runs a config as a user does, unless it is done."""
    folder = RUNS / config / f"seed_{seed}"
    if (folder / "result.json").exists():
        return
    print(f"{config}, seed {seed}", flush=True)
    subprocess.run(
        [
            sys.executable,
            "run.py",
            f"--config=configs/{config}.py",
            f"--workdir={folder}",
            f"--config.seed={seed}",
            f"--config.evaluate.seed={seed + 1}",
        ],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def results_of(config: str) -> list[dict[str, Any]]:
    """The results of the seeds that are done."""
    files = sorted((RUNS / config).glob("seed_*/result.json"))
    return [json.loads(path.read_text()) for path in files]


def arms_of(config: str, results: list[dict[str, Any]]) -> list[Arm]:
    """One arm for each sampler of a config."""
    if not results:
        return []
    return [
        Arm(
            config=config,
            sampler=sampler,
            nfe=nfe,
            images_seen=results[0]["images_seen"],
            distances=tuple(result[f"frechet_{sampler}"] for result in results),
        )
        for sampler, nfe in results[0]["nfe"].items()
    ]


def claim_of(config: str) -> str:
    """The first line of a config."""
    doc = importlib.import_module(f"configs.{config}").__doc__ or ""
    return doc.splitlines()[0].rstrip(".")


def spread(distances: tuple[float, ...]) -> str:
    return f"± {np.std(distances, ddof=1):.3f}" if len(distances) > 1 else "one seed"


def page(arms: list[Arm], results: list[dict[str, Any]]) -> str:
    """docs/digits.md."""
    first = results[0]
    rows = [
        f"| [{arm.config}](../configs/{arm.config}.py) | {arm.sampler} | {arm.nfe} "
        f"| {arm.images_seen:,} | {np.mean(arm.distances):.3f} | {spread(arm.distances)} "
        f"| {min(arm.distances):.3f} | {max(arm.distances):.3f} | {len(arm.distances)} |"
        for arm in arms
    ]
    claims = [f"* `{config}`: {claim_of(config)}." for config in CONFIGS]
    return f"""# The digits configs side by side

Made by `python benchmarks/digits.py`, which trains every config of the digits with several
seeds, as `python run.py --config=configs/<name>.py --config.seed=<n>` does.

| config | sampler | NFE | images seen | distance | spread | lowest | highest | seeds |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

![every seed of every config](digits.png)

The distance is Fréchet's in {first["extractor"]} (not FID), with {first["weights"].upper()}
weights: {first["n"]} generated images against a reference of {first["reference_count"]} real ones.
The floor, {first["frechet_floor"]:.3f}, is that of {first["n"]} other real images against the same
reference. A generator can score below it, since it was trained on the reference's images too.
Spread is the standard deviation over seeds, which change initial weights, order of images, noise
and the generated images. Two configs whose means are closer than their spreads are not told apart.

What each config is:

{chr(10).join(claims)}

Digits of 8x8 pixels, a network of 0.7M parameters and minutes of training say little about
photographs: the table shows that every method runs and how far seeds scatter, not which is best at
scale.
"""


def draw(arms: list[Arm], floor: float, path: Path) -> None:
    """A point for every seed, a bar for every mean."""
    figure = blank_figure(9.0, 0.4 * len(arms) + 1.6)
    axes = figure.subplots()
    style(axes, "Digits: Fréchet distance in raw pixels", "distance", legend_line=True)
    for row, arm in enumerate(arms):
        places = [row] * len(arm.distances)
        axes.plot(arm.distances, places, "o", markersize=5, alpha=0.6, color=ARM_COLORS[0])
        axes.plot([np.mean(arm.distances)], [row], "|", markersize=16, color=INK)
    axes.axvline(floor, color=FAINT, linestyle="--", linewidth=1.4, label="real images (floor)")
    axes.plot([], [], "o", color=ARM_COLORS[0], alpha=0.6, label="one seed")
    axes.plot([], [], "|", markersize=12, color=INK, label="mean")
    names = [f"{arm.config}, {arm.sampler} ({arm.nfe} NFE)" for arm in arms]
    axes.set_yticks(range(len(arms)), names)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    legend(axes)
    save(figure, path)


if __name__ == "__main__":
    main()
