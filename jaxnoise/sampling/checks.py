"""Checks of what samplers are given: kinds, shapes and dtypes, which are known before a run."""

import operator
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxnoise.errors import (
    ArgumentError,
    Described,
    check_callable,
    check_numbers,
    check_positive,
    describe,
    is_traced,
)

DENOISER = "(x float[B, H, W, C], level float[B]) -> float[B, H, W, C]"


def check_count(argument: str, value: object, lowest: int) -> None:
    """Raises ArgumentError unless `value` is an integer, at least `lowest`, and not traced."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ArgumentError(argument, describe(value), f"a Python integer, at least {lowest}")
    if number < lowest:
        raise ArgumentError(argument, value, f"at least {lowest}")


def check_concrete(argument: str, value: object) -> None:
    """Raises ArgumentError for what is traced, where a sampler is laid out before a run."""
    if is_traced(value):
        raise ArgumentError(argument, "a traced value", "concrete: make the sampler outside jit")


def check_level(argument: str, sigma: Any) -> None:
    """Raises ArgumentError unless `sigma` is one finite number > 0, or one traced number."""
    if np.ndim(sigma):
        raise ArgumentError(argument, describe(sigma), "one finite number > 0")
    check_positive(argument, sigma)


def check_keys(argument: str, keys: Any, count: int | None = None) -> None:
    """Raises ArgumentError unless `keys` are PRNG keys, key[B], of `count` images if given.

    Example:
      >>> check_keys("keys", jax.random.key(0))
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: keys=key<fry>[]: must be key[B], a PRNG key for each image
    """
    shape: tuple[int, ...] = getattr(keys, "shape", ())
    dtype = getattr(keys, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    # A key of jax.random.PRNGKey is a row of numbers.
    fits = len(shape) == 1 if typed else len(shape) == 2 and dtype == jnp.uint32
    if not fits or count not in (None, shape[0]):
        size = "B" if count is None else count
        raise ArgumentError(argument, describe(keys), f"key[{size}], a PRNG key for each image")


def check_image_shape(argument: str, shape: Any) -> None:
    """Raises ArgumentError unless `shape` is a tuple of sizes, which may be symbolic."""

    def is_size(n: object) -> bool:
        if isinstance(n, int | np.integer):
            return bool(n >= 0)
        return not isinstance(n, float | str | None)

    if not isinstance(shape, tuple | list) or not all(map(is_size, shape)):
        raise ArgumentError(argument, describe(shape), "a tuple of sizes, (H, W, C)")


def is_float(value: object) -> bool:
    """Whether `value` is an array of floats."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


def check_start(denoiser: object, noise: Any) -> None:
    """Raises ArgumentError unless a sampler can start from `noise` with `denoiser`."""
    check_callable("denoiser", denoiser, DENOISER)
    if not is_float(noise) or len(noise.shape) != 4:
        raise ArgumentError("noise", describe(noise), "float[B, H, W, C]")


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
      >>> estimate("denoiser", lambda x, sigma: x[:, 0], jnp.ones((2, 8)), jnp.ones(2))
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: denoiser=a function to float32[2]: must be a function to \
floats of the shape of x, here float[2,8]
    """
    found = denoiser(x, level)
    if not is_float(found) or getattr(found, "shape", None) != x.shape:
        given = describe(found)
        what = given if isinstance(given, Described) else type(found).__name__
        sizes = ",".join(map(str, x.shape))
        allowed = f"a function to floats of the shape of x, here float[{sizes}]"
        raise ArgumentError(argument, Described(f"a function to {what}"), allowed)
    return found


def checked_steps(sigmas: Any, sigma_min: Any, sigma_max: Any) -> tuple[Any, ...]:
    """The levels of a consistency model's further steps, refused where they are out of order.

    What is traced is not compared.

    Raises:
      ArgumentError: levels that are no numbers, out of range or not strictly descending.
    """
    check_level("sigma_min", sigma_min)
    check_level("sigma_max", sigma_max)
    if not is_traced((sigma_min, sigma_max)) and not sigma_min < sigma_max:
        raise ArgumentError("sigma_min", sigma_min, f"in (0, sigma_max={sigma_max})")
    allowed = f"strictly descending in (sigma_min={sigma_min}, sigma_max={sigma_max})"
    try:
        steps = tuple(sigmas)
    except TypeError:
        raise ArgumentError("sigmas", describe(sigmas), f"a tuple of levels, {allowed}") from None
    if any(np.ndim(tau) for tau in steps):
        raise ArgumentError("sigmas", describe(sigmas), f"a tuple of numbers, {allowed}")
    check_numbers("sigmas", steps, lambda x: x == x, f"numbers, {allowed}")
    if is_traced((steps, sigma_min, sigma_max)):
        return steps
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


def ascending(argument: str, grid: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A grid of levels in float64, refused where it is not ascending.

    Raises:
      ArgumentError: a traced grid, or anything else than finite numbers in ascending order.
    """
    if is_traced(grid):
        raise ArgumentError(argument, "a traced array", "concrete: make the grid outside jit")
    check_numbers(argument, grid, lambda x: True, "numbers of shape [n], n >= 1")
    values = np.asarray(grid, np.float64)
    if values.ndim != 1 or not values.size:
        raise ArgumentError(argument, values.shape, "of shape [n], n >= 1")
    steps = np.diff(values)
    if not np.isfinite(values).all() or (steps <= 0).any():
        hint = ": reverse their order" if values.size > 1 and (steps < 0).all() else ""
        raise ArgumentError(argument, values.tolist(), f"finite and strictly ascending{hint}")
    return values
