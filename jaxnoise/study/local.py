"""Runs a study on this machine: processes, several at a time on cores of their own."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from math import inf
from pathlib import Path
from typing import NoReturn

from jaxnoise.study.clock import Clock
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.plan import PlannedRun

_POLL_SECONDS = 1.0
_LINE_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
# A closed terminal asks to stop as well.
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Piece = Sequence[int]
"""Indices in the plan of the runs that one process makes."""
Command = Callable[[Piece], list[str]]
"""`a piece -> the arguments of jaxnoise that make it`."""


def available_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@dataclass
class _Job:
    """A process under way."""

    name: str
    runs: Sequence[PlannedRun]
    process: subprocess.Popen[bytes]
    cores: list[int]
    log: Path
    logged: int
    last_line: float = field(default_factory=time.monotonic)


def run_all(
    folder: StudyFolder,
    runs: Sequence[PlannedRun],
    pieces: Sequence[Piece],
    command: Command,
    jobs: int,
    seconds: float = inf,
    after_each: Callable[[], None] = lambda: None,
) -> list[str]:
    """Makes every run that is not finished; a run that fails does not stop the others.

    SIGINT and SIGTERM reach the runs, which save their state; the same command goes on from there.

    Args:
      folder: of the study.
      runs: the plan.
      pieces: which of its runs one process makes, in the order in which they are made.
      command: makes a piece.
      jobs: how many pieces at a time, at least 1; cores are shared out between them.
      seconds: after which the runs are stopped; they save their state.
      after_each: called whenever a piece is finished.

    Returns:
      Names of the pieces that failed.

    Raises:
      KeyboardInterrupt: it was asked to stop.
    """
    waiting = unfinished(folder, runs, pieces)
    cores = available_cores()
    share = max(1, len(cores) // jobs)
    free = [cores[i * share : (i + 1) * share] for i in range(min(jobs, len(cores)))]
    clock, failed = Clock(folder, runs, [runs[i] for piece in waiting for i in piece]), []
    active: list[_Job] = []
    told: set[str] = set()
    deadline = time.monotonic() + seconds
    with stop_asked() as asked:
        while waiting or active:
            if asked():
                _stop(active)
                raise KeyboardInterrupt
            if time.monotonic() > deadline:
                _stop(active)
                break
            ready = ready_pieces(folder, runs, waiting)
            if not ready and not active:
                failed += without_first(runs, waiting)
                break
            while ready and free:
                piece = ready.pop(0)
                if any(folder.is_busy(runs[i]) for i in piece):
                    name = name_of([runs[i] for i in piece])
                    if name not in told:
                        say(f"{name}: waits for another process that is at work in its folder")
                        told.add(name)
                    continue
                own = free.pop(0)
                waiting.remove(piece)
                active.append(_started(folder, [runs[i] for i in piece], command(piece), own))
                say(f"{active[-1].name}: started on cores {', '.join(map(str, own))}")
            time.sleep(_POLL_SECONDS)
            for job in list(active):
                if job.process.poll() is None:
                    if time.monotonic() - job.last_line > _LINE_SECONDS:
                        job.last_line = time.monotonic()
                        done = min(folder.steps_done(planned) for planned in job.runs)
                        steps = job.runs[0].run.train.last_step
                        say(f"{job.name}: step {done:,} of {steps:,}, {clock.left()}")
                    continue
                active.remove(job)
                free.append(job.cores)
                if job.process.returncode:
                    name = name_of([run for run in job.runs if not folder.is_finished(run)])
                    failed.append(name)
                    why = why_failed(job.log, job.logged, job.process.returncode)
                    say(f"{name}: failed: {why} ({job.log})")
                else:
                    say(f"{job.name}: finished, {clock.left()}")
                    after_each()
    return failed


def unfinished(
    folder: StudyFolder, runs: Sequence[PlannedRun], pieces: Sequence[Piece]
) -> list[Piece]:
    """What is left of the pieces; says how much that is."""
    left = [[i for i in piece if folder.is_wanted(runs[i], runs)] for piece in pieces]
    done, open_runs = sum(map(folder.is_finished, runs)), sum(map(len, left))
    unneeded = len(runs) - done - open_runs
    rest = f", {unneeded} are not needed" if unneeded else ""
    say(f"{done} of {len(runs)} runs are finished{rest}")
    return [piece for piece in left if piece]


def ready_pieces(
    folder: StudyFolder, runs: Sequence[PlannedRun], waiting: Sequence[Piece]
) -> list[Piece]:
    """The pieces that wait for no run whose files they read."""
    return [piece for piece in waiting if all(folder.is_ready(runs[i], runs) for i in piece)]


def without_first(runs: Sequence[PlannedRun], pieces: Sequence[Piece]) -> list[str]:
    """Names of pieces that cannot be made, since runs that come first have failed; says so."""
    names = [name_of([runs[i] for i in piece]) for piece in pieces]
    for name in names:
        say(f"{name}: not made: runs that come first have failed")
    return names


def name_of(planned: Sequence[PlannedRun]) -> str:
    """What messages call the runs of a piece, or those of it that are left."""
    if not planned:
        return "runs that are finished"
    further = f" and {len(planned) - 1} further seeds" if len(planned) > 1 else ""
    return planned[0].name + further


def say(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr, flush=True)


def program(
    cores: Sequence[int], parent: int, orphaned: signal.Signals = signal.SIGTERM
) -> list[str]:
    """What starts a process that makes runs; the arguments of jaxnoise follow.

    Args:
      cores: that it may use; none for all.
      parent: the process that starts it.
      orphaned: the signal that it gets where its parent dies.
    """
    call = f"begin({list(cores)}, {parent}, {int(orphaned)})"
    return [sys.executable, "-c", f"from jaxnoise.study.local import begin; {call}"]


def _started(
    folder: StudyFolder, planned: Sequence[PlannedRun], arguments: list[str], cores: list[int]
) -> _Job:
    root = folder.run_folder(planned[0]).root
    root.mkdir(parents=True, exist_ok=True)
    log = root / "log.txt"
    with log.open("ab") as output:
        logged = output.tell()
        process = subprocess.Popen(
            [*program(cores, os.getpid()), *arguments],
            stdout=output,
            stderr=output,
            # Its own group: a signal from the terminal is passed on once.
            start_new_session=True,
        )
    return _Job(name_of(planned), planned, process, cores, log, logged)


def why_failed(log: Path, logged: int, code: int) -> str:
    """The last error that a log tells of, or its last line, after the signal that ended it.

    Args:
      log: of a process; earlier ones may have written to it.
      logged: its size in bytes when the process began.
      code: the process's exit code; below 0 for a signal.
    """
    # A task of a cluster may end before it has written any.
    said_there = log.read_bytes()[logged:] if log.exists() else b""
    lines = said_there.decode(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    said = (errors or lines or ["without a word"])[-1]
    return f"ended by signal {-code}: {said}" if code < 0 else said


def begin(cores: list[int], parent: int, orphaned: int) -> NoReturn:
    """What a process of `program` does: on its cores, and stopping where its parent dies."""
    if cores and hasattr(os, "sched_setaffinity"):
        # Before any device is asked for: its threads take these cores over.
        os.sched_setaffinity(0, cores)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, orphaned)
        if os.getppid() != parent:
            raise SystemExit(143)
    main = import_module("jaxnoise.cli").main
    raise SystemExit(main())


@contextlib.contextmanager
def stop_asked() -> Iterator[Callable[[], bool]]:
    """Turns signals that ask to stop into a question."""
    asked = threading.Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in _STOP}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(active: list[_Job]) -> None:
    """Asks the runs to stop, and waits for them."""
    say("stopping: the runs save their state")
    for job in active:
        job.process.terminate()
    for job in active:
        job.process.wait()
