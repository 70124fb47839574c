"""A study's folder: its plan, its runs, and which of them are finished."""

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jaxnoise.errors import ConfigError
from jaxnoise.experiment import completed
from jaxnoise.files import exclusive, write_whole
from jaxnoise.study.plan import PlannedRun
from jaxnoise.training.records import RunFolder, differences


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
        """The scores of a run by the names of the further ones, its own by ""; those there are."""
        folder = self.run_folder(planned)
        paths = {"": folder.result} | {name: folder.further(name) for name in planned.further}
        return {name: self._read(path) for name, path in paths.items() if path.exists()}

    def lacking(self, planned: PlannedRun) -> list[str]:
        """The further scores that a run does not have yet, of its last step; its own is ""."""
        images = planned.run.images_per_step * planned.run.train.last_step
        # What was scored half-way, by hand, is not what the study asks for.
        held = {
            name
            for name, result in self.results(planned).items()
            if result.get("images_seen", images) >= images
        }
        return [name for name in ("", *planned.further) if name not in held]

    def is_finished(self, planned: PlannedRun) -> bool:
        """Whether a run has all its scores, of its last step."""
        return not self.lacking(planned)

    def is_ready(self, planned: PlannedRun, runs: Sequence[PlannedRun]) -> bool:
        """Whether all runs are finished that come before this one."""
        return all(self.is_finished(run) for run in runs if run.comparison in planned.after)

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
        found: float | None = self._read(path).get("operations_per_step")
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
        self.check(runs, held)
        self._write_plan(held | {planned.name: planned.run.config for planned in runs})

    def check(self, runs: Sequence[PlannedRun], held: Mapping[str, Any]) -> None:
        """Raises ConfigError where `held`, name -> config, has a run of the plan otherwise."""
        for planned in runs:
            if planned.name in held:
                difference = differences(completed(held[planned.name]), planned.run.config)
                if difference:
                    raise ConfigError(
                        f"--workdir={self.root}: {planned.name} is a run of another config: "
                        f"{difference}; give another --workdir"
                    )

    def add_to_plan(self, configs: Mapping[str, Any]) -> None:
        """Adds runs that the plan does not have yet, by their names."""
        self._write_plan({**configs, **self._held_plan()})

    def _held_plan(self) -> dict[str, Any]:
        if not self.plan.exists():
            return {}
        held = self._read(self.plan)
        if not all(isinstance(config, dict) for config in held.values()):
            raise ConfigError(f"--workdir={self.root}: plan.json is damaged: a run has no config")
        return held

    def _read(self, path: Path) -> dict[str, Any]:
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
