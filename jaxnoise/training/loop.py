"""The training loop: dispatches steps, watches for non-finite numbers, and says when to record."""

import contextlib
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxnoise.errors import ArgumentError, NonFiniteError
from jaxnoise.noise.bands import BAND_NAMES
from jaxnoise.training.drawing import Batch
from jaxnoise.training.feeding import Feeder
from jaxnoise.training.parallel import Step
from jaxnoise.training.state import State
from jaxnoise.training.step import Metrics

State_ = TypeVar("State_", contravariant=True)

IN_FLIGHT = 2
"""Dispatches under way at once: enough to keep a device busy, few enough to stop soon."""


class Interrupted(RuntimeError):  # noqa: N818
    """The run was asked to stop; its state was saved first, and its newest checkpoint is named."""


class Observer(Protocol[State_]):
    """What the loop tells the outside world."""

    def progress(self, step: int, loss: float) -> None:
        """`step` updates are done."""

    def log(self, row: dict[str, Any]) -> None:
        """One row of means since the last one."""

    def sample(self, state: State_, step: int) -> None:
        """It is time for pictures."""

    def evaluate(self, state: State_, step: int) -> None:
        """It is time for a score."""

    def save(self, state: State_, step: int) -> None:
        """It is time for a checkpoint; raises NonFiniteError where `check` does."""

    def check(self, state: State_, step: int) -> None:
        """Raises NonFiniteError unless the numbers that training goes on from are finite."""

    def last_good(self) -> str:
        """Names the newest checkpoint, once what is under way is written; it never raises."""


@dataclass(frozen=True)
class Rhythm:
    """When a run records: numbers of steps, all multiples of `steps_per_dispatch`; 0 is never.

    Attributes:
      steps: of the whole run.
      batch: images per step.
      steps_per_dispatch: steps that one call makes.
      log_every: steps between rows of means.
      sample_every: steps between pictures.
      checkpoint_every: steps between checkpoints.
      evaluate_every: steps between scores.
      runs: how many one program trains together; the images per second are those of all.
    """

    steps: int
    batch: int
    steps_per_dispatch: int
    log_every: int
    sample_every: int
    checkpoint_every: int
    evaluate_every: int = 0
    runs: int = 1


class Clock:
    """Seconds of training: what recording takes stops it, for all runs that train together."""

    def __init__(self) -> None:
        self._recorded = 0.0

    def now(self) -> float:
        """Seconds since some start."""
        return time.monotonic() - self._recorded

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count as training."""
        start = time.monotonic()
        yield
        self._recorded += time.monotonic() - start


def train(
    state: State,
    dispatch: Step[State],
    feeder: Feeder,
    key: jax.Array,
    rhythm: Rhythm,
    observer: Observer[State],
) -> State:
    """Trains from `state.step` to `rhythm.steps`.

    Args:
      state: where to start; donated.
      dispatch: `(state, batch, key) -> (state, metrics)`, `rhythm.steps_per_dispatch` steps.
      feeder: step -> batch.
      key: PRNG key of the run.
      rhythm: when to record.
      observer: where to record.

    Returns:
      The state after the last step.

    Raises:
      ArgumentError: `state.step` or `rhythm.steps` is no multiple of `rhythm.steps_per_dispatch`,
        so that dispatches would never meet a step to record at.
      NonFiniteError: a loss or gradient norm is not finite; names the step, the noise levels and
        the last good checkpoint. Or a state that would be saved, scored or shown is not.
      Interrupted: SIGTERM or SIGINT arrived; the open row was written and the state saved. A run
        that goes on from it has the states of one that was not stopped, bit for bit, on the same
        devices; of its rows, the one that the stop cut is two, each a mean of its own steps.
      Exception: of the feeder, or of a row, a picture or a score, as it was raised; where one
        process trains, the state was saved, and a note on the error names the checkpoint.
    """
    with stop_requested() as stopping:
        steps = training_steps(state, feeder, rhythm, observer, stopping)
        try:
            given = next(steps)
            while True:
                given = steps.send(dispatch(*given, key))
        except StopIteration as end:
            last: State = end.value
            return last


def training_steps(
    state: State,
    feeder: Feeder,
    rhythm: Rhythm,
    observer: Observer[State],
    stopping: Callable[[], bool],
    clock: Clock | None = None,
) -> Generator[tuple[State, Batch], tuple[State, Metrics], State]:
    """`train` without its dispatches: gives a state and a batch, and is sent what came of them.

    Args:
      state: where to start.
      feeder: step -> batch.
      rhythm: when to record.
      observer: where to record.
      stopping: whether the run was asked to stop.

    Raises:
      Exception: as `train`.
    """
    # Several CPU processes hang in their collectives unless each step is waited for.
    in_flight = 0 if jax.process_count() > 1 and jax.default_backend() == "cpu" else IN_FLIGHT
    saved = step = int(state.step)
    if step < rhythm.steps:
        _check_met(step, rhythm)
    pending: deque[tuple[int, Any]] = deque()
    window = Window(rhythm.batch, rhythm.runs, clock)

    def due(every: int) -> bool:
        return every > 0 and step % every == 0

    def settle(most: int) -> None:
        while len(pending) > most:
            first, metrics = pending.popleft()
            host = {name: np.asarray(value) for name, value in metrics.items()}
            check_finite(first, host, observer.last_good)
            window.add(host)
            observer.progress(first + rhythm.steps_per_dispatch, float(host["loss"][-1]))

    @contextlib.contextmanager
    def rescued() -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # With several processes a save is collective, and this one may be alone in failing.
            if step > saved and jax.process_count() == 1:
                settle(0)
                # A row that cannot be written must not keep the state from being saved.
                with contextlib.suppress(OSError):
                    if not window.empty:
                        observer.log(window.row(step))
                try:
                    observer.save(state, step)
                except OSError as unsaved:
                    error.add_note(str(unsaved))
                error.add_note(f"last good checkpoint: {observer.last_good()}")
            raise

    while step < rhythm.steps:
        with rescued():
            batch = feeder(step)
        state, metrics = yield state, batch
        pending.append((step, metrics))
        step += rhythm.steps_per_dispatch
        last = step == rhythm.steps
        settle(in_flight)
        stop = stopping() if jax.process_count() == 1 else False
        if jax.process_count() > 1 and due(rhythm.log_every):
            # A save is collective: all processes must stop at the same step.
            stop = bool(multihost_utils.process_allgather(np.array(stopping())).any())
        if due(rhythm.log_every) or last or stop:
            settle(0)
            with rescued():
                observer.log(window.row(step))
        saves = due(rhythm.checkpoint_every) or last or stop
        scores = due(rhythm.evaluate_every)
        samples = due(rhythm.sample_every) or last
        if saves or scores or samples:
            settle(0)
            with window.paused():
                if saves:
                    observer.save(state, step)
                    saved = step
                else:
                    observer.check(state, step)
                # After the last step, and after a stop, they are made up.
                if scores and not (last or stop):
                    with rescued():
                        observer.evaluate(state, step)
                if samples:
                    with rescued():
                        observer.sample(state, step)
        if stop:
            raise Interrupted(
                f"stopped at step {step}; last good checkpoint: {observer.last_good()}"
            )
    return state


def _check_met(step: int, rhythm: Rhythm) -> None:
    stride = rhythm.steps_per_dispatch
    every = ("log_every", "sample_every", "checkpoint_every", "evaluate_every")
    asked = {f"rhythm.{name}": getattr(rhythm, name) for name in ("steps", *every)}
    for name, value in {"state.step": step, **asked}.items():
        if value % stride:
            raise ArgumentError(name, value, f"a multiple of rhythm.steps_per_dispatch={stride}")


class Window:
    """Means over the steps since the last row; of counts the last.

    By noise band, means are over examples, None where a band was empty: of "band_sum" as
    `loss_band`, of "band_sums/<name>" as <name>_mean. From these, or a mean of 0, and
    "band_squares/<name>" comes <name>_std.
    """

    def __init__(self, batch: int, runs: int = 1, clock: Clock | None = None):
        self._batch, self._runs, self._clock = batch, runs, clock or Clock()
        self.paused = self._clock.paused
        self._clear()

    def _clear(self) -> None:
        self._steps: list[dict[str, np.ndarray]] = []
        self._since = self._clock.now()

    @property
    def empty(self) -> bool:
        """Whether no step was added since the last row."""
        return not self._steps

    def add(self, metrics: dict[str, np.ndarray]) -> None:
        """Adds the metrics of some steps, each with a leading axis [steps]."""
        self._steps.append(metrics)

    def row(self, step: int) -> dict[str, Any]:
        """The row that ends at `step`; the next window starts."""
        seconds = self._clock.now() - self._since
        merged = {
            name: np.concatenate([part[name] for part in self._steps]) for name in self._steps[0]
        }
        count = len(merged["loss"])
        band_sum, band_count = merged.pop("band_sum").sum(0), merged.pop("band_count").sum(0)
        merged.pop("nonfinite_sigma")
        row: dict[str, Any] = {
            "step": step,
            "images_seen": step * self._batch,
            "images_per_second": round(count * self._batch * self._runs / max(seconds, 1e-9), 1),
            "loss": float(merged.pop("loss").mean()),
            "grad_norm": float(merged.pop("grad_norm").mean()),
        }
        for name, values in merged.items():
            kind, _, of = name.partition("/")
            if kind == "band_sums":
                row |= _by_band(f"{of}_mean", values.sum(0), band_count)
            elif kind == "band_squares":
                sums = merged.get(f"band_sums/{of}", np.zeros_like(values)).sum(0)
                spread = values.sum(0) - sums**2 / np.maximum(band_count, 1)
                row |= _by_band(f"{of}_std", np.maximum(spread, 0), band_count, root=True)
            else:
                row[name] = int(values[-1]) if _is_count(values) else float(values.mean())
        row |= _by_band("loss_band", band_sum, band_count)
        self._clear()
        return row


def _by_band(
    name: str, totals: np.ndarray, counts: np.ndarray, *, root: bool = False
) -> dict[str, float | None]:
    means = [total / count if count else None for total, count in zip(totals, counts, strict=True)]
    return {
        f"{name}/{band}": None if mean is None else float(np.sqrt(mean) if root else mean)
        for band, mean in zip(BAND_NAMES, means, strict=True)
    }


def _is_count(values: np.ndarray) -> bool:
    return np.issubdtype(values.dtype, np.integer)


def check_finite(first: int, metrics: dict[str, np.ndarray], last_good: Callable[[], str]) -> None:
    """Raises NonFiniteError if any step's loss or gradient norm is not finite.

    Args:
      first: the step of the first entry.
      metrics: of consecutive steps, each with a leading axis [steps].
      last_good: names the newest checkpoint.
    """
    bad = ~(np.isfinite(metrics["loss"]) & np.isfinite(metrics["grad_norm"]))
    if not bad.any():
        return
    i = int(np.argmax(bad))
    low, high = metrics["nonfinite_sigma"][i]
    where = (
        f"at noise levels sigma {low:.4g} to {high:.4g}"
        if low <= high
        else "though every example's loss is finite"
    )
    extra = "".join(
        f", {name} {metrics[name][i]}"
        for name in metrics
        if metrics[name].ndim == 1 and name not in ("loss", "grad_norm")
    )
    raise NonFiniteError(
        f"step {first + i}: loss {metrics['loss'][i]}, gradient norm {metrics['grad_norm'][i]} "
        f"{where}{extra}; last good checkpoint: {last_good()}"
    )


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM and SIGINT into a question that the loop asks after each dispatch."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(signum: int, frame: FrameType | None) -> None:
        del frame
        if asked.is_set() and signum == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    before = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
