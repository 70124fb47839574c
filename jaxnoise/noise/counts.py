"""Numbers of levels: an int, and checked, wherever their value is known."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import ArgumentError, check_shape, describe, is_traced


def known_count(argument: str, n: Any) -> int | None:
    """A number of levels as an int; None where it is traced, and so not known.

    Args:
      argument: whose value it is.
      n: a Python or NumPy integer, or an array of one integer.

    Raises:
      ArgumentError: `n` is no integer, or more than one.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise.counts import known_count
      >>> known_count("n", jnp.int32(5))
      5
    """
    if isinstance(n, int | np.integer):
        return int(n)
    if not hasattr(n, "dtype") or not jnp.issubdtype(n.dtype, jnp.integer):
        raise ArgumentError(argument, describe(n), "an integer")
    check_shape(argument, n, (), "one integer")
    return None if is_traced(n) else int(n)


def check_range(argument: str, n: Any, least: int, most: int | None = None) -> None:
    """Raises ArgumentError unless `n` is an integer from `least` to `most`, and not traced.

    Args:
      argument: whose value it is.
      n: what came.
      least: the lowest that is allowed.
      most: the highest, or None.

    Example:
      >>> from jaxnoise.noise.counts import check_range
      >>> check_range("max_levels", 1, 2)
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: max_levels=1: must be an integer >= 2
    """
    if not isinstance(n, int | np.integer) or n < least or (most is not None and n > most):
        limit = "" if most is None else f" and <= {most}"
        raise ArgumentError(argument, n, f"an integer >= {least}{limit}")
