"""What a run's rows are drawn as: one description for the picture and for the page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxnoise.evaluation.score_keys import FLOOR, sampler_of
from jaxnoise.figures.style import ARM_COLORS, BAND_COLORS, MAIN, band_label
from jaxnoise.noise.bands import BAND_NAMES


@dataclass(frozen=True)
class Curve:
    """One line of a panel: which key of the rows, called what, in which color "#rrggbb"."""

    key: str
    name: str
    color: str


@dataclass(frozen=True)
class Panel:
    """Lines over the images seen.

    Attributes:
      title: what is drawn.
      unit: of the vertical axis, or how the values came about.
      curves: the lines, at least one.
      form: "mean" for faint values under their running mean, "step" for values that stay until the
        next one, "line", or "dots" for few values.
      from_zero: whether the axis starts at 0; else it may be logarithmic.
      linear: whether it is never logarithmic.
      percent: whether values are shares in [0, 1].
      floor: key of a level that is drawn across, or None.
    """

    title: str
    unit: str
    curves: tuple[Curve, ...]
    form: str
    from_zero: bool = False
    linear: bool = False
    percent: bool = False
    floor: str | None = None


def panels(keys: Sequence[str]) -> list[Panel]:
    """The panels that rows with these keys can fill, most telling first."""

    def one(key: str, title: str, unit: str, form: str, from_zero: bool = False) -> Panel:
        return Panel(title, unit, (Curve(key, key, MAIN),), form, from_zero)

    bands = tuple(
        Curve(f"loss_band/{band}", band_label(band), color)
        for band, color in zip(BAND_NAMES, BAND_COLORS, strict=True)
        if f"loss_band/{band}" in keys
    )
    sampled = [(key, sampler) for key in keys if (sampler := sampler_of(key)) is not None]
    distances = tuple(
        Curve(key, sampler.replace("_", " "), ARM_COLORS[i % len(ARM_COLORS)])
        for i, (key, sampler) in enumerate(sampled)
    )
    floor = FLOOR if FLOOR in keys else None
    known = {
        "loss": one("loss", "Loss", "loss", "mean"),
        "bands": Panel("Loss by noise level σ", "loss", bands, "mean"),
        "distances": Panel("Fréchet distance", "while training", distances, "dots", floor=floor),
        "grad_norm": one("grad_norm", "Gradient norm", "global norm of the gradient", "mean"),
        "law_mu": replace(
            one("law_mu", "Mean of the learned law", "μ, log SNR", "line"), linear=True
        ),
        "law_b": one("law_b", "Scale of the learned law", "b, log SNR", "line", True),
        "num_levels": one("num_levels", "Number of noise levels", "N(k)", "step", True),
        "relative_gap": one("relative_gap", "Gap of a pair", "1 - σ_lo / σ at σ = 10", "step"),
        "tangent_warmup": replace(
            one("tangent_warmup", "Derivative along the trajectory", "share that counts", "line"),
            percent=True,
        ),
        "stage": one("stage", "Pacing", "difficulty stage", "step", True),
        "window_low": replace(
            one("window_low", "Share of noise left out", "from the clean end", "line", True),
            percent=True,
        ),
        "gaussian_weight": one(
            "gaussian_weight", "Pacing", "weight of the Gaussian part", "line", True
        ),
    }
    there = {"bands": bool(bands), "distances": bool(distances)}
    return [panel for name, panel in known.items() if there.get(name, name in keys)]
