"""The pictures of a study: answers to its claims, every seed of every arm, curves, samples."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import PercentFormatter

from jaxnoise.figures.samples import upper_rows
from jaxnoise.figures.style import (
    ARM_COLORS,
    FAINT,
    INK,
    blank_figure,
    legend,
    log_axis,
    name_rows,
    save,
    style,
)

Curve = tuple[Sequence[float], Sequence[float]]
"""Places and values."""


@dataclass(frozen=True)
class Change:
    """How much a score changes by what a claim is about.

    Args:
      says: the claim, and where.
      mean: of the change, as a share of the score without it.
      low: lower end of its confidence interval; -inf where there is none.
      high: upper end.
      verdict: what is said of the claim.
    """

    says: str
    mean: float
    low: float
    high: float
    verdict: str


def save_changes(
    title: str, changes: Sequence[Change], verdicts: Sequence[str], path: Path
) -> None:
    """Writes the change of a score by each claim, with its interval, in the color of its verdict.

    Args:
      title: of the picture.
      changes: from the top; at least one.
      verdicts: what may be said, in the order of the colors.
      path: a PNG file.
    """
    names = [textwrap.fill(change.says, 64) for change in changes]
    figure = blank_figure(11.0, 0.42 * len(names) + 1.6)
    axes = figure.subplots()
    style(axes, title, "change of the distance (left: better), 95% interval", legend_line=True)
    colors = dict(zip(verdicts, (*ARM_COLORS[:2], FAINT), strict=True))
    for row, change in enumerate(changes):
        color = colors[change.verdict]
        if math.isfinite(change.low):
            axes.plot([change.low, change.high], [row, row], "-", color=color, linewidth=2)
        axes.plot([change.mean], [row], "o", markersize=6, color=color)
    axes.axvline(0, color=INK, linewidth=0.8)
    for verdict, color in colors.items():
        axes.plot([], [], "o-", color=color, label=verdict)
    name_rows(axes, names, len(names))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    legend(axes)
    save(figure, path)


def save_arms(
    title: str,
    xlabel: str,
    arms: Mapping[str, Sequence[float]],
    control: str,
    path: Path,
    floor: float | None = None,
) -> None:
    """Writes a strip of points for every arm, in the order given, from the top.

    Args:
      title: of the picture.
      xlabel: what the numbers are.
      arms: name -> the score of every seed; at least one arm, and one seed each.
      control: the arm whose mean is drawn through all strips.
      path: a PNG file.
      floor: the score of real images.
    """
    names = list(arms)
    figure = blank_figure(9.0, 0.32 * len(names) + 1.6)
    axes = figure.subplots()
    style(axes, title, xlabel, legend_line=True)
    for row, arm in enumerate(names):
        color = INK if arm == control else ARM_COLORS[0]
        values = list(arms[arm])
        axes.plot(values, [row] * len(values), "o", markersize=5, alpha=0.6, color=color)
        axes.plot([np.mean(values)], [row], "|", markersize=16, color=color)
    if control in arms:
        middle = float(np.mean(arms[control]))
        axes.axvline(middle, color=INK, linewidth=0.8, label=f"control: {control}")
    if floor is not None:
        axes.axvline(floor, color=FAINT, linestyle="--", linewidth=1.4, label="real images")
    axes.plot([], [], "o", color=ARM_COLORS[0], alpha=0.6, label="one seed")
    axes.plot([], [], "|", markersize=12, color=ARM_COLORS[0], label="mean")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    legend(axes)
    save(figure, path)


def save_arm_curves(
    title: str,
    xlabel: str,
    panels: Mapping[str, Mapping[str, Sequence[Curve]]],
    control: str,
    path: Path,
    *,
    log_x: bool = False,
) -> None:
    """Writes panels of a line for every arm, the mean over seeds, each seed faint behind it.

    Args:
      title: of the picture.
      xlabel: what the places are.
      panels: what the values are -> arm -> a curve of every seed; an arm looks alike in all.
      control: the arm that is drawn in ink.
      path: a PNG file.
      log_x: whether places lie on a logarithmic axis.
    """
    figure = blank_figure(5.6 * len(panels) + 2.6, 4.6)
    axes_of = figure.subplots(1, len(panels), squeeze=False)[0]
    lines = {}
    named = dict.fromkeys(arm for arms in panels.values() for arm in arms)
    others = [arm for arm in named if arm != control]
    for axes, (ylabel, arms) in zip(axes_of, panels.items(), strict=True):
        style(axes, title if axes is axes_of[0] else "", xlabel, ylabel)
        for arm, curves in arms.items():
            color, dashes = INK, "-"
            if arm != control:
                place = others.index(arm)
                color = ARM_COLORS[place % len(ARM_COLORS)]
                dashes = ("-", "--", ":", "-.")[place // len(ARM_COLORS) % 4]
            for x, y in curves:
                axes.plot(x, y, dashes, color=color, linewidth=0.7, alpha=0.3)
            # Runs that were stopped on the way have fewer places.
            shared = sorted(set.intersection(*(set(x) for x, _ in curves)))
            means = [
                float(np.mean([y[list(x).index(place)] for x, y in curves])) for place in shared
            ]
            (lines[arm],) = axes.plot(shared, means, dashes, color=color, linewidth=1.8)
        if log_x:
            axes.set_xscale("log")
        log_axis(axes)
    figure.legend(
        lines.values(),
        lines.keys(),
        loc="outside right upper",
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )
    save(figure, path)


def save_arm_samples(title: str, grids: Mapping[str, bytes], path: Path) -> None:
    """Writes the upper rows of each arm's grid of samples, one below the other.

    Args:
      title: of the picture.
      grids: name -> a PNG of `save_grid`; at least one. Shown are as many rows of images as fit a
        third of its width, such as three rows of ten square ones, and at least one.
      path: a PNG file.
    """
    parts = {arm: upper_rows(grid, 1 / 3) for arm, grid in grids.items()}
    width = 6.0
    heights = [width * part.shape[0] / part.shape[1] for part in parts.values()]
    figure = blank_figure(width + 0.4, sum(heights) + 0.42 * len(heights) + 0.6)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, color=INK)
    panels = figure.subplots(len(parts), height_ratios=heights, squeeze=False)[:, 0]
    for axes, (arm, part) in zip(panels, parts.items(), strict=True):
        axes.imshow(part, interpolation="nearest", aspect="equal")
        axes.set_title(arm, loc="left", fontsize=9, color=INK)
        axes.axis("off")
    save(figure, path)
