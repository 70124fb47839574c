"""The picture of a study: every seed of every arm, and their means."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxnoise.figures.style import ARM_COLORS, FAINT, INK, blank_figure, legend, save, style


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
