"""Runs a study: every arm with every seed, then its tables, figures and pages."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import inf
from pathlib import Path

from jaxnoise.commands import evaluate, train, train_together
from jaxnoise.errors import ConfigError
from jaxnoise.experiment import ModelRun
from jaxnoise.files import check_folder, exclusive, user_path
from jaxnoise.run.open import warn
from jaxnoise.run.trained import has_checkpoint
from jaxnoise.study import local, on_ray
from jaxnoise.study.agreement import check_agreement
from jaxnoise.study.archive import check_archive, pack, unpack
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.local import Piece, say
from jaxnoise.study.pages import show
from jaxnoise.study.plan import PlannedRun, by_arm, indices_of, planned_runs
from jaxnoise.study.question import load_study
from jaxnoise.training.kept_images import KeptImages
from jaxnoise.training.loop import Interrupted

ENGINES = ("local", "together", "ray")


def main(flags: argparse.Namespace, prepare: Callable[[PlannedRun], None]) -> int:
    """Makes what is not made yet of a study, or some runs of it, and shows what is finished.

    Args:
      flags: `study`, `budget`, `index`, `jobs`, `engine`, `minutes`, `archive` and `workdir` of the
        command line.
      prepare: called with a run that this process makes, before it asks for devices.

    Returns:
      The exit code: 1 if a run failed.

    Raises:
      ConfigError: a study, budget or index that is none, or a folder of other runs; nothing is
        written then.
    """
    study = load_study(flags.study)
    archive = None if flags.archive is None else user_path(flags.archive)
    name = Path(flags.study).stem
    folder = StudyFolder(user_path(flags.workdir or f"runs/{name}/{flags.budget}"))
    check_folder("--workdir", folder.root)
    if archive is not None:
        check_archive(archive, folder)
    runs = planned_runs(study, flags.budget, folder.root)
    own = None if flags.index is None else indices_of(flags.index, runs)
    if flags.jobs < 1:
        raise ConfigError(f"--jobs={flags.jobs}: must be at least 1")
    if flags.minutes is not None and not 0 < flags.minutes < inf:
        raise ConfigError(f"--minutes={flags.minutes}: must be above 0")
    # A run of its own goes on beside those of the others, and beside what has started it.
    alone = own is None and folder.root.is_dir()
    with exclusive(folder.root) if alone else nullcontext():
        if archive is not None:
            unpack(archive, folder, runs)
        planned = runs if own is None else [runs[index] for index in own]
        if own is not None:
            check_first(planned, folder, runs)
        folder.claim(runs)
        if own is None:
            check_agreement(folder, runs)
    if own is not None:
        make(planned, folder, prepare)
        return 0
    together = flags.engine == "together"
    pieces = by_arm(runs) if together else [[index] for index in range(len(runs))]
    engine = on_ray if flags.engine == "ray" else local

    def command(piece: Piece) -> list[str]:
        return [
            f"--study={flags.study}",
            f"--budget={flags.budget}",
            f"--workdir={folder.root}",
            f"--index={','.join(map(str, piece))}",
        ]

    said: set[str] = set()

    def keep(at_end: bool = False) -> None:
        # Numbers are a few lines; a .tar holds checkpoints, and is written once.
        if archive is None or not (at_end or archive.suffix == ".jsonl"):
            return
        for line in pack(folder, runs, archive):
            if line not in said:
                warn(line)
            said.add(line)

    seconds = inf if flags.minutes is None else 60 * flags.minutes
    with exclusive(folder.root):
        try:
            failed = engine.run_all(folder, runs, pieces, command, flags.jobs, seconds, keep)
        finally:
            # A machine that is taken away asks to stop, and keeps nothing.
            keep(at_end=True)
        show(study, folder, runs)
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def check_first(
    planned: Sequence[PlannedRun], folder: StudyFolder, runs: Sequence[PlannedRun]
) -> None:
    """Raises ConfigError where a run reads files of another one that is not finished."""
    for run in planned:
        if folder.is_ready(run, runs):
            continue
        first = next(run for run in folder.sources(run, runs) if "" not in folder.results(run))
        raise ConfigError(
            f"--index={runs.index(run)}: {run.name} reads files of {first.name}, which is not "
            f"finished; make that first, by --index={runs.index(first)}"
        )


def make(
    planned: Sequence[PlannedRun], folder: StudyFolder, prepare: Callable[[PlannedRun], None]
) -> None:
    """Makes what is not made yet of some runs, together if they are several, and scores them.

    Raises:
      ConfigError: a run lacks a further score, and the checkpoint that it would be taken of.
      Exception: of a run that failed, once the others are scored.
    """
    prepare(planned[0])
    left = [run for run in planned if "" in folder.lacking(run)]
    for line in dict.fromkeys(line for run in left for line in run.run.warnings):
        warn(line)
    folders = [folder.run_folder(run) for run in left]
    kept = {run.name: KeptImages() for run in planned}
    failure: Exception | None = None
    try:
        if len(left) > 1:
            models = [run.run for run in left if isinstance(run.run, ModelRun)]
            train_together.main(models, folders)
        elif left:
            train.main(left[0].run, folders[0], kept[left[0].name])
    except Interrupted:
        raise
    except Exception as error:
        failure = error
    for run in planned:
        own = folder.run_folder(run)
        lacking = folder.lacking(run)
        for name in lacking if "" not in lacking else []:
            if not has_checkpoint(own):
                raise ConfigError(
                    f"--workdir={folder.root}: {run.name} lacks its score {name!r}, and came from "
                    f"an archive without checkpoints; delete {own.root} to train it anew"
                )
            evaluate.score_further(run.further[name], own, name, kept[run.name])
    if failure is not None:
        raise failure
