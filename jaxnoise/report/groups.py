"""Runs of the same config with other seeds, taken together; what differs between the groups."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count
from statistics import mean, stdev
from typing import Any

from jaxnoise.report.formats import finite, quantity, setting
from jaxnoise.report.run_data import Run, without_seed
from jaxnoise.report.scores import PROTOCOL_KEYS, scores
from jaxnoise.training.records import flatten

SEEDS = ("seed", "evaluate.seed", "sample.seed")
_PLACES = ("data.data_dir", "data.archive", "train.keep_checkpoints", "train.tensorboard")
"""Settings that change neither the training nor the score."""


@dataclass(frozen=True)
class Group:
    """Runs whose configs differ in nothing but seeds.

    Attributes:
      name: what the runs' folders are called; no other group has the same.
      color: "#rrggbb".
      runs: in order of their seeds.
      settings: the config they share, flat, without the seeds.
    """

    name: str
    color: str
    runs: tuple[Run, ...]
    settings: dict[str, Any]

    def distances(self, sampler: str) -> list[float]:
        """The runs' scores with a sampler, in order of the runs."""
        found = (score for run in self.runs for score in scores(run.result))
        return [score.distance for score in found if score.sampler == sampler]

    @property
    def comparable(self) -> bool:
        """Whether all scores were taken with the same protocol, so that a mean says something."""
        held = [[run.result.get(key) for key in PROTOCOL_KEYS] for run in _scored(self.runs)]
        return all(protocol == held[0] for protocol in held)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation; the latter only of two values or more."""

    mean: float
    deviation: float | None
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value.

    Example:
      >>> spread([1.0, 2.0, 3.0])
      Spread(mean=2.0, deviation=1.0, count=3)
      >>> spread([2.0])
      Spread(mean=2.0, deviation=None, count=1)
    """
    return Spread(mean(values), stdev(values) if len(values) > 1 else None, len(values))


def grouped(runs: Sequence[Run], palette: Sequence[str]) -> list[Group]:
    """Groups runs by their config without the seeds, in the order in which they are given.

    Args:
      runs: at least one.
      palette: colours, used again from the start where there are more groups.
    """
    members: dict[str, list[Run]] = {}
    for run in runs:
        # A run without a config is like no other.
        key = json.dumps(_shared(run), sort_keys=True) if run.config else f"no config: {run.name}"
        members.setdefault(key, []).append(run)
    groups: list[Group] = []
    for held in members.values():
        name = ", ".join(dict.fromkeys(run.group for run in held))
        taken = {group.name for group in groups}
        numbered = (f"{name} ({i})" for i in count(2))
        groups.append(
            Group(
                name=next(free for free in chain([name], numbered) if free not in taken),
                color=palette[len(groups) % len(palette)],
                runs=tuple(sorted(held, key=_seed)),
                settings=_shared(held[0]),
            )
        )
    return groups


def differing_keys(groups: Sequence[Group]) -> list[str]:
    """The settings in which some groups differ.

    Those that all of them have come first, and of these the ones with the most different values.
    """
    with_config = [group.settings for group in groups if group.settings]
    keys = sorted({key for settings in with_config for key in settings})
    missing = object()
    found = [
        key
        for key in keys
        if any(
            settings.get(key, missing) != with_config[0].get(key, missing)
            for settings in with_config
        )
    ]

    def order(key: str) -> tuple[bool, int]:
        values = {setting(settings[key]) for settings in with_config if key in settings}
        return not all(key in settings for settings in with_config), -len(values)

    return sorted(found, key=order)


def warnings(groups: Sequence[Group]) -> list[str]:
    """Why the scores of some runs cannot be compared, one sentence each; empty where they can."""
    runs = [run for group in groups for run in group.runs]
    scored = _scored(runs)
    found = []
    for key in PROTOCOL_KEYS:
        values = _by_value(scored, key)
        if len(values) > 1:
            found.append(
                f"The scores are not comparable: they were taken with different {_WORDS[key]}: "
                f"{_listed(values)}."
            )
    for key, words in (("weights", "weights"), ("images_seen", "numbers of images seen")):
        values = _by_value(scored, key)
        if len(values) > 1:
            found.append(f"The scores are of different {words}: {_listed(values)}.")
    unscored = [run.name for run in runs if not scores(run.result)]
    if unscored:
        found.append(f"Without a score: {', '.join(unscored)}.")
    for group in groups:
        seeds = [_seed(run) for run in group.runs]
        if len(set(seeds)) < len(seeds):
            found.append(
                f"Runs of {group.name} have the same config and the same seeds: they are no "
                "independent repeats, and their spread says nothing."
            )
    return found


_WORDS = {
    "distance": "distances",
    "n": "numbers of generated images (n)",
    "extractor": "extractors",
    "extractor_sha256": "weights of the extractor (SHA-256)",
    "resize": "ways to resize images",
    "reference": "references",
    "reference_sha256": "reference images (SHA-256)",
    "guidance": "scales of guidance",
}


def _scored(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if scores(run.result)]


def _by_value(runs: Sequence[Run], key: str) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for run in runs:
        held = run.result.get(key, "not recorded")
        shown = quantity(held) if key == "images_seen" and finite(held) else setting(held)
        # Both ends tell two digests apart, and the line stays readable.
        shown = f"{shown[:12]}...{shown[-4:]}" if len(shown) == 64 else shown
        values.setdefault(shown, []).append(run.name)
    return values


def _listed(values: dict[str, list[str]]) -> str:
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in values.items())


def _shared(run: Run) -> dict[str, Any]:
    flat = flatten(run.config)
    if isinstance(rater := flat.get("selection.file"), str):
        # Each seed may have a rater of its own.
        flat["selection.file"] = without_seed(rater)
    return {key: value for key, value in flat.items() if key not in (*SEEDS, *_PLACES)}


def _seed(run: Run) -> tuple[str, ...]:
    flat = flatten(run.config)
    return tuple(f"{flat.get(key)!r:>20}" for key in (*SEEDS, "selection.file"))
