"""What `sample.method` of a config can name: how images are drawn."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnoise.config.sections import keys_of, with_keys
from jaxnoise.errors import ArgumentError
from jaxnoise.objectives import ConsistencyObjective, DenoisingObjective, FewStepObjective
from jaxnoise.sampling.samplers import (
    USUAL_RANGE,
    Sampler,
    consistency_samplers,
    ddim_sampler,
    euler_sampler,
    heun_sampler,
    sigmas_of,
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


def _multistep_below(
    objective: FewStepObjective,
    sigmas: tuple[float, ...] = (0.821,),
    sigma_max: float | None = None,
) -> tuple[Sampler, ...]:
    """One step, and several, of a function that is the identity where there is no noise.

    Args:
      objective: what the network is trained by.
      sigmas: levels of the steps after the first, in order, each below sigma_max.
      sigma_max: level of the start; None for 80, or the highest trained level if that is lower.
    """
    lowest, highest = sigmas_of(*objective.trained_range)
    high = min(USUAL_RANGE[1], highest) if sigma_max is None else sigma_max
    # A level given as the end of the range may miss it by a rounding.
    if not 0 < high <= highest * (1 + 1e-6):
        allowed = f"a number > 0, at most {highest:.4g}, the highest level that is trained on"
        raise ArgumentError("sigma_max", high, allowed)
    allowed = f"in order, from {lowest:.4g}, the lowest level that is trained on, to below {high:g}"
    try:
        samplers = consistency_samplers(sigmas, 0.0, high)
    except ArgumentError as error:
        raise ArgumentError("sigmas", sigmas, allowed) from error
    if min(sigmas, default=high) < lowest * (1 - 1e-6):
        raise ArgumentError("sigmas", sigmas, allowed)
    return samplers


def _solver(sampler: Callable[..., Sampler]) -> Callable[..., tuple[Sampler, ...]]:
    """A solver's own keys; the range of noise that it must stay within is the objective's."""

    def build(objective: DenoisingObjective, **own: Any) -> tuple[Sampler, ...]:
        return (sampler(**own, trained_range=objective.trained_range),)

    own = [key for name, key in keys_of(sampler).items() if name != "trained_range"]
    return with_keys(build, [keys_of(build)["objective"], *own])


CONSISTENCY_SAMPLERS: Mapping[str, Callable[..., Any]] = {"multistep": _multistep}
FEW_STEP_SAMPLERS: Mapping[str, Callable[..., Any]] = {"multistep": _multistep_below}
DENOISING_SAMPLERS: Mapping[str, Callable[..., Any]] = {
    "heun": _solver(heun_sampler),
    "euler": _solver(euler_sampler),
    "ddim": _solver(ddim_sampler),
}
