"""A progress bar on a terminal; a line now and then anywhere else."""

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

from jaxnoise.errors import ArgumentError


class _Bar(tqdm):
    """tqdm's bar in images instead of steps."""

    # Without this, tqdm starts a thread that outlives the bar.
    monitor_interval = 0
    # Class attributes, because tqdm draws the bar before its constructor returns.
    batch = 1
    loss = "–"

    @property
    def format_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = super().format_dict
        rate = values["rate"]
        if not rate and values["elapsed"] > 0:
            rate = (self.n - self.initial) / values["elapsed"]
        return {**values, "images": f"{(rate or 0) * self.batch:,.0f}", "loss": self.loss}


class Progress:
    """Steps done, images per second, loss and time left, on standard error.

    On a terminal this is a bar that redraws itself. Anywhere else (a log file, a pipe) it is a
    plain line at most every `interval` seconds, and one at the end. Leaving the `with` block
    finishes the bar's line, also when an exception leaves it, so that a traceback starts on a line
    of its own.

    Args:
      total_steps: steps of the whole run, at least 1.
      batch: images in a step, at least 1.
      initial_step: steps done before, in 0..total_steps; they do not count for the rate.
      stream: where to write; standard error by default.
      interval: least time between two lines off a terminal, in seconds.
      clock: monotonic seconds; another one makes tests exact.

    Raises:
      ArgumentError: an argument outside its range.

    Example:
      >>> import sys
      >>> from jaxnoise.training.progress import Progress
      >>> clock = iter([0.0, 4.0, 8.0]).__next__
      >>> with Progress(total_steps=2, batch=8, stream=sys.stdout, clock=clock) as progress:
      ...     progress.update(1, loss=0.5)
      ...     progress.update(2, loss=0.25)
      step 2/2 (100%), 2 images/s, loss 0.25, 00:00 left
    """

    def __init__(
        self,
        total_steps: int,
        batch: int,
        initial_step: int = 0,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        if total_steps < 1:
            raise ArgumentError("total_steps", total_steps, "at least 1")
        if batch < 1:
            raise ArgumentError("batch", batch, "at least 1")
        if not 0 <= initial_step <= total_steps:
            raise ArgumentError("initial_step", initial_step, f"in 0..{total_steps}")
        self._total, self._batch = total_steps, batch
        self._stream = stream or sys.stderr
        self._interval, self._clock = interval, clock
        self._step = self._line_step = initial_step
        self._line_time = clock()
        self._loss = float("nan")
        self._bar: _Bar | None = None
        if self._stream.isatty():
            size = shutil.get_terminal_size()
            self._bar = _Bar(
                total=total_steps,
                initial=initial_step,
                file=self._stream,
                # tqdm draws nothing on a terminal that reports no size; this falls back to 80 x 24.
                ncols=size.columns,
                nrows=size.lines,
                # Only the time decides on a redraw: the first steps compile and tell nothing.
                miniters=1,
                mininterval=0.2,
                bar_format="{n_fmt}/{total_fmt} |{bar}| {images} images/s, loss {loss}, "
                "{remaining} left",
            )
            self._bar.batch = batch

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def update(self, step: int, loss: float) -> None:
        """Shows that `step` steps are done and what the loss of the last one was.

        Args:
          step: steps done so far, counted from the start of the run.
          loss: a Python float: a device array would make the loop wait for the device.
        """
        self._step, self._loss = step, loss
        if self._bar is not None:
            self._bar.loss = f"{loss:.4g}"
            self._bar.update(step - self._bar.n)
            return
        now = self._clock()
        if step >= self._total or now - self._line_time >= self._interval:
            self._write_line(now)

    def close(self) -> None:
        """Finishes the bar or writes the last line; a second call does nothing."""
        if self._bar is not None:
            self._bar.close()
        elif self._step > self._line_step:
            self._write_line(self._clock())

    def _write_line(self, now: float) -> None:
        rate = (self._step - self._line_step) / max(now - self._line_time, 1e-9)
        left = tqdm.format_interval((self._total - self._step) / rate) if rate > 0 else "?"
        print(
            f"step {self._step:,}/{self._total:,} ({self._step / self._total:.0%}), "
            f"{rate * self._batch:,.0f} images/s, loss {self._loss:.4g}, {left} left",
            file=self._stream,
            flush=True,
        )
        self._line_step, self._line_time = self._step, now
