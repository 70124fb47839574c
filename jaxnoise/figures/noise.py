"""Pictures of which noise is trained on when, over a grid of levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator

from jaxnoise.errors import ArgumentError
from jaxnoise.figures.style import (
    INK,
    MAIN,
    MOMENT_COLORS,
    band_label,
    blank_figure,
    heading,
    legend,
    log_axis,
    name_rows,
    save,
    share_bars,
    style,
)
from jaxnoise.noise.bands import BAND_NAMES, band_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoisePlan:
    """Which noise levels a training uses, and how often.

    Attributes:
      title: heading of the plan's column.
      steps: training steps at which `num_levels` is given, ascending, int[m].
      num_levels: number of levels at each of them, int[m].
      moments: at most 5 of (step, levels float[N] ascending, probs float[N - 1]): `probs[i]` is
        the share of samples whose student sees `levels[i + 1]`.
      labels: what else to say of each moment, such as the stage it is shown for, or ().
    """

    title: str
    steps: npt.NDArray[Any]
    num_levels: npt.NDArray[Any]
    moments: Sequence[tuple[int, npt.NDArray[Any], npt.NDArray[Any]]]
    labels: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.num_levels) or not len(self.steps):
            raise ArgumentError("num_levels", len(self.num_levels), f"{len(self.steps)} numbers")
        check_moments(self.moments)
        if self.labels and len(self.labels) != len(self.moments):
            raise ArgumentError("labels", len(self.labels), f"none or {len(self.moments)} labels")
        for step, levels, probs in self.moments:
            if len(probs) != len(levels) - 1 or not np.isclose(np.sum(probs), 1, atol=1e-3):
                raise ArgumentError(
                    "moments",
                    f"step {step}: {len(levels)} levels, {len(probs)} probabilities of sum "
                    f"{np.sum(probs):.4g}",
                    "levels [N] and probabilities [N - 1] of sum 1",
                )


def check_moments(moments: Sequence[Any]) -> None:
    """Raises ArgumentError unless there is a color for each of the moments, and one at least."""
    if not 1 <= len(moments) <= len(MOMENT_COLORS):
        raise ArgumentError("moments", len(moments), f"1 to {len(MOMENT_COLORS)} moments")


def band_shares(levels: npt.NDArray[Any], probs: npt.NDArray[Any]) -> Floats:
    """Share of samples in each band of noise levels, by the student's level.

    Args:
      levels: float[N], ascending.
      probs: float[N - 1], the law over pairs.

    Returns:
      float64[4]: sigma < 0.1, 0.1 <= sigma < 1, 1 <= sigma < 10, 10 <= sigma.
    """
    band = band_of(np.asarray(levels)[1:])
    shares: Floats = np.bincount(
        band, weights=np.asarray(probs, np.float64), minlength=len(BAND_NAMES)
    ).astype(np.float64)
    return shares


def noise_figure(plan: NoisePlan, baseline: NoisePlan) -> Figure:
    """Number of levels, the levels themselves and the law over them, for a plan and a baseline.

    Top to bottom: N(k) over training, with the moments marked; the levels in use at each moment;
    the probability of each level; the shares of samples in four bands of noise. Both columns have
    the same axes.

    Args:
      plan: drawn on the left.
      baseline: drawn on the right.

    Returns:
      The figure.
    """
    figure = blank_figure(12.0, 13.0)
    grid = figure.subplots(4, 2, height_ratios=(1, 1, 1.15, 0.9))
    most = max(int(np.max(shown.num_levels)) for shown in (plan, baseline))
    last = max(1, *(int(np.max(shown.steps)) for shown in (plan, baseline)))
    grid[2, 0].sharey(grid[2, 1])
    used = np.concatenate([levels for shown in (plan, baseline) for _, levels, _ in shown.moments])
    noise_range = (0.8 * float(used.min()), 1.25 * float(used.max()))
    for column, shown in enumerate((plan, baseline)):
        _draw_counts(grid[0, column], shown, last, most)
        _draw_levels(grid[1, column], shown, noise_range)
        _draw_law(grid[2, column], shown, noise_range)
        shares = [band_shares(levels, probs) for _, levels, probs in shown.moments]
        draw_bands(grid[3, column], _moment_names(shown), shares, len(MOMENT_COLORS))
        heading(grid[0, column], shown.title)
    return figure


def save_noise_plot(plan: NoisePlan, baseline: NoisePlan, path: str | Path) -> None:
    """Writes `noise_figure(plan, baseline)` as a PNG; the folder of `path` must exist."""
    save(noise_figure(plan, baseline), path)


def _draw_counts(axes: Axes, plan: NoisePlan, last_step: int, most_levels: int) -> None:
    style(axes, "Number of noise levels over training", "training step k", "N(k)")
    axes.plot(plan.steps, plan.num_levels, color=MAIN, linewidth=1.6, zorder=2)
    for (step, levels, _), color in zip(plan.moments, MOMENT_COLORS, strict=False):
        axes.plot(step, len(levels), "o", markersize=7, color=color, zorder=3, clip_on=False)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(-0.02 * last_step, 1.02 * last_step)
    axes.set_ylim(0, 1.06 * most_levels)


def _moment_names(plan: NoisePlan) -> list[str]:
    """Each moment by its step, its number of levels and its label."""
    names = [f"k = {step:,}\nN = {len(levels)}" for step, levels, _ in plan.moments]
    if not plan.labels:
        return names
    return [f"{name}, {label}" for name, label in zip(names, plan.labels, strict=True)]


def _noise_axis(axes: Axes, noise_range: tuple[float, float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(noise_range)
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("noise level σ (units of data in [−1, 1])", fontsize=9, color=INK)


def _draw_levels(axes: Axes, plan: NoisePlan, noise_range: tuple[float, float]) -> None:
    style(axes, "Noise levels in use")
    for i, ((_, levels, _), color) in enumerate(zip(plan.moments, MOMENT_COLORS, strict=False)):
        axes.vlines(levels, i - 0.36, i + 0.36, color=color, linewidth=0.7)
    _noise_axis(axes, noise_range)
    name_rows(axes, _moment_names(plan), len(MOMENT_COLORS))


def _draw_law(axes: Axes, plan: NoisePlan, noise_range: tuple[float, float]) -> None:
    title = "Share of samples at each noise level σ of the student"
    style(axes, title, ylabel="share of samples", legend_line=True)
    names = plan.labels or [f"k = {step:,}" for step, _, _ in plan.moments]
    for (_, levels, probs), color, name in zip(plan.moments, MOMENT_COLORS, names, strict=False):
        axes.plot(
            levels[1:],
            # A logarithmic axis has no place for levels that are not drawn.
            np.where(probs > 0, probs, np.nan),
            color=color,
            linewidth=1.1,
            marker="o",
            markersize=1.8,
            label=name,
        )
    _noise_axis(axes, noise_range)
    log_axis(axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    legend(axes)


def draw_bands(
    axes: Axes, names: Sequence[str], shares: Sequence[npt.NDArray[Any]], rows: int
) -> None:
    """The shares of samples in four bands of noise, a bar for each moment."""
    style(axes, "Share of samples in four bands of noise", "share of samples", legend_line=True)
    share_bars(axes, names, [band_label(name) for name in BAND_NAMES], shares, rows)
    legend(axes)
