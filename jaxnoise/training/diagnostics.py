"""Numbers of a step by noise level, in four bands of sigma."""

import jax
import jax.numpy as jnp

from jaxnoise.noise.bands import BAND_EDGES, BAND_NAMES
from jaxnoise.training.drawing import AXIS


def sum_by_band(values: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums in each noise band, and how many examples fell there, over all devices.

    Args:
      values: float[b], of examples.
      sigma: float[b], noise levels.

    Returns:
      float[4] sums and float[4] counts, for sigma < 0.1, 0.1-1, 1-10 and >= 10.
    """
    band = jnp.searchsorted(jnp.asarray(BAND_EDGES, sigma.dtype), sigma, side="right")
    sums = jnp.zeros(len(BAND_NAMES), values.dtype).at[band].add(values)
    counts = jnp.zeros(len(BAND_NAMES), values.dtype).at[band].add(1.0)
    return jax.lax.psum((sums, counts), AXIS)


def nonfinite_range(losses: jax.Array, sigma: jax.Array) -> jax.Array:
    """Lowest and highest noise level with a non-finite loss, over all devices: float[2].

    (inf, -inf) when every loss is finite.
    """
    bad = ~jnp.isfinite(losses)
    low = jax.lax.pmin(jnp.min(jnp.where(bad, sigma, jnp.inf)), AXIS)
    high = jax.lax.pmax(jnp.max(jnp.where(bad, sigma, -jnp.inf)), AXIS)
    return jnp.stack([low, high])
