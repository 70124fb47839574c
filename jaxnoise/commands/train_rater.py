"""Trains a rater of noise: stage 1 of NoiseRater. Stage 2 is any run that selects by its file."""

import json
import math
import sys
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

import jaxnoise
from jaxnoise.commands.prepared_rater import PreparedRater
from jaxnoise.commands.preparing import prepare
from jaxnoise.commands.recording import (
    Record,
    images_seen,
    make_up,
    operations,
    resumed,
    rhythm_of,
    write_cost,
)
from jaxnoise.experiment import Experiment, Rating
from jaxnoise.files import write_whole
from jaxnoise.models.rater_file import save_rater
from jaxnoise.report import write_report
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.feeding import make_feeder
from jaxnoise.training.loop import Observer, Rhythm, train
from jaxnoise.training.noise_rater import RaterState, make_meta_step
from jaxnoise.training.parallel import Step, to_host
from jaxnoise.training.pictures import save_curves
from jaxnoise.training.probes import score_autocorrelation
from jaxnoise.training.rater_pictures import save_score_histogram
from jaxnoise.training.records import RunFolder


def main(experiment: Experiment, rating: Rating, folder: RunFolder) -> None:
    """Learns to `train.steps` meta-steps, resuming; writes rater.npz and prints one JSON line."""
    prepared = prepare(experiment, scored=False)
    rater = PreparedRater(prepared, rating)
    with resumed(prepared, folder, rater.initial_state) as (state, checkpoints):
        if not folder.cost.exists():
            write_cost(folder, cost(rater), prepared.devices)
        rhythm = rhythm_of(prepared, rating.meta.probe_every)
        with RaterRecorder(rater, folder, checkpoints, int(state.step)) as recorder:
            make_up(recorder, folder, state, rhythm, "signal_f")
            state = run(rater, state, rhythm, recorder)
    report(rater, state, folder)


def run(
    rater: PreparedRater, state: RaterState, rhythm: Rhythm, recorder: Observer[RaterState]
) -> RaterState:
    """Learns from `state` to the last meta-step."""
    prepared, stride = rater.prepared, rhythm.steps_per_dispatch
    if int(state.step) >= rhythm.steps:
        return state
    step = step_of(rater)
    feeder = make_feeder(prepared.images, prepared.devices, rater.indices, stride)
    dispatch = prepared.devices.map(step, stride, feeder.resident)
    try:
        return train(state, dispatch, feeder, prepared.key, rhythm, recorder)
    finally:
        feeder.close()


def step_of(rater: PreparedRater) -> Step[RaterState]:
    """The per-device meta-step of a run."""
    meta = rater.rating.meta
    return make_meta_step(
        rater.lesson,
        rater.rating.optimizer,
        init_inner=rater.prepared.init,
        mode=meta.mode,
        averaging=meta.averaging,
    )


def cost(rater: PreparedRater) -> dict[str, float]:
    """Operations of a whole meta-step: those of one inner model times their number.

    They are counted in a loop that is written out, since the body of a scan would count once.
    """
    meta = rater.rating.meta
    one = replace(meta, population=1, unroll=True)
    single = PreparedRater(rater.prepared, replace(rater.rating, meta=one))
    batch = rater.prepared.experiment.train.batch, 1, single.lesson.columns
    counted = operations(single.prepared, step_of(single), single.initial_state, *batch)
    return {} if counted is None else {"operations_per_step": meta.population * counted}


class RaterRecorder(Record[RaterState]):
    """Adds scores, probes and the rater's file."""

    def __init__(
        self, rater: PreparedRater, folder: RunFolder, checkpoints: Checkpoints, first_step: int
    ):
        super().__init__(rater.prepared, folder, checkpoints, first_step)
        self._rater = rater

    def sample(self, state: RaterState, step: int) -> None:
        """Redraws the pictures."""
        self._draw_scores(state)
        self.draw_curves()
        self.write_report()

    def make_up_pictures(self, state: RaterState, step: int) -> None:
        """Draws what is not there."""
        if not self._folder.score_histogram.exists():
            self._draw_scores(state)
        self.draw_curves(missing=True)
        self.write_report(missing=True)

    def _draw_scores(self, state: RaterState) -> None:
        if self._lead:
            save_score_histogram(*self._rater.scores(state.eta), self._folder.score_histogram)

    def evaluate(self, state: RaterState, step: int) -> None:
        """Adds a row with what the probes say."""
        found = probed(self._rater, state, self._folder, *self._rater.scores(state.eta))
        if self._lead:
            seen = images_seen(self._prepared, step)
            self._folder.append({"step": step, "images_seen": seen, **found})


def probed(
    rater: PreparedRater,
    state: RaterState,
    folder: RunFolder,
    scores: NDArray[Any],
    sigma: NDArray[Any],
) -> dict[str, float | None]:
    """The probes at a meta-step; the scores of fixed examples are kept for the next time."""
    step = int(state.step)
    found = {"score_autocorrelation": autocorrelation(folder, step, scores), **rater.probe(state)}
    if jax.process_index() == 0:
        folder.scores.mkdir(exist_ok=True)
        np.savez(folder.scores / f"step_{step:07d}.npz", scores=scores, sigma=sigma)
    return found


def autocorrelation(folder: RunFolder, step: int, scores: NDArray[Any]) -> float | None:
    """Correlation of scores with those of the probe before; None at the first, or if constant."""
    before = [path for path in folder.scores.glob("step_*.npz") if _step_of(path.stem) < step]
    if not before:
        return None
    with np.load(max(before)) as held:
        earlier = held["scores"]
    if np.ptp(earlier) == 0 or np.ptp(scores) == 0:
        return None
    return float(score_autocorrelation(jnp.asarray(earlier), jnp.asarray(scores)))


def _step_of(name: str) -> int:
    return int(name.removeprefix("step_"))


def write_rater(rater: PreparedRater, state: RaterState, folder: RunFolder) -> None:
    """Writes rater.npz."""
    prepared = rater.prepared
    save_rater(
        folder.rater,
        rater.rating.network,
        jax.tree.map(to_host, state.eta),
        image_shape=prepared.images.image_shape,
        data={"name": prepared.images.name, "fingerprint": prepared.images.fingerprint},
        step=int(state.step),
        config=prepared.experiment.config,
        jaxnoise=jaxnoise.__version__,
    )


def report(rater: PreparedRater, state: RaterState, folder: RunFolder) -> None:
    """Probes the finished rater; writes and prints what was found as one JSON line."""
    print("probing ...", file=sys.stderr, flush=True)
    scores, sigma = rater.scores(state.eta)
    found = probed(rater, state, folder, scores, sigma)
    if jax.process_index() != 0:
        return
    write_rater(rater, state, folder)
    save_score_histogram(scores, sigma, folder.score_histogram)
    meta, recorded = rater.rating.meta, folder.rows()
    if recorded:
        # Those of a run that was killed before its last pictures are older.
        save_curves(recorded, folder.curves)
    rows = [row for row in recorded if "effective_share" in row]
    last = {key: rows[-1][key] for key in ("loss", "effective_share")} if rows else {}
    result = {
        "rater": folder.rater.name,
        "meta_steps": int(state.step),
        "images_seen": images_seen(rater.prepared, int(state.step)),
        **last,
        "score_std": float(np.std(scores)),
        **{name: finite(value) for name, value in found.items()},
        "probe_draws": meta.probe_draws,
        "probe_repeats": meta.probe_repeats,
        "seed": rater.prepared.experiment.seed,
        "devices": rater.prepared.devices.description,
    }
    write_whole(folder.result, json.dumps(result, indent=2) + "\n")
    write_report(folder)
    print(json.dumps(result), flush=True)


def finite(value: float | None) -> float | None:
    """JSON has no nan: a cosine with a gradient of 0 is one."""
    return value if value is not None and math.isfinite(value) else None
