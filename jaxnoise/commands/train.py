"""Trains, resumes, records, and scores a run."""

import json
import sys
from functools import partial
from typing import Any

import jax

from jaxnoise.commands import plot
from jaxnoise.commands.prepared import Prepared, prepare, warn
from jaxnoise.data.order import batch_indices
from jaxnoise.errors import ConfigError
from jaxnoise.experiment import Experiment
from jaxnoise.report import write_report
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.feeding import make_feeder
from jaxnoise.training.loop import Rhythm, train
from jaxnoise.training.pictures import save_curves, save_samples
from jaxnoise.training.progress import Progress
from jaxnoise.training.records import RunFolder, write_whole
from jaxnoise.training.state import TrainState
from jaxnoise.training.step import make_step


def main(experiment: Experiment, folder: RunFolder) -> None:
    """Trains to `train.steps`, resuming from the newest whole checkpoint; prints one JSON line."""
    folder.check_same(experiment.config)
    prepared = prepare(experiment)
    if jax.process_index() == 0:
        folder.claim(experiment.config)
        plot.draw(experiment, folder)
    checkpoints = Checkpoints(
        folder.checkpoints, keep=experiment.train.keep_checkpoints, on_skip=warn
    )
    try:
        state = checkpoints.restore(
            prepared.abstract_state(), set_aside=True, check_meta=prepared.check_meta
        )
        if state is None:
            state = prepared.devices.replicate(prepared.initial_state())
        else:
            print(f"resuming from step {int(state.step)}", file=sys.stderr, flush=True)
        if jax.process_index() == 0:
            folder.rewind(int(state.step))
        state = run(prepared, state, Recorder(prepared, folder, checkpoints, int(state.step)))
    finally:
        checkpoints.close()
    report(prepared, state, folder)


def run(prepared: Prepared, state: TrainState, recorder: "Recorder") -> TrainState:
    """Trains from `state` to the last step."""
    experiment = prepared.experiment
    settings = experiment.train
    if int(state.step) >= settings.steps:
        return state
    stride = 1 if jax.default_backend() == "cpu" else settings.steps_per_dispatch
    step = make_step(
        prepared.apply,
        experiment.objective,
        experiment.optimizer,
        ema_rate=experiment.ema_rate,
        global_batch=settings.batch,
        num_classes=prepared.network.num_classes,
        label_dropout=settings.label_dropout,
        dropout=prepared.network.dropout > 0,
        flip=experiment.data.flip,
        selection=prepared.selection,
    )
    indices = partial(batch_indices, experiment.seed, prepared.images.num_examples, settings.batch)
    feeder = make_feeder(prepared.images, prepared.devices, indices, stride)
    rhythm = Rhythm(
        steps=settings.steps,
        batch=settings.batch,
        steps_per_dispatch=stride,
        log_every=settings.log_every,
        sample_every=settings.sample_every,
        checkpoint_every=settings.checkpoint_every,
        evaluate_every=experiment.evaluate.every if experiment.evaluate.n != 0 else 0,
    )
    dispatch = prepared.devices.map(step, stride, feeder.resident)
    try:
        with recorder:
            recorder.make_up(state, rhythm.evaluate_every)
            return train(state, dispatch, feeder, prepared.key, rhythm, recorder)
    finally:
        feeder.close()


class Recorder:
    """Writes what the loop tells it into the run folder and draws the progress bar."""

    def __init__(
        self, prepared: Prepared, folder: RunFolder, checkpoints: Checkpoints, first_step: int
    ):
        self._prepared = prepared
        self._folder = folder
        self._checkpoints = checkpoints
        self._lead = jax.process_index() == 0
        settings = prepared.experiment.train
        self._events = self._open_events(folder) if settings.tensorboard and self._lead else None
        self._bar = (
            Progress(total_steps=settings.steps, batch=settings.batch, initial_step=first_step)
            if self._lead
            else None
        )

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.close()
        if self._events:
            self._events.close()

    @staticmethod
    def _open_events(folder: RunFolder) -> Any:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                "config.train.tensorboard=True: needs pip install -e '.[tensorboard]'"
            ) from error
        return SummaryWriter(str(folder.root / "tensorboard"))

    def progress(self, step: int, loss: float) -> None:
        """Moves the bar."""
        if self._bar:
            self._bar.update(step, loss=loss)

    def log(self, row: dict[str, Any]) -> None:
        """Adds a row to metrics.jsonl."""
        if self._lead:
            self._folder.append(row)
        if self._events:
            for name, value in row.items():
                if value is not None:
                    self._events.add_scalar(name, value, row["step"])

    def sample(self, state: TrainState, step: int) -> None:
        """Writes samples of the first sampler and redraws the curves."""
        settings = self._prepared.experiment.sample
        sampler = self._prepared.experiment.samplers[0]
        images = self._prepared.generator(
            state.sampling_params, settings.count, settings.seed, sampler
        )
        if self._lead:
            save_samples(images, self._folder.samples, f"step_{step:07d}", settings.columns)
            save_curves(self._folder.rows(), self._folder.curves)
            write_report(self._folder)

    def make_up(self, state: TrainState, every: int) -> None:
        """Takes the score of the step that a run was stopped at, if it was due there."""
        step = int(state.step)
        scored = any(r["step"] == step and "frechet_floor" in r for r in self._folder.rows())
        if every and step and step % every == 0 and not scored:
            self.evaluate(state, step)

    def evaluate(self, state: TrainState, step: int) -> None:
        """Adds a row with the score of the parameters that samples are drawn with."""
        result = self._prepared.score(
            state.sampling_params, weights_of(self._prepared), images_seen(self._prepared, step)
        )
        if self._lead:
            numbers = {name: value for name, value in result.items() if isinstance(value, float)}
            self._folder.append({"step": step, "images_seen": result["images_seen"], **numbers})

    def save(self, state: TrainState, step: int) -> None:
        """Writes a checkpoint in the background."""
        self._checkpoints.save(
            state,
            {
                "config": self._prepared.experiment.config,
                "data": self._prepared.images.fingerprint,
                "images_seen": images_seen(self._prepared, step),
            },
        )

    def last_good(self) -> str:
        """The newest checkpoint's folder."""
        steps = self._checkpoints.steps()
        return str(self._folder.checkpoints / str(steps[-1])) if steps else "none yet"


def report(prepared: Prepared, state: TrainState, folder: RunFolder) -> None:
    """Writes and prints the run's score as one JSON line, unless the config asks for none.

    The score of a checkpoint that was asked for by its step has a file of its own.
    """
    if prepared.experiment.evaluate.n == 0:
        if jax.process_index() == 0:
            write_report(folder)
        return
    result = score(prepared, state)
    if jax.process_index() == 0:
        step = prepared.experiment.evaluate.step
        path = folder.result if step is None else folder.root / f"result_{step:07d}.json"
        write_whole(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        write_report(folder)
        print(json.dumps(result, ensure_ascii=False), flush=True)


def score(prepared: Prepared, state: TrainState) -> dict[str, Any]:
    """The run's JSON line: distances of the trained and of the untrained model beside the floor."""
    print("scoring ...", file=sys.stderr, flush=True)
    seen = images_seen(prepared, int(state.step))
    result = prepared.score(state.sampling_params, weights_of(prepared), seen)
    fresh = prepared.devices.replicate(prepared.initial_state()).params
    untrained = prepared.score(fresh, "raw", images_seen=0)
    samplers = [f"frechet_{sampler.name}" for sampler in prepared.experiment.samplers]
    return {**result, **{f"untrained_{name}": untrained[name] for name in samplers}}


def weights_of(prepared: Prepared) -> str:
    """Which parameters samples are drawn with."""
    return "ema" if prepared.experiment.ema_rate > 0 else "raw"


def images_seen(prepared: Prepared, step: int) -> int:
    """Training images after `step` updates."""
    return step * prepared.experiment.train.batch
