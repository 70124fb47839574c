"""Whether samplers visit noise that a run has not trained on yet."""

from math import log

import jax

from jaxnoise.experiment import ModelRun
from jaxnoise.objectives import ConsistencyObjective
from jaxnoise.run.open import warn
from jaxnoise.training.parallel import to_host
from jaxnoise.training.state import TrainState


def warn_of_untrained_noise(run: ModelRun, state: TrainState) -> None:
    """A warning where samplers visit noise that a curriculum by the loss did not get to."""
    objective, pace = run.objective, jax.tree.map(to_host, state.pace)
    if isinstance(objective, ConsistencyObjective) or not jax.tree.leaves(pace):
        return
    low, high = objective.range_under(pace)
    visited = [-2 * log(sigma) for s in run.samplers for sigma in s.levels if sigma > 0]
    # Ends of the range went through sigma and back.
    if min(visited) < low - 1e-3 or max(visited) > high + 1e-3:
        name = run.config["pacing"]["name"]
        warn(
            f"config.pacing.name={name!r}: by step {int(state.step)} training has seen log SNR "
            f"from {low:.2f} to {high:.2f} only; samplers visit {min(visited):.2f} to "
            f"{max(visited):.2f}"
        )
