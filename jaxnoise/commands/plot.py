"""Draws which noise a config trains on, and when, beside the baseline."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.experiment import Experiment
from jaxnoise.objectives import ConsistencyObjective
from jaxnoise.training.pictures import NoisePlan, save_noise_plot
from jaxnoise.training.records import RunFolder
from jaxnoise.training.streams import stream_key

MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where in training the levels and the law are shown, as shares of all steps."""


def main(experiment: Experiment, folder: RunFolder) -> None:
    """Writes noise.png and prints its path."""
    key = stream_key(jax.random.key(experiment.seed), "grid")
    steps = experiment.train.steps
    folder.check_same(experiment.config)
    folder.root.mkdir(parents=True, exist_ok=True)
    save_noise_plot(
        noise_plan("this config", experiment.objective, key, steps),
        noise_plan(
            "baseline: lognormal, doubling 20 to 250, Karras", experiment.baseline, key, steps
        ),
        folder.noise,
    )
    print(folder.noise)


def noise_plan(
    title: str, objective: ConsistencyObjective, key: jax.Array, total_steps: int
) -> NoisePlan:
    """What a picture of an objective's noise shows."""
    curriculum = objective.curriculum
    last = total_steps - 1
    steps = np.unique([*curriculum.starts, *(s - 1 for s in curriculum.starts[1:]), last])
    moments = []
    for share in MOMENTS:
        step = round(share * last)
        levels, num_levels = objective.levels(key, jnp.int32(step))
        count = int(num_levels)
        probs = objective.law.probs(levels, num_levels)
        moments.append((step, np.asarray(levels)[:count], np.asarray(probs)[: count - 1]))
    return NoisePlan(
        title=title,
        steps=steps,
        num_levels=np.array([int(curriculum(int(s))) for s in steps]),
        moments=moments,
    )
