"""What `sample.method` of a config can name: how images are drawn."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from jaxnoise.config.sections import keys_of, with_keys
from jaxnoise.errors import ArgumentError
from jaxnoise.objectives import ConsistencyObjective, DenoisingObjective
from jaxnoise.sampling.samplers import (
    Sampler,
    consistency_samplers,
    ddim_sampler,
    euler_sampler,
    heun_sampler,
)


def _multistep(
    objective: ConsistencyObjective, sigmas: tuple[float, ...] = (0.821,)
) -> tuple[Sampler, ...]:
    low, high = objective.sigma_min, objective.sigma_max
    inside = all(low < sigma < high for sigma in sigmas)
    if not inside or any(a <= b for a, b in itertools.pairwise(sigmas)):
        raise ArgumentError(
            "sigmas", sigmas, f"descending within (grid.sigma_min={low}, grid.sigma_max={high})"
        )
    return consistency_samplers(sigmas, low, high)


def _solver(sampler: Callable[..., Sampler]) -> Callable[..., tuple[Sampler, ...]]:
    """A solver's own keys; the range of noise that it must stay within is the objective's."""

    def build(objective: DenoisingObjective, **own: Any) -> tuple[Sampler, ...]:
        return (sampler(**own, trained_range=objective.trained_range),)

    own = [key for name, key in keys_of(sampler).items() if name != "trained_range"]
    return with_keys(build, [keys_of(build)["objective"], *own])


CONSISTENCY_SAMPLERS: Mapping[str, Callable[..., Any]] = {"multistep": _multistep}
DENOISING_SAMPLERS: Mapping[str, Callable[..., Any]] = {
    "heun": _solver(heun_sampler),
    "euler": _solver(euler_sampler),
    "ddim": _solver(ddim_sampler),
}
