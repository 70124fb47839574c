"""Trains a rater of noise: stage 1 of NoiseRater. Stage 2 is any run that selects by its file."""

import json
import math
import sys
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

import jaxnoise
from jaxnoise.compilation import run_once
from jaxnoise.experiment import RaterRun
from jaxnoise.figures.curves import save_curves
from jaxnoise.figures.rater import save_score_histogram
from jaxnoise.files import write_whole
from jaxnoise.models.neutral_raters import LawRater
from jaxnoise.models.rater_file import save_rater
from jaxnoise.noise_rater.probes import score_autocorrelation
from jaxnoise.noise_rater.step import RaterState, make_meta_step
from jaxnoise.report import write_report
from jaxnoise.run.rater import OpenRater, open_rater
from jaxnoise.run.recorder import (
    Recorder,
    check_kept,
    make_up,
    operations,
    resumed,
    rhythm_of,
    write_cost,
)
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.feeding import make_feeder
from jaxnoise.training.loop import Observer, Rhythm, train
from jaxnoise.training.parallel import Step, to_host
from jaxnoise.training.records import RunFolder


def main(run: RaterRun, folder: RunFolder) -> None:
    """Learns to `train.steps` meta-steps, resuming; writes rater.npz and prints one JSON line."""
    folder.check_same(run.config)
    rater = open_rater(run)
    with resumed(rater, folder) as (state, checkpoints):
        rhythm = rhythm_of(rater, run.meta.probe_every, int(state.step))
        with RaterRecorder(rater, folder, checkpoints, int(state.step)) as recorder:
            make_up(recorder, folder, state, rhythm, "signal_f")
            state = train_from(rater, state, rhythm, recorder)
    if not folder.cost.exists():
        write_cost(folder, cost(rater), rater.devices)
    # Before the result, which tells that a run is finished.
    check_kept(folder, int(state.step))
    report(rater, state, folder)


def train_from(
    rater: OpenRater, state: RaterState, rhythm: Rhythm, recorder: Observer[RaterState]
) -> RaterState:
    """Learns from `state` to the last meta-step."""
    stride = rhythm.steps_per_dispatch
    if int(state.step) >= rhythm.steps:
        return state
    step = step_of(rater)
    feeder = make_feeder(rater.images, rater.devices, rater.indices, stride)
    dispatch = rater.devices.map(step, stride, feeder.resident)
    try:
        return train(state, dispatch, feeder, rater.key, rhythm, recorder)
    finally:
        feeder.close()


def step_of(rater: OpenRater) -> Step[RaterState]:
    """The per-device meta-step of a run."""
    meta = rater.run.meta
    return make_meta_step(
        rater.inner_training,
        rater.run.meta_optimizer,
        init_inner=rater.init,
        mode=meta.mode,
        averaging=meta.averaging,
    )


def cost(rater: OpenRater) -> dict[str, float]:
    """Operations of a whole meta-step: those of one inner model times their number.

    They are counted in a loop that is written out, since the body of a scan would count once.
    """
    meta = rater.run.meta
    one = replace(meta, population=1, unroll=True)
    single = replace(rater, run=replace(rater.run, meta=one))
    batch = rater.run.train.batch, 1, single.inner_training.columns
    counted = operations(single, step_of(single), *batch)
    return {} if counted is None else {"operations_per_step": meta.population * counted}


class RaterRecorder(Recorder[RaterState]):
    """Adds scores, probes and the rater's file."""

    def __init__(
        self, rater: OpenRater, folder: RunFolder, checkpoints: Checkpoints, first_step: int
    ):
        super().__init__(rater, folder, checkpoints, first_step)
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
            seen = self._rater.images_seen(step)
            self._folder.append({"step": step, "images_seen": seen, **found})


def probed(
    rater: OpenRater,
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
    return float(run_once(score_autocorrelation, earlier, scores))


def _step_of(name: str) -> int:
    return int(name.removeprefix("step_"))


def write_rater(rater: OpenRater, state: RaterState, folder: RunFolder) -> None:
    """Writes rater.npz."""
    save_rater(
        folder.rater,
        rater.rater,
        jax.tree.map(to_host, state.eta),
        image_shape=rater.images.image_shape,
        data={"name": rater.images.name, "fingerprint": rater.images.fingerprint},
        step=int(state.step),
        config=rater.run.config,
        jaxnoise=jaxnoise.__version__,
    )


def report(rater: OpenRater, state: RaterState, folder: RunFolder) -> None:
    """Probes the finished rater; writes and prints what was found as one JSON line."""
    print("probing ...", file=sys.stderr, flush=True)
    scores, sigma = rater.scores(state.eta)
    found = probed(rater, state, folder, scores, sigma)
    if jax.process_index() != 0:
        return
    write_rater(rater, state, folder)
    save_score_histogram(scores, sigma, folder.score_histogram)
    meta, recorded = rater.run.meta, folder.rows()
    if recorded:
        # Those of a run that was killed before its last pictures are older.
        save_curves(recorded, folder.curves)
    rows = [row for row in recorded if "effective_share" in row]
    last = {key: rows[-1][key] for key in ("loss", "effective_share")} if rows else {}
    result = {
        "rater": folder.rater.name,
        "meta_steps": int(state.step),
        "images_seen": rater.images_seen(int(state.step)),
        **last,
        "score_std": float(np.std(scores)),
        **learned_law(rater, state),
        **{name: finite(value) for name, value in found.items()},
        "probe_draws": meta.probe_draws,
        "probe_repeats": meta.probe_repeats,
        "seed": rater.run.seed,
        "devices": rater.devices.description,
    }
    write_whole(folder.result, json.dumps(result, indent=2) + "\n")
    write_report(folder)
    print(json.dumps(result), flush=True)


def learned_law(rater: OpenRater, state: RaterState) -> dict[str, Any]:
    """The law that was learned, as a section `law` of another run's config; {} for a network."""
    if not isinstance(rater.rater, LawRater):
        return {}
    law = rater.rater.law(jax.tree.map(to_host, state.eta))
    return {"law": {"name": "laplace", "mu": float(law.mu), "b": float(law.b)}}


def finite(value: float | None) -> float | None:
    """JSON has no nan: a cosine with a gradient of 0 is one."""
    return value if value is not None and math.isfinite(value) else None
