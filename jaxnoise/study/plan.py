"""The runs that a study makes; every config is read before one starts."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxnoise import experiment
from jaxnoise.config import files
from jaxnoise.config.overrides import replaced
from jaxnoise.config.settings import EvaluateSettings
from jaxnoise.errors import ConfigError
from jaxnoise.study.claims import check_score
from jaxnoise.study.question import Study

Run = experiment.ModelRun | experiment.RaterRun


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
                after = _runs_named(name, arm, _filled(config, {"seed": seed}), earlier)
                further = {}
                for again, settings in comparison.further.items():
                    after += _runs_named(name, arm, _filled(settings, {"seed": seed}), earlier)
                    scored = replaced(replaced(seeded, _filled(settings, names)), own)
                    further[again] = _read_model(name, arm, scored, built)
                run, after = _read(name, arm, seeded, built), tuple(dict.fromkeys(after))
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
    of_images = [("data", key) for key in ("dataset", "size", "channels", "background")]
    of_scores = [("evaluate", key) for key in ("n", "split", "reference", "extractor")]
    for section, key in (*of_images, *of_scores):
        found = {arm: run.config[section][key] for arm, run in scored.items()}
        first = next(iter(found), "")
        for arm, value in found.items():
            if value != found[first]:
                raise ConfigError(
                    f"study arm {comparison}/{arm}: config.{section}.{key}={value!r}: must be as "
                    f"in {comparison}/{first}, {found[first]!r}, or their scores cannot be compared"
                )


def _runs_named(
    comparison: str,
    arm: str,
    config: Mapping[str, Any] | Sequence[Any],
    earlier: Collection[str],
) -> tuple[str, ...]:
    """The runs of a study whose files a config names."""
    found: list[str] = []
    for value in config.values() if isinstance(config, Mapping) else config:
        if isinstance(value, Mapping | list | tuple):
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
    if isinstance(value, Mapping):
        return {key: _filled(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(inner, names) for inner in value)
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
