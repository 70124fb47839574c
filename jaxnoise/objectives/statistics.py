"""What a law that learns itself may follow of each example, by the name that a pacing gives it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Seen(NamedTuple):
    """What denoising knows of each example of a batch, float[B] each.

    Args:
      squared: squared error of the network's output, a mean over pixels.
      weight: what multiplies it in the loss that the law has without a pacing.
      trained: `weight`, with what a learned uncertainty makes of it.
      to_eps: what turns `squared` into the squared error of the noise.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives.statistics import DENOISING, Seen
      >>> seen = Seen(*map(jnp.asarray, (3.0, 2.0, 2.0, 0.5)))
      >>> {name: float(value(seen)) for name, value in DENOISING.items() if name != "progress"}
      {'loss': 6.0, 'second_moment': 36.0, 'gradient': 12.0, 'entropy_rate': 1.5}
    """

    squared: jax.Array
    weight: jax.Array
    trained: jax.Array
    to_eps: jax.Array


DENOISING: dict[str, Callable[[Seen], jax.Array]] = {
    "loss": lambda seen: seen.weight * seen.squared,
    "second_moment": lambda seen: (seen.weight * seen.squared) ** 2,
    # ||d(w L)/dF||^2 = 4 w^2 L / D for a mean L over D pixels; 4/D is the same at every level.
    "gradient": lambda seen: seen.trained**2 * seen.squared,
    "entropy_rate": lambda seen: seen.to_eps * seen.squared,
    "progress": lambda seen: seen.weight * seen.squared,
}
"""Of a weighted squared error `w L`."""

CONSISTENCY: dict[str, Callable[[jax.Array], jax.Array]] = {
    "loss": lambda losses: losses,
    "second_moment": jnp.square,
    "progress": lambda losses: losses,
}
"""Of the losses of pairs. The gradient of whatever distance has no closed form, and there is no
error of a prediction of noise."""
