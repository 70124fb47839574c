"""One look for every figure: palette, axes, legends, PNG.

Figures are built on matplotlib's object interface (no pyplot, no global state), so that several
threads can draw.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import ScaledTranslation

from jaxnoise.files import write_whole

DPI = 120
TOP_AXIS = 30
"""Height of a top axis with its ticks and label, in points."""
INK, FAINT, GRID = "#2b2b33", "#8a8a94", "#e4e4ea"
MAIN = "#1f7a78"
# Noise from low (cold) to high (warm); steps of training from early (light) to late (dark).
BAND_COLORS = ("#2f6690", "#81b1d5", "#f2b261", "#c8553d")
BAND_INKS = ("white", INK, INK, "white")
MOMENT_COLORS = ("#f2a7c3", "#d96ba8", "#a83f97", "#6d2e7b", "#2d1e4f")
ARM_COLORS = (MAIN, "#c8553d", "#7d5ba6", "#b08d3c", "#2f6690", "#5f6b75")


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure whose panels keep clear of each other; sizes in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure as PNG; the same figure is the same file."""
    layout = figure.get_layout_engine()
    if layout is not None:
        # Once, and not each time that matplotlib draws: it draws twice.
        layout.execute(figure)
        figure.set_layout_engine("none")
    # matplotlib's version would make it another file.
    data = BytesIO()
    figure.savefig(data, format="png", dpi=DPI, metadata={"Software": None})
    write_whole(Path(path), data.getvalue())


def band_label(band: str) -> str:
    """A band of noise levels as a legend shows it: "0.1-1" is "σ 0.1 – 1"."""
    return f"σ {band[0]} {band[1:]}" if band[0] in "<>" else f"σ {band.replace('-', ' – ')}"


def style(
    axes: Axes,
    title: str,
    xlabel: str = "",
    ylabel: str = "",
    *,
    legend_line: bool = False,
    top_axis: bool = False,
) -> None:
    """Title, labels, grid and spines.

    `legend_line` leaves room for `legend` under the title, `top_axis` for an axis under both.
    """
    pad = (22 if legend_line else 8) + (TOP_AXIS if top_axis else 0)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, pad=pad)
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)
    axes.tick_params(which="both", labelsize=8, colors=INK, length=3)
    axes.tick_params(which="minor", length=1.5)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)


def legend(axes: Axes, *, top_axis: bool = False) -> None:
    """One line between the title and the axes (and their top axis), where no data can be."""
    lift = ScaledTranslation(0, (TOP_AXIS if top_axis else 0) / 72, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        bbox_transform=axes.transAxes + lift,
        ncols=len(axes.get_legend_handles_labels()[0]),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handlelength=1.2,
        handletextpad=0.5,
        columnspacing=1.0,
        borderpad=0.2,
        borderaxespad=0.2,
    )


def heading(axes: Axes, title: str, *, top_axis: bool = False) -> None:
    """The title of a column of panels, over that of its first one."""
    axes.annotate(
        title,
        (0.0, 1.0),
        (0, 42 + TOP_AXIS if top_axis else 30),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=13,
        fontweight="bold",
        color=INK,
    )


def name_rows(axes: Axes, names: Sequence[str], rows: int) -> None:
    """Names in place of a y axis: one each for the first of `rows` rows, from the top."""
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(rows - 0.5, -0.5)


def share_bars(
    axes: Axes,
    names: Sequence[str],
    bands: Sequence[str],
    shares: Sequence[npt.NDArray[Any]],
    rows: int,
) -> None:
    """A bar for each name, of all bands by their shares; 4% and more are written on it.

    Args:
      axes: where to draw.
      names: of the bars, from the top.
      bands: labels of the four bands.
      shares: for each name, float[4] of sum 1.
      rows: room for so many bars.
    """
    left = np.zeros(len(names))
    columns = np.transpose(shares)
    for band, color, ink, widths in zip(bands, BAND_COLORS, BAND_INKS, columns, strict=True):
        axes.barh(range(len(names)), widths, left=left, height=0.72, color=color, label=band)
        for i, share in enumerate(widths):
            if share >= 0.04:
                axes.text(
                    left[i] + share / 2,
                    i,
                    f"{100 * share:.0f}%",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=ink,
                )
        left += widths
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    name_rows(axes, names, rows)


def log_axis(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers: at 1, 2, 5, ..., or at 1 alone over many decades.

    It stays linear where not all that is drawn is positive.
    """
    if axes.dataLim.y0 <= 0:
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    decades = np.log10(high / low)
    subs = range(1, 10) if decades < 0.6 else (1, 2, 5) if decades < 2.5 else (1,)
    axes.yaxis.set_major_locator(LogLocator(10, subs=subs))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
