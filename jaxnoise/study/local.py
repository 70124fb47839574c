"""Runs a study on this machine: a process for each run, several at a time on cores of their own."""

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
from pathlib import Path
from typing import NoReturn

from jaxnoise.errors import ConfigError
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.plan import PlannedRun

_POLL_SECONDS = 1.0
_LINE_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1
# A closed terminal asks to stop as well.
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Command = Callable[[int], list[str]]
"""`index of a run in the plan -> the arguments of jaxnoise that make this run`."""


def available_cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@dataclass
class _Job:
    """A run under way."""

    planned: PlannedRun
    process: subprocess.Popen[bytes]
    cores: list[int]
    log: Path
    last_line: float = field(default_factory=time.monotonic)


class _Clock:
    """How long what is left will take, from the steps made since it was started."""

    def __init__(self, folder: StudyFolder, runs: Sequence[PlannedRun]):
        self._folder, self._runs = folder, runs
        self._start, self._before = time.monotonic(), self._done()

    def _done(self) -> int:
        return sum(
            planned.run.train.steps
            if self._folder.result(planned)
            else self._folder.steps_done(planned)
            for planned in self._runs
        )

    def left(self) -> str:
        """Such as "about 1 h 20 min left"."""
        total, done = sum(p.run.train.steps for p in self._runs), self._done()
        if done <= self._before:
            return "time left unknown"
        rate = (done - self._before) / (time.monotonic() - self._start)
        minutes = round((total - done) / rate / 60)
        hours, minutes = divmod(minutes, 60)
        return f"about {f'{hours} h ' if hours else ''}{minutes} min left"


def run_all(
    folder: StudyFolder, runs: Sequence[PlannedRun], command: Command, jobs: int
) -> list[str]:
    """Makes every run that is not finished; a run that fails does not stop the others.

    SIGINT and SIGTERM reach the runs, which save their state; the same command goes on from there.

    Args:
      folder: of the study.
      runs: the plan, in the order in which they are made.
      command: makes one run of the plan.
      jobs: how many runs at a time, at least 1; cores are shared out between them.

    Returns:
      Names of the runs that failed.

    Raises:
      KeyboardInterrupt: it was asked to stop.
    """
    waiting = [i for i, planned in enumerate(runs) if folder.result(planned) is None]
    say(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished")
    cores = available_cores()
    share = max(1, len(cores) // jobs)
    free = [cores[i * share : (i + 1) * share] for i in range(min(jobs, len(cores)))]
    clock, failed = _Clock(folder, runs), []
    active: list[_Job] = []
    with _stop_asked() as asked:
        while waiting or active:
            if asked():
                _stop(active)
                raise KeyboardInterrupt
            while waiting and free:
                index, own = waiting.pop(0), free.pop(0)
                active.append(_started(folder, runs[index], command(index), own))
                say(f"{runs[index].name}: started on cores {', '.join(map(str, own))}")
            time.sleep(_POLL_SECONDS)
            for job in list(active):
                steps = job.planned.run.train.steps
                if job.process.poll() is None:
                    if time.monotonic() - job.last_line > _LINE_SECONDS:
                        job.last_line = time.monotonic()
                        done = folder.steps_done(job.planned)
                        say(f"{job.planned.name}: step {done:,} of {steps:,}, {clock.left()}")
                    continue
                active.remove(job)
                free.append(job.cores)
                if job.process.returncode:
                    failed.append(job.planned.name)
                    say(f"{job.planned.name}: failed: {_last_line(job.log)} ({job.log})")
                else:
                    say(f"{job.planned.name}: finished, {clock.left()}")
    return failed


def say(line: str) -> None:
    """One line on standard error."""
    print(line, file=sys.stderr, flush=True)


def _started(
    folder: StudyFolder, planned: PlannedRun, arguments: list[str], cores: list[int]
) -> _Job:
    root = folder.run_folder(planned).root
    root.mkdir(parents=True, exist_ok=True)
    log = root / "log.txt"
    program = f"from jaxnoise.study.local import begin; begin({cores}, {os.getpid()})"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=output,
            stderr=output,
            # Its own group: a signal from the terminal is passed on once.
            start_new_session=True,
        )
    return _Job(planned, process, cores, log)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() or ["without a word"]
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else lines[-1]


def begin(cores: list[int], parent: int) -> NoReturn:
    """What a run's process does: on its cores, and stopping where the study's process dies."""
    if hasattr(os, "sched_setaffinity"):
        # Before any device is asked for: its threads take these cores over.
        os.sched_setaffinity(0, cores)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            raise SystemExit(143)
    main = import_module("jaxnoise.cli").main
    raise SystemExit(main())


@contextlib.contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
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


def checked_index(index: int, runs: Sequence[PlannedRun]) -> PlannedRun:
    """The run of an index, counted from 0.

    Raises:
      ConfigError: no such run.
    """
    if not 0 <= index < len(runs):
        raise ConfigError(f"--index={index}: must be from 0 to {len(runs) - 1}")
    return runs[index]
