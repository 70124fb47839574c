"""Processes of a study on this machine; what they would train is left out."""

import threading
import time

import pytest
from study import small_study

from jaxnoise.files import exclusive
from jaxnoise.study import local, planned_runs
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
