"""Several runs that differ in their seed alone, as one program.

On an accelerator a small network leaves most of the device idle; the steps of several seeds then
cost little more than that of one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.training.drawing import Batch
from jaxnoise.training.feeding import Feeder
from jaxnoise.training.loop import Clock, Observer, Rhythm, stop_requested, training_steps
from jaxnoise.training.parallel import Step
from jaxnoise.training.state import TrainState
from jaxnoise.training.step import Metrics

States = tuple[TrainState, ...]


def step_together(step: Step[TrainState]) -> Callable[[States, Batch, jax.Array], Any]:
    """A step of several states, mapped by vmap over states, keys and batches.

    States go in and come out one by one, so that each run keeps its own.

    Args:
      step: the per-device step of one run.

    Returns:
      `(states, batch, keys key[S]) -> (states, metrics)`, both tuples of S; the axis of seeds
      comes second in a batch's `index`, or in its images and labels where there is none.
    """

    def steps(states: States, batch: Batch, keys: jax.Array) -> tuple[States, tuple[Metrics, ...]]:
        batch_of: Any = Batch
        axes = batch_of(1, None, None) if batch.index is not None else batch_of(None, 1, 1)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        after, metrics = jax.vmap(step, in_axes=(0, axes, 0))(stacked, batch, keys)

        def of(seed: int, tree: Any) -> Any:
            return jax.tree.map(lambda x: x[seed], tree)

        seeds = range(len(states))
        return tuple(of(i, after) for i in seeds), tuple(of(i, metrics) for i in seeds)

    return steps


class _Once:
    """A feeder that several runs ask for the batch of the same step."""

    def __init__(self, feeder: Feeder):
        self.resident = feeder.resident
        self._feeder = feeder
        self._last: tuple[int, Batch] | None = None

    def __call__(self, step: int) -> Batch:
        if self._last is None or self._last[0] != step:
            self._last = step, self._feeder(step)
        return self._last[1]

    def close(self) -> None:
        self._feeder.close()


def train_together(
    states: Sequence[TrainState],
    dispatch: Callable[[States, Batch, jax.Array], Any],
    feeder: Feeder,
    keys: jax.Array,
    rhythm: Rhythm,
    observers: Sequence[Observer[TrainState]],
) -> list[TrainState | Exception | None]:
    """Trains several runs in lockstep; records are those of each run on its own.

    Args:
      states: where to start, all at the same step; donated.
      dispatch: from `Devices.map(step_together(...), ...)`.
      feeder: step -> batch of all runs.
      keys: key[S], PRNG keys of the runs.
      rhythm: when to record.
      observers: where to record.

    Returns:
      For each run the state after the last step, or what it failed with. Where a run fails the
      others stop, at their newest checkpoint; theirs is None.
    """
    shared, stop, rhythm = _Once(feeder), False, replace(rhythm, runs=len(states))
    outcomes: list[TrainState | Exception | None] = [None] * len(states)
    with stop_requested() as asked:
        clock = Clock()
        runs = [
            training_steps(state, shared, rhythm, observer, lambda: stop, clock)
            for state, observer in zip(states, observers, strict=True)
        ]
        answers: Sequence[Any] = [None] * len(runs)
        while True:
            # Asked once for all, so that they stop at the same step.
            stop = asked()
            given = []
            for i, (run, answer) in enumerate(zip(runs, answers, strict=True)):
                try:
                    given.append(run.send(answer))
                except StopIteration as end:
                    outcomes[i] = end.value
                except Exception as error:
                    outcomes[i] = error
            if len(given) < len(runs):
                break
            after, metrics = dispatch(tuple(state for state, _ in given), given[0][1], keys)
            answers = list(zip(after, metrics, strict=True))
        for run in runs:
            run.close()
    return outcomes
