"""The one place that reads a config: every key is checked, and plain objects come out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optax

from jaxnoise import noise
from jaxnoise.config import choices
from jaxnoise.config.choices import LevelGrid
from jaxnoise.config.sections import Sections
from jaxnoise.config.settings import (
    DataSettings,
    EvaluateSettings,
    SampleSettings,
    TrainSettings,
    ema_rate,
)
from jaxnoise.errors import ConfigError
from jaxnoise.models import UNet
from jaxnoise.objectives import ConsistencyObjective
from jaxnoise.sampling.samplers import Sampler

SECTIONS = (
    "seed",
    "data",
    "model",
    "grid",
    "law",
    "curriculum",
    "objective",
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
    network: Callable[[tuple[int, int, int], int], UNet]
    """`(image shape, number of classes) -> the network`."""
    objective: ConsistencyObjective
    baseline: ConsistencyObjective
    """The baseline of high noise scheduling with the same grid ends: lognormal law, doubling
    curriculum 20 to 250 over plain Karras levels."""
    optimizer: optax.GradientTransformation
    ema_rate: float
    train: TrainSettings
    sample: SampleSettings
    samplers: tuple[Sampler, ...]
    """What is scored; sample grids are drawn with the first."""
    evaluate: EvaluateSettings


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
    curriculum = sections.choose("curriculum", choices.CURRICULA, total_steps=train.steps)
    grid = sections.choose("grid", choices.GRIDS, curriculum=curriculum)
    law = sections.choose("law", choices.LAWS)
    distance = sections.choose("objective.distance", choices.DISTANCES)
    objective = sections.choose(
        "objective",
        choices.OBJECTIVES,
        grid=grid,
        law=law,
        curriculum=curriculum,
        distance=distance,
    )
    optimizer = sections.choose("optimizer", choices.OPTIMIZERS)
    rate = sections.build("ema", ema_rate)
    network = sections.choose("model", choices.MODELS)
    sample = sections.build("sample", SampleSettings)
    samplers = sections.choose("sample.method", choices.SAMPLERS, objective=objective)
    data_settings = sections.build("data", DataSettings)
    evaluate = sections.build("evaluate", EvaluateSettings)
    sections.check_all_read()
    return Experiment(
        data=data_settings,
        seed=seed,
        network=network,
        objective=objective,
        baseline=_baseline(objective, grid, train.steps),
        optimizer=optimizer,
        ema_rate=rate,
        train=train,
        sample=sample,
        samplers=samplers,
        evaluate=evaluate,
        config=sections.resolved,
    )


def _baseline(
    objective: ConsistencyObjective, grid: LevelGrid, total_steps: int
) -> ConsistencyObjective:
    curriculum = noise.doubling(s0=20, s1=250, total_steps=total_steps)
    return ConsistencyObjective(
        grid=noise.KarrasGrid(curriculum.max_levels, grid.sigma_min, grid.sigma_max, grid.rho),
        law=noise.LognormalPairs(),
        curriculum=curriculum,
        distance=objective.distance,
        weight=objective.weight,
        sigma_data=objective.sigma_data,
        sigma_min=objective.sigma_min,
        sigma_max=objective.sigma_max,
    )
