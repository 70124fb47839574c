"""What `sample.method` of a config can name: how images are drawn."""

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
    try:
        return consistency_samplers(sigmas, low, high)
    except ArgumentError as error:
        allowed = f"in order within (grid.sigma_min={low}, grid.sigma_max={high})"
        raise ArgumentError("sigmas", sigmas, allowed) from error


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
