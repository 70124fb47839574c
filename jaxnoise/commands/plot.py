"""Draws which noise a config trains on, and when, beside the baseline."""

from collections.abc import Sequence
from math import inf, log
from textwrap import shorten
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxnoise.experiment import Experiment
from jaxnoise.noise import Difficulty, DifficultyState, Pacing, paced_probs
from jaxnoise.objectives import ConsistencyObjective, DenoisingObjective
from jaxnoise.objectives.compensation import COMMON
from jaxnoise.training.bands import BAND_EDGES
from jaxnoise.training.noise_pictures import (
    LogSnrMoment,
    LogSnrPlan,
    NoisePlan,
    save_logsnr_plot,
    save_noise_plot,
)
from jaxnoise.training.records import RunFolder
from jaxnoise.training.streams import stream_key

MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where in training the levels and the law are shown, as shares of all steps; for a difficulty
curriculum, as shares of all stages, since the loss decides when they come."""

_RARELY = 1e-4
"""Mass of either tail that the axis of log SNR may leave out."""

# A Cauchy law would need thousands; e^10 is more noise, or less, than a network can tell from none.
_FARTHEST = 20.0

Floats = npt.NDArray[Any]


def main(experiment: Experiment, folder: RunFolder) -> None:
    """Writes noise.png and prints its path."""
    folder.check_same(experiment.config)
    folder.root.mkdir(parents=True, exist_ok=True)
    draw(experiment, folder)
    print(folder.noise)


def draw(experiment: Experiment, folder: RunFolder) -> None:
    """Writes noise.png."""
    objective, baseline = experiment.objective, experiment.baseline
    steps = experiment.schedule_steps
    if isinstance(objective, ConsistencyObjective) and isinstance(baseline, ConsistencyObjective):
        key = stream_key(jax.random.key(experiment.seed), "grid")
        save_noise_plot(
            noise_plan("this config", objective, key, steps),
            noise_plan("baseline: lognormal, doubling 20 to 250, Karras", baseline, key, steps),
            folder.noise,
        )
    elif isinstance(objective, DenoisingObjective) and isinstance(baseline, DenoisingObjective):
        lam = log_snr_grid([objective, baseline], steps)
        save_logsnr_plot(
            log_snr_plan("this config", objective, lam, steps),
            log_snr_plan("baseline", baseline, lam, steps),
            folder.noise,
        )
    else:
        raise TypeError(f"{type(objective).__name__} beside {type(baseline).__name__}")


def noise_plan(
    title: str, objective: ConsistencyObjective, key: jax.Array, total_steps: int
) -> NoisePlan:
    """What a picture of a consistency objective's noise shows, its pacing included."""
    curriculum, pacing = objective.curriculum, objective.pacing
    last = total_steps - 1
    steps = np.unique([*curriculum.starts, *(s - 1 for s in curriculum.starts[1:]), last])
    moments = []
    for share in MOMENTS:
        step = round(share * last)
        levels, num_levels = objective.levels(key, jnp.int32(step))
        count = int(num_levels)
        state = _pace(pacing, share)
        probs = paced_probs(pacing, objective.law, levels, num_levels, state, jnp.int32(step))
        moments.append((step, np.asarray(levels)[:count], np.asarray(probs)[: count - 1]))
    return NoisePlan(
        title=title,
        steps=steps,
        num_levels=np.array([int(curriculum(int(s))) for s in steps]),
        moments=moments,
        labels=[_stage_name(pacing, share) for share in MOMENTS]
        if isinstance(pacing, Difficulty)
        else (),
    )


def log_snr_grid(objectives: Sequence[DenoisingObjective], total_steps: int) -> Floats:
    """An ascending axis of log SNR that shows nearly all that these objectives ever draw.

    Args:
      objectives: what is to be drawn over it.
      total_steps: steps of training.

    Returns:
      float[n], finer where more is drawn. It ends 20 away from the medians of the laws at most.
    """
    points, low, high = [], inf, -inf
    for objective in objectives:
        law, pacing = objective.law, objective.pacing
        median = float(law.inverse_survival(0.5))
        for share in MOMENTS:
            u = np.concatenate([[_RARELY], np.linspace(0, 1, 202)[1:-1], [1 - _RARELY]])
            state, step = _pace(pacing, share), round(share * (total_steps - 1))
            drawn = law.inverse_survival(pacing.warp(jnp.asarray(u, jnp.float32), state, step))
            lam = np.clip(np.asarray(drawn), median - _FARTHEST, median + _FARTHEST)
            points.append(lam)
            low, high = min(low, float(lam.min())), max(high, float(lam.max()))
    return np.unique(np.concatenate([*points, np.linspace(low, high, 801, dtype=np.float32)]))


def log_snr_plan(
    title: str, objective: DenoisingObjective, lam: Floats, total_steps: int
) -> LogSnrPlan:
    """What a picture of a denoising objective's noise shows, its pacing included.

    Args:
      title: what the objective is called; its law is added.
      objective: the objective.
      lam: float[n] ascending, where densities are given.
      total_steps: steps of training.

    Returns:
      The plan. The emphasis is that of the error of v, whatever is predicted, so that objectives
      can be compared.
    """
    law, pacing = objective.law, objective.pacing
    at = jnp.asarray(lam, jnp.float32)
    t, log_law = law.survival(at), law.log_prob(at)
    edges = law.survival(-2 * jnp.log(jnp.asarray(BAND_EDGES, jnp.float32)))
    shares: Sequence[float] = MOMENTS
    if isinstance(pacing, Difficulty):
        # A stage once, even if there are fewer than moments.
        shares = list({_stage(pacing, share): share for share in MOMENTS}.values())
    moments = []
    for share in shares:
        state, step = _pace(pacing, share), round(share * (total_steps - 1))
        log_prob = np.asarray(log_law + pacing.log_prob(t, state, step))
        below = np.asarray(pacing.cdf(edges, state, step))
        moments.append(
            LogSnrMoment(
                name=_stage_name(pacing, share)
                if isinstance(pacing, Difficulty)
                else f"k = {step:,}",
                density=np.exp(log_prob),
                shares=np.diff(below, prepend=0.0, append=1.0),
                emphasis=_emphasis(objective, at, log_prob),
            )
        )
    schedule = np.linspace(0, 1, 402, dtype=np.float32)[1:-1]
    return LogSnrPlan(
        title=shorten(f"{title}: {law}", 42, placeholder=" ..."),
        lam=lam,
        moments=moments,
        quantiles=(schedule, np.asarray(law.inverse_survival(jnp.asarray(schedule)))),
    )


def _emphasis(objective: DenoisingObjective, lam: jax.Array, log_prob: Floats) -> Floats | None:
    """Density times what multiplies the error of v, up to a factor; None if that is learned."""
    if objective.uncertainty is not None:
        return None
    log_weight = np.asarray(objective.weight.log_on(COMMON, lam))
    if objective.compensation == "none":
        emphasis = log_prob + log_weight
    else:
        # p min(w/p, most) = min(w, most p)
        most = inf if objective.max_ratio is None else log(objective.max_ratio)
        clipped = np.minimum(log_weight, log_prob + most)
        emphasis = np.where(log_prob > -inf, clipped, -inf)
    return np.exp(emphasis - np.max(emphasis))


def _stage(pacing: Difficulty, share: float) -> int:
    return 1 + round(share * (pacing.clusters - 1))


def _stage_name(pacing: Difficulty, share: float) -> str:
    return f"stage {_stage(pacing, share)}/{pacing.clusters}"


def _pace(pacing: Pacing, share: float) -> Any:
    """The state to show at a moment; how far a difficulty curriculum gets is not known ahead."""
    if isinstance(pacing, Difficulty):
        stage = jnp.int32(_stage(pacing, share))
        return DifficultyState(stage=stage, best=jnp.float32(inf), bad=jnp.int32(0))
    return pacing.init()
