"""What a study compares, and the runs that this makes; every config is read before one starts."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxnoise import experiment
from jaxnoise.config import files
from jaxnoise.config.overrides import replaced
from jaxnoise.errors import ArgumentError, ConfigError, one_of

Settings = Mapping[str, Any]
"""Dotted keys of a config and their values; a mapping takes the place of a whole section."""


@dataclass(frozen=True)
class Budget:
    """How much of a comparison is run.

    Args:
      seeds: one run of every arm for each; distinct, each at least 0.
      settings: what every arm gets on top of its own, such as {"train.steps": 20}.
      arms: names of the arms that are run; None for all.

    Raises:
      ArgumentError: no seed, or one twice.
    """

    seeds: tuple[int, ...]
    settings: Settings = field(default_factory=dict)
    arms: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        whole = all(isinstance(seed, int) and seed >= 0 for seed in self.seeds)
        if not whole or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ArgumentError("seeds", self.seeds, "distinct integers, each at least 0")


def _check_names(argument: str, names: Iterable[str]) -> None:
    """Raises ArgumentError unless each name can be that of a folder."""
    for name in names:
        if not re.fullmatch(r"\w[\w.+=-]*", name):
            allowed = "letters, digits and any of _ . + = -, since it names a folder"
            raise ArgumentError(argument, name, allowed)


@dataclass(frozen=True)
class Comparison:
    """Arms of one base config; an arm is the settings by which it differs from the base.

    Args:
      base: a config file, such as "configs/digits_poly.py".
      arms: name -> settings; the names are folders' and rows' names.
      control: the arm that the others are compared with, seed by seed.
      budgets: name -> how much is run; a comparison without a budget's name takes no part in it.
      settings: what every arm gets before its own.
      further: name -> settings of `evaluate` and `sample`, under which every finished run is scored
        once more, such as {"raw_weights": {"evaluate.weights": "raw"}}.
      shown: arms whose curves are drawn; none for all.

    Raises:
      ArgumentError: a control that is no arm, a budget that names no arm, or a further score that
        would be another training.
    """

    base: str
    arms: Mapping[str, Settings]
    control: str
    budgets: Mapping[str, Budget]
    settings: Settings = field(default_factory=dict)
    further: Mapping[str, Settings] = field(default_factory=dict)
    shown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_names("arms", self.arms)
        _check_names("further", self.further)
        one_of("control", self.control, self.arms)
        for arm in self.shown:
            one_of("shown", arm, self.arms)
        for key in [key for settings in self.further.values() for key in settings]:
            if key.partition(".")[0] not in ("evaluate", "sample"):
                raise ArgumentError("further", key, "a key of evaluate or sample")
        for budget in self.budgets.values():
            for arm in budget.arms or ():
                one_of("arms", arm, self.arms)

    def arms_of(self, budget: str) -> tuple[str, ...]:
        """The arms that a budget runs, in the order of the study; the control always."""
        chosen = self.budgets[budget].arms
        return tuple(n for n in self.arms if chosen is None or n in chosen or n == self.control)


@dataclass(frozen=True)
class Study:
    """One question, and the comparisons that answer it.

    Args:
      question: one line.
      comparisons: name -> arms of one base config.
    """

    question: str
    comparisons: Mapping[str, Comparison]

    def __post_init__(self) -> None:
        _check_names("comparisons", self.comparisons)

    @property
    def budgets(self) -> list[str]:
        """Names of the budgets that any comparison has."""
        return sorted({name for c in self.comparisons.values() for name in c.budgets})


@dataclass(frozen=True)
class PlannedRun:
    """One arm with one seed.

    Attributes:
      comparison: its name in the study.
      arm: its name in the comparison.
      seed: of the run.
      config: nested, as a config file gives it.
      run: the config, checked.
      further: name -> the run as it is scored once more.
    """

    comparison: str
    arm: str
    seed: int
    config: dict[str, Any]
    run: experiment.ModelRun
    further: Mapping[str, experiment.ModelRun] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its folder below that of the study."""
        return f"{self.comparison}/{self.arm}/seed_{self.seed}"


def load_study(path: str) -> Study:
    """The study that a file's `get_study()` gives.

    Raises:
      ConfigError: no such file, or nothing of the kind in it.
    """
    return files.load_object("--study", path, "get_study", Study)


def planned_runs(study: Study, budget: str) -> list[PlannedRun]:
    """Every run of a study at a budget, seeds outside: a study cut short compares all arms.

    Args:
      study: what is compared.
      budget: the name of a budget.

    Raises:
      ConfigError: an unknown budget, a base that is no config, an arm whose config is refused, or
        two arms alike; one line that names it.
    """
    if budget not in study.budgets:
        raise ConfigError(f"--budget={budget}: must be one of {', '.join(study.budgets)}")
    planned: list[PlannedRun] = []
    for name, comparison in study.comparisons.items():
        if budget not in comparison.budgets:
            continue
        base = replaced(files.load(comparison.base), comparison.settings)
        given = comparison.budgets[budget]
        seen: dict[str, str] = {}
        arms = {}
        for arm in comparison.arms_of(budget):
            config = replaced(replaced(base, comparison.arms[arm]), given.settings)
            resolved = json.dumps(_read(name, arm, config).config, sort_keys=True)
            if resolved in seen:
                raise ConfigError(f"study arm {name}/{arm}: is the same as {name}/{seen[resolved]}")
            seen[resolved] = arm
            arms[arm] = config
        for seed in given.seeds:
            for arm, config in arms.items():
                seeded = replaced(config, {"seed": seed, "evaluate.seed": seed + 1})
                further = {
                    again: _read(name, arm, replaced(seeded, settings))
                    for again, settings in comparison.further.items()
                }
                run = _read(name, arm, seeded)
                planned.append(PlannedRun(name, arm, seed, seeded, run, further))
    return planned


def _read(comparison: str, arm: str, config: dict[str, Any]) -> experiment.ModelRun:
    try:
        run = experiment.read(config)
    except ConfigError as error:
        raise ConfigError(f"study arm {comparison}/{arm}: {error}") from error
    if not isinstance(run, experiment.ModelRun) or run.evaluate.n == 0:
        raise ConfigError(f"study arm {comparison}/{arm}: must train a model and score it")
    return run


def indices_of(text: str, runs: Sequence[PlannedRun]) -> list[int]:
    """The runs that `--index` names, counted from 0.

    Args:
      text: "3", or "0,3,6" for runs that differ in their seed alone and train together.
      runs: the plan.

    Raises:
      ConfigError: no number, no such run, one twice, or runs of several arms.
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--index={text}: must be a number, or several as in 0,3,6") from error
    if not all(0 <= index < len(runs) for index in found):
        raise ConfigError(f"--index={text}: must be from 0 to {len(runs) - 1}")
    if len(set(found)) < len(found):
        raise ConfigError(f"--index={text}: must name a run once")
    arms = {(runs[index].comparison, runs[index].arm) for index in found}
    if len(arms) > 1:
        named = ", ".join(sorted("/".join(arm) for arm in arms))
        raise ConfigError(f"--index={text}: must be seeds of one arm, not of {named}")
    return found


def by_arm(runs: Sequence[PlannedRun]) -> list[list[int]]:
    """The indices of a plan, those of one arm together."""
    found: dict[tuple[str, str], list[int]] = {}
    for index, planned in enumerate(runs):
        found.setdefault((planned.comparison, planned.arm), []).append(index)
    return list(found.values())
