"""What settings of different sections make of each other that is allowed, and seldom meant."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxnoise.models import DIT_PRESETS
from jaxnoise.objectives import ECTObjective, SCMObjective

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
    if isinstance(objective, SCMObjective):
        steep = None
        if name in DIT_PRESETS:
            steep = f"model.name={name!r}"
        elif model.get("embedding") == "fourier" and (scale is None or scale > _STEEP):
            steep = f"model.fourier_scale={scale}"
        if steep:
            yield (
                f"config.{steep}: the network is told of the noise by fast waves, and "
                "objective.name='scm' takes its derivative by the noise, which is large then and "
                "may make training unstable; an embedding 'positional', or a scale of 0.02, is slow"
            )
    if isinstance(objective, ECTObjective) and dtype == "bfloat16":
        yield (
            "config.model.dtype='bfloat16': at high noise and late in training it rounds images by "
            "more than those of a pair of objective.name='ect' differ; float32 does not"
        )
