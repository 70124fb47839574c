"""One look for every figure: palette, axes, legends, PNG.

Figures are built on matplotlib's object interface (no pyplot, no global state), so that several
threads can draw.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation

DPI = 120
TOP_AXIS = 30
"""Height of a top axis with its ticks and label, in points."""
INK, FAINT, GRID = "#2b2b33", "#8a8a94", "#e4e4ea"
MAIN = "#1f7a78"
# Noise from low (cold) to high (warm); steps of training from early (light) to late (dark).
BAND_COLORS = ("#2f6690", "#81b1d5", "#f2b261", "#c8553d")
MOMENT_COLORS = ("#f2a7c3", "#d96ba8", "#a83f97", "#6d2e7b", "#2d1e4f")
ARM_COLORS = (MAIN, "#c8553d", "#7d5ba6", "#b08d3c", "#2f6690", "#5f6b75")


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure whose panels keep clear of each other; sizes in inches."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure as PNG; the same figure is the same file."""
    # matplotlib's version would make it another file.
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


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


def log_axis(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers: at 1, 2, 5, ..., or at 1 alone over many decades."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    decades = np.log10(high / low)
    subs = range(1, 10) if decades < 0.6 else (1, 2, 5) if decades < 2.5 else (1,)
    axes.yaxis.set_major_locator(LogLocator(10, subs=subs))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
