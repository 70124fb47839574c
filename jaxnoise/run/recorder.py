"""Resumes a run and records it: rows, checkpoints, pictures, costs and the progress bar."""

import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Generic

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxnoise.data.images import description
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.figures.curves import save_curves
from jaxnoise.figures.law_map import has_law, save_law_map
from jaxnoise.files import exclusive, write_whole
from jaxnoise.report import write_report
from jaxnoise.run.open import OpenRun, draw_noise, placed, warn
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.drawing import Batch
from jaxnoise.training.loop import Rhythm
from jaxnoise.training.parallel import Devices, Step
from jaxnoise.training.progress import Progress
from jaxnoise.training.records import RunFolder
from jaxnoise.training.state import State


@contextmanager
def resumed(opened: OpenRun, folder: RunFolder) -> Iterator[tuple[Any, Checkpoints]]:
    """Claims the run folder and gives the newest whole state, or the first one.

    Args:
      opened: what trains.
      folder: of the run.

    Raises:
      ConfigError: the folder holds another run, or a finished one without its checkpoints; nothing
        is written then.
    """
    lead = jax.process_index() == 0
    if opened.run.train.tensorboard:
        _event_writer()
    with ExitStack() as stack:
        if lead:
            folder.check_same(opened.run.config)
            folder.root.mkdir(parents=True, exist_ok=True)
            stack.enter_context(exclusive(folder.root))
        keep = opened.run.train.keep_checkpoints
        checkpoints = Checkpoints(folder.checkpoints, keep=keep, on_skip=warn)
        stack.callback(checkpoints.close)
        state = checkpoints.restore(
            opened.abstract_state,
            set_aside=True,
            check_meta=opened.check_meta,
        )
        if state is None and folder.result.exists():
            raise ConfigError(
                f"--workdir={folder.root}: holds a finished run, and none of its checkpoints; give "
                "another --workdir"
            )
        if lead and folder.claim(opened.run.config):
            # One that --mode=plot left may be of another config.
            folder.noise.unlink(missing_ok=True)
        if state is None:
            state = opened.first_state()
        else:
            print(f"resuming from step {int(state.step)}", file=sys.stderr, flush=True)
        if lead:
            if kept := folder.rewind(int(state.step)):
                warn(f"rows that no checkpoint goes on from are kept in {kept}")
            folder.describe_data(description(opened.images))
        yield state, checkpoints


def rhythm_of(opened: OpenRun, evaluate_every: int, first_step: int) -> Rhythm:
    """When a run records that goes on from `first_step`; on a CPU one step is one dispatch.

    What was stopped there may stand between two dispatches. Dispatches are then of as many steps as
    divide both, one program that still meets every step to record at; a line says so.
    """
    settings = opened.run.train
    asked = 1 if jax.default_backend() == "cpu" else settings.steps_per_dispatch
    stride = math.gcd(asked, first_step)
    if stride < asked and first_step < settings.last_step:
        warn(
            f"step {first_step} is no multiple of config.train.steps_per_dispatch={asked}: until "
            f"this run ends or is stopped, a dispatch makes {stride}"
        )
    return Rhythm(
        steps=settings.last_step,
        batch=opened.run.images_per_step,
        steps_per_dispatch=stride,
        log_every=settings.log_every,
        sample_every=settings.sample_every,
        checkpoint_every=settings.checkpoint_every,
        evaluate_every=evaluate_every,
    )


def operations(opened: OpenRun, step: Step[State], *batch: int) -> float | None:
    """Floating-point operations of a whole step, as XLA counts them before it optimises.

    They are those of one device that makes the whole step, so that runs compare whatever they run
    on.

    Args:
      opened: whose images and devices they are.
      step: the per-device step.
      *batch: the axes of a batch's images before those of one image, the GLOBAL batch first.

    Returns:
      The count, or None where the platform has none or several processes share the step.
    """
    if jax.process_count() > 1:
        return None
    devices, images = Devices("pmap", 1), opened.images
    axes = (1, 1, *batch)
    shape: Any = jax.ShapeDtypeStruct
    given = Batch(
        index=None,
        images=shape((*axes, *images.image_shape), images.dtype),
        labels=shape(axes, jnp.int32),
    )
    mapped: Any = devices.map(step, 1, resident=False)
    lowered = mapped.lower(placed(opened.abstract_state, devices), given, opened.key)
    return (lowered.cost_analysis() or {}).get("flops")


def write_cost(folder: RunFolder, cost: dict[str, float], devices: Devices) -> None:
    """Writes cost.json: what a step costs, and on which devices the run ended."""
    if jax.process_index() == 0:
        text = json.dumps({**cost, "devices": devices.description}, indent=2)
        write_whole(folder.cost, text + "\n")


def check_kept(folder: RunFolder, step: int) -> None:
    """Raises OSError unless a run's last state is in its folder, before its score is."""
    if jax.process_index() == 0 and step not in Checkpoints(folder.checkpoints).steps():
        raise OSError(
            f"--workdir={folder.root}: holds no checkpoint of the last step, {step}, which could "
            "not be written; the same command makes the steps since the one before again"
        )


def make_up(
    recorder: "Recorder[State]", folder: RunFolder, state: State, rhythm: Rhythm, key: str
) -> None:
    """Records of the step that a run was stopped at what was due there and is missing.

    Args:
      recorder: takes the score or probe, and draws.
      folder: of the run.
      state: that the run goes on from, or its last.
      rhythm: when what is due.
      key: what every row of a score or probe holds.
    """
    step = int(state.step)
    if step == 0:
        return
    last = step >= rhythm.steps
    # That of the last step is taken when the run is reported.
    scored = rhythm.evaluate_every and step % rhythm.evaluate_every == 0 and not last
    if scored and not agreed(has_row(folder, step, key)):
        recorder.evaluate(state, step)
    if last or step % rhythm.sample_every == 0:
        recorder.draw_noise()
        recorder.make_up_pictures(state, step)


def agreed(found: bool) -> bool:
    """What process 0 found in the run folder: what follows may be collective."""
    if jax.process_count() == 1:
        return found
    return bool(multihost_utils.broadcast_one_to_all(np.array(found)))


def has_row(folder: RunFolder, step: int, key: str) -> bool:
    """Whether a row of metrics.jsonl after so many steps holds a key."""
    return any(row["step"] == step and key in row for row in folder.rows())


def _event_writer() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "config.train.tensorboard=True: needs pip install -e '.[tensorboard]'"
        ) from error
    return SummaryWriter


class Recorder(ABC, Generic[State]):
    """Writes rows and checkpoints into the run folder and draws the progress bar."""

    def __init__(
        self, opened: OpenRun, folder: RunFolder, checkpoints: Checkpoints, first_step: int
    ):
        self._opened = opened
        self._folder = folder
        self._checkpoints = checkpoints
        self._lead = jax.process_index() == 0
        self._noise_tried = False
        run = opened.run
        settings = run.train
        self._events = (
            self._open_events(folder, first_step) if settings.tensorboard and self._lead else None
        )
        self._bar = (
            Progress(
                settings.last_step,
                run.images_per_step,
                # A run whose train.further_steps were taken back stands behind its end.
                initial_step=min(first_step, settings.last_step),
            )
            if self._lead
            else None
        )

    def __enter__(self) -> "Recorder[State]":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            with suppress(OSError):
                self._bar.close()
        if self._events:
            self._events.close()

    @staticmethod
    def _open_events(folder: RunFolder, first_step: int) -> Any:
        # What a run makes again that was killed would be there twice.
        after = first_step + 1 if first_step else None
        return _event_writer()(str(folder.root / "tensorboard"), purge_step=after)

    def progress(self, step: int, loss: float) -> None:
        """Moves the bar; draws the noise once the first step is made."""
        if self._bar:
            # A line that nobody can read any more is no reason to end a training.
            with suppress(OSError):
                self._bar.update(step, loss=loss)
        self.draw_noise()

    def log(self, row: dict[str, Any]) -> None:
        """Adds a row to metrics.jsonl."""
        if self._lead:
            self._folder.append(row)
        if self._events:
            for name, value in row.items():
                if value is not None:
                    self._events.add_scalar(name, value, row["step"])

    @abstractmethod
    def evaluate(self, state: State, step: int) -> None:
        """Adds a row with a score or probe."""

    @abstractmethod
    def sample(self, state: State, step: int) -> None:
        """Draws what a state looks like, and the curves so far."""

    @abstractmethod
    def make_up_pictures(self, state: State, step: int) -> None:
        """Draws those of `sample` that are not there."""

    def draw_noise(self) -> None:
        """Draws the noise that the run trains on, unless that was done."""
        if self._lead and not self._noise_tried and not self._folder.noise.exists():
            self._noise_tried = True
            try:
                draw_noise(self._opened.run, self._folder.noise)
            except (ArgumentError, OSError) as error:
                # A picture is no reason to end a training.
                warn(f"{self._folder.noise.name} is not drawn: {error}")

    def draw_curves(self, *, missing: bool = False) -> None:
        """Draws the curves, or only if they are missing; none before there is a row.

        And how the law moved, if it learns itself.
        """
        rows = self._folder.rows() if self._lead else []
        if has_law(rows) and not (missing and self._folder.law.exists()):
            save_law_map(rows, self._folder.law)
        if rows and not (missing and self._folder.curves.exists()):
            save_curves(rows, self._folder.curves)

    def write_report(self, *, missing: bool = False) -> None:
        """Writes the report, or only if it is missing."""
        if self._lead and not (missing and self._folder.report.exists()):
            write_report(self._folder)

    def save(self, state: State, step: int) -> None:
        """Writes a checkpoint in the background."""
        self._checkpoints.save(
            state, {**self._opened.meta, "images_seen": self._opened.images_seen(step)}
        )

    def check(self, state: State, step: int) -> None:
        """Raises NonFiniteError unless the numbers that training goes on from are finite."""
        del step
        self._checkpoints.check(state)

    def last_good(self) -> str:
        """The newest checkpoint's folder."""
        return self._checkpoints.last_good()
