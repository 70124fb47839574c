"""How a law that learns itself moved: its density over the steps of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from jaxnoise.errors import ArgumentError
from jaxnoise.figures.style import FAINT, INK, MAIN, blank_figure, legend, save, style

Row = Mapping[str, Any]
Floats = npt.NDArray[np.float64]
KEY = "law/"
"""What the keys of a row begin with that hold densities: `law/<log SNR>`."""


def has_law(records: Sequence[Row]) -> bool:
    """Whether any row holds the density of a law that learns itself."""
    return any(key.startswith(KEY) for row in records for key in row)


def law_table(records: Sequence[Row]) -> tuple[Floats, Floats, Floats]:
    """Steps float[r], log SNR float[n] ascending and densities float[r, n] of the rows."""
    rows = [row for row in records if has_law([row])]
    names = sorted((key for key in rows[0] if key.startswith(KEY)), key=_level) if rows else []
    return (
        np.array([row["step"] for row in rows], np.float64),
        np.array([_level(name) for name in names], np.float64),
        np.array([[row[name] for name in names] for row in rows], np.float64),
    )


def _level(name: str) -> float:
    return float(name.removeprefix(KEY))


def _edges(middles: Floats) -> Floats:
    """Ends of cells around ascending middles."""
    if len(middles) == 1:
        return np.array([middles[0] - 0.5, middles[0] + 0.5])
    between = (middles[1:] + middles[:-1]) / 2
    return np.concatenate([[2 * middles[0] - between[0]], between, [2 * middles[-1] - between[-1]]])


def law_map_figure(records: Sequence[Row]) -> Figure:
    """Left the density by step and log SNR; right that of the first row and of the last.

    The first row is the law alone where the warm-up is as long as the rows are apart.

    Args:
      records: rows of metrics.jsonl, in order; those without a law are left out.

    Returns:
      The figure.

    Raises:
      ArgumentError: no row holds a law.
    """
    if not has_law(records):
        raise ArgumentError("records", f"{len(records)} rows", "rows of a law that learns itself")
    steps, lam, density = law_table(records)
    figure = blank_figure(9.6, 4.0)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2.2, 1))
    style(left, "What is drawn, over training", "step", "log SNR λ (clean above)", legend_line=True)
    colors = LinearSegmentedColormap.from_list("law", ["white", MAIN, INK])
    # A row is the mean since the one before.
    starts = np.concatenate([[0.0], steps])
    mesh = left.pcolormesh(
        starts, _edges(lam), density.T, cmap=colors, vmin=0.0, vmax=float(np.max(density))
    )
    left.grid(False)
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    bar = figure.colorbar(mesh, ax=left, pad=0.02)
    bar.set_label("density over λ", fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8)
    style(right, "Its ends", "density over λ", legend_line=True)
    for row, color in ((0, FAINT), (-1, MAIN)):
        right.stairs(
            density[row],
            _edges(lam),
            orientation="horizontal",
            color=color,
            linewidth=1.6,
            label=f"to step {steps[row]:,.0f}",
        )
    right.set_xlim(left=0)
    legend(right)
    return figure


def save_law_map(records: Sequence[Row], path: str | Path) -> None:
    """Writes `law_map_figure(records)` as a PNG; the folder of `path` must exist."""
    save(law_map_figure(records), path)
