"""What the best of four draws does to the best denoiser, by quadrature; writes the figure.

    python benchmarks/selection_optimum.py        writes docs/noise_rater_optimum.png

Data x0 = +-1 + .3 N(0, 1), noise of sigma 1, x = x0 + eps, and the score sin 2x + x of the noisy
image. Under the best of M draws for one image x wins with probability F(r(x) | x0)^(M-1), F the
distribution of a rival's score at this x0, so that the best denoiser becomes

    E[x0 | x, won] = integral x0 p(x0) p(x | x0) F^(M-1) / integral p(x0) p(x | x0) F^(M-1).

In a pool of other images rivals do not know x0: F is of x alone, and cancels.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jaxnoise.figures.style import ARM_COLORS, INK, blank_figure, legend, save, style  # noqa: E402

Floats = NDArray[np.floating[Any]]
SPREAD = 0.3


def normal(x: Floats, mean: float, deviation: float) -> Floats:
    density: Floats = np.exp(-(((x - mean) / deviation) ** 2) / 2) / deviation
    return density


def score(x: Floats) -> Floats:
    found: Floats = np.sin(2 * x) + x
    return found


def joint(candidates: int, x0: Floats, x: Floats) -> Floats:
    """The density of (x0, x) among the selected, float[len(x0), len(x)], up to a factor."""
    density = normal(x[None] - x0[:, None], 0.0, 1.0)
    density /= density.sum(axis=1, keepdims=True)
    order = np.argsort(score(x))
    below = np.empty_like(density)
    below[:, order] = np.cumsum(density[:, order], axis=1) - density[:, order] / 2
    prior = normal(x0, 1.0, SPREAD) + normal(x0, -1.0, SPREAD)
    selected: Floats = prior[:, None] * density * below ** (candidates - 1)
    return selected


def main(arguments: list[str] | None = None) -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(arguments)
    x0, x = np.linspace(-3, 3, 1201), np.linspace(-9, 9, 3601)
    inside = (x > -0.5) & (x < 0)
    figure = blank_figure(7.0, 4.2)
    axes = figure.subplots()
    style(axes, "The best denoiser of what is selected", ylabel="E[x0 | x]", legend_line=True)
    names = {1: "plain, or a pool by the noisy image", 4: "best of 4 draws for each image"}
    for color, (candidates, name) in zip(ARM_COLORS, names.items(), strict=False):
        mass = joint(candidates, x0, x)
        axes.plot(x, x0 @ mass / mass.sum(axis=0), color=color, label=name, linewidth=1.8)
        here = mass[:, inside]
        print(f"{name}: E[x0 | x in (-.5, 0)] = {(x0 @ here).sum() / here.sum():.3f}")
    axes.set_xlim(-2.5, 2.5)
    axes.set_ylim(-1.6, 1.6)
    axes.set_xlabel("noisy x = x0 + eps", fontsize=9, color=INK)
    legend(axes)
    save(figure, ROOT / "docs" / "noise_rater_optimum.png")


if __name__ == "__main__":
    main()
