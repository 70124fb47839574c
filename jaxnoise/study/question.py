"""What a study asks: arms of a base config, seeds and budgets, and what is claimed of them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxnoise.config import files
from jaxnoise.errors import ArgumentError, describe, one_of
from jaxnoise.study.claims import EQUAL_COST, Claim

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
      ArgumentError: no seed, or one twice, or what is no name of an arm.
    """

    seeds: tuple[int, ...]
    settings: Settings = field(default_factory=dict)
    arms: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_settings("settings", self.settings)
        seeds = self.seeds if isinstance(self.seeds, Sequence) else ()
        whole = all(isinstance(seed, int) and 0 <= seed < 2**32 - 1 for seed in seeds)
        if not whole or not seeds or len(set(seeds)) < len(seeds):
            raise ArgumentError("seeds", self.seeds, "distinct integers, each from 0 to 2^32 - 2")
        # A name on its own would be read letter by letter.
        if self.arms is not None and not isinstance(self.arms, tuple | list):
            raise ArgumentError("arms", describe(self.arms), "a tuple of names, or None")


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
        if not isinstance(self.claims, tuple | list) or not all(
            isinstance(claim, Claim) for claim in self.claims
        ):
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


def load_study(path: str) -> Study:
    """The study that a file's `get_study()` gives.

    Raises:
      ConfigError: no such file, or nothing of the kind in it.
    """
    return files.load_object("--study", path, "get_study", Study, "studies")
