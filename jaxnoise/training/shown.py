"""What a network is shown of an example: all that a neutral rater may see."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError, Described
from jaxnoise.objectives.levels import Levels
from jaxnoise.objectives.objective import Objective


def network_input(
    objective: Objective, own: Any, x0: jax.Array, eps: jax.Array, levels: Levels
) -> jax.Array:
    """The noisy images that an objective shows its network, by asking it with one that looks.

    So whatever the objective is, this is what the network sees: for denoising the noisy image at
    unit variance, for consistency training the student's, `x0 + sigma_hi eps`, in the same way. It
    costs no network, and where the loss itself is not used a compiler drops it.

    Args:
      objective: shows its network one noisy image for each example, outside any derivative; of
        several calls the first counts.
      own: parameters from the objective's `init`.
      x0: float[B, ...], clean images in [-1, 1].
      eps: float[B, ...], standard normal.
      levels: from the objective's `draw`.

    Returns:
      float[B, ...], of the shape and dtype of x0.

    Raises:
      ArgumentError: the objective never asked its student.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import Cosine
      >>> from jaxnoise.objectives import DenoisingObjective, LogSnrLevels, uniform_weight
      >>> from jaxnoise.training.shown import network_input
      >>> levels = LogSnrLevels(lam=jnp.zeros(1), log_prob=jnp.zeros(1))
      >>> objective = DenoisingObjective(Cosine(), uniform_weight("v"))
      >>> images, eps = jnp.ones((1, 1, 1, 1)), jnp.zeros((1, 1, 1, 1))
      >>> print(f"{network_input(objective, {}, images, eps, levels).item():.3f}")
      0.894
    """
    seen: list[jax.Array] = []

    def student(x: jax.Array, c_noise: jax.Array) -> jax.Array:
        del c_noise
        seen.append(x)
        return jnp.zeros_like(x)

    objective.losses(student, lambda x, c_noise: jnp.zeros_like(x), own, x0, eps, levels)
    if not seen:
        name = Described(type(objective).__name__)
        raise ArgumentError("objective", name, "one whose losses ask the student")
    return jax.lax.stop_gradient(seen[0])
