"""Curves of a run over the images seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from jaxnoise.errors import ArgumentError
from jaxnoise.figures.curve_panels import Panel, panels
from jaxnoise.figures.style import (
    FAINT,
    INK,
    blank_figure,
    legend,
    log_axis,
    save,
    style,
)

Row = Mapping[str, Any]
Floats = npt.NDArray[np.float64]


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


def _draw(axes: Axes, panel: Panel, records: Sequence[Row]) -> None:
    style(axes, panel.title, ylabel=panel.unit, legend_line=True)
    for curve in panel.curves:
        x, y = _series(records, curve.key)
        # A line through one point would be invisible.
        marker, name = "o" if len(x) == 1 or panel.form == "dots" else "", curve.name
        if panel.form == "mean":
            axes.plot(x, y, color=curve.color, linewidth=0.8, alpha=0.25)
            name, y = name if len(panel.curves) > 1 else "running mean", _smoothed(y)
        axes.plot(
            x,
            y,
            color=curve.color,
            linewidth=1.6,
            marker=marker,
            markersize=4,
            drawstyle="steps-post" if panel.form == "step" else "default",
            label=name,
        )
    if panel.floor is not None:
        floor = _series(records, panel.floor)[1][-1]
        axes.axhline(floor, color=FAINT, linewidth=1.4, linestyle="--", label="real images (floor)")
    if panel.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylim(-0.02, 1.02)
    elif panel.from_zero:
        if panel.form == "step":
            axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.set_ylim(bottom=0)
    elif not panel.linear:
        log_axis(axes)
        legend(axes)


def curves_figure(records: Sequence[Row]) -> Figure:
    """The panels of `curve_panels` over the images seen; raw values are faint, means strong.

    Args:
      records: rows of metrics.jsonl, in order; rows without `images_seen` are left out, and so
        are nulls.

    Returns:
      The figure.

    Raises:
      ArgumentError: no row holds anything to draw.
    """
    keys = list(dict.fromkeys(key for row in records for key in row))
    shown = panels([key for key in keys if len(_series(records, key)[0])])
    if not shown:
        raise ArgumentError("records", f"{len(records)} rows", "rows with something to draw")
    columns = min(len(shown), 2)
    lines = -(-len(shown) // columns)
    figure = blank_figure(5.0 * columns + 0.4, 3.1 * lines)
    grid = figure.add_gridspec(lines, columns)
    for i, panel in enumerate(shown):
        # A panel alone in the last line takes all of it.
        alone = i == len(shown) - 1 and i % columns == 0
        axes = figure.add_subplot(grid[i // columns, :] if alone else grid[divmod(i, columns)])
        _draw(axes, panel, records)
        axes.set_xlabel("images seen", fontsize=9, color=INK)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(left=0)
    return figure


def save_curves(records: Sequence[Row], path: str | Path) -> None:
    """Writes `curves_figure(records)` as a PNG; the folder of `path` must exist."""
    save(curves_figure(records), path)
