"""Checks of what samplers are given: kinds, shapes and dtypes, which are known before a run."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from jaxnoise.errors import (
    ArgumentError,
    check_callable,
    check_numbers,
    check_positive,
    describe,
    is_float,
    is_traced,
    result_of,
)

DENOISER = "(x float[B, H, W, C], level float[B]) -> float[B, H, W, C]"


def check_concrete(argument: str, value: object) -> None:
    """Raises ArgumentError for what is traced, where a sampler is laid out before a run."""
    if is_traced(value):
        raise ArgumentError(argument, "a traced value", "concrete: make the sampler outside jit")


def check_level(argument: str, sigma: Any) -> None:
    """Raises ArgumentError unless `sigma` is one finite number > 0, or one traced number."""
    if np.ndim(sigma):
        raise ArgumentError(argument, describe(sigma), "one finite number > 0")
    check_positive(argument, sigma)


def check_image_shape(argument: str, shape: Any) -> None:
    """Raises ArgumentError unless `shape` is a tuple of sizes, which may be symbolic."""

    def is_size(n: object) -> bool:
        if isinstance(n, int | np.integer):
            return bool(n >= 0)
        return not isinstance(n, float | str | None)

    if not isinstance(shape, tuple | list) or not all(map(is_size, shape)):
        raise ArgumentError(argument, describe(shape), "a tuple of sizes, (H, W, C)")


def check_start(denoiser: object, noise: Any) -> None:
    """Raises ArgumentError unless a sampler can start from `noise` with `denoiser`."""
    check_callable("denoiser", denoiser, DENOISER)
    if not is_float(noise) or len(noise.shape) < 2:
        raise ArgumentError("noise", describe(noise), "float[B, ...], such as float[B, H, W, C]")


def estimate(
    argument: str,
    denoiser: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    level: jax.Array,
) -> jax.Array:
    """What a denoiser says of x, refused where it is no estimate of x.

    Args:
      argument: the parameter that holds the denoiser.
      denoiser: `(x, level) -> the clean image`.
      x: float[B, ...].
      level: float[B].

    Raises:
      ArgumentError: the denoiser gives no floats of the shape of x.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.sampling.checks import estimate
      >>> estimate("denoiser", lambda x, sigma: x[:, 0], jnp.ones((2, 8)), jnp.ones(2))
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: denoiser=a function to float32[2]: must be a function to \
floats of the shape of x, here float[2,8]
    """
    found = denoiser(x, level)
    if not is_float(found) or getattr(found, "shape", None) != x.shape:
        sizes = ",".join(map(str, x.shape))
        allowed = f"a function to floats of the shape of x, here float[{sizes}]"
        raise ArgumentError(argument, result_of(found), allowed)
    return found


def checked_steps(sigmas: Any, sigma_min: Any, sigma_max: Any) -> tuple[Any, ...]:
    """The levels of a consistency model's further steps, from the noisiest on.

    What is traced is not compared, and taken to be descending.

    Raises:
      ArgumentError: levels that are no numbers, out of range, or neither ascending nor descending.
    """
    check_level("sigma_max", sigma_max)
    # 0 where the function is the identity on clean images alone.
    if np.ndim(sigma_min):
        raise ArgumentError("sigma_min", describe(sigma_min), "one finite number >= 0")
    check_numbers("sigma_min", sigma_min, lambda x: x >= 0, "a finite number >= 0")
    if not is_traced((sigma_min, sigma_max)) and not sigma_min < sigma_max:
        raise ArgumentError("sigma_min", sigma_min, f"in [0, sigma_max={sigma_max})")
    allowed = f"in order, all in (sigma_min={sigma_min}, sigma_max={sigma_max})"
    try:
        steps = tuple(sigmas)
    except TypeError:
        raise ArgumentError("sigmas", describe(sigmas), f"a tuple of levels, {allowed}") from None
    if any(np.ndim(tau) for tau in steps):
        raise ArgumentError("sigmas", describe(sigmas), f"a tuple of numbers, {allowed}")
    check_numbers("sigmas", steps, lambda x: x == x, f"numbers, {allowed}")
    if is_traced((steps, sigma_min, sigma_max)):
        return steps
    if len(steps) > 1 and steps[0] < steps[-1]:
        steps = steps[::-1]
    if not all(high > low for high, low in pairwise((sigma_max, *steps, sigma_min))):
        raise ArgumentError("sigmas", steps, allowed)
    return steps


def checked_range(trained_range: Any) -> tuple[float, float]:
    """(lowest, highest) lambda, refused where it is no range.

    Raises:
      ArgumentError: anything else than two numbers in ascending order.
    """
    check_concrete("trained_range", trained_range)
    allowed = "(lowest, highest), lowest < highest"
    check_numbers("trained_range", trained_range, lambda x: _is_range(x), allowed)
    lowest, highest = trained_range
    return lowest, highest


def _is_range(x: np.ndarray) -> bool:
    return x.shape == (2,) and bool(x[0] < x[1])


def ordered(argument: str, grid: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A grid of levels in float64, ascending, from one that ascends or descends.

    Raises:
      ArgumentError: a traced grid, or anything else than finite numbers in strict order.
    """
    if is_traced(grid):
        raise ArgumentError(argument, "a traced array", "concrete: make the grid outside jit")
    check_numbers(argument, grid, lambda x: True, "numbers of shape [n], n >= 1")
    values = np.asarray(grid, np.float64)
    if values.ndim != 1 or not values.size:
        raise ArgumentError(argument, values.shape, "of shape [n], n >= 1")
    values = values[::-1] if values[0] > values[-1] else values
    if not np.isfinite(values).all() or (np.diff(values) <= 0).any():
        allowed = "finite and strictly ascending, or strictly descending"
        raise ArgumentError(argument, np.asarray(grid).tolist(), allowed)
    return values
