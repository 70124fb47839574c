"""Distances between two batches of images: float[B, ...] x 2 -> float[B], one number per image."""

import math

import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError, check_numbers, check_shape, describe, is_float
from jaxnoise.objectives.parameterization import wide_dtype

HUBER_SCALE = 0.00054
"""iCT's constant: c = 0.00054 sqrt(D) on a whole image of D numbers (arXiv 2310.14189, section 3.3)."""  # noqa: E501

_SMALLEST = 1e-15
"""Of c, whose square float32 must hold: else the slope at 0 is 0 / 0."""


def pseudo_huber(
    a: jax.Array, b: jax.Array, c: float | None = None, elementwise: bool = False
) -> jax.Array:
    """Pseudo-Huber distance, between L2 (small differences) and L1 or the norm (large ones).

      whole image:  d = sqrt(||a - b||_2^2 + c^2) - c,            c = 0.00054 sqrt(D) by default
      elementwise:  d = mean_j( sqrt((a_j - b_j)^2 + c^2) - c ),  c = 0.00054 by default

    The two constants differ because one compares a norm over D numbers with c, the other a single
    number; a constant meant for the whole image is sqrt(D) times too large elementwise.

    For consistency training since iCT: outliers at high noise weigh less than in the squared
    distance.

    Args:
      a: float[B, ...].
      b: float[B, ...], a's shape.
      c: the width of the quadratic part, at least 1e-15; None for the default above.
      elementwise: apply it to every number and average, instead of to the image's norm.

    Returns:
      float[B], >= 0, of at least 32 bits.

    Raises:
      ArgumentError: `c` is too small, shapes that differ, or arrays that are not of floats.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import pseudo_huber
      >>> a, b = jnp.zeros((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1))
      >>> float(pseudo_huber(a, b, c=1.5)[0])
      1.0

    Reference:
      Song and Dhariwal, Improved Techniques for Training Consistency Models (arXiv 2310.14189),
      section 3.3.
    """
    if c is not None:
        allowed = f"a number of at least {_SMALLEST:g}, or None for the default"
        check_numbers("c", c, lambda x: x >= _SMALLEST, allowed)
    square = _difference(a, b) ** 2
    pixels = tuple(range(1, a.ndim))
    if elementwise:
        c = HUBER_SCALE if c is None else c
        return jnp.mean(_huber(square, c), axis=pixels)
    c = HUBER_SCALE * math.sqrt(math.prod(a.shape[1:])) if c is None else c
    return _huber(jnp.sum(square, axis=pixels), c)


def _huber(square: jax.Array, c: float) -> jax.Array:
    # s / (sqrt(s + c^2) + c) is sqrt(s + c^2) - c without the cancellation near 0.
    return square / (jnp.sqrt(square + c**2) + c)


def _difference(a: jax.Array, b: jax.Array) -> jax.Array:
    """a - b in at least 32 bits."""
    for argument, x in (("a", a), ("b", b)):
        if not is_float(x):
            raise ArgumentError(argument, describe(x), "an array of floats: integers would wrap")
    check_shape("b", b, a.shape, "that of a")
    return a.astype(wide_dtype(a)) - b.astype(wide_dtype(b))


def l2(a: jax.Array, b: jax.Array) -> jax.Array:
    """Euclidean distance `||a - b||_2` of whole images; its gradient where a = b is taken as 0.

    For easy consistency tuning. It is what the pseudo-Huber distance of whole images becomes for
    c = 0: its gradient has one size at every distance, so that no pair outweighs the others.

    Args:
      a: float[B, ...].
      b: float[B, ...], a's shape.

    Returns:
      float[B], of at least 32 bits.

    Raises:
      ArgumentError: shapes that differ, or arrays that are not of floats.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import l2
      >>> float(l2(jnp.zeros((1, 2, 2)), jnp.full((1, 2, 2), 3.0))[0])
      6.0

    Reference:
      Geng et al., Consistency Models Made Easy (arXiv 2406.14548).
    """
    square = jnp.sum(_difference(a, b) ** 2, axis=tuple(range(1, a.ndim)))
    apart = square > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)


def squared_l2(a: jax.Array, b: jax.Array) -> jax.Array:
    """Squared Euclidean distance `||a - b||_2^2`, summed over pixels and channels.

    For the first consistency models, and for comparisons.

    Args:
      a: float[B, ...].
      b: float[B, ...], a's shape.

    Returns:
      float[B], of at least 32 bits.

    Raises:
      ArgumentError: shapes that differ, or arrays that are not of floats.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import squared_l2
      >>> float(squared_l2(jnp.zeros((1, 2, 2)), jnp.full((1, 2, 2), 3.0))[0])
      36.0
    """
    return jnp.sum(_difference(a, b) ** 2, axis=tuple(range(1, a.ndim)))


def l1(a: jax.Array, b: jax.Array) -> jax.Array:
    """Absolute distance `||a - b||_1`, summed over pixels and channels.

    For comparisons; its gradient does not fade as student and teacher agree.

    Args:
      a: float[B, ...].
      b: float[B, ...], a's shape.

    Returns:
      float[B], of at least 32 bits.

    Raises:
      ArgumentError: shapes that differ, or arrays that are not of floats.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import l1
      >>> float(l1(jnp.zeros((1, 2, 2)), jnp.full((1, 2, 2), 3.0))[0])
      12.0
    """
    return jnp.sum(jnp.abs(_difference(a, b)), axis=tuple(range(1, a.ndim)))
