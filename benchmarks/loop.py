"""A whole run's time per step over the bare step's: what feeding, watching and recording cost.

    python -m benchmarks.loop

The run is that of a config of the digits in a folder of its own, with rows, checkpoints and
pictures as often as there; the bare step is the same compiled call with nothing around it, before
and after. `records` counts the time of rows, checkpoints and pictures too, `loop` leaves those out.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import frame, steps
from jaxnoise.commands.train import begun
from jaxnoise.data import batch_indices
from jaxnoise.training.feeding import make_feeder
from jaxnoise.training.loop import train
from jaxnoise.training.parallel import use_all_cores
from jaxnoise.training.records import RunFolder


class Watch:
    """A recorder that notes when steps end and how long it records."""

    def __init__(self, recorder: Any, first: int):
        self._recorder, self._first = recorder, first
        self.began = self.recording = 0.0

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.began:
            self.recording += time.perf_counter() - start

    def progress(self, step: int, loss: float) -> None:
        self._recorder.progress(step, loss)
        # Before that the first step is waited for, and the noise is drawn.
        if step == self._first:
            self.began = time.perf_counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorder, name)

    def log(self, row: Any) -> None:
        with self._timed():
            self._recorder.log(row)

    def save(self, state: Any, step: int) -> None:
        with self._timed():
            self._recorder.save(state, step)

    def check(self, state: Any, step: int) -> None:
        with self._timed():
            self._recorder.check(state, step)

    def sample(self, state: Any, step: int) -> None:
        with self._timed():
            self._recorder.sample(state, step)


def whole_run(job: steps.StepJob, first: int) -> tuple[float, float]:
    """Seconds a step of a run after its first steps: without and with what it records."""
    model = job.model
    batch = model.run.train.batch
    with (
        tempfile.TemporaryDirectory() as folder,
        begun(model, RunFolder(Path(folder) / "run")) as (state, rhythm, recorder),
    ):
        watch = Watch(recorder, first)
        indices = partial(batch_indices, model.run.seed, model.images.num_examples, batch)
        feeder = make_feeder(model.images, model.devices, indices, 1)
        train(state, job.compiled, feeder, model.key, rhythm, watch)
        seconds = time.perf_counter() - watch.began
        feeder.close()
    count = rhythm.steps - first
    return (seconds - watch.recording) / count, seconds / count


def main(arguments: list[str] | None = None) -> None:
    flags = frame.parser(__doc__).parse_args(arguments)
    use_all_cores(64)
    count, first = (8, 2) if flags.quick else (300, 50)
    setting = steps.SMALLEST if flags.quick else steps.SETTINGS["tiny 8x8"]
    config = setting.config("consistency")
    every = {"log_every": 2} if flags.quick else {"log_every": 50}
    config["train"] |= {"steps": count, "sample_every": count, "checkpoint_every": count, **every}
    pictures = {"count": 4, "columns": 2, "batch": 4} if flags.quick else {"count": 100}
    config["sample"] = {**config["sample"], **pictures}
    job = steps.StepJob(steps.opened(config, setting))
    job.run()
    rounds = frame.rounds_of(flags, 2)
    # Its first pictures are drawn by programs that are then kept.
    whole_run(job, first)
    bare, loop, records = [], [], []
    for _ in range(rounds):
        before = [frame.once(job.run)[1] for _ in range(count // 2)]
        loop_seconds, record_seconds = whole_run(job, first)
        after = [frame.once(job.run)[1] for _ in range(count // 2)]
        bare.append(float(np.mean(before + after)))
        loop.append(loop_seconds / bare[-1])
        records.append(record_seconds / bare[-1])
    frame.Report("loop", flags).row(
        f"{count} steps of the digits",
        milliseconds=1e3 * float(np.median(bare)),
        loop=frame.Spread.of(loop),
        records=frame.Spread.of(records),
    )


if __name__ == "__main__":
    main()
