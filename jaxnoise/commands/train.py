"""Trains, resumes, records, and scores a run."""

import json
import sys
from functools import partial
from typing import Any

import jax

from jaxnoise.commands import train_rater
from jaxnoise.commands.prepared import Prepared, warn_of_untrained_noise
from jaxnoise.commands.preparing import prepare
from jaxnoise.commands.recording import (
    Record,
    agreed,
    has_row,
    images_seen,
    make_up,
    operations,
    resumed,
    rhythm_of,
    write_cost,
)
from jaxnoise.data.order import batch_indices
from jaxnoise.experiment import Experiment
from jaxnoise.files import write_whole
from jaxnoise.meta.selection import Selection
from jaxnoise.report import write_report
from jaxnoise.training.feeding import make_feeder
from jaxnoise.training.loop import Observer, Rhythm, train
from jaxnoise.training.parallel import Step
from jaxnoise.training.pictures import samples_path, save_curves, save_samples
from jaxnoise.training.records import RunFolder
from jaxnoise.training.state import TrainState
from jaxnoise.training.step import make_step

SCORE = "frechet_floor"
"""What every row of scores holds."""


def main(experiment: Experiment, folder: RunFolder) -> None:
    """Trains to `train.steps`, resuming from the newest whole checkpoint; prints one JSON line."""
    folder.check_same(experiment.config)
    if experiment.rating is not None:
        train_rater.main(experiment, experiment.rating, folder)
        return
    prepared = prepare(experiment, selects=True)
    with resumed(prepared, folder, prepared.initial_state) as (state, checkpoints):
        if not folder.cost.exists():
            write_cost(folder, cost(prepared), prepared.devices)
        rhythm = rhythm_of(prepared, experiment.evaluate.every)
        with Recorder(prepared, folder, checkpoints, int(state.step)) as recorder:
            make_up(recorder, folder, state, rhythm, SCORE)
            state = run(prepared, state, rhythm, recorder)
    report(prepared, state, folder, ends_curve=experiment.evaluate.every > 0)


def run(
    prepared: Prepared, state: TrainState, rhythm: Rhythm, recorder: Observer[TrainState]
) -> TrainState:
    """Trains from `state` to the last step."""
    experiment = prepared.experiment
    if int(state.step) >= rhythm.steps:
        return state
    step = step_of(prepared, prepared.selection)
    batch = experiment.train.batch
    indices = partial(batch_indices, experiment.seed, prepared.images.num_examples, batch)
    feeder = make_feeder(prepared.images, prepared.devices, indices, rhythm.steps_per_dispatch)
    dispatch = prepared.devices.map(step, rhythm.steps_per_dispatch, feeder.resident)
    try:
        return train(state, dispatch, feeder, prepared.key, rhythm, recorder)
    finally:
        feeder.close()


def step_of(prepared: Prepared, selection: Selection | None) -> Step[TrainState]:
    """The per-device step of a run."""
    experiment = prepared.experiment
    return make_step(
        prepared.apply,
        experiment.objective,
        experiment.optimizer,
        ema_rate=experiment.ema_rate,
        global_batch=experiment.train.batch,
        num_classes=prepared.network.num_classes,
        label_dropout=experiment.train.label_dropout,
        dropout=prepared.network.dropout > 0,
        flip=experiment.data.flip,
        selection=selection,
    )


def cost(prepared: Prepared) -> dict[str, float]:
    """Operations of a whole step, and the share of them that selects noise."""

    def counted(selection: Selection | None) -> float | None:
        step = step_of(prepared, selection)
        return operations(prepared, step, prepared.initial_state, prepared.experiment.train.batch)

    whole = counted(prepared.selection)
    if whole is None:
        return {}
    plain = whole if prepared.selection is None else counted(None) or 0.0
    return {"operations_per_step": whole, "selection_share": 1 - plain / whole}


class Recorder(Record[TrainState]):
    """Adds samples and scores of a model in training."""

    def sample(self, state: TrainState, step: int) -> None:
        """Redraws the curves and writes samples of the first sampler."""
        settings = self._prepared.experiment.sample
        sampler = self._prepared.experiment.samplers[0]
        images = self._prepared.generator(
            state.sampling_params, settings.count, settings.seed, sampler
        )
        # Before the samples, so that curves beside those of this step are never older.
        self.draw_curves()
        if self._lead:
            save_samples(images, self._folder.samples, _name_at(step), settings.columns)
        self.write_report()

    def make_up_pictures(self, state: TrainState, step: int) -> None:
        """Draws what is not there; without the samples, the curves are older than this step."""
        images = self._prepared.images
        samples = self._folder.samples, _name_at(step), images.image_shape, images.dtype
        if not agreed(samples_path(*samples).exists()):
            self.sample(state, step)
        self.draw_curves(missing=True)
        self.write_report(missing=True)

    def evaluate(self, state: TrainState, step: int) -> None:
        """Adds a row with the score of the parameters that samples are drawn with."""
        result = self._prepared.score(
            state.sampling_params, weights_of(self._prepared), images_seen(self._prepared, step)
        )
        if self._lead:
            self._folder.append(score_row(result, step))


def _name_at(step: int) -> str:
    return f"step_{step:07d}"


def score_row(result: dict[str, Any], step: int) -> dict[str, Any]:
    """The numbers of a score as a row of metrics.jsonl."""
    numbers = {
        name: value
        for name, value in result.items()
        if isinstance(value, float) and name != "guidance" and not name.startswith("untrained_")
    }
    return {"step": step, "images_seen": result["images_seen"], **numbers}


def report(
    prepared: Prepared, state: TrainState, folder: RunFolder, *, ends_curve: bool = False
) -> None:
    """Writes and prints the run's score as one JSON line, unless the config asks for none.

    The score of a checkpoint that was asked for by its step has a file of its own.

    Args:
      prepared: what was trained.
      state: whose parameters are scored.
      folder: of the run.
      ends_curve: whether the score is the last point of those taken during the run.
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
        if ends_curve and not has_row(folder, int(state.step), SCORE):
            row = score_row(result, int(state.step))
            # Curves first: a run that is killed in between draws them again.
            save_curves([*folder.rows(), row], folder.curves)
            folder.append(row)
        write_report(folder)
        print(json.dumps(result, ensure_ascii=False), flush=True)


def score(prepared: Prepared, state: TrainState) -> dict[str, Any]:
    """The run's JSON line: distances of the trained and of the untrained model beside the floor."""
    warn_of_untrained_noise(prepared.experiment, state)
    print("scoring ...", file=sys.stderr, flush=True)
    seen = images_seen(prepared, int(state.step))
    result = prepared.score(state.sampling_params, weights_of(prepared), seen)
    fresh = prepared.devices.make(prepared.initial_state).params
    untrained = prepared.score(fresh, "raw", images_seen=0)
    samplers = [f"frechet_{sampler.name}" for sampler in prepared.experiment.samplers]
    return {
        **result,
        **{f"untrained_{name}": untrained[name] for name in samplers},
        "devices": prepared.devices.description,
    }


def weights_of(prepared: Prepared) -> str:
    """Which parameters samples are drawn with."""
    return "ema" if prepared.experiment.ema_rate > 0 else "raw"
