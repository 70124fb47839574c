"""What settings of different sections make of each other that is allowed, and seldom meant."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxnoise.models import DIT_PRESETS
from jaxnoise.objectives import DerivedObjective, ECTObjective, SCMObjective

_STEEP = 1.0
"""Scale of Fourier frequencies from which on a network changes fast with the noise."""


def cautions(config: Mapping[str, Any], objective: Any) -> Iterator[str]:
    """One line for each, which begins with its key.

    Args:
      config: every setting, with defaults filled in.
      objective: what is trained on.
    """
    model = config["model"]
    name, dtype, scale = (model.get(key) for key in ("name", "dtype", "fourier_scale"))
    if isinstance(objective, DerivedObjective):
        steep = slow = ""
        if name in DIT_PRESETS:
            steep, slow = f"model.name={name!r}", "those of a U-Net such as 'ddpmpp' are"
        elif model.get("embedding") == "fourier" and (scale is None or scale > _STEEP):
            steep, slow = (
                f"model.fourier_scale={scale}",
                "0.02, or model.embedding='positional', is",
            )
        if steep:
            yield (
                f"config.{steep}: the network is told of the noise by fast waves, and "
                f"objective.name={config['objective']['name']!r} takes its derivative, which is "
                f"large then and may make training unstable; {slow} slow"
            )
    if isinstance(objective, SCMObjective) and objective.total_steps is not None:
        last = objective.total_steps - 1
        if objective.warmup_steps > last:
            yield (
                f"config.objective.warmup_steps={objective.warmup_steps}: is no less than the "
                f"{last + 1} updates of training, at whose end the derivative counts by "
                f"{last / objective.warmup_steps:.2g} and not in full"
            )
    if isinstance(objective, ECTObjective) and dtype == "bfloat16":
        yield (
            "config.model.dtype='bfloat16': at high noise and late in training it rounds images by "
            "more than those of a pair of objective.name='ect' differ; float32 does not"
        )
