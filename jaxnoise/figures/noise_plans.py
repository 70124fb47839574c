"""Works out which noise an objective trains on, and when, for the pictures of it."""

from collections.abc import Sequence
from math import inf, log
from pathlib import Path
from textwrap import shorten
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxnoise.compilation import run_once
from jaxnoise.figures.log_snr import LogSnrMoment, LogSnrPlan, save_logsnr_plot
from jaxnoise.figures.noise import NoisePlan, save_noise_plot
from jaxnoise.noise import Difficulty, DifficultyState, Pacing, paced_probs
from jaxnoise.noise.bands import BAND_EDGES
from jaxnoise.noise.logsnr_law import LogSnrLaw
from jaxnoise.objectives import (
    ConsistencyObjective,
    DenoisingObjective,
    ECTObjective,
    LogSnrObjective,
    MeanFlowObjective,
)
from jaxnoise.objectives.effective_sample_size import COMMON

MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where in training the levels and the law are shown, as shares of all steps; for a difficulty
curriculum, as shares of all stages, since the loss decides when they come."""

_RARELY = 1e-4
"""Mass of either tail that the axis of log SNR may leave out."""

# A Cauchy law would need thousands; e^10 is more noise, or less, than a network can tell from none.
_FARTHEST = 20.0

Floats = npt.NDArray[Any]


def save_noise(
    objective: ConsistencyObjective | LogSnrObjective,
    baseline: ConsistencyObjective | LogSnrObjective,
    path: Path,
    *,
    key: jax.Array,
    total_steps: int,
) -> None:
    """Writes the picture of an objective's noise beside that of a baseline of its kind.

    Args:
      objective: what is trained on.
      baseline: what it is shown beside.
      path: a PNG; its folder must exist.
      key: PRNG key of a grid of levels that is drawn at random.
      total_steps: steps of training.
    """
    if isinstance(objective, ConsistencyObjective) and isinstance(baseline, ConsistencyObjective):
        save_noise_plot(
            noise_plan("this config", objective, key, total_steps),
            noise_plan(
                "baseline: lognormal, doubling 20 to 250, Karras", baseline, key, total_steps
            ),
            path,
        )
    elif isinstance(objective, LogSnrObjective) and isinstance(baseline, LogSnrObjective):
        lam = log_snr_grid([objective, baseline], total_steps)
        save_logsnr_plot(
            log_snr_plan("this config", objective, lam, total_steps),
            log_snr_plan("baseline", baseline, lam, total_steps),
            path,
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
    shown = _steps_shown(MOMENTS, total_steps)

    def compute(key: jax.Array) -> Any:
        def at(step: jax.Array, state: Any) -> Any:
            levels, num_levels = objective.levels(key, step)
            probs = paced_probs(pacing, objective.law, levels, num_levels, state, step)
            return levels, probs, num_levels

        moments = jax.vmap(at)(jnp.asarray(shown), _paces(pacing, MOMENTS))
        return moments, curriculum(jnp.asarray(steps, jnp.int32))

    (levels, probs, counts), num_levels = _on_host(run_once(compute, key))
    return NoisePlan(
        title=title,
        steps=steps,
        num_levels=num_levels,
        moments=[
            (int(step), levels[i, :count], probs[i, : count - 1])
            for i, (step, count) in enumerate(zip(shown, counts, strict=True))
        ],
        labels=[_stage_name(pacing, share) for share in MOMENTS]
        if isinstance(pacing, Difficulty)
        else (),
    )


def log_snr_grid(objectives: Sequence[LogSnrObjective], total_steps: int) -> Floats:
    """An ascending axis of log SNR that shows nearly all that these objectives ever draw.

    Args:
      objectives: what is to be drawn over it.
      total_steps: steps of training.

    Returns:
      float[n], finer where more is drawn. It ends 20 away from the medians of the laws at most.
      Where a density ends on the axis there are points on both sides, so that it has no ramp.
    """
    u = np.concatenate([[0, _RARELY], np.linspace(0, 1, 202)[1:-1], [1 - _RARELY, 1]])
    steps = _steps_shown(MOMENTS, total_steps)
    points, ends, low, high = [], [], inf, -inf
    for objective in objectives:

        def compute(u: jax.Array, of: LogSnrObjective = objective) -> Any:
            def at(step: jax.Array, state: Any) -> jax.Array:
                return jnp.asarray(of.law.inverse_survival(of.pacing.warp(u, state, step)))

            drawn = jax.vmap(at)(jnp.asarray(steps), _paces(of.pacing, MOMENTS))
            median = of.law.inverse_survival(0.5)
            if isinstance(of, MeanFlowObjective):
                # No jump ends at more noise than it begins with.
                jumps = jnp.maximum(of.lower.inverse_survival(u), drawn[:, -2].min())
                drawn = jnp.concatenate([drawn, jumps[None]])
            return median, drawn

        median, drawn = _on_host(run_once(compute, jnp.asarray(u, jnp.float32)))
        lam = np.clip(drawn[:, 1:-1], median - _FARTHEST, median + _FARTHEST)
        points.append(lam.reshape(-1))
        ends.append(drawn[:, [0, -1]].reshape(-1))
        low, high = min(low, float(lam.min())), max(high, float(lam.max()))
    edges, near = np.concatenate(ends), (high - low) / 100
    edges = edges[(low - near <= edges) & (edges <= high + near)].astype(np.float32)
    # Some roundings away, since a law's end is only as exact as float32.
    aside = 1e-6 * (1 + np.abs(edges))
    beside = [edges - aside, edges + aside]
    axis = np.linspace(low, high, 801, dtype=np.float32)
    return np.unique(np.concatenate([*points, edges, *beside, axis]))


def log_snr_plan(
    title: str, objective: LogSnrObjective, lam: Floats, total_steps: int
) -> LogSnrPlan:
    """What a picture of an objective over log SNR shows, its pacing included.

    Args:
      title: what the objective is called; its law is added.
      objective: the objective.
      lam: float[n] ascending, where densities are given.
      total_steps: steps of training.

    Returns:
      The plan. The emphasis is that of the error of v, whatever is predicted, so that objectives
      can be compared; none for consistency tuning, which has no such error.
    """
    law, pacing = objective.law, objective.pacing
    shares: Sequence[float] = MOMENTS
    if isinstance(pacing, Difficulty):
        # A stage once, even if there are fewer than moments.
        shares = list({_stage(pacing, share): share for share in MOMENTS}.values())
    steps = _steps_shown(shares, total_steps)
    schedule = np.linspace(0, 1, 402, dtype=np.float32)[1:-1]

    def compute(lam: jax.Array, schedule: jax.Array) -> Any:
        t, log_law = law.survival(lam), law.log_prob(lam)
        edges = law.survival(-2 * jnp.log(jnp.asarray(BAND_EDGES, jnp.float32)))

        def at(step: jax.Array, state: Any) -> Any:
            log_prob = log_law + pacing.log_prob(t, state, step)
            lower = jnp.zeros_like(lam)
            if isinstance(objective, MeanFlowObjective):
                lower = _end_of_jump(objective.lower, lam, log_prob, pacing.cdf(t, state, step))
            return log_prob, pacing.cdf(edges, state, step), lower

        moments = jax.vmap(at)(jnp.asarray(steps), _paces(pacing, shares))
        weight = jnp.zeros_like(lam)
        if isinstance(objective, DenoisingObjective):
            weight = objective.weight.log_on(COMMON, lam)
        return *moments, weight, law.inverse_survival(schedule)

    log_probs, below, lower, log_weight, quantiles = _on_host(
        run_once(compute, jnp.asarray(lam, jnp.float32), jnp.asarray(schedule))
    )
    moments = [
        LogSnrMoment(
            name=_stage_name(pacing, share) if isinstance(pacing, Difficulty) else f"k = {step:,}",
            density=np.exp(log_probs[i]),
            shares=np.diff(below[i], prepend=0.0, append=1.0),
            emphasis=_emphasis(objective, log_weight, log_probs[i]),
            lower=lower[i] if isinstance(objective, MeanFlowObjective) else None,
        )
        for i, (share, step) in enumerate(zip(shares, steps, strict=True))
    ]
    return LogSnrPlan(
        title=shorten(f"{title}: {law}", 42, placeholder=" ..."),
        lam=lam,
        moments=moments,
        quantiles=(schedule, quantiles),
        gaps=_gaps(objective, lam, total_steps) if isinstance(objective, ECTObjective) else (),
    )


def _end_of_jump(
    lower: LogSnrLaw, lam: jax.Array, log_prob: jax.Array, survival: jax.Array
) -> jax.Array:
    """The density of the larger of two draws: where `lower` ends a jump, and where that begins."""
    end = jnp.exp(lower.log_prob(lam)) * (1 - survival)
    return end + jnp.exp(log_prob) * (1 - lower.survival(lam))


def _gaps(objective: ECTObjective, lam: Floats, total_steps: int) -> list[tuple[str, Floats]]:
    """1 - sigma_lo / sigma at each lambda, at the moments that differ."""
    steps = np.unique(_steps_shown(MOMENTS, total_steps))

    def compute(lam: jax.Array) -> jax.Array:
        sigma = jnp.exp(-lam / 2)
        return jnp.stack([1 - objective.gap(sigma, jnp.int32(step)) / sigma for step in steps])

    found = _on_host(run_once(compute, jnp.asarray(lam, jnp.float32)))
    return [(f"k = {step:,}", gap) for step, gap in zip(steps, found, strict=True)]


def _emphasis(objective: LogSnrObjective, log_weight: Floats, log_prob: Floats) -> Floats | None:
    """Density times what multiplies the error of v, up to a factor; None if that is not fixed."""
    if not isinstance(objective, DenoisingObjective) or objective.uncertainty is not None:
        return None
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


def _steps_shown(shares: Sequence[float], total_steps: int) -> npt.NDArray[np.int32]:
    return np.array([round(share * (total_steps - 1)) for share in shares], np.int32)


def _paces(pacing: Pacing, shares: Sequence[float]) -> Any:
    """The states to show; how far a difficulty curriculum gets is not known ahead."""

    def at(share: float) -> Any:
        if isinstance(pacing, Difficulty):
            stage = jnp.int32(_stage(pacing, share))
            return DifficultyState(stage=stage, best=jnp.float32(inf), bad=jnp.int32(0))
        return pacing.init()

    return jax.tree.map(lambda *states: jnp.stack(states), *map(at, shares))


def _on_host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)
