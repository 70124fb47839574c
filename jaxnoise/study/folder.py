"""A study's folder: its plan, its runs, and which of them are finished."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnoise.errors import ConfigError
from jaxnoise.files import write_whole
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
        return RunFolder(self.root / planned.name)

    def result(self, planned: PlannedRun) -> dict[str, Any] | None:
        """The score of a run that is finished, or None."""
        path = self.run_folder(planned).result
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text())
        return found

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
        held: dict[str, Any] = {}
        if self.plan.exists():
            try:
                held = json.loads(self.plan.read_text())
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"--workdir={self.root}: plan.json is damaged: {error}"
                ) from error
        for planned in runs:
            if planned.name in held:
                difference = differences(held[planned.name], planned.run.config)
                if difference:
                    raise ConfigError(
                        f"--workdir={self.root}: {planned.name} is a run of another config: "
                        f"{difference}; give another --workdir"
                    )
        self.root.mkdir(parents=True, exist_ok=True)
        plan = held | {planned.name: planned.run.config for planned in runs}
        write_whole(self.plan, json.dumps(plan, indent=1, sort_keys=True) + "\n")
