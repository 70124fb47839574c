"""Trains several seeds of one config as one program; each has a run folder of its own."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxnoise.commands.train import begun, finish, step_of
from jaxnoise.data.images import Images
from jaxnoise.data.order import batch_indices
from jaxnoise.experiment import ModelRun
from jaxnoise.run.model import OpenModel, open_model
from jaxnoise.run.trained import has_checkpoint
from jaxnoise.training.feeding import make_feeder
from jaxnoise.training.loop import Interrupted, Observer, Rhythm
from jaxnoise.training.records import RunFolder
from jaxnoise.training.state import TrainState
from jaxnoise.training.together import step_together, train_together


def main(runs: Sequence[ModelRun], folders: Sequence[RunFolder]) -> None:
    """Trains every run to its end, those that were stopped at the same step together.

    A run that fails does not stop the others.

    Args:
      runs: that differ in their seed alone.
      folders: of the runs.

    Raises:
      Exception: of the first run that failed, once all the others are at their end.
    """
    waiting = list(zip(runs, folders, strict=True))
    failures: list[Exception] = []
    while waiting:
        waiting, failed = _round(waiting)
        failures += failed
    if failures:
        raise failures[0]


def _round(
    waiting: Sequence[tuple[ModelRun, RunFolder]],
) -> tuple[list[tuple[ModelRun, RunFolder]], list[Exception]]:
    """Trains the runs that stand at the first one's step; gives those left, and what failed."""
    left, failed, ended = [], [], []
    with ExitStack() as stack:
        models: list[OpenModel] = []
        folders: list[RunFolder] = []
        states: list[TrainState] = []
        recorders: list[Observer[TrainState]] = []
        rhythms: list[Rhythm] = []
        images: Images | None = None
        for run, folder in waiting:
            try:
                resumes = has_checkpoint(folder)
                model = open_model(run, images, selects=True, resumes=resumes)
                images = model.images
                state, rhythm, recorder = stack.enter_context(begun(model, folder))
            except Exception as error:
                failed.append(error)
                continue
            if states and int(state.step) != int(states[0].step):
                left.append((run, folder))
                continue
            models.append(model)
            folders.append(folder)
            states.append(state)
            recorders.append(recorder)
            rhythms.append(rhythm)
        # A run that stands at another step may have another one.
        outcomes = _train(models, states, rhythms[0], recorders) if models else []
        for model, folder, outcome in zip(models, folders, outcomes, strict=True):
            if isinstance(outcome, TrainState):
                ended.append((model, folder, outcome))
            elif outcome is None:
                left.append((model.run, folder))
            else:
                failed.append(outcome)
    stopped = [outcome for outcome in failed if isinstance(outcome, Interrupted)]
    if stopped:
        raise stopped[0]
    for model, folder, state in ended:
        try:
            finish(model, state, folder)
        except Interrupted:
            raise
        except Exception as error:
            failed.append(error)
    return left, failed


def _train(
    models: Sequence[OpenModel],
    states: Sequence[TrainState],
    rhythm: Rhythm,
    recorders: Sequence[Observer[TrainState]],
) -> list[TrainState | Exception | None]:
    if int(states[0].step) >= rhythm.steps:
        return list(states)
    first, count, batch = models[0], models[0].images.num_examples, rhythm.batch
    orders = [partial(batch_indices, model.run.seed, count, batch) for model in models]

    def indices(step: int) -> NDArray[np.int64]:
        return np.stack([order(step) for order in orders], axis=1)

    feeder = make_feeder(first.images, first.devices, indices, rhythm.steps_per_dispatch)
    step: Any = step_together(step_of(first, first.selection))
    dispatch: Any = first.devices.map(step, rhythm.steps_per_dispatch, feeder.resident)
    keys = jnp.stack([model.key for model in models])
    try:
        return train_together(states, dispatch, feeder, keys, rhythm, recorders)
    finally:
        feeder.close()
