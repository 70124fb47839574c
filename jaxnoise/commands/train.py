"""Trains, resumes, records, and scores a run."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from jaxnoise.commands import train_rater
from jaxnoise.config.settings import EvaluateSettings
from jaxnoise.data.order import batch_indices
from jaxnoise.evaluation.extractors import raw_pixels
from jaxnoise.evaluation.score_keys import (
    FLOOR,
    average_name,
    frechet_key,
    is_untrained,
    untrained_key,
)
from jaxnoise.experiment import ModelRun, RaterRun, Run
from jaxnoise.figures.curves import save_curves
from jaxnoise.figures.samples import samples_path, save_samples
from jaxnoise.files import write_whole
from jaxnoise.meta.neutral import NeutralPool
from jaxnoise.meta.selection import Selection
from jaxnoise.report import write_report
from jaxnoise.report.scores import PROTOCOL_KEYS
from jaxnoise.run.model import OpenModel, open_model
from jaxnoise.run.open import of_model
from jaxnoise.run.recorder import (
    Recorder,
    agreed,
    check_kept,
    has_row,
    make_up,
    operations,
    resumed,
    rhythm_of,
    write_cost,
)
from jaxnoise.run.trained import further_averages, has_checkpoint, score_of
from jaxnoise.run.untrained_noise import warn_of_untrained_noise
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.feeding import make_feeder
from jaxnoise.training.kept_images import KeptImages
from jaxnoise.training.loop import Observer, Rhythm, train
from jaxnoise.training.parallel import Step
from jaxnoise.training.records import RunFolder
from jaxnoise.training.state import TrainState
from jaxnoise.training.step import make_step


def main(run: Run, folder: RunFolder, kept: KeptImages | None = None) -> None:
    """Trains to `train.steps`, resuming from the newest whole checkpoint; prints one JSON line.

    Args:
      run: a checked config.
      folder: of the run.
      kept: where images stay for further scores; None where there are none.
    """
    folder.check_same(run.config)
    if isinstance(run, RaterRun):
        train_rater.main(run, folder)
        return
    run = of_model(run)
    folder.check_same(run.config)
    model = open_model(run, selects=True, resumes=has_checkpoint(folder), kept=kept)
    with begun(model, folder) as (state, rhythm, recorder):
        state = train_from(model, state, rhythm, recorder)
    finish(model, state, folder)


@contextmanager
def begun(
    model: OpenModel, folder: RunFolder
) -> Iterator[tuple[TrainState, Rhythm, Observer[TrainState]]]:
    """A run that is claimed and resumed: its newest state, when it records, and where."""
    run = model.run
    with resumed(model, folder) as (state, checkpoints):
        rhythm = rhythm_of(model, run.evaluate.every, int(state.step))
        with ModelRecorder(model, folder, checkpoints, int(state.step)) as recorder:
            make_up(recorder, folder, state, rhythm, FLOOR)
            yield state, rhythm, recorder


def finish(model: OpenModel, state: TrainState, folder: RunFolder) -> None:
    """Writes what a run cost and its score.

    Raises:
      OSError: its last state was not written, which `Checkpoints.close` only says in a line.
    """
    if not folder.cost.exists():
        write_cost(folder, cost(model), model.devices)
    # Before the score, which tells that a run is finished.
    check_kept(folder, int(state.step))
    report(model, state, folder, own=True)


def train_from(
    model: OpenModel, state: TrainState, rhythm: Rhythm, recorder: Observer[TrainState]
) -> TrainState:
    """Trains from `state` to the last step."""
    run = model.run
    if int(state.step) >= rhythm.steps:
        return state
    step = step_of(model, model.selection)
    batch = run.train.batch
    indices = partial(batch_indices, run.seed, model.images.num_examples, batch)
    feeder = make_feeder(model.images, model.devices, indices, rhythm.steps_per_dispatch)
    dispatch = model.devices.map(step, rhythm.steps_per_dispatch, feeder.resident)
    try:
        return train(state, dispatch, feeder, model.key, rhythm, recorder)
    finally:
        feeder.close()


def step_of(model: OpenModel, selection: Selection | None) -> Step[TrainState]:
    """The per-device step of a run."""
    run = model.run
    return make_step(
        model.apply,
        run.objective,
        run.optimizer,
        ema_rate=run.ema_rates,
        global_batch=run.train.batch,
        num_classes=model.network.num_classes,
        label_dropout=run.train.label_dropout,
        dropout=model.dropout,
        flip=run.data.flip,
        augment=run.data.augment,
        selection=selection,
        teacher_network=model.teacher_network,
    )


def cost(model: OpenModel) -> dict[str, float]:
    """Operations of a whole step, and the share of them that selects noise.

    Beside a step of as many examples as a selection keeps.
    """

    def counted(selection: Selection | None, run: ModelRun) -> float | None:
        step = step_of(replace(model, run=run), selection)
        return operations(model, step, run.train.batch)

    run, selection = model.run, model.selection
    whole = counted(selection, run)
    if whole is None:
        return {}
    batch = run.train.batch
    kept = selection.kept(batch) if isinstance(selection, NeutralPool) else batch
    alike = replace(run, train=replace(run.train, batch=kept))
    plain = whole if selection is None else counted(None, alike) or 0.0
    return {"operations_per_step": whole, "selection_share": 1 - plain / whole}


class ModelRecorder(Recorder[TrainState]):
    """Adds samples and scores of a model in training."""

    def __init__(
        self, model: OpenModel, folder: RunFolder, checkpoints: Checkpoints, first_step: int
    ):
        super().__init__(model, folder, checkpoints, first_step)
        self._model = model

    def sample(self, state: TrainState, step: int) -> None:
        """Redraws the curves and writes samples of the first sampler, of each average."""
        run, name = self._model.run, _name_at(step)
        averages = [
            (f"{average_name(rate)}_{name}", params)
            for rate, params in further_averages(run, state)
        ]
        grids = {}
        for file, params in [*averages, (name, state.sampling_params)]:
            settings = run.sample
            grids[file] = self._model.generator(
                params, settings.count, settings.seed, run.samplers[0]
            )
        # Before the samples, so that curves beside those of this step are never older.
        self.draw_curves()
        if self._lead:
            # The main ones last: they tell a run that goes on that all are there.
            for file, images in grids.items():
                save_samples(images, self._folder.samples, file, run.sample.columns)
        self.write_report()

    def make_up_pictures(self, state: TrainState, step: int) -> None:
        """Draws what is not there; without the samples, the curves are older than this step."""
        images = self._model.images
        samples = self._folder.samples, _name_at(step), images.image_shape, images.dtype
        if not agreed(samples_path(*samples).exists()):
            self.sample(state, step)
        self.draw_curves(missing=True)
        self.write_report(missing=True)

    def evaluate(self, state: TrainState, step: int) -> None:
        """Adds a row with the score of the parameters that samples are drawn with."""
        result = score_of(self._model, state)
        if self._lead:
            self._folder.append(score_row(result, step))


def _name_at(step: int) -> str:
    return f"step_{step:07d}"


def score_row(result: dict[str, Any], step: int) -> dict[str, Any]:
    """The numbers of a score as a row of metrics.jsonl."""
    numbers = {
        name: value
        for name, value in result.items()
        if isinstance(value, float) and name != "guidance" and not is_untrained(name)
    }
    return {"step": step, "images_seen": result["images_seen"], **numbers}


def report(model: OpenModel, state: TrainState, folder: RunFolder, *, own: bool = False) -> None:
    """Writes and prints the run's score as one JSON line, unless the config asks for none.

    The score of a checkpoint that was asked for by its step has a file of its own, and one whose
    protocol is not that of the score that is there.

    Args:
      model: what was trained.
      state: whose parameters are scored.
      folder: of the run.
      own: whether it is the score that a training ends with, and so the last of those taken on the
        way.
    """
    if model.run.evaluate.n == 0:
        if jax.process_index() == 0:
            write_report(folder)
        return
    result = score(model, state)
    if jax.process_index() == 0:
        path = folder.result
        if not model.starts:
            result |= _untrained(folder, result)
        if not own and _is_another(model.run.evaluate, folder, result):
            path = folder.further(f"{int(state.step):07d}")
            stays = f"; {folder.result.name} stays" if folder.result.exists() else ""
            print(f"written to {path.name}{stays}", file=sys.stderr)
        write_whole(path, json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        if own and model.run.evaluate.every and not has_row(folder, int(state.step), FLOOR):
            row = score_row(result, int(state.step))
            # Curves first: a run that is killed in between draws them again.
            save_curves([*folder.rows(), row], folder.curves)
            folder.append(row)
        write_report(folder)
        print(json.dumps(result, ensure_ascii=False), flush=True)


def _held(folder: RunFolder) -> dict[str, Any]:
    """What result.json holds; nothing where it is missing or damaged."""
    try:
        held = json.loads(folder.result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _same(held: dict[str, Any], result: dict[str, Any]) -> bool:
    """Whether two scores were taken alike."""
    return all(
        held.get(key) == result.get(key) for key in (*PROTOCOL_KEYS, "weights", "seed", "levels")
    )


def _untrained(folder: RunFolder, result: dict[str, Any]) -> dict[str, Any]:
    """Scores of the untrained model from result.json, where its weights are gone since."""
    held = _held(folder)
    return {k: v for k, v in held.items() if is_untrained(k)} if _same(held, result) else {}


def _is_another(settings: EvaluateSettings, folder: RunFolder, result: dict[str, Any]) -> bool:
    """Whether a score does not take the place of the one in result.json."""
    held = _held(folder)
    if settings.step is not None or not held:
        return settings.step is not None
    # Weights that could not be had when the training ended are here now.
    pixels = raw_pixels().name
    stood_in = settings.fallback and held.get("extractor") == pixels
    if stood_in and result["extractor"] != pixels:
        return False
    return not _same(held, result)


def score(model: OpenModel, state: TrainState) -> dict[str, Any]:
    """The run's JSON line: distances of the trained and the untrained model, and the floor."""
    warn_of_untrained_noise(model.run, state)
    print("scoring ...", file=sys.stderr, flush=True)
    result = score_of(model, state)
    if model.starts and model.run.evaluate.untrained:
        fresh = model.first_state().params
        untrained = model.score(fresh, "raw", images_seen=0)
        samplers = [frechet_key(sampler.name) for sampler in model.run.samplers]
        result |= {untrained_key(name): untrained[name] for name in samplers}
    return {**result, "devices": model.devices.description}
