"""Reads the sections of a config that make its objective, and the samplers that fit it."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from jaxnoise import noise
from jaxnoise.config import noise as noise_choices
from jaxnoise.config import objectives as objective_choices
from jaxnoise.config.samplers import CONSISTENCY_SAMPLERS, DENOISING_SAMPLERS, FEW_STEP_SAMPLERS
from jaxnoise.config.sections import Sections
from jaxnoise.errors import ArgumentError, WeightWarning
from jaxnoise.noise import LogSnrLaw, Pacing
from jaxnoise.objectives import (
    ConsistencyObjective,
    DenoisingObjective,
    ECTObjective,
    MeanFlowObjective,
    SCMObjective,
    uniform_weight,
)
from jaxnoise.sampling.samplers import Sampler


def _consistency(
    sections: Sections, total_steps: int
) -> tuple[ConsistencyObjective, ConsistencyObjective]:
    curriculum = sections.choose("curriculum", noise_choices.CURRICULA, total_steps=total_steps)
    grid = sections.choose("grid", noise_choices.GRIDS, curriculum=curriculum)
    law = sections.choose("law", noise_choices.PAIR_LAWS)
    pacing = sections.choose(
        "pacing",
        noise_choices.PACINGS,
        default="none",
        total_steps=total_steps,
        cells=partial(noise_choices.pair_cells, grid, law, curriculum),
    )
    distance = sections.choose("objective.distance", objective_choices.DISTANCES)
    objective = sections.choose(
        "objective",
        {"consistency": objective_choices.consistency},
        grid=grid,
        law=law,
        curriculum=curriculum,
        distance=distance,
        pacing=pacing,
        s0=sections.resolved["curriculum"].get("s0"),
    )
    plateaus = noise.doubling(s0=20, s1=250, total_steps=total_steps)
    baseline = replace(
        objective,
        grid=noise.KarrasGrid(plateaus.max_levels, grid.sigma_min, grid.sigma_max, grid.rho),
        law=noise.LognormalPairs(sampling="iid"),
        curriculum=plateaus,
        pacing=noise.NoPacing(),
    )
    return objective, baseline


def _log_snr_law(sections: Sections, total_steps: int) -> tuple[LogSnrLaw, Pacing]:
    """The law over log SNR, with what is mixed into it, and its pacing."""
    mixed = sections.has("law.mixed")
    law = sections.choose("law", noise_choices.LOG_SNR_LAWS)
    if mixed:
        other, share = sections.choose("law.mixed", noise_choices.MIXED_LAWS)
        law = noise.mixture([law, other], [1 - share, share])
    pacing = sections.choose(
        "pacing",
        noise_choices.PACINGS,
        default="none",
        total_steps=total_steps,
        cells=partial(noise_choices.log_snr_cells, law),
    )
    return law, pacing


def _ect(sections: Sections, total_steps: int) -> tuple[ECTObjective, ECTObjective]:
    law, pacing = _log_snr_law(sections, total_steps)
    gap = sections.choose("gap", noise_choices.GAPS, default="shrinking", total_steps=total_steps)
    distance = sections.choose("objective.distance", objective_choices.DISTANCES, default="l2")
    objective = sections.choose(
        "objective",
        {"ect": objective_choices.ect},
        law=law,
        gap=gap,
        distance=distance,
        pacing=pacing,
        total_steps=total_steps,
    )
    published = noise.Normal(mean=2.2, std=4.0)
    return objective, replace(objective, law=published, pacing=noise.NoPacing())


def _scm(sections: Sections, total_steps: int) -> tuple[SCMObjective, SCMObjective]:
    law, pacing = _log_snr_law(sections, total_steps)
    objective = sections.choose(
        "objective",
        {"scm": objective_choices.scm},
        law=law,
        pacing=pacing,
        total_steps=total_steps,
        uncertainty=_uncertainty(sections),
    )
    published = noise.Normal(mean=2.0, std=2.8)
    return objective, replace(objective, law=published, pacing=noise.NoPacing())


def _mean_flow(sections: Sections, total_steps: int) -> tuple[MeanFlowObjective, MeanFlowObjective]:
    law, pacing = _log_snr_law(sections, total_steps)
    objective = sections.choose(
        "objective",
        {"meanflow": objective_choices.mean_flow},
        law=law,
        lower=sections.choose("objective.lower", noise_choices.LOG_SNR_LAWS),
        pacing=pacing,
        total_steps=total_steps,
    )
    published = noise.Normal(mean=1.2, std=3.2)
    return objective, replace(objective, law=published, pacing=noise.NoPacing())


def _denoising(
    sections: Sections, total_steps: int
) -> tuple[DenoisingObjective, DenoisingObjective]:
    law, pacing = _log_snr_law(sections, total_steps)
    objective = sections.choose(
        "objective",
        {"denoising": objective_choices.denoising},
        law=law,
        pacing=pacing,
        total_steps=total_steps,
        weight=_snr_weight(sections),
        uncertainty=_uncertainty(sections),
    )
    law, prediction = noise.Cosine(), objective.prediction
    with warnings.catch_warnings():
        # It is drawn beside the objective, and trains nothing.
        warnings.simplefilter("ignore", WeightWarning)
        try:
            baseline = DenoisingObjective(law, objective.weight, prediction)
        except ArgumentError:
            # A weight that was made for a narrower law may overflow under this one.
            baseline = DenoisingObjective(law, uniform_weight(), prediction)
    return objective, baseline


def samplers_of(kind: str, sections: Sections, objective: Any) -> tuple[Sampler, ...]:
    """What `sample.method` names, for an objective of a kind of `OBJECTIVES`."""
    path = "sample.method"
    if kind == "consistency":
        found = sections.choose(path, CONSISTENCY_SAMPLERS, objective=objective)
    elif kind in ("ect", "scm", "meanflow"):
        found = sections.choose(path, FEW_STEP_SAMPLERS, "multistep", objective=objective)
    else:
        found = sections.choose(path, DENOISING_SAMPLERS, "heun", objective=objective)
    return tuple(found)


def _uncertainty(sections: Sections) -> Any:
    path = "objective.uncertainty"
    return sections.choose(path, objective_choices.UNCERTAINTIES, default="none")


def _snr_weight(sections: Sections) -> Any:
    path = "objective.weight"
    weights = objective_choices.SNR_WEIGHTS
    if sections.name(path, weights) != "density":
        return sections.choose(path, weights)
    of: LogSnrLaw = sections.choose(f"{path}.law", noise_choices.LOG_SNR_LAWS)
    return sections.choose(path, weights, of=of)


OBJECTIVES: Mapping[str, Callable[[Sections, int], tuple[Any, Any]]] = {
    "consistency": _consistency,
    "denoising": _denoising,
    "ect": _ect,
    "meanflow": _mean_flow,
    "scm": _scm,
}
"""What `objective.name` stands for: `(sections, steps) -> (objective, its baseline)`."""
