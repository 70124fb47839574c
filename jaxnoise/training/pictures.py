"""Pictures of a run: grids of samples, training curves, and which noise is trained on when."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    PercentFormatter,
)
from PIL import Image

from jaxnoise.errors import ArgumentError
from jaxnoise.training.figure_style import (
    ARM_COLORS,
    BAND_COLORS,
    FAINT,
    INK,
    MAIN,
    MOMENT_COLORS,
    blank_figure,
    legend,
    log_axis,
    save,
    style,
)
from jaxnoise.training.step import BAND_EDGES, BAND_NAMES

Row = Mapping[str, Any]
Floats = npt.NDArray[np.float64]

_GRID_WIDTH = 640
_GAP = 2
_GAP_VALUE = 232


def save_grid(
    images: npt.NDArray[np.uint8], path: str | Path, columns: int = 10, scale: int | None = None
) -> None:
    """Writes images as one PNG, row by row, each pixel enlarged to a square.

    Args:
      images: uint8[n, H, W, C], n >= 1, C = 1 (grey) or 3 (RGB).
      path: file to write; its folder must exist.
      columns: images in a row, at least 1; fewer when there are fewer images.
      scale: side of an enlarged pixel, at least 1; by default the integer that brings the picture
        nearest to 640 pixels in width.

    Raises:
      ArgumentError: an argument outside its range.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise ArgumentError("images", f"{images.dtype}{list(images.shape)}", "uint8[n, H, W, C]")
    count, height, width, channels = images.shape
    if channels not in (1, 3):
        raise ArgumentError("images", f"{channels} channels", "with 1 or 3 channels")
    if columns < 1:
        raise ArgumentError("columns", columns, "at least 1")
    columns = min(columns, count)
    if scale is None:
        scale = max(1, round((_GRID_WIDTH / columns - _GAP) / width))
    if scale < 1:
        raise ArgumentError("scale", scale, "at least 1")
    enlarged = images.repeat(scale, axis=1).repeat(scale, axis=2)
    down, right = height * scale + _GAP, width * scale + _GAP
    rows = -(-count // columns)
    canvas = np.full((rows * down + _GAP, columns * right + _GAP, channels), _GAP_VALUE, np.uint8)
    for i, image in enumerate(enlarged):
        top, left = _GAP + i // columns * down, _GAP + i % columns * right
        canvas[top : top + height * scale, left : left + width * scale] = image
    Image.fromarray(canvas[..., 0] if channels == 1 else canvas).save(path, format="PNG")


def _series(records: Sequence[Row], key: str) -> tuple[Floats, Floats]:
    """Images seen and values of the rows that hold a number under `key`."""
    rows = [row for row in records if row.get(key) is not None and "images_seen" in row]
    return (
        np.array([row["images_seen"] for row in rows], np.float64),
        np.array([row[key] for row in rows], np.float64),
    )


def _smoothed(values: Floats) -> Floats:
    """Centred running mean over about a 20th of the values, narrower towards both ends."""
    reach = np.minimum(len(values) // 40, np.arange(len(values)))
    reach = np.minimum(reach, reach[::-1])
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centre = np.arange(len(values))
    smooth: Floats = (sums[centre + reach + 1] - sums[centre - reach]) / (2 * reach + 1)
    return smooth


def _band_label(band: str) -> str:
    return f"σ {band[0]} {band[1:]}" if band[0] in "<>" else f"σ {band.replace('-', ' – ')}"


def _raw_and_smooth(axes: Axes, x: Floats, y: Floats, color: str, label: str) -> None:
    axes.plot(x, y, color=color, linewidth=0.8, alpha=0.25)
    _line(axes, x, _smoothed(y), color, label=label)


def _line(axes: Axes, x: Floats, y: Floats, color: str, **kwargs: Any) -> None:
    # A line through one point would be invisible.
    marker = "o" if len(x) == 1 else ""
    axes.plot(x, y, color=color, linewidth=1.6, marker=marker, markersize=4, **kwargs)


def _draw_loss(axes: Axes, records: Sequence[Row]) -> None:
    style(axes, "Loss", ylabel="loss", legend_line=True)
    _raw_and_smooth(axes, *_series(records, "loss"), MAIN, "running mean")
    log_axis(axes)
    legend(axes)


def _draw_band_losses(axes: Axes, records: Sequence[Row], names: Sequence[str]) -> None:
    style(axes, "Loss by noise level σ of the student", ylabel="loss", legend_line=True)
    for name, color in zip(BAND_NAMES, BAND_COLORS, strict=True):
        if name in names:
            series = _series(records, f"loss_band/{name}")
            _raw_and_smooth(axes, *series, color, _band_label(name))
    log_axis(axes)
    legend(axes)


def _draw_gradient_norm(axes: Axes, records: Sequence[Row]) -> None:
    style(axes, "Gradient norm", ylabel="global norm of the gradient", legend_line=True)
    _raw_and_smooth(axes, *_series(records, "grad_norm"), MAIN, "running mean")
    log_axis(axes)
    legend(axes)


def _draw_num_levels(axes: Axes, records: Sequence[Row]) -> None:
    style(axes, "Number of noise levels", ylabel="N(k)", legend_line=True)
    _line(axes, *_series(records, "num_levels"), MAIN, drawstyle="steps-post")
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_ylim(bottom=0)


def _draw_distances(axes: Axes, records: Sequence[Row], keys: Sequence[str]) -> None:
    style(axes, "Fréchet distance", ylabel="distance", legend_line=True)
    arms = [key for key in keys if key != "frechet_floor"]
    for key, color in zip(arms, cycle(ARM_COLORS), strict=False):
        x, y = _series(records, key)
        name = key.removeprefix("frechet_").replace("_", " ")
        axes.plot(x, y, color=color, linewidth=1.6, marker="o", markersize=3.5, label=name)
    if "frechet_floor" in keys:
        floor = _series(records, "frechet_floor")[1][-1]
        axes.axhline(floor, color=FAINT, linewidth=1.4, linestyle="--", label="real images (floor)")
    log_axis(axes)
    legend(axes)


def curves_figure(records: Sequence[Row]) -> Figure:
    """Loss, loss by noise level, gradient norm, N(k) and distances over the images seen.

    A panel appears when some row has its key: `loss`, `loss_band/<name>`, `grad_norm`,
    `num_levels`, `frechet_<name>` (`frechet_floor` is drawn as the floor). Raw values are faint,
    their running means strong.

    Args:
      records: rows of metrics.jsonl, in order; rows without `images_seen` are left out, and so
        are nulls.

    Returns:
      The figure.

    Raises:
      ArgumentError: no row holds anything to draw.
    """
    keys = list(dict.fromkeys(key for row in records for key in row))
    keys = [key for key in keys if len(_series(records, key)[0])]
    bands = [name for name in BAND_NAMES if f"loss_band/{name}" in keys]
    arms = [key for key in keys if key.startswith("frechet_")]
    panels: list[Callable[[Axes, Sequence[Row]], None]] = []
    if "loss" in keys:
        panels.append(_draw_loss)
    if bands:
        panels.append(partial(_draw_band_losses, names=bands))
    if "grad_norm" in keys:
        panels.append(_draw_gradient_norm)
    if "num_levels" in keys:
        panels.append(_draw_num_levels)
    if arms:
        panels.append(partial(_draw_distances, keys=arms))
    if not panels:
        raise ArgumentError("records", f"{len(records)} rows", "rows with something to draw")
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    figure = blank_figure(5.0 * columns + 0.4, 3.1 * lines)
    grid = figure.add_gridspec(lines, columns)
    for i, draw in enumerate(panels):
        # A panel alone in the last line takes all of it.
        alone = i == len(panels) - 1 and i % columns == 0
        axes = figure.add_subplot(grid[i // columns, :] if alone else grid[divmod(i, columns)])
        draw(axes, records)
        axes.set_xlabel("images seen", fontsize=9, color=INK)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(left=0)
    return figure


def save_curves(records: Sequence[Row], path: str | Path) -> None:
    """Writes `curves_figure(records)` as a PNG; the folder of `path` must exist."""
    save(curves_figure(records), path)


@dataclass(frozen=True, eq=False)
class NoisePlan:
    """Which noise levels a training uses, and how often.

    Attributes:
      title: heading of the plan's column.
      steps: training steps at which `num_levels` is given, ascending, int[m].
      num_levels: number of levels at each of them, int[m].
      moments: at most 5 of (step, levels float[N] ascending, probs float[N - 1]): `probs[i]` is
        the share of samples whose student sees `levels[i + 1]`.
    """

    title: str
    steps: npt.NDArray[Any]
    num_levels: npt.NDArray[Any]
    moments: Sequence[tuple[int, npt.NDArray[Any], npt.NDArray[Any]]]

    def __post_init__(self) -> None:
        if len(self.steps) != len(self.num_levels) or not len(self.steps):
            raise ArgumentError("num_levels", len(self.num_levels), f"{len(self.steps)} numbers")
        if not 1 <= len(self.moments) <= len(MOMENT_COLORS):
            raise ArgumentError("moments", len(self.moments), f"1 to {len(MOMENT_COLORS)} moments")
        for step, levels, probs in self.moments:
            if len(probs) != len(levels) - 1 or not np.isclose(np.sum(probs), 1, atol=1e-3):
                raise ArgumentError(
                    "moments",
                    f"step {step}: {len(levels)} levels, {len(probs)} probabilities of sum "
                    f"{np.sum(probs):.4g}",
                    "levels [N] and probabilities [N - 1] of sum 1",
                )


def band_shares(levels: npt.NDArray[Any], probs: npt.NDArray[Any]) -> Floats:
    """Share of samples in each band of noise levels, by the student's level.

    Args:
      levels: float[N], ascending.
      probs: float[N - 1], the law over pairs.

    Returns:
      float64[4]: sigma < 0.1, 0.1 <= sigma < 1, 1 <= sigma < 10, 10 <= sigma.
    """
    band = np.searchsorted(np.asarray(BAND_EDGES), np.asarray(levels)[1:], side="right")
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
    last = max(int(np.max(shown.steps)) for shown in (plan, baseline))
    grid[2, 0].sharey(grid[2, 1])
    used = np.concatenate([levels for shown in (plan, baseline) for _, levels, _ in shown.moments])
    noise_range = (0.8 * float(used.min()), 1.25 * float(used.max()))
    for column, shown in enumerate((plan, baseline)):
        _draw_counts(grid[0, column], shown, last, most)
        _draw_levels(grid[1, column], shown, noise_range)
        _draw_law(grid[2, column], shown, noise_range)
        _draw_bands(grid[3, column], shown)
        grid[0, column].annotate(
            shown.title,
            (0.0, 1.0),
            (0, 30),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=13,
            fontweight="bold",
            color=INK,
        )
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


def _moment_labels(axes: Axes, plan: NoisePlan) -> None:
    """One line per moment, the first at the top, named by its step and number of levels."""
    axes.set_yticks(
        range(len(plan.moments)),
        [f"k = {step:,}\nN = {len(levels)}" for step, levels, _ in plan.moments],
    )
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(MOMENT_COLORS) - 0.5, -0.5)


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
    _moment_labels(axes, plan)


def _draw_law(axes: Axes, plan: NoisePlan, noise_range: tuple[float, float]) -> None:
    title = "Share of samples at each noise level σ of the student"
    style(axes, title, ylabel="share of samples", legend_line=True)
    for (step, levels, probs), color in zip(plan.moments, MOMENT_COLORS, strict=False):
        axes.plot(
            levels[1:],
            probs,
            color=color,
            linewidth=1.1,
            marker="o",
            markersize=1.8,
            label=f"k = {step:,}",
        )
    _noise_axis(axes, noise_range)
    log_axis(axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}%"))
    legend(axes)


def _draw_bands(axes: Axes, plan: NoisePlan) -> None:
    style(axes, "Share of samples in four bands of noise", "share of samples", legend_line=True)
    left = np.zeros(len(plan.moments))
    shares = np.array([band_shares(levels, probs) for _, levels, probs in plan.moments])
    for name, color, width in zip(BAND_NAMES, BAND_COLORS, shares.T, strict=True):
        axes.barh(
            range(len(width)), width, left=left, height=0.72, color=color, label=_band_label(name)
        )
        for i, share in enumerate(width):
            if share >= 0.04:
                axes.text(
                    left[i] + share / 2,
                    i,
                    f"{100 * share:.0f}%",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if name in ("<0.1", ">10") else INK,
                )
        left += width
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    _moment_labels(axes, plan)
    legend(axes)
