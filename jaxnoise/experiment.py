"""The one place that reads a config: every key is checked, and plain objects come out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import optax

from jaxnoise import noise
from jaxnoise.config import (
    choices,
    extractor_choices,
    noise_choices,
    objective_choices,
    selection_choices,
)
from jaxnoise.config.sections import Sections
from jaxnoise.config.settings import (
    DataSettings,
    EvaluateSettings,
    SampleSettings,
    TrainSettings,
    ema_rate,
)
from jaxnoise.errors import ConfigError
from jaxnoise.evaluation.extractors import Extractor
from jaxnoise.meta.selection import Selection
from jaxnoise.noise import LogSnrLaw
from jaxnoise.objectives import ConsistencyObjective, DenoisingObjective
from jaxnoise.sampling.samplers import Sampler

SECTIONS = (
    "seed",
    "data",
    "model",
    "grid",
    "law",
    "curriculum",
    "pacing",
    "objective",
    "selection",
    "optimizer",
    "ema",
    "train",
    "sample",
    "evaluate",
)


@dataclass(frozen=True)
class Experiment:
    """A checked config as plain objects; nothing is downloaded, compiled or written yet."""

    config: dict[str, Any]
    """Every setting with defaults filled in, JSON-safe."""
    seed: int
    data: DataSettings
    network: Callable[[tuple[int, int, int], int], Any]
    """`(image shape, number of classes) -> the network`, a flax module."""
    objective: ConsistencyObjective | DenoisingObjective
    baseline: ConsistencyObjective | DenoisingObjective
    """What the objective is shown beside: for consistency training the baseline of high noise
    scheduling with the same grid ends (lognormal law, doubling curriculum 20 to 250 over plain
    Karras levels), for denoising the cosine law; unpaced."""
    selection: Callable[[], Selection | None]
    """Opens what chooses among draws of noise; may look for a rater's file."""
    optimizer: optax.GradientTransformation
    ema_rate: float
    train: TrainSettings
    sample: SampleSettings
    samplers: tuple[Sampler, ...]
    """What is scored; sample grids are drawn with the first."""
    evaluate: EvaluateSettings
    extractor: Callable[[], Extractor]
    """Opens the space in which distances are measured; may look for weights."""


def read(config: Mapping[str, Any]) -> Experiment:
    """Checks a config and builds everything that needs no data.

    Args:
      config: nested mapping: an ml_collections ConfigDict or a dict.

    Returns:
      The experiment.

    Raises:
      ConfigError: one line that names the key, the value and what is allowed.
    """
    config = config.to_dict() if hasattr(config, "to_dict") else config
    sections = Sections(config)
    sections.check_names(list(SECTIONS))
    seed = sections.value("seed", int, 0)
    if not 0 <= seed < 2**32:
        raise ConfigError(f"config.seed={seed}: must be from 0 to 2^32 - 1")
    train = sections.build("train", TrainSettings)
    kind = sections.name("objective", _OBJECTIVES)
    objective, baseline, samplers = _OBJECTIVES[kind](sections, train)
    selection = sections.choose(
        "selection", selection_choices.SELECTIONS, default="none", total_steps=train.steps
    )
    optimizer = sections.choose("optimizer", choices.OPTIMIZERS, total_steps=train.steps)
    rate = sections.build("ema", ema_rate)
    network = sections.choose("model", choices.MODELS)
    sample = sections.build("sample", SampleSettings)
    data_settings = sections.build("data", DataSettings)
    evaluate = sections.build("evaluate", EvaluateSettings)
    if evaluate.every % train.steps_per_dispatch:
        raise ConfigError(
            f"config.evaluate.every={evaluate.every}: must be a multiple of "
            f"train.steps_per_dispatch={train.steps_per_dispatch}"
        )
    extractor = sections.choose(
        "evaluate.extractor", extractor_choices.EXTRACTORS, default="raw_pixels"
    )
    sections.check_all_read()
    return Experiment(
        data=data_settings,
        seed=seed,
        network=network,
        objective=objective,
        baseline=baseline,
        selection=selection,
        optimizer=optimizer,
        ema_rate=rate,
        train=train,
        sample=sample,
        samplers=samplers,
        evaluate=evaluate,
        extractor=extractor,
        config=sections.resolved,
    )


def _consistency(
    sections: Sections, train: TrainSettings
) -> tuple[ConsistencyObjective, ConsistencyObjective, tuple[Sampler, ...]]:
    curriculum = sections.choose("curriculum", noise_choices.CURRICULA, total_steps=train.steps)
    grid = sections.choose("grid", noise_choices.GRIDS, curriculum=curriculum)
    law = sections.choose("law", noise_choices.PAIR_LAWS)
    pacing = sections.choose(
        "pacing",
        noise_choices.PACINGS,
        default="none",
        total_steps=train.steps,
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
    )
    samplers = sections.choose("sample.method", choices.CONSISTENCY_SAMPLERS, objective=objective)
    plateaus = noise.doubling(s0=20, s1=250, total_steps=train.steps)
    baseline = replace(
        objective,
        grid=noise.KarrasGrid(plateaus.max_levels, grid.sigma_min, grid.sigma_max, grid.rho),
        law=noise.LognormalPairs(),
        curriculum=plateaus,
        pacing=noise.NoPacing(),
    )
    return objective, baseline, samplers


def _denoising(
    sections: Sections, train: TrainSettings
) -> tuple[DenoisingObjective, DenoisingObjective, tuple[Sampler, ...]]:
    law = sections.choose("law", noise_choices.LOG_SNR_LAWS)
    if sections.has("law.mixed"):
        other, share = sections.choose("law.mixed", noise_choices.MIXED_LAWS)
        law = noise.mixture([law, other], [1 - share, share])
    pacing = sections.choose(
        "pacing",
        noise_choices.PACINGS,
        default="none",
        total_steps=train.steps,
        cells=partial(noise_choices.log_snr_cells, law),
    )
    objective = sections.choose(
        "objective",
        {"denoising": objective_choices.denoising},
        law=law,
        pacing=pacing,
        weight=_snr_weight(sections),
        uncertainty=sections.choose(
            "objective.uncertainty", objective_choices.UNCERTAINTIES, default="none"
        ),
    )
    samplers = sections.choose(
        "sample.method", choices.DENOISING_SAMPLERS, default="heun", objective=objective
    )
    baseline = DenoisingObjective(noise.Cosine(), objective.weight, objective.prediction)
    return objective, baseline, samplers


def _snr_weight(sections: Sections) -> Any:
    path = "objective.weight"
    weights = objective_choices.SNR_WEIGHTS
    if sections.name(path, weights) != "density":
        return sections.choose(path, weights)
    of: LogSnrLaw = sections.choose(f"{path}.law", noise_choices.LOG_SNR_LAWS)
    return sections.choose(path, weights, of=of)


_OBJECTIVES: Mapping[str, Callable[[Sections, TrainSettings], tuple[Any, Any, Any]]] = {
    "consistency": _consistency,
    "denoising": _denoising,
}
