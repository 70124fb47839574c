"""Runs a study: every arm with every seed, then its table, figures and pages."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxnoise.commands import train
from jaxnoise.errors import ConfigError
from jaxnoise.figures.arms import save_arms
from jaxnoise.files import exclusive, user_path, write_whole
from jaxnoise.report import write_comparison
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.local import checked_index, run_all, say
from jaxnoise.study.plan import PlannedRun, Study, load_study, planned_runs
from jaxnoise.study.tables import as_csv, as_markdown, rows_of


def main(flags: argparse.Namespace, prepare: Callable[[PlannedRun], None]) -> int:
    """Makes what is not made yet of a study, or one run of it, and shows what is finished.

    Args:
      flags: `study`, `budget`, `index`, `jobs` and `workdir` of the command line.
      prepare: called with a run that this process makes, before it asks for devices.

    Returns:
      The exit code: 1 if a run failed.

    Raises:
      ConfigError: a study, budget or index that is none, or a folder of other runs; nothing is
        written then.
    """
    study = load_study(flags.study)
    runs = planned_runs(study, flags.budget)
    name = Path(flags.study).stem
    folder = StudyFolder(user_path(flags.workdir or f"runs/{name}/{flags.budget}"))
    planned = None if flags.index is None else checked_index(flags.index, runs)
    if flags.jobs < 1:
        raise ConfigError(f"--jobs={flags.jobs}: must be at least 1")
    folder.claim(runs)
    if planned is not None:
        if folder.result(planned) is None:
            prepare(planned)
            train.main(planned.run, folder.run_folder(planned))
        return 0

    def command(index: int) -> list[str]:
        return [
            f"--study={flags.study}",
            f"--budget={flags.budget}",
            f"--workdir={folder.root}",
            f"--index={index}",
        ]

    with exclusive(folder.root):
        failed = run_all(folder, runs, command, flags.jobs)
        show(study, folder, runs)
    if failed:
        say(f"{len(failed)} runs failed: {', '.join(failed)}")
    return 1 if failed else 0


def show(study: Study, folder: StudyFolder, runs: Sequence[PlannedRun]) -> None:
    """Writes and prints the tables; draws the figures and pages of what is finished."""
    controls = {name: c.control for name, c in study.comparisons.items()}
    rows = rows_of(folder, runs, controls)
    if not rows:
        say("no run is finished yet")
        return
    table = f"# {study.question}\n\n{as_markdown(rows)}"
    write_whole(folder.root / "results.md", table)
    write_whole(folder.root / "results.csv", as_csv(rows))
    for comparison, score in dict.fromkeys((row.comparison, row.score) for row in rows):
        own = [row for row in rows if (row.comparison, row.score) == (comparison, score)]
        save_arms(
            f"{comparison}: {study.question}",
            score,
            {row.arm: list(row.values.values()) for row in own},
            controls[comparison],
            folder.root / f"{comparison}_{score}.png",
            own[0].floor,
        )
    for comparison in dict.fromkeys(row.comparison for row in rows):
        finished = [
            folder.run_folder(planned).root
            for planned in runs
            if planned.comparison == comparison and folder.result(planned) is not None
        ]
        if len(finished) > 1:
            write_comparison(finished, folder.root / comparison)
    print(table)
