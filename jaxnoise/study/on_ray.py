"""Runs a study on a Ray cluster: a task for each piece; placement and retries are Ray's."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from jaxnoise.errors import ConfigError
from jaxnoise.study.clock import Clock
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.local import (
    Command,
    Piece,
    name_of,
    program,
    ready_pieces,
    say,
    stop_asked,
    unfinished,
    why_failed,
    without_first,
)
from jaxnoise.study.plan import PlannedRun

RETRIES = 5
"""How often a piece is begun again whose worker died."""
_LINE_SECONDS = 60.0


def run_all(
    folder: StudyFolder,
    runs: Sequence[PlannedRun],
    pieces: Sequence[Piece],
    command: Command,
    jobs: int,
    seconds: float = inf,
    after_each: Callable[[], None] = lambda: None,
) -> list[str]:
    """Makes every run that is not finished on the cluster of $RAY_ADDRESS, or on a local one.

    The study's folder and the working folder lie where every node finds them. A piece takes an
    accelerator where the cluster has any, and otherwise its share of the CPUs. Where a worker dies,
    Ray begins its piece again, which goes on from its newest checkpoint.

    Args:
      folder: of the study.
      runs: the plan.
      pieces: which of its runs one task makes.
      command: makes a piece.
      jobs: how many pieces share the CPUs of the cluster.
      seconds: after which the pieces are stopped; they save their state.
      after_each: called whenever a piece is finished.

    Returns:
      Names of the pieces that failed.

    Raises:
      ConfigError: Ray is not installed, or its cluster is not reached.
      KeyboardInterrupt: it was asked to stop.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine=ray: needs pip install -e '.[ray]'") from error
    waiting = unfinished(folder, runs, pieces)
    if not waiting:
        return []
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING, include_dashboard=False)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"--engine=ray: the cluster cannot be reached ({error})") from error
    try:
        deadline = time.monotonic() + seconds
        return _on_cluster(ray, folder, runs, waiting, command, jobs, deadline, after_each)
    finally:
        ray.shutdown()


def _on_cluster(
    ray: Any,
    folder: StudyFolder,
    runs: Sequence[PlannedRun],
    pieces: Sequence[Piece],
    command: Command,
    jobs: int,
    deadline: float,
    after_each: Callable[[], None],
) -> list[str]:
    there = ray.cluster_resources()
    accelerator = next((kind for kind in ("GPU", "TPU") if there.get(kind)), None)
    asked_of = {
        "num_cpus": 1 if accelerator else max(1, int(there.get("CPU", 1)) // jobs),
        "num_gpus": int(accelerator == "GPU"),
        "resources": {"TPU": 1} if accelerator == "TPU" else None,
    }
    make = ray.remote(max_retries=RETRIES, **asked_of)(make_piece)
    clock = Clock(folder, runs, [runs[i] for piece in pieces for i in piece])
    failed: list[str] = []
    names, logs, logged, made = {}, {}, {}, {}

    def begun(piece: Piece) -> Any:
        root = folder.run_folder(runs[piece[0]]).root.resolve()
        root.mkdir(parents=True, exist_ok=True)
        log = root / "log.txt"
        task = make.remote(command(piece), str(log), os.getcwd())
        made[task] = [runs[i] for i in piece]
        names[task], logs[task] = name_of(made[task]), log
        logged[task] = log.stat().st_size if log.exists() else 0
        return task

    said = time.monotonic()
    waiting: list[Piece] = list(pieces)
    left: list[Any] = []
    with stop_asked() as asked:
        while waiting or left:
            for piece in ready_pieces(folder, runs, waiting):
                waiting.remove(piece)
                left.append(begun(piece))
            if not left:
                return failed + without_first(runs, waiting)
            done, left = ray.wait(left, timeout=1.0)
            for task in done:
                try:
                    code = ray.get(task)
                except ray.exceptions.RayError as error:
                    code = 1
                    say(f"{names[task]}: {str(error).splitlines()[0]}")
                if code:
                    name = name_of([run for run in made[task] if not folder.is_finished(run)])
                    failed.append(name)
                    why = why_failed(logs[task], logged[task], code)
                    say(f"{name}: failed: {why} ({logs[task]})")
                else:
                    say(f"{names[task]}: finished, {clock.left()}")
                    after_each()
            if asked() or time.monotonic() > deadline:
                say("stopping: the runs save their state")
                for task in left:
                    ray.cancel(task)
                ray.wait(left, num_returns=len(left), timeout=60)
                if asked():
                    raise KeyboardInterrupt
                break
            if time.monotonic() - said > _LINE_SECONDS:
                said = time.monotonic()
                open_pieces = len(left) + len(waiting)
                say(f"{open_pieces} of {len(pieces)} pieces are under way or wait, {clock.left()}")
    return failed


def make_piece(arguments: list[str], log: str, workdir: str) -> int:
    """Makes a piece in a process of its own, as a task of Ray; gives its exit code."""
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with Path(log).open("ab") as output:
        # A worker that dies takes the process with it at once, or the next one would find it there.
        process = subprocess.Popen(
            [*program([], os.getpid(), signal.SIGKILL), *arguments],
            cwd=workdir,
            stdout=output,
            stderr=output,
        )
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
