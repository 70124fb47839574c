"""What settings of different sections make of each other that is allowed, and seldom meant."""

from collections.abc import Iterator, Mapping
from math import exp
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.models import DIT_PRESETS
from jaxnoise.noise import NoPacing
from jaxnoise.objectives import DerivedObjective, ECTObjective, MeanFlowObjective, SCMObjective
from jaxnoise.objectives.drawn_range import drawn_range

_STEEP = 1.0
"""Scale of Fourier frequencies from which on a network changes fast with the noise."""

_RARE, _FAR = 0.05, 0.02
"""Share of jumps, and how near to time 0 they come, from which on a MeanFlow learns to draw."""


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
    if isinstance(objective, MeanFlowObjective):
        share, lowest = _jumps(objective)
        if share < _RARE:
            yield (
                f"config.objective.interval={objective.interval}: {share:.2g} of the images have r "
                "below t, by which alone jumps are learned, and every sample is one; see "
                "objective.lower, log SNR of r, whose mean lies above that of the law"
            )
        elif lowest > _FAR:
            yield (f"config.objective.lower: r is never below {lowest:.2g}, and samples jump to 0")
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


def _jumps(objective: MeanFlowObjective) -> tuple[float, float]:
    """The share of images with r below t, and the smallest r; the pacing is left out."""
    u = (np.arange(64) + 0.5) / 64
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        upper, lower = (
            np.asarray(law.inverse_survival(jnp.asarray(u)))
            for law in (objective.law, objective.lower)
        )
        cleanest = drawn_range(objective.lower, NoPacing(), (), 0)[1]
    below = float(np.mean(lower[:, None] > upper[None, :]))
    return objective.interval * below, 1 / (1 + exp(min(cleanest / 2, 700)))
