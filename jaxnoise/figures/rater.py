"""Pictures of what a rater of noise says."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxnoise.figures.style import BAND_COLORS, INK, band_label, blank_figure, save, style
from jaxnoise.noise.bands import BAND_NAMES, band_of

Floats = npt.NDArray[Any]


def score_histogram_figure(scores: Floats, sigma: Floats) -> Figure:
    """Histograms of scores, one panel for each noise band, over the same axis.

    Args:
      scores: float[n], finite, each less the mean of those that it competes with.
      sigma: float[n], noise levels.

    Returns:
      The figure; the panel of an empty band says so.
    """
    band = band_of(sigma)
    low, high = float(np.min(scores)), float(np.max(scores))
    if low == high:
        low, high = low - 0.5, high + 0.5
    bins = np.linspace(low, high, 41)
    figure = blank_figure(9.0, 5.6)
    panels = figure.subplots(2, 2, sharex=True).ravel()
    for i, (axes, name, color) in enumerate(zip(panels, BAND_NAMES, BAND_COLORS, strict=True)):
        here = scores[band == i]
        title = f"Scores at {band_label(name)}, {len(here)} draws of noise"
        style(
            axes,
            title,
            "score above its rivals' mean" if i > 1 else "",
            "draws" if i % 2 == 0 else "",
        )
        if len(here):
            axes.hist(here, bins=bins, color=color)
            axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
            axes.axvline(float(here.mean()), color=INK, linewidth=1.2)
            # Rounding of a mean that is 0 has no place in a picture.
            mean = np.round(here.mean(), 6) + 0.0
            said = f"mean {mean:.3g}\nstd {here.std():.3g}"
        else:
            said = "no draw in this band"
        axes.text(
            0.98, 0.95, said, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=INK
        )
    return figure


def save_score_histogram(scores: Floats, sigma: Floats, path: str | Path) -> None:
    """Writes `score_histogram_figure` as a PNG; the folder of `path` must exist."""
    save(score_histogram_figure(scores, sigma), path)
