"""Pictures of which noise is trained on when, over log SNR."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxnoise.errors import ArgumentError
from jaxnoise.figures.noise import Floats, check_moments, draw_bands
from jaxnoise.figures.style import (
    FAINT,
    INK,
    MAIN,
    MOMENT_COLORS,
    blank_figure,
    heading,
    legend,
    log_axis,
    save,
    style,
)
from jaxnoise.noise.bands import BAND_NAMES

# From the first moment to the last: where lines coincide, the wider one shows under the other.
_WIDTHS = (3.0, 2.5, 2.0, 1.5, 1.0)


@dataclass(frozen=True, eq=False)
class LogSnrMoment:
    """What is drawn over lambda = log SNR at one moment of training.

    Attributes:
      name: the moment in a legend, such as "k = 100".
      density: float[n] >= 0, the density of lambda, pacing included.
      shares: float[4], shares of samples with sigma < 0.1, 0.1 <= sigma < 1, 1 <= sigma < 10 and
        10 <= sigma.
      emphasis: float[n] >= 0, density times the weight of a squared error, up to a factor; None if
        no fixed weight is known.
      lower: float[n] >= 0, the density of lambda at the end of a jump; None where there is none.
    """

    name: str
    density: npt.NDArray[Any]
    shares: npt.NDArray[Any]
    emphasis: npt.NDArray[Any] | None = None
    lower: npt.NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class LogSnrPlan:
    """Which log SNR a training draws, how often, and how much errors count there.

    Attributes:
      title: heading of the plan's column.
      lam: float[n] ascending, n >= 2, where the moments are given; little may lie outside.
      moments: at most 5, in the order of training. If all are the same, one is drawn.
      quantiles: (t float[m] ascending in (0, 1), lambda(t) float[m]), the schedule of the law.
      gaps: at most 5 of (moment, 1 - sigma_lo / sigma float[n] in (0, 1]), how far below each level
        its partner lies; () where levels are not drawn in pairs.
    """

    title: str
    lam: npt.NDArray[Any]
    moments: Sequence[LogSnrMoment]
    quantiles: tuple[npt.NDArray[Any], npt.NDArray[Any]]
    gaps: Sequence[tuple[str, npt.NDArray[Any]]] = ()

    def __post_init__(self) -> None:
        if len(self.lam) < 2 or not (np.diff(self.lam) > 0).all():
            raise ArgumentError("lam", f"{len(self.lam)} numbers", "2 or more in ascending order")
        t, schedule = self.quantiles
        if len(t) != len(schedule) or not len(t):
            raise ArgumentError("quantiles", f"{len(t)} and {len(schedule)} numbers", "as many")
        check_moments(self.moments)
        for moment in self.moments:
            self._check(moment)
        if self.gaps:
            check_moments(self.gaps)
        for name, gap in self.gaps:
            within = np.shape(gap) == np.shape(self.lam) and ((gap > 0) & (gap <= 1)).all()
            if not within:
                shown = f"{name}: of shape {list(np.shape(gap))}"
                raise ArgumentError("gaps", shown, f"{len(self.lam)} numbers in (0, 1]")

    def _check(self, moment: LogSnrMoment) -> None:
        for name in ("density", "emphasis", "lower"):
            values = getattr(moment, name)
            if values is None:
                continue
            fits = np.shape(values) == np.shape(self.lam) and (np.asarray(values) >= 0).all()
            mass = _integral(values, self.lam) if fits else np.nan
            if not 0 < mass < np.inf or (name != "emphasis" and mass > 1.05):
                raise ArgumentError(
                    "moments",
                    f"{moment.name}: {name} of shape {list(np.shape(values))}, integral {mass:.4g}",
                    f"numbers >= 0 at the {len(self.lam)} lambdas, a density of integral 1",
                )
        shares = np.asarray(moment.shares)
        if shares.shape != (len(BAND_NAMES),) or not np.isclose(shares.sum(), 1, atol=1e-3):
            raise ArgumentError(
                "moments",
                f"{moment.name}: {shares.size} shares of sum {shares.sum():.4g}",
                f"{len(BAND_NAMES)} shares of sum 1",
            )

    @property
    def shown(self) -> Sequence[LogSnrMoment]:
        """The moments, or one that stands for all if they are the same."""
        first = self.moments[0]
        if any(
            not np.array_equal(first.density, moment.density)
            or not np.array_equal(first.shares, moment.shares)
            or not _same(first.emphasis, moment.emphasis)
            or not _same(first.lower, moment.lower)
            for moment in self.moments[1:]
        ):
            return self.moments
        return [replace(first, name="all of training")]


def _same(a: npt.NDArray[Any] | None, b: npt.NDArray[Any] | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)


def _integral(values: npt.NDArray[Any], lam: npt.NDArray[Any]) -> float:
    """By the trapezoid rule."""
    return float(np.trapezoid(np.asarray(values, np.float64), np.asarray(lam, np.float64)))


def logsnr_figure(plan: LogSnrPlan, baseline: LogSnrPlan) -> Figure:
    """The density over log SNR, what it emphasises and its schedule, for a plan and a baseline.

    Top to bottom: the density of what is drawn at each moment, and dashed that of where a jump
    ends; that density times the weight,
    normalised to integrate to 1 (left out if neither plan has one); the gaps of pairs (likewise);
    the schedule lambda(t) of the law; the shares of samples in four bands of noise. Both columns
    have the same axes.

    Args:
      plan: drawn on the left.
      baseline: drawn on the right.

    Returns:
      The figure.
    """
    plans = (plan, baseline)
    weighted = any(moment.emphasis is not None for shown in plans for moment in shown.moments)
    paired = any(shown.gaps for shown in plans)
    lines = 3 + weighted + paired
    rows = max(len(shown.shown) for shown in plans)
    heights = [3.2] * (lines - 1) + [1.3 + 0.4 * rows]
    figure = blank_figure(12.0, sum(heights))
    grid = figure.subplots(lines, 2, height_ratios=heights)
    lam_range = (min(float(p.lam[0]) for p in plans), max(float(p.lam[-1]) for p in plans))
    for line in range(lines - 2):
        grid[line, 0].sharey(grid[line, 1])
    for axes, shown in zip(grid.T, plans, strict=True):
        _draw_density(axes[0], shown, lam_range)
        if weighted:
            _draw_emphasis(axes[1], shown, lam_range)
        if paired:
            _draw_gaps(axes[-3], shown, lam_range)
        _draw_schedule(axes[-2], shown, lam_range)
        names = [moment.name for moment in shown.shown]
        draw_bands(axes[-1], names, [moment.shares for moment in shown.shown], rows)
        heading(axes[0], shown.title, top_axis=True)
    for line in range(lines - 2 - paired):
        # Both columns first: each is wide enough for the other.
        grid[line, 0].set_ylim(bottom=0)
    return figure


def save_logsnr_plot(plan: LogSnrPlan, baseline: LogSnrPlan, path: str | Path) -> None:
    """Writes `logsnr_figure(plan, baseline)` as a PNG; the folder of `path` must exist."""
    save(logsnr_figure(plan, baseline), path)


def _log_snr_axis(axes: Axes, lam_range: tuple[float, float]) -> None:
    """lambda below, sigma above."""
    axes.set_xlim(lam_range)
    axes.set_xlabel("log SNR λ (noise on the left)", fontsize=9, color=INK)
    low, high = (-lam / (2 * np.log(10)) for lam in reversed(lam_range))
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    sigma = [f * 10.0**d for d in range(int(low) - 1, int(high) + 2) for f in factors]
    sigma = [level for level in sigma if 10**low <= level <= 10**high]
    top = axes.secondary_xaxis("top")
    top.set_xticks([-2 * np.log(level) for level in sigma], [f"{level:g}" for level in sigma])
    top.set_xlabel("noise over signal σ", fontsize=8, color=INK)
    top.tick_params(labelsize=8, colors=INK, length=3)
    top.spines["top"].set_color(FAINT)


def _lines(moments: Sequence[LogSnrMoment]) -> Iterator[tuple[LogSnrMoment, str, float]]:
    """Each moment with the color and the width of its line."""
    for i, moment in enumerate(moments):
        yield moment, *((MAIN, 1.6) if len(moments) == 1 else (MOMENT_COLORS[i], _WIDTHS[i]))


def _draw_moments(axes: Axes, moments: Sequence[LogSnrMoment], curves: Sequence[Floats]) -> None:
    """One line per moment, given as (lambda, value) pairs."""
    for (moment, color, width), (lam, values) in zip(_lines(moments), curves, strict=True):
        axes.plot(lam, values, color=color, linewidth=width, label=moment.name)


def _draw_density(axes: Axes, plan: LogSnrPlan, lam_range: tuple[float, float]) -> None:
    title = "Density of the log SNR that is drawn"
    style(axes, title, ylabel="p(λ)", legend_line=True, top_axis=True)
    _log_snr_axis(axes, lam_range)
    moments = plan.shown
    _draw_moments(axes, moments, [np.stack([plan.lam, moment.density]) for moment in moments])
    for i, (moment, color, _) in enumerate(_lines(moments)):
        if moment.lower is not None:
            label = None if i else "end of a jump"
            axes.plot(plan.lam, moment.lower, "--", color=color, linewidth=1.0, label=label)
    legend(axes, top_axis=True)


def _draw_emphasis(axes: Axes, plan: LogSnrPlan, lam_range: tuple[float, float]) -> None:
    title = "Density times weight, on the error of v"
    style(axes, title, ylabel="scaled to area 1", legend_line=True, top_axis=True)
    _log_snr_axis(axes, lam_range)
    moments = [moment for moment in plan.shown if moment.emphasis is not None]
    curves = [
        np.stack([plan.lam, moment.emphasis / _integral(moment.emphasis, plan.lam)])
        for moment in plan.shown
        if moment.emphasis is not None
    ]
    if moments:
        _draw_moments(axes, moments, curves)
        legend(axes, top_axis=True)
    else:
        axes.text(
            0.5,
            0.5,
            "the weight is learned in training",
            transform=axes.transAxes,
            ha="center",
            fontsize=9,
            color=FAINT,
        )


def _draw_gaps(axes: Axes, plan: LogSnrPlan, lam_range: tuple[float, float]) -> None:
    title = "Gap of a pair, 1 − σ_lo / σ"
    style(axes, title, ylabel="1: the image itself", legend_line=True, top_axis=True)
    _log_snr_axis(axes, lam_range)
    for (name, gap), color, width in zip(plan.gaps, MOMENT_COLORS, _WIDTHS, strict=False):
        axes.plot(plan.lam, gap, color=color, linewidth=width, label=name)
    log_axis(axes)
    legend(axes, top_axis=True)


def _draw_schedule(axes: Axes, plan: LogSnrPlan, lam_range: tuple[float, float]) -> None:
    style(
        axes,
        "Schedule λ(t) of the law, before pacing",
        "t, share of the law with less noise",
        "log SNR λ (noise at the bottom)",
    )
    axes.plot(*plan.quantiles, color=MAIN, linewidth=1.6)
    axes.set_xlim(0, 1)
    axes.set_ylim(lam_range)
