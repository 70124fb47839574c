"""Processes of a study on this machine; what they would train is left out."""

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from study import small_study

from jaxnoise.files import exclusive
from jaxnoise.study import local, on_ray, planned_runs
from jaxnoise.study.folder import StudyFolder


def test_why_a_run_failed_is_told_by_what_it_said_itself(tmp_path):
    """Not by what was said before it was begun again."""
    log = tmp_path / "log.txt"
    log.write_text("error: stopped at step 33\n")
    logged = log.stat().st_size
    assert local.why_failed(log, logged, -9) == "ended by signal 9: without a word"
    with log.open("a") as more:
        more.write("error: one\nRESOURCE_EXHAUSTED\n")
    assert local.why_failed(log, logged, 1) == "error: one"
    log.write_text("error: stopped at step 33\nTraceback\nRuntimeError: out of memory\n")
    assert local.why_failed(log, logged, -6) == "ended by signal 6: RuntimeError: out of memory"


@pytest.mark.takes_a_second
def test_a_run_waits_for_what_is_at_work_in_its_folder(tmp_path, capsys):
    """As a process does that outlives its killed study until it has saved its state."""
    folder = StudyFolder(tmp_path)
    runs = planned_runs(small_study.get_study(), "smoke", tmp_path)[:2]
    root = folder.run_folder(runs[0]).root
    root.mkdir(parents=True)
    freed = []

    def at_work():
        with exclusive(root):
            held.set()
            time.sleep(3)
            freed.append(time.monotonic())

    held, other = threading.Event(), threading.Thread(target=at_work)
    other.start()
    held.wait()
    assert folder.is_busy(runs[0])
    assert not folder.is_busy(runs[1])
    started = {}

    def command(piece):
        started[piece[0]] = time.monotonic()
        return ["--version"]

    kept = []
    failed = local.run_all(
        folder, runs, [[0], [1]], command, jobs=1, after_each=lambda: kept.append(list(started))
    )
    assert failed == []
    assert kept == [[1], [1, 0]]
    other.join()
    # The free one goes first, and the other one when its folder is free, told of once.
    assert started[1] < freed[0] <= started[0]
    told = "digits/plain/seed_0: waits for another process that is at work in its folder"
    assert capsys.readouterr().err.count(told) == 1


WRITES = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('{\"steps\": 8}')"


def stubbed(folder, runs, order, fails=()):
    """What makes a piece: it writes the result that a run would leave, or fails."""

    def command(piece):
        (run,) = (runs[i] for i in piece)
        order.append(run.name)
        return ["/no/such" if run.name in fails else str(folder.run_folder(run).result)]

    return command


@pytest.mark.takes_a_second
@pytest.mark.parametrize("fails", [(), ("first/plain/seed_0",)])
def test_a_run_is_made_when_those_are_finished_that_it_reads(fails, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(local, "program", lambda *given: [sys.executable, "-c", WRITES])
    monkeypatch.setattr(local, "_POLL_SECONDS", 0.05)
    folder, order = StudyFolder(tmp_path), []
    runs = planned_runs(small_study.of_two(), "smoke", tmp_path)
    # What reads files of others is asked for first.
    pieces = [[i] for i in sorted(range(len(runs)), key=lambda i: not runs[i].after)]
    failed = local.run_all(folder, runs, pieces, stubbed(folder, runs, order, fails), jobs=2)
    made = {run.name for run in runs} - {"digits/uniform/seed_0" if fails else ""}
    assert sorted(order) == sorted(made)
    for seed in (1,) if fails else (0, 1):
        assert order.index(f"first/plain/seed_{seed}") < order.index(f"digits/uniform/seed_{seed}")
    assert failed == ([*fails, "digits/uniform/seed_0"] if fails else [])
    told = "digits/uniform/seed_0: not made: runs that come first have failed"
    assert capsys.readouterr().err.count(told) == len(fails)


def cluster(cancelled):
    """What is asked of Ray; it ends its oldest task whenever it is asked for any."""
    codes = {}

    def remote(arguments, log, workdir):
        Path(log).touch()
        task = f"task {len(codes)}"
        codes[task] = arguments[0]
        return task

    def ended(task):
        if codes[task] == "/no/such":
            return 1
        Path(codes[task]).write_text('{"steps": 8}')
        return 0

    return SimpleNamespace(
        cluster_resources=lambda: {"CPU": 2.0},
        remote=lambda **given: lambda made: SimpleNamespace(remote=remote),
        wait=lambda tasks, **given: (tasks[:1], tasks[1:]),
        get=ended,
        cancel=cancelled.append,
        exceptions=SimpleNamespace(RayError=ZeroDivisionError),
    )


@pytest.mark.parametrize("fails", [(), ("first/plain/seed_0",)])
def test_ray_gets_a_run_when_those_are_finished_that_it_reads(fails, tmp_path):
    """And waits for no other one."""
    folder, order = StudyFolder(tmp_path), []
    runs = planned_runs(small_study.of_two(), "smoke", tmp_path)
    command, pieces = stubbed(folder, runs, order, fails), [[i] for i in range(len(runs))]
    failed = on_ray._on_cluster(
        cluster([]), folder, runs, pieces, command, 2, float("inf"), lambda: None
    )
    # The first task to end lets the run begin that waits for it, beside those under way.
    begun = ["first/plain/seed_0", "digits/plain/seed_0", "first/plain/seed_1"]
    begun += ["digits/plain/seed_1"] + [
        f"digits/uniform/seed_{n}" for n in ((1,) if fails else (0, 1))
    ]
    assert order == begun
    assert failed == ([*fails, "digits/uniform/seed_0"] if fails else [])


def test_ray_is_asked_to_stop_in_time(tmp_path, capsys):
    folder, order, cancelled = StudyFolder(tmp_path), [], []
    runs = planned_runs(small_study.of_two(), "smoke", tmp_path)
    command, pieces = stubbed(folder, runs, order), [[i] for i in range(len(runs))]
    given = folder, runs, pieces, command, 2, float("-inf"), lambda: None
    assert on_ray._on_cluster(cluster(cancelled), *given) == []
    # The first has ended; those that wait for it are not begun.
    assert cancelled == ["task 1", "task 2", "task 3"]
    assert len(order) == 4
    assert "stopping: the runs save their state" in capsys.readouterr().err
