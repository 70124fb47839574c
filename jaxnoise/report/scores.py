"""A run's score with the protocol that gives it a meaning."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxnoise.evaluation.score_keys import FLOOR, is_untrained, sampler_of, untrained_key
from jaxnoise.report.formats import finite, number, quantity, setting

PROTOCOL_KEYS = (
    "distance",
    "n",
    "extractor",
    "extractor_sha256",
    "resize",
    "reference",
    "reference_sha256",
    "guidance",
)
"""Two numbers can be compared only where all of these agree."""


@dataclass(frozen=True)
class Score:
    """The distance of one sampler's images.

    Attributes:
      sampler: its name, such as "heun18".
      distance: after training.
      untrained: before training, if recorded.
      nfe: network evaluations per image, if recorded.
    """

    sampler: str
    distance: float
    untrained: float | None
    nfe: int | None


def scores(result: Mapping[str, Any]) -> list[Score]:
    """The scores of a result.json, in its order."""
    nfe = result.get("nfe")
    found = []
    for key, value in result.items():
        sampler = sampler_of(key)
        if sampler is None or not finite(value):
            continue
        untrained = result.get(untrained_key(key))
        evaluations = nfe.get(sampler) if isinstance(nfe, dict) else None
        found.append(
            Score(
                sampler,
                float(value),
                float(untrained) if finite(untrained) else None,
                evaluations if isinstance(evaluations, int) else None,
            )
        )
    return found


def floor(result: Mapping[str, Any]) -> float | None:
    """The distance of held-out real images to the reference, if recorded."""
    value = result.get(FLOOR)
    return float(value) if finite(value) else None


def protocol(result: Mapping[str, Any], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything of a result.json but the distances, as labels and values.

    Args:
      result: of result.json.
      config: the resolved config, which holds the seeds where the result does not.
    """
    shown = {key: value for key, value in result.items() if value not in (None, "", {}, [])}
    lines = []
    for key, label in (("distance", "Distance"), ("extractor", "Extractor")):
        if key in shown:
            lines.append((label, setting(shown.pop(key))))
    if "n" in shown:
        lines.append(("Generated images", f"n = {_count(shown.pop('n'))}"))
    if "reference" in shown:
        images = shown.pop("reference_count", None)
        size = f" ({_count(images)} images)" if images is not None else ""
        lines.append(("Reference", setting(shown.pop("reference")) + size))
    if "reference_sha256" in shown:
        lines.append(("Reference SHA-256", setting(shown.pop("reference_sha256"))))
    nfe = shown.pop("nfe", None)
    if isinstance(nfe, dict):
        each = ", ".join(f"{name} {setting(count)}" for name, count in nfe.items())
        lines.append(("Network evaluations per image (NFE)", each))
    levels = shown.pop("levels", None)
    if isinstance(levels, dict):
        lines += [(f"Noise levels of {name}", _levels(held)) for name, held in levels.items()]
    if isinstance(devices := shown.pop("devices", None), dict):
        lines.append(("Devices", f"{devices.get('count', '?')} x {devices.get('kind', '?')}"))
    if isinstance(denoised := shown.pop("denoised", None), dict):
        count = len(denoised.get("sigma", ()))
        lines.append(
            ("Estimates in one step", f"measured at {count} level{'s' * (count != 1)} of noise")
        )
    if "weights" in shown:
        weights = setting(shown.pop("weights"))
        lines.append(("Weights", "EMA" if weights == "ema" else weights))
    if "images_seen" in shown:
        lines.append(("Images seen", _count(shown.pop("images_seen"))))
    evaluate = config.get("evaluate")
    seed = evaluate.get("seed") if isinstance(evaluate, dict) else None
    seed = shown.pop("seed", seed)
    if seed is not None:
        lines.append(("Seed of the generated images", setting(seed)))
    if "seed" in config:
        lines.append(("Seed of the training", setting(config["seed"])))
    for key, value in shown.items():
        if not (key == FLOOR or sampler_of(key) or is_untrained(key)):
            lines.append((key, number(value) if finite(value) else setting(value)))
    return lines


def _levels(held: object) -> str:
    if not (isinstance(held, list) and held and all(map(finite, held))):
        return setting(held)
    if len(held) <= 4:
        return f"sigma {', '.join(number(sigma) for sigma in held)}"
    return f"{len(held)}, sigma from {number(held[0])} to {number(held[-1])}"


def _count(value: object) -> str:
    if not finite(value):
        return setting(value)
    exact = f"{value:,}"
    return f"{exact} ({quantity(value)})" if value >= 1e6 else exact
