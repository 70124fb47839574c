"""The one place that reads a config: every key is checked, and plain objects come out."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import optax

from jaxnoise import noise
from jaxnoise.config import noise as noise_choices
from jaxnoise.config.cautions import cautions
from jaxnoise.config.extractors import EXTRACTORS
from jaxnoise.config.models import MODELS, RATERS, Fitted
from jaxnoise.config.optimizers import OPTIMIZERS, meta_adamw
from jaxnoise.config.sections import Sections, plain_config
from jaxnoise.config.selection import SELECTIONS, OpenSelection
from jaxnoise.config.settings import (
    DataSettings,
    EvaluateSettings,
    MetaSettings,
    SampleSettings,
    TrainSettings,
    ema_rates,
)
from jaxnoise.config.targets import OBJECTIVES, samplers_of
from jaxnoise.errors import ArgumentError, ConfigError, WeightWarning
from jaxnoise.evaluation.extractors import Extractor
from jaxnoise.objectives import ConsistencyObjective, LogSnrObjective
from jaxnoise.optim import follows_gradient
from jaxnoise.sampling.samplers import Sampler
from jaxnoise.user_code import failure

COMMON = (
    "seed",
    "data",
    "model",
    "grid",
    "law",
    "curriculum",
    "gap",
    "pacing",
    "objective",
    "optimizer",
    "train",
)
# A rater draws no images, and its inner models see all noise that is drawn.
OF_MODEL = ("selection", "ema", "sample", "evaluate")
OF_RATER = ("rater", "meta")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A checked config as plain objects; nothing is downloaded, compiled or written yet."""

    config: dict[str, Any]
    """Every setting with defaults filled in, JSON-safe."""
    seed: int
    data: DataSettings
    network: Fitted
    """`(image shape, number of classes) -> the network`, a flax module."""
    objective: ConsistencyObjective | LogSnrObjective
    baseline: ConsistencyObjective | LogSnrObjective
    """What the objective is shown beside: for consistency training the baseline of high noise
    scheduling with the same grid ends (lognormal law, doubling curriculum 20 to 250 over plain
    Karras levels), for denoising the cosine law, with a uniform weight where
    its own would overflow, for consistency tuning the authors' law; unpaced."""
    optimizer: optax.GradientTransformation
    """Of the model, or of a rater's inner models."""
    train: TrainSettings
    warnings: tuple[str, ...] = ()
    """What is allowed, and seldom meant."""

    @property
    def schedule_steps(self) -> int:
        """Updates of a model that trains on this noise, which its schedules are laid out for."""
        raise NotImplementedError

    @property
    def images_per_step(self) -> int:
        """Images that one step, or meta-step, sees."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ModelRun(Run):
    """The training of a generative model."""

    selection: Callable[[], OpenSelection]
    """Opens what chooses among draws of noise; may look for a rater's file."""
    ema_rates: tuple[float, ...]
    """Of the moving averages of the parameters, the main one first; () for none."""
    sample: SampleSettings
    samplers: tuple[Sampler, ...]
    """What is scored; sample grids are drawn with the first."""
    evaluate: EvaluateSettings
    extractor: Callable[[], Extractor]
    """Opens the space in which distances are measured; may look for weights."""

    @property
    def schedule_steps(self) -> int:
        return self.train.steps

    @property
    def images_per_step(self) -> int:
        return self.train.batch


@dataclass(frozen=True, kw_only=True)
class RaterRun(Run):
    """The training of a rater of noise, stage 1 of NoiseRater; `train.steps` counts meta-steps."""

    rater: Any
    """A flax module, a rater that sees no label yet."""
    outer: LogSnrObjective | None
    """The objective of the outer loss where it has a law of its own."""
    meta_optimizer: optax.GradientTransformation
    """Of the rater."""
    meta: MetaSettings

    @property
    def schedule_steps(self) -> int:
        return self.meta.total_inner_steps

    @property
    def images_per_step(self) -> int:
        return self.meta.images_per_step(self.train.batch)


def read(config: Mapping[str, Any]) -> ModelRun | RaterRun:
    """Checks a config and builds everything that needs no data.

    Args:
      config: nested mapping: an ml_collections ConfigDict or a dict.

    Returns:
      The training of a rater where the config has a section `rater`, else that of a model.

    Raises:
      ConfigError: one line that names the key, the value and what is allowed.
    """
    config = plain_config(config)
    sections = Sections(config)
    rates = sections.has("rater")
    own, unused = (OF_RATER, OF_MODEL) if rates else (OF_MODEL, OF_RATER)
    for name in unused:
        if name in config:
            why = "has no use where" if rates else "needs config.rater, by which"
            raise ConfigError(f"config.{name}: {why} a rater of noise is trained")
    sections.check_names([*COMMON, *own])
    seed = sections.value("seed", int, 0)
    if not 0 <= seed < 2**32:
        raise ConfigError(f"config.seed={seed}: must be from 0 to 2^32 - 1")
    common = {
        "seed": seed,
        "train": sections.build("train", TrainSettings),
        "data": sections.build("data", DataSettings),
        "network": sections.choose("model", MODELS),
    }
    with _weight_warnings() as said:
        run = _read_rater(sections, common) if rates else _read_model(sections, common)
    weighed = (f"config.objective: {line}" for line in dict.fromkeys(said))
    return replace(run, warnings=(*weighed, *cautions(run.config, run.objective)))


@contextmanager
def _weight_warnings() -> Iterator[list[str]]:
    """What is warned of weights; other warnings go on."""
    said: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", WeightWarning)
            yield said
    finally:
        for one in caught:
            if one.category is WeightWarning:
                said.append(str(one.message))
            else:
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def completed(held: Mapping[str, Any]) -> dict[str, Any]:
    """A config that was kept with its defaults, with those of keys that came later.

    So a run goes on under a later version, whose keys its config does not have.

    Args:
      held: `Run.config` of any version.

    Returns:
      The same with every key of now; as it is where that cannot be read any more.
    """
    try:
        return read(held).config
    except (ConfigError, TypeError, AttributeError):
        return dict(held)


def _read_model(sections: Sections, common: dict[str, Any]) -> ModelRun:
    train: TrainSettings = common["train"]
    kind = sections.name("objective", OBJECTIVES)
    objective, baseline = OBJECTIVES[kind](sections, train.steps)
    samplers = samplers_of(kind, sections, objective)
    selection = sections.choose("selection", SELECTIONS, default="none", total_steps=train.steps)
    optimizer = sections.choose("optimizer", OPTIMIZERS, total_steps=train.steps)
    held = sections.resolved["optimizer"]
    if train.further_steps and held.get("decay") == "cosine" and held["decay_steps"] is None:
        raise ConfigError(
            f"config.train.further_steps={train.further_steps}: must be 0 where the learning rate "
            "has decayed to 0 by then; optimizer.decay_steps may lie beyond train.steps"
        )
    rates = sections.build("ema", ema_rates)
    sample = sections.build("sample", SampleSettings)
    # Before the section that it lies in, which has no key for a value in its place.
    extractor = sections.choose("evaluate.extractor", EXTRACTORS, default="raw_pixels")
    evaluate = sections.build("evaluate", EvaluateSettings)
    if evaluate.every % train.steps_per_dispatch:
        raise ConfigError(
            f"config.evaluate.every={evaluate.every}: must be a multiple of "
            f"train.steps_per_dispatch={train.steps_per_dispatch}"
        )
    sections.check_all_read()
    return ModelRun(
        **common,
        objective=objective,
        baseline=baseline,
        selection=selection,
        optimizer=optimizer,
        ema_rates=rates,
        sample=sample,
        samplers=samplers,
        evaluate=evaluate,
        extractor=extractor,
        config=sections.resolved,
    )


def _read_rater(sections: Sections, common: dict[str, Any]) -> RaterRun:
    train: TrainSettings = common["train"]
    # Before the section that they lie in, which has no key for a value in their place.
    judged = sections.has("meta.outer_law")
    meta_optimizer = sections.build("meta.optimizer", meta_adamw)
    meta = sections.build("meta", MetaSettings)
    try:
        meta.images_per_step(train.batch)
    except ArgumentError as error:
        raise ConfigError(f"config.meta.{error}") from error
    if train.label_dropout:
        raise ConfigError(
            f"config.train.label_dropout={train.label_dropout}: must be 0 where a rater is trained"
        )
    data: DataSettings = common["data"]
    if data.augment:
        raise ConfigError(f"config.data.augment={data.augment}: must be 0 where a rater is trained")
    if train.init_from is not None:
        raise ConfigError(
            f"config.train.init_from={train.init_from!r}: must be None where a rater is trained, "
            "whose inner models begin afresh"
        )
    kind = sections.name("rater", RATERS)
    if kind in _NO_CANDIDATES and meta.candidates is not None:
        raise ConfigError(
            f"config.meta.candidates={meta.candidates}: must be None for rater.name={kind!r}, "
            f"{_NO_CANDIDATES[kind]}"
        )
    for key, alone in {"temperature": 1, "floor": 0}.items():
        if kind == "law" and getattr(meta, key) != alone:
            raise ConfigError(
                f"config.meta.{key}={getattr(meta, key)}: must be {alone} for rater.name='law', "
                "whose weights are then the ratio of two densities"
            )
    if meta.probe_every % train.steps_per_dispatch:
        raise ConfigError(
            f"config.meta.probe_every={meta.probe_every}: must be a multiple of "
            f"train.steps_per_dispatch={train.steps_per_dispatch}"
        )
    steps = meta.total_inner_steps
    sections.total_steps_key = "meta.lifetime * meta.inner_steps"
    target = sections.name("objective", OBJECTIVES)
    objective, baseline = OBJECTIVES[target](sections, steps)
    if kind == "law" and target != "denoising":
        raise ConfigError(
            f"config.rater.name='law': must be another for objective.name={target!r}; a law over "
            "log SNR is learned where objective.name='denoising'"
        )
    if kind == "law" and getattr(objective, "compensation", "none") != "none":
        raise ConfigError(
            f"config.objective.compensation={objective.compensation!r}: must be 'none' for "
            "rater.name='law', whose weights take the place of the law's density"
        )
    if objective.has_teacher:
        raise ConfigError("config.objective.teacher='ema': must be 'student' for a rater")
    if jax.tree.leaves(jax.eval_shape(objective.pacing.init)):
        name = sections.resolved["pacing"]["name"]
        raise ConfigError(
            f"config.pacing.name={name!r}: must be one that no loss moves, for a rater"
        )
    optimizer = sections.choose("optimizer", OPTIMIZERS, total_steps=steps)
    name = sections.resolved["optimizer"]["name"]
    try:
        moves = follows_gradient(optimizer)
    except Exception as error:
        if ":" not in name:
            raise
        raise ConfigError(f"config.optimizer.name={name!r}: {failure(name, error)}") from error
    if not moves:
        raise ConfigError(
            f"config.optimizer.name={name!r}: must be one whose update has a derivative by its "
            "gradient, for a rater; that of a sign is 0, and so is every meta-gradient through it"
        )
    rater = sections.choose("rater", RATERS)
    outer = _outer(sections, objective) if judged else None
    sections.check_all_read()
    return RaterRun(
        **common,
        objective=objective,
        baseline=baseline,
        optimizer=optimizer,
        rater=rater,
        outer=outer,
        meta_optimizer=meta_optimizer,
        meta=meta,
        config=sections.resolved,
    )


def _outer(sections: Sections, objective: Any) -> LogSnrObjective:
    """The inner models' objective under the law of `meta.outer_law`, unpaced."""
    if isinstance(objective, ConsistencyObjective):
        raise ConfigError(
            "config.meta.outer_law: has no use where objective.name='consistency', whose levels "
            "are pairs"
        )
    law = sections.choose("meta.outer_law", noise_choices.LOG_SNR_LAWS)
    try:
        return replace(objective, law=law, pacing=noise.NoPacing())
    except ArgumentError as error:
        name = sections.resolved["meta"]["outer_law"]["name"]
        raise ConfigError(
            f"config.meta.outer_law.name={name!r}: must be a law under which the objective's "
            f"{error.argument} is {error.allowed}"
        ) from error


_NO_CANDIDATES: Mapping[str, str] = {
    "level": "for which candidates tie",
    "noisy": "since draws of noise for one image share the image, which winning would tell of",
    "law": "which sees the level alone, so that candidates tie",
}
