"""What a study compares, and the runs that this makes; every config is read before one starts."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxnoise import experiment
from jaxnoise.config import files
from jaxnoise.config.overrides import replaced
from jaxnoise.config.settings import EvaluateSettings
from jaxnoise.errors import ArgumentError, ConfigError, describe, one_of
from jaxnoise.study.claims import EQUAL_COST, Claim, check_score

Run = experiment.ModelRun | experiment.RaterRun
Settings = Mapping[str, Any]
"""Dotted keys of a config and their values; a mapping takes the place of a whole section."""


@dataclass(frozen=True)
class Budget:
    """How much of a comparison is run.

    Args:
      seeds: one run of every arm for each; distinct, from 0 to 2^32 - 2, since a model of seed s is
        scored on images of seed s + 1.
      settings: what every arm gets on top of its own, such as {"train.steps": 20}.
      arms: names of the arms that are run; None for all.

    Raises:
      ArgumentError: no seed, or one twice.
    """

    seeds: tuple[int, ...]
    settings: Settings = field(default_factory=dict)
    arms: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_settings("settings", self.settings)
        whole = all(isinstance(seed, int) and 0 <= seed < 2**32 - 1 for seed in self.seeds)
        if not whole or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ArgumentError("seeds", self.seeds, "distinct integers, each from 0 to 2^32 - 2")


def _check_settings(argument: str, settings: Settings) -> None:
    """Raises ArgumentError unless settings are dotted keys and values, and none is a run's seed."""
    named = isinstance(settings, Mapping) and all(isinstance(key, str) for key in settings)
    if not named:
        allowed = 'settings by their dotted keys, such as {"law.curve": 2.0}'
        raise ArgumentError(argument, describe(settings), allowed)
    for key in ("seed", "evaluate.seed"):
        if key in settings:
            raise ArgumentError(argument, key, "another key: a Budget has the seeds")
    section = settings.get("evaluate")
    if isinstance(section, Mapping) and "seed" in section:
        raise ArgumentError(argument, "evaluate.seed", "another key: a Budget has the seeds")


def _check_names(argument: str, names: Iterable[str]) -> None:
    """Raises ArgumentError unless each name can be that of a folder."""
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"\w[\w.+=-]*", name):
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
      bases: arm -> the config file that it starts from in place of `base`.

    In settings, "{folder}" stands for the study's folder and "{seed}" for the run's seed. So a run
    names a file of another one, such as a rater of noise, and is made after it:
    {"selection.file": "{folder}/raters/conv/seed_{seed}/rater.npz"}.

    Raises:
      ArgumentError: a control that is no arm, a budget, base or curve of no arm, or a further score
        that would be another training.
    """

    base: str
    arms: Mapping[str, Settings]
    control: str
    budgets: Mapping[str, Budget]
    settings: Settings = field(default_factory=dict)
    further: Mapping[str, Settings] = field(default_factory=dict)
    shown: tuple[str, ...] = ()
    bases: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for argument in ("arms", "budgets", "further", "bases"):
            if not isinstance(getattr(self, argument), Mapping):
                allowed = "a mapping from names, such as {...}"
                raise ArgumentError(argument, describe(getattr(self, argument)), allowed)
        for base in (self.base, *self.bases.values()):
            if not isinstance(base, str):
                raise ArgumentError("base", describe(base), "a config file's name")
        _check_settings("settings", self.settings)
        for argument, each in (("arms", self.arms), ("further", self.further)):
            _check_names(argument, each)
            for settings in each.values():
                _check_settings(argument, settings)
        if not all(isinstance(budget, Budget) for budget in self.budgets.values()):
            raise ArgumentError("budgets", describe(self.budgets), "a Budget for each name")
        if EQUAL_COST in self.further:
            raise ArgumentError("further", EQUAL_COST, "another name: every study takes these")
        one_of("control", self.control, self.arms)
        for argument, named in (("shown", self.shown), ("bases", self.bases)):
            for arm in named:
                one_of(argument, arm, self.arms)
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
      comparisons: name -> arms of one base config; one comes later than those whose files its runs
        name.
      claims: what is answered in a line each, where the arms that it takes have been run.

    Raises:
      ArgumentError: a name that cannot be a folder's, or a claim about what is not compared.
    """

    question: str
    comparisons: Mapping[str, Comparison]
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        _check_names("comparisons", self.comparisons)
        called = {name: name for name in self.comparisons}
        for name, comparison in self.comparisons.items():
            for further in (EQUAL_COST, *comparison.further):
                both = f"{name}_{further}"
                other = called.setdefault(both, name)
                if other != name or both in self.comparisons:
                    of = name if both in self.comparisons else other
                    raise ArgumentError(
                        "comparisons", both, f"not what a score of {of!r} is called"
                    )
        if not isinstance(self.claims, tuple | list):
            raise ArgumentError("claims", describe(self.claims), "a tuple of claims")
        for claim in self.claims:
            place = f"claims: {claim.says!r}: "
            one_of(f"{place}comparison", claim.comparison, self.comparisons)
            comparison = self.comparisons[claim.comparison]
            for arm in (arm for pair in claim.pairs for arm in pair):
                one_of(f"{place}pairs", arm, comparison.arms)
            if claim.further:
                one_of(f"{place}further", claim.further, (EQUAL_COST, *comparison.further))

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
      after: names of the runs that are made first, since the config names files of theirs.
    """

    comparison: str
    arm: str
    seed: int
    config: dict[str, Any]
    run: Run
    further: Mapping[str, experiment.ModelRun] = field(default_factory=dict)
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its folder below that of the study."""
        return f"{self.comparison}/{self.arm}/seed_{self.seed}"


def load_study(path: str) -> Study:
    """The study that a file's `get_study()` gives.

    Raises:
      ConfigError: no such file, or nothing of the kind in it.
    """
    return files.load_object("--study", path, "get_study", Study, "studies")


def planned_runs(study: Study, budget: str, folder: Path) -> list[PlannedRun]:
    """Every run of a study at a budget, seeds outside: a study cut short compares all arms.

    The first seed of every comparison comes before the second of any.

    Args:
      study: what is compared.
      budget: the name of a budget.
      folder: of the study.

    Raises:
      ConfigError: an unknown budget, a base that is no config, an arm whose config is refused, or
        two arms alike, or a claim by a score that is not taken; one line that names it.
    """
    if not study.budgets:
        raise ConfigError("study: no comparison has a budget, such as {'smoke': Budget((0,))}")
    if budget not in study.budgets:
        raise ConfigError(f"--budget={budget}: must be one of {', '.join(study.budgets)}")
    planned: list[PlannedRun] = []
    built: dict[str, Run] = {}
    rounds: dict[str, int] = {}
    for name, comparison in study.comparisons.items():
        if budget not in comparison.budgets:
            continue
        given = comparison.budgets[budget]
        seen: dict[str, str] = {}
        arms = {}
        for arm in comparison.arms_of(budget):
            base = comparison.bases.get(arm, comparison.base)
            try:
                config: dict[str, Any] = dict(files.load(base))
            except ConfigError as error:
                why = str(error).removeprefix("--config=")
                raise ConfigError(f"study arm {name}/{arm}: base={why}") from error
            for settings in (comparison.settings, comparison.arms[arm], given.settings):
                config = replaced(config, settings)
            resolved = json.dumps(_read(name, arm, config, built).config, sort_keys=True)
            if resolved in seen:
                raise ConfigError(f"study arm {name}/{arm}: is the same as {name}/{seen[resolved]}")
            seen[resolved] = arm
            arms[arm] = config
        check_protocols(name, {arm: _read(name, arm, each, built) for arm, each in arms.items()})
        earlier = set(rounds)
        for number, seed in enumerate(given.seeds):
            for arm, config in arms.items():
                seeds = {"seed": seed}
                if "rater" not in config:
                    seeds["evaluate.seed"] = seed + 1
                # A further score may give a whole section anew.
                own = {key: value for key, value in seeds.items() if key == "evaluate.seed"}
                names = {"folder": str(folder), "seed": seed}
                seeded = _filled(replaced(config, seeds), names)
                further = {}
                for again, settings in comparison.further.items():
                    scored = replaced(replaced(seeded, _filled(dict(settings), names)), own)
                    further[again] = _read_model(name, arm, scored, built)
                run = _read(name, arm, seeded, built)
                after = _runs_named(name, arm, _filled(config, {"seed": seed}), earlier)
                planned.append(PlannedRun(name, arm, seed, seeded, run, further, after))
                rounds[planned[-1].name] = number
    for claim in study.claims:
        for planned_run in planned:
            if planned_run.comparison == claim.comparison:
                check_score(claim, planned_run.run, planned_run.further)
    return sorted(planned, key=lambda planned_run: rounds[planned_run.name])


def check_protocols(comparison: str, runs: Mapping[str, Run]) -> None:
    """Raises ConfigError where scores of the arms would not mean the same."""
    scored = {arm: run for arm, run in runs.items() if isinstance(run, experiment.ModelRun)}
    for key in ("n", "split", "reference", "extractor"):
        found = {arm: run.config["evaluate"][key] for arm, run in scored.items()}
        first = next(iter(found), "")
        for arm, value in found.items():
            if value != found[first]:
                raise ConfigError(
                    f"study arm {comparison}/{arm}: config.evaluate.{key}={value!r}: must be as in "
                    f"{comparison}/{first}, {found[first]!r}, or their scores cannot be compared"
                )


def _runs_named(
    comparison: str, arm: str, config: Mapping[str, Any], earlier: Collection[str]
) -> tuple[str, ...]:
    """The runs of a study whose files a config names."""
    found: list[str] = []
    for value in config.values():
        if isinstance(value, dict):
            found += _runs_named(comparison, arm, value, earlier)
        elif isinstance(value, str) and "{folder}" in value:
            name = "/".join(value.split("/")[1:4])
            if name not in earlier or not value.startswith("{folder}/"):
                raise ConfigError(
                    f"study arm {comparison}/{arm}: {value}: must be a file of a run of an earlier "
                    "comparison, at this budget and seed, such as "
                    "{folder}/raters/conv/seed_{seed}/rater.npz"
                )
            found.append(name)
    return tuple(dict.fromkeys(found))


def _filled(value: Any, names: Mapping[str, Any]) -> Any:
    """A config whose strings have `{name}` replaced."""
    if isinstance(value, dict):
        return {key: _filled(inner, names) for key, inner in value.items()}
    if isinstance(value, str):
        for name, content in names.items():
            value = value.replace(f"{{{name}}}", str(content))
    return value


def _read(comparison: str, arm: str, config: dict[str, Any], built: dict[str, Run]) -> Run:
    """Reads a config, once for all seeds: `built` keeps what was, by all but its seeds."""
    seed, evaluate = config.get("seed", 0), config.get("evaluate", {})
    seedless = repr(replaced(config, {"seed": 0} | ({"evaluate.seed": 0} if evaluate else {})))
    try:
        run = built.get(seedless) or built.setdefault(seedless, experiment.read(config))
    except ConfigError as error:
        raise ConfigError(f"study arm {comparison}/{arm}: {error}") from error
    if isinstance(run, experiment.RaterRun):
        return replace(run, seed=seed, config=run.config | {"seed": seed})
    if run.evaluate.n == 0:
        raise ConfigError(
            f"study arm {comparison}/{arm}: config.evaluate.n=0: must be at least 2 in a study"
        )
    scored = replace(run.evaluate, seed=evaluate.get("seed", EvaluateSettings.seed))
    held = run.config | {
        "seed": seed,
        "evaluate": run.config["evaluate"] | {"seed": scored.seed},
    }
    return replace(run, seed=seed, evaluate=scored, config=held)


def _read_model(
    comparison: str, arm: str, config: dict[str, Any], built: dict[str, Run]
) -> experiment.ModelRun:
    run = _read(comparison, arm, config, built)
    if not isinstance(run, experiment.ModelRun):
        raise ConfigError(f"study arm {comparison}/{arm}: further: a rater of noise has no scores")
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
    if len(by_arm([runs[index] for index in found])) > 1:
        named = ", ".join(runs[index].name for index in found)
        raise ConfigError(
            f"--index={text}: must be of runs that differ in their seed alone, unlike {named}"
        )
    return found


def by_arm(runs: Sequence[PlannedRun]) -> list[list[int]]:
    """The indices of a plan, those together that differ in their seed alone."""
    found: dict[tuple[str, ...], list[int]] = {}
    for index, planned in enumerate(runs):
        alike = without_seed(planned.run) if isinstance(planned.run, experiment.ModelRun) else ""
        key = planned.comparison, planned.arm, alike or str(planned.seed)
        found.setdefault(key, []).append(index)
    return list(found.values())


def without_seed(run: experiment.ModelRun) -> str:
    """A run's settings but for its seeds: runs train together where they are equal."""
    evaluate = run.config["evaluate"] | {"seed": 0}
    return json.dumps(run.config | {"seed": 0, "evaluate": evaluate}, sort_keys=True)
