"""Exponential moving averages of parameters."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnoise.errors import ArgumentError, Described, check_numbers, describe, is_float


def check_rate(argument: str, rate: float) -> None:
    """Raises ArgumentError unless `0 <= rate < 1`."""
    check_numbers(argument, rate, lambda x: (x >= 0) & (x < 1), "a number in [0, 1)")


def debiased_ema(
    new: optax.Params, average: optax.Params, rate: float, count: int | jax.Array
) -> optax.Params:
    """One update of a bias-corrected exponential moving average.

      a_k = a_{k-1} + (1 - r) / (1 - r^k) (p_k - a_{k-1})

    The result is the exact weighted mean of p_1..p_k with weights proportional to r^(k-j): the
    value of `average` before the first update has no influence.

    For the parameters that samples are drawn with; the first steps need no warm-up of the rate.

    Args:
      new: pytree, the parameters p_k. Leaves that are no float arrays (counters, keys) are
        handed on as they are.
      average: pytree of new's structure, a_{k-1}; it keeps its dtype, best float32: half
        precision cannot hold small steps.
      rate: r in [0, 1).
      count: int or int[], k = 1, 2, ... the number of this update: 1 for the first. A traced 0 is
        taken for 1.

    Returns:
      The pytree a_k.

    Raises:
      ArgumentError: `rate` outside [0, 1), a concrete `count` below 1, or pytrees of different
        structure or shapes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.optim import debiased_ema
      >>> first = debiased_ema(jnp.float32(3.0), jnp.float32(100.0), 0.5, jnp.int32(1))
      >>> round(float(debiased_ema(jnp.float32(6.0), first, 0.5, jnp.int32(2))), 5)
      5.0
    """
    check_rate("rate", rate)
    check_numbers("count", count, lambda k: k >= 1, "at least 1, the number of this update")
    if isinstance(rate, int | float):
        log_rate: Any = math.log(rate) if rate > 0 else -math.inf
    else:
        log_rate = jnp.log(rate)
    # expm1 keeps 1 - r^k accurate where r^k is close to 1; at k = 1 the quotient is 1 to the bit.
    unbiased = (1 - rate) / -jnp.expm1(jnp.asarray(count, jnp.float32) * log_rate)
    step_size = jnp.where(jnp.asarray(count) <= 1, 1.0, unbiased)
    structures: list[Any] = [jax.tree.structure(tree) for tree in (new, average)]
    if structures[0] != structures[1]:
        given, wanted = (Described(f"a pytree {structure}") for structure in structures[::-1])
        raise ArgumentError("average", given, f"{wanted}, as `new` is")
    for (path, now), held in zip(
        jax.tree.leaves_with_path(new), jax.tree.leaves(average), strict=True
    ):
        if np.shape(now) != np.shape(held):
            where = f"at {jax.tree_util.keystr(path)}" if path else "given"
            allowed = f"of shape {np.shape(now)} {where}, as `new` is"
            raise ArgumentError("average", describe(held), allowed)

    def mixed(now: Any, held: Any) -> Any:
        if not (is_float(now) and is_float(held)):
            return now
        wide = held.dtype if jnp.finfo(held.dtype).bits >= 32 else jnp.dtype(jnp.float32)
        size, now, held_wide = (x.astype(wide) for x in (step_size, now, held))
        # size and 1 - size, rounded, do not sum to 1: at .9999 an average would be 1e-4 too small.
        moved = held_wide + size * (now - held_wide)
        return jnp.where(size >= 1, now, moved).astype(held.dtype)

    return jax.tree.map(mixed, new, average)
