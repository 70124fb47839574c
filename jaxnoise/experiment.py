"""The one place that reads a config: every key is checked, and plain objects come out."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import optax

from jaxnoise import data, noise, objectives
from jaxnoise.data.images import Images
from jaxnoise.errors import ArgumentError, ConfigError, one_of
from jaxnoise.models import UNet
from jaxnoise.noise.discretization import Curriculum
from jaxnoise.objectives import ConsistencyObjective
from jaxnoise.objectives.consistency import Distance, PairLaw
from jaxnoise.optim.ema import check_rate
from jaxnoise.sampling.samplers import Sampler, consistency_samplers
from jaxnoise.sections import Sections

Choices = Mapping[str, Callable[..., Any]]
LevelGrid = noise.KarrasGrid | noise.PredefinedGrid

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
class DataSettings:
    """Where images come from.

    Attributes:
      dataset: "digits" or any image data set that TensorFlow Datasets knows.
      split: which part to train on.
      data_dir: folder of prepared data sets; None for the TFDS default.
      archive: a local copy of the data set's original archive, or None to download it.
      flip: whether to mirror images left to right at random.
    """

    dataset: str
    split: str = "train"
    data_dir: str | None = None
    archive: str | None = None
    flip: bool = False

    def open(self) -> Images:
        """Opens the images; may prepare or download them.

        Raises:
          ConfigError: one line that says what is missing or wrong, and what to do.
        """
        try:
            return data.open_images(
                self.dataset, split=self.split, data_dir=self.data_dir, archive=self.archive
            )
        except ArgumentError as error:
            raise ConfigError(f"config.data.{error}") from error


@dataclass(frozen=True)
class TrainSettings:
    """How long and in what portions a run trains.

    Attributes:
      steps: updates in all, K.
      batch: examples per update over all devices.
      steps_per_dispatch: updates per call on an accelerator; a CPU makes one per call, since XLA's
        CPU convolution gradients are slow inside a loop.
      log_every: updates between rows of metrics.jsonl.
      sample_every: updates between sample grids.
      checkpoint_every: updates between checkpoints.
      keep_checkpoints: how many of the newest are kept.
      mapping: how the step is mapped over devices: auto, pmap or shard_map.
    """

    steps: int
    batch: int
    steps_per_dispatch: int = 1
    log_every: int = 50
    sample_every: int = 1000
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    mapping: str = "auto"

    def __post_init__(self) -> None:
        counts = (
            "steps",
            "batch",
            "steps_per_dispatch",
            "log_every",
            "sample_every",
            "checkpoint_every",
            "keep_checkpoints",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "at least 1")
        for name in ("steps", "log_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) % self.steps_per_dispatch:
                raise ArgumentError(
                    name,
                    getattr(self, name),
                    f"a multiple of train.steps_per_dispatch={self.steps_per_dispatch}",
                )
        one_of("mapping", self.mapping, ("auto", "pmap", "shard_map"))


@dataclass(frozen=True)
class SampleSettings:
    """How sample grids are drawn.

    Attributes:
      count: images in a grid.
      columns: images in a row.
      seed: of the noise; image i depends on (seed, i) only.
      batch: images drawn at once.
    """

    count: int = 100
    columns: int = 10
    seed: int = 0
    batch: int = 128

    def __post_init__(self) -> None:
        for name in ("count", "columns", "batch"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "at least 1")


@dataclass(frozen=True)
class EvaluateSettings:
    """How a run is scored.

    Attributes:
      n: generated images; None for as many as half of the training images.
      seed: of the generated images' noise.
    """

    n: int | None = None
    seed: int = 1

    def __post_init__(self) -> None:
        if self.n is not None and self.n < 2:
            raise ArgumentError("n", self.n, "at least 2, or None")


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
    """The iCT baseline with the same grid ends and level counts: lognormal law, doubling curriculum
    over plain Karras levels."""
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
    train = sections.build("train", TrainSettings)
    curriculum = sections.choose("curriculum", CURRICULA, total_steps=train.steps)
    grid = sections.choose("grid", GRIDS, curriculum=curriculum)
    law = sections.choose("law", LAWS)
    distance = sections.choose("objective.distance", DISTANCES)
    objective = sections.choose(
        "objective", OBJECTIVES, grid=grid, law=law, curriculum=curriculum, distance=distance
    )
    optimizer = sections.choose("optimizer", OPTIMIZERS)
    ema_rate = sections.build("ema", _ema)
    network = sections.choose("model", MODELS)
    sample = sections.build("sample", SampleSettings)
    samplers = sections.choose("sample.method", SAMPLERS, objective=objective)
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
        ema_rate=ema_rate,
        train=train,
        sample=sample,
        samplers=samplers,
        evaluate=evaluate,
        config=sections.resolved,
    )


def _karras(
    curriculum: Curriculum, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> LevelGrid:
    return noise.KarrasGrid(curriculum.max_levels, sigma_min, sigma_max, rho)


def _predefined(
    curriculum: Curriculum,
    table_size: int | None = None,
    rule: str = "nested",
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
) -> LevelGrid:
    size = curriculum.max_levels if table_size is None else table_size
    if size < curriculum.max_levels:
        raise ArgumentError(
            "table_size", table_size, f"at least {curriculum.max_levels}, the curriculum's peak"
        )
    return noise.PredefinedGrid(size, rule, sigma_min, sigma_max, rho)


def _consistency(
    grid: LevelGrid,
    law: PairLaw,
    curriculum: Curriculum,
    distance: Distance,
    weight: str = "inverse_gap",
    sigma_data: float = 0.5,
    teacher: str = "student",
    teacher_mu0: float = 0.9,
    teacher_s0: int = 2,
) -> ConsistencyObjective:
    one_of("weight", weight, WEIGHTS)
    one_of("teacher", teacher, ("student", "ema"))
    if not sigma_data > 0:
        raise ArgumentError("sigma_data", sigma_data, "a number > 0")
    if not 0 < teacher_mu0 < 1:
        raise ArgumentError("teacher_mu0", teacher_mu0, "a number in (0, 1)")
    if teacher_s0 < 1:
        raise ArgumentError("teacher_s0", teacher_s0, "at least 1")
    rate = partial(noise.square_root_ema_rate, mu0=teacher_mu0, s0=teacher_s0)
    return ConsistencyObjective(
        grid=grid,
        law=law,
        curriculum=curriculum,
        distance=distance,
        weight=WEIGHTS[weight],
        sigma_data=sigma_data,
        sigma_min=grid.sigma_min,
        sigma_max=grid.sigma_max,
        ema_teacher=rate if teacher == "ema" else None,
    )


def _pseudo_huber(c: float | None = None, elementwise: bool = False) -> Distance:
    if c is not None and not c > 0:
        raise ArgumentError("c", c, "a number > 0, or None for the default")
    return partial(objectives.pseudo_huber, c=c, elementwise=elementwise)


def _radam(
    learning_rate: float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    warmup_steps: int = 0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    return _chain(optax.radam, learning_rate, b1, b2, eps, warmup_steps, clip_norm)


def _adam(
    learning_rate: float,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    warmup_steps: int = 0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    return _chain(optax.adam, learning_rate, b1, b2, eps, warmup_steps, clip_norm)


def _chain(
    make: Callable[..., optax.GradientTransformation],
    learning_rate: float,
    b1: float,
    b2: float,
    eps: float,
    warmup_steps: int,
    clip_norm: float | None,
) -> optax.GradientTransformation:
    if not learning_rate > 0:
        raise ArgumentError("learning_rate", learning_rate, "a number > 0")
    check_rate("b1", b1)
    check_rate("b2", b2)
    if not eps > 0:
        raise ArgumentError("eps", eps, "a number > 0")
    if warmup_steps < 0:
        raise ArgumentError("warmup_steps", warmup_steps, "at least 0")
    if clip_norm is not None and not clip_norm > 0:
        raise ArgumentError("clip_norm", clip_norm, "a number > 0, or None")
    rate: float | optax.Schedule = learning_rate
    if warmup_steps:
        rate = optax.linear_schedule(learning_rate / warmup_steps, learning_rate, warmup_steps)
    optimizer = make(rate, b1=b1, b2=b2, eps=eps)
    return (
        optimizer
        if clip_norm is None
        else optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    )


def _ema(rate: float = 0.9999) -> float:
    check_rate("rate", rate)
    return rate


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


def _baseline(
    objective: ConsistencyObjective, grid: LevelGrid, total_steps: int
) -> ConsistencyObjective:
    counts = objective.curriculum.counts
    curriculum = noise.doubling(s0=max(min(counts), 2), s1=max(*counts, 3), total_steps=total_steps)
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


CURRICULA: Choices = {
    "constant": noise.constant,
    "square_root": noise.square_root,
    "doubling": noise.doubling,
    "sinusoidal": noise.sinusoidal,
    "sinusoidal_rising": noise.sinusoidal_rising,
}
GRIDS: Choices = {"karras": _karras, "predefined": _predefined}
LAWS: Choices = {
    "uniform": noise.UniformPairs,
    "lognormal": noise.LognormalPairs,
    "polynomial": noise.PolynomialPairs,
    "beta": noise.BetaPairs,
}
DISTANCES: Choices = {
    "pseudo_huber": _pseudo_huber,
    "squared_l2": lambda: objectives.squared_l2,
    "l1": lambda: objectives.l1,
}
WEIGHTS = {"inverse_gap": objectives.inverse_gap, "uniform": objectives.uniform}
SAMPLERS: Choices = {"multistep": _multistep}
OBJECTIVES: Choices = {"consistency": _consistency}
OPTIMIZERS: Choices = {"radam": _radam, "adam": _adam}
MODELS: Choices = {}
