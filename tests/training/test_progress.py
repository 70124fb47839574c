"""The progress display: a bar on a terminal, sparse lines elsewhere, whole lines always."""

import io
import re
import threading
from collections.abc import Callable

import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def seconds_per_call(seconds: float) -> Callable[[], float]:
    """A clock that advances by a fixed time whenever it is read."""
    now = [0.0]

    def clock() -> float:
        now[0] += seconds
        return now[0]

    return clock


def test_a_file_gets_a_line_at_most_every_interval_and_one_at_the_end() -> None:
    stream = io.StringIO()
    with Progress(100, 32, stream=stream, clock=seconds_per_call(1.0)) as progress:
        for step in range(1, 26):
            progress.update(step, loss=1 / step)
    # One step a second: lines after 10 and 20 s, and one on leaving, after 26 s for 5 steps.
    assert stream.getvalue().splitlines() == [
        "step 10/100 (10%), 32 images/s, loss 0.1, 01:30 left",
        "step 20/100 (20%), 32 images/s, loss 0.05, 01:20 left",
        "step 25/100 (25%), 27 images/s, loss 0.04, 01:30 left",
    ]


def test_the_last_step_writes_one_line() -> None:
    stream = io.StringIO()
    with Progress(3, 8, stream=stream, clock=seconds_per_call(2.0)) as progress:
        for step in (1, 2, 3):
            progress.update(step, loss=0.5)
    assert stream.getvalue() == "step 3/3 (100%), 4 images/s, loss 0.5, 00:00 left\n"


def test_a_resumed_run_counts_only_its_own_steps() -> None:
    stream = io.StringIO()
    clock = seconds_per_call(5.0)
    with Progress(2_000, 10, initial_step=1_000, stream=stream, clock=clock) as progress:
        progress.update(1_010, loss=0.25)
        progress.update(1_020, loss=0.25)
    # 20 steps of 10 images in 10 seconds.
    assert stream.getvalue().startswith("step 1,020/2,000 (51%), 20 images/s, loss 0.25, 08:10")


def test_nothing_done_writes_nothing() -> None:
    stream = io.StringIO()
    Progress(5, 1, initial_step=5, stream=stream).close()
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_on_one_line() -> None:
    stream = Terminal()
    with Progress(4, 8, stream=stream) as progress:
        for step in (1, 2, 3, 4):
            progress.update(step, loss=0.125)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    last = text.rstrip("\n").split("\r")[-1]
    bar = re.fullmatch(r"4/4 \|[█#]+\| ([\d,]+) images/s, loss 0\.125, 00:00 left", last)
    assert bar, last
    assert int(bar[1].replace(",", "")) > 0


def test_the_rate_of_the_bar_is_in_images_of_this_run() -> None:
    stream = Terminal()
    with Progress(1_000, 64, initial_step=900, stream=stream) as progress:
        assert progress._bar is not None
        progress._bar.start_t -= 10
        progress._bar.n = 920
        # 20 steps of 64 images in 10 seconds.
        assert abs(int(progress._bar.format_dict["images"]) - 128) <= 1


@pytest.mark.parametrize("stream_class", [Terminal, io.StringIO])
def test_an_exception_leaves_whole_lines(stream_class: type[io.StringIO]) -> None:
    stream = stream_class()
    progress = Progress(10, 1, stream=stream)

    def diverge() -> None:
        with progress:
            progress.update(3, loss=2.0)
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        diverge()
    text = stream.getvalue()
    assert text.endswith("\n")
    assert "3/10" in text
    assert "loss 2" in text
    progress.close()
    assert stream.getvalue() == text


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1, 1) as progress:
        progress.update(1, loss=0.5)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("step 1/1 (100%), ")


def test_no_thread_stays_behind() -> None:
    before = set(threading.enumerate())
    with Progress(2, 1, stream=Terminal()) as progress:
        progress.update(1, loss=0.5)
        assert set(threading.enumerate()) <= before


@pytest.mark.parametrize(
    "arguments, named",
    [((0, 1), "total_steps"), ((1, 0), "batch"), ((5, 1, 6), "initial_step")],
)
def test_bad_arguments_are_named(arguments: tuple, named: str) -> None:
    with pytest.raises(ArgumentError) as error:
        Progress(*arguments)
    assert error.value.argument == named
