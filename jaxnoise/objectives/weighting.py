"""Weights of a training example by its noise level."""

import jax
import jax.numpy as jnp


def inverse_gap(sigma_lo: jax.Array, sigma_hi: jax.Array) -> jax.Array:
    """iCT's weight of a pair of neighbouring levels, `1 / (sigma_hi - sigma_lo)`.

    The levels are the pair's actual neighbours, so with a predefined table the weight changes when
    the neighbours do.

    Args:
      sigma_lo: float[...], the lower level of each pair.
      sigma_hi: float[...], the upper level, > sigma_lo.

    Returns:
      float[...] > 0.

    Example:
      >>> float(inverse_gap(jnp.float32(1.5), jnp.float32(2.0)))
      2.0

    Reference:
      Song and Dhariwal (arXiv 2310.14189), section 3.2.
    """
    return 1 / (sigma_hi - sigma_lo)


def uniform(sigma_lo: jax.Array, sigma_hi: jax.Array) -> jax.Array:
    """The same weight, 1, for every pair of levels (the original consistency training).

    Args:
      sigma_lo: float[...], unused but for its shape.
      sigma_hi: float[...], unused.

    Returns:
      float[...] of ones.

    Example:
      >>> float(uniform(jnp.float32(1.5), jnp.float32(2.0)))
      1.0
    """
    del sigma_hi
    return jnp.ones_like(sigma_lo)
