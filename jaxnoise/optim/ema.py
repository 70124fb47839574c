"""Exponential moving averages of parameters."""

import math

import jax
import jax.numpy as jnp
import optax

from jaxnoise.errors import ArgumentError


def check_rate(argument: str, rate: float) -> None:
    """Raises ArgumentError unless `0 <= rate < 1`."""
    if not 0 <= rate < 1:
        raise ArgumentError(argument, rate, "a number in [0, 1)")


def debiased_ema(
    new: optax.Params, average: optax.Params, rate: float, count: jax.Array
) -> optax.Params:
    """One update of a bias-corrected exponential moving average.

      a_k = a_{k-1} + (1 - r) / (1 - r^k) (p_k - a_{k-1})

    The result is the exact weighted mean of p_1..p_k with weights proportional to r^(k-j): the
    value of `average` before the first update has no influence.

    For the parameters that samples are drawn with; the first steps need no warm-up of the rate.

    Args:
      new: pytree of arrays, the parameters p_k.
      average: pytree of new's structure, a_{k-1}; kept in float32.
      rate: r in [0, 1).
      count: int[], k = 1, 2, ... the number of this update.

    Returns:
      The pytree a_k.

    Raises:
      ArgumentError: `rate` outside [0, 1).

    Example:
      >>> first = debiased_ema(jnp.float32(3.0), jnp.float32(100.0), 0.5, jnp.int32(1))
      >>> round(float(debiased_ema(jnp.float32(6.0), first, 0.5, jnp.int32(2))), 5)
      5.0
    """
    check_rate("rate", rate)
    if rate == 0:
        return new
    # expm1 keeps 1 - r^k accurate where r^k is close to 1; at k = 1 the quotient is 1 to the bit.
    unbiased = (1 - rate) / -jnp.expm1(jnp.asarray(count, jnp.float32) * math.log(rate))
    step_size = jnp.where(count == 1, 1.0, unbiased)
    return optax.incremental_update(new, average, step_size)
