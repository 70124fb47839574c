"""A study's folder: its plan, its runs, and which of them are finished."""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jaxnoise.errors import ConfigError
from jaxnoise.experiment import RaterRun, completed
from jaxnoise.files import exclusive, write_whole
from jaxnoise.study.plan import PlannedRun
from jaxnoise.training import records
from jaxnoise.training.records import RunFolder, differences, flatten

# How a run is scored is a part of what a study compares; when, and in what portions, is not.
_SCORING = ("sample.", "evaluate.")
VIEWING = (
    *(key for key in records.VIEWING if key not in _SCORING),
    "evaluate.every",
    "evaluate.untrained",
    "evaluate.fallback",
    "evaluate.reference",
    "evaluate.extractor.path",
    *(f"sample.{key}" for key in ("batch", "count", "columns", "seed", "step", "format")),
)
"""Settings in which a run of a study may differ from its plan."""

FOLDER = "{folder}"
"""What stands for the study's folder in settings."""


class StudyFolder:
    """Paths of one study at one budget.

    Args:
      root: the folder; made when first written to.
    """

    def __init__(self, root: Path):
        self.root = root
        self.plan = root / "plan.json"

    def run_folder(self, planned: PlannedRun) -> RunFolder:
        """Where a run of the study lies."""
        return RunFolder(self.root / planned.name, completed)

    def results(self, planned: PlannedRun) -> dict[str, dict[str, Any]]:
        """The scores of a run by the names of the further ones, its own by ""; those there are.

        A score that was taken half-way, by hand, is not what the study asks for.
        """
        folder, last = self.run_folder(planned), planned.run.train.last_step
        steps = {"": last} | {
            name: last if run.evaluate.step is None else run.evaluate.step
            for name, run in planned.further.items()
        }
        found = {}
        for name, step in steps.items():
            path = folder.further(name) if name else folder.result
            if path.exists():
                result, images = self.read(path), planned.run.images_per_step * step
                if result.get("images_seen", images) >= images:
                    found[name] = result
        return found

    def lacking(self, planned: PlannedRun) -> list[str]:
        """The further scores that a run does not have yet; its own is ""."""
        held = self.results(planned)
        return [name for name in ("", *planned.further) if name not in held]

    def is_finished(self, planned: PlannedRun) -> bool:
        """Whether a run has all its scores."""
        return not self.lacking(planned)

    def sources(self, planned: PlannedRun, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        """The runs whose files a run names."""
        return [run for run in runs if run.name in planned.after]

    def is_ready(self, planned: PlannedRun, runs: Sequence[PlannedRun]) -> bool:
        """Whether all runs are made whose files this one names, if it is still to train."""
        made = ("" in self.results(first) for first in self.sources(planned, runs))
        return "" in self.results(planned) or all(made)

    def is_wanted(self, planned: PlannedRun, runs: Sequence[PlannedRun]) -> bool:
        """Whether a run is still to be made: a rater is not where all are that select by it."""
        by_it = [run for run in runs if planned.name in run.after]
        # A model has scores of its own.
        unneeded = isinstance(planned.run, RaterRun) and by_it and all(map(self.is_finished, by_it))
        return not unneeded and not self.is_finished(planned)

    def is_busy(self, planned: PlannedRun) -> bool:
        """Whether another process is at work in a run's folder, such as one of a killed study."""
        root = self.run_folder(planned).root
        try:
            with exclusive(root) if root.is_dir() else nullcontext():
                return False
        except ConfigError:
            return True

    def operations(self, planned: PlannedRun) -> float | None:
        """Floating-point operations of a step of a run, where they were counted."""
        path = self.run_folder(planned).cost
        if not path.exists():
            return None
        found: float | None = self.read(path).get("operations_per_step")
        return found

    def hours(self, planned: PlannedRun) -> float:
        """How long a run has trained, by the speeds of its record; its share of what it shared."""
        total, before = 0.0, 0
        for row in self.run_folder(planned).rows():
            if row.get("images_per_second"):
                total += (row["images_seen"] - before) / row["images_per_second"]
                before = row["images_seen"]
        return total / 3600

    def steps_done(self, planned: PlannedRun) -> int:
        """How many steps the record of a run tells of."""
        rows = self.run_folder(planned).rows()
        return int(rows[-1]["step"]) if rows else 0

    def claim(self, runs: Sequence[PlannedRun]) -> None:
        """Writes the plan, or checks that the folder's runs are of the same configs.

        Runs may be added to a study, such as further seeds.

        Raises:
          ConfigError: a run of the folder has another config now; it and its keys are named.
        """
        held = self._held_plan()
        self.check(runs, held, f"--workdir={self.root}")
        own = {planned.name: without_folder(planned.run.config, self.root) for planned in runs}
        self._write_plan(held | own)

    def check(self, runs: Sequence[PlannedRun], held: Mapping[str, Any], place: str) -> None:
        """Raises ConfigError where `held`, name -> config, has a run of the plan otherwise.

        Args:
          runs: the plan.
          held: what is there.
          place: where that is, as on the command line.
        """
        for planned in runs:
            if planned.name in held:
                difference = self.difference(planned, held[planned.name])
                if difference:
                    raise ConfigError(
                        f"{place}: {planned.name} is a run of another config: {difference}; give "
                        f"another {place.partition('=')[0]}"
                    )

    def changed(self, planned: PlannedRun) -> str:
        """In what a run that is scored has gone on otherwise than planned; "" if in nothing.

        Such as one that was trained further, or scored under other settings, by hand.
        """
        config = self.run_folder(planned).config
        difference = self.difference(planned, self.read(config)) if config.exists() else ""
        asked = planned.run.images_per_step * planned.run.train.last_step
        seen = self.results(planned)[""].get("images_seen", asked)
        if not difference and seen != asked:
            difference = f"images_seen (there {seen:,}, here {asked:,})"
        return difference

    def difference(self, planned: PlannedRun, held: Mapping[str, Any]) -> str:
        """In what a config trains or is scored otherwise than a planned run; "" if alike.

        Files that it names may lie elsewhere, but those of the study's other runs are the same.
        """
        here = without_folder(planned.run.config, self.root)
        # Reading a config again takes a while.
        if without_folder(held, self.root) == json.loads(json.dumps(here)):
            return ""
        there, here = flatten(without_folder(completed(held), self.root)), flatten(here)
        sources = {
            key: (there.pop(key, None), here.pop(key, None))
            for key in there.keys() | here.keys()
            if _is_of_study(there.get(key)) or _is_of_study(here.get(key))
        }
        unlike = {key: pair for key, pair in sources.items() if not _is_one_file(*pair)}
        own, other = ({key: pair[side] for key, pair in unlike.items()} for side in (0, 1))
        return differences(there, here, VIEWING) or differences(own, other, ())

    def add_to_plan(self, configs: Mapping[str, Any]) -> None:
        """Adds runs that the plan does not have yet, by their names."""
        self._write_plan({**configs, **self._held_plan()})

    def _held_plan(self) -> dict[str, Any]:
        if not self.plan.exists():
            return {}
        held = self.read(self.plan)
        if not all(isinstance(config, dict) for config in held.values()):
            raise ConfigError(f"--workdir={self.root}: plan.json is damaged: a run has no config")
        return held

    def read(self, path: Path) -> dict[str, Any]:
        """What a JSON file of the folder holds."""
        name = f"--workdir={self.root}: {path.relative_to(self.root)}"
        try:
            held = json.loads(path.read_text())
        except ValueError as error:
            raise ConfigError(f"{name} is damaged: {error}") from error
        if not isinstance(held, dict) or not (held or path == self.plan):
            raise ConfigError(f"{name} is damaged: it holds nothing")
        return held

    def _write_plan(self, plan: Mapping[str, Any]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        write_whole(self.plan, json.dumps(plan, indent=1, sort_keys=True) + "\n")


def without_folder(value: Any, root: Path) -> Any:
    """A config whose files of other runs are named as in a study, wherever its folder lies."""
    if isinstance(value, dict):
        return {key: without_folder(inner, root) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folder(inner, root) for inner in value]
    if isinstance(value, str) and value.startswith(f"{root}/"):
        return FOLDER + value.removeprefix(str(root))
    return value


def _is_of_study(setting: Any) -> bool:
    """Whether a setting names a file of one of the study's runs."""
    return isinstance(setting, str) and setting.startswith(f"{FOLDER}/")


def _is_one_file(there: Any, here: Any) -> bool:
    """Whether two settings, of which one names a file of the study, name the same."""
    # A plan of before the folder was moved may name more of its path.
    tails = [x.removeprefix(FOLDER) for x in (there, here) if _is_of_study(x)]
    return any(all(str(x).endswith(tail) for x in (there, here)) for tail in tails)
