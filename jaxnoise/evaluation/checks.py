"""Checks of what this room is given: numbers on the host, images in bytes, paths and counts."""

import operator
import os

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ArgumentError, Described, describe, is_traced


def check_integer(argument: str, value: object) -> None:
    """Raises ArgumentError unless `value` is an integer."""
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ArgumentError(argument, describe(value), "an integer") from None
    if isinstance(value, bool):
        raise ArgumentError(argument, value, "an integer")


def check_count(argument: str, value: int, lowest: int = 1) -> None:
    """Raises ArgumentError unless `value` is an integer, at least `lowest`.

    Example:
      >>> check_count("subsets", 2.5)
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: subsets=2.5: must be an integer
    """
    check_integer(argument, value)
    if value < lowest:
        raise ArgumentError(argument, value, f"at least {lowest}")


def check_seed(argument: str, value: int) -> None:
    """Raises ArgumentError unless numpy takes `value` as a seed."""
    check_integer(argument, value)
    if not 0 <= value < 2**32:
        raise ArgumentError(argument, value, "in 0..2^32 - 1")


def check_path(argument: str, value: object) -> None:
    """Raises ArgumentError unless `value` is the path of a file or folder."""
    if not isinstance(value, str | os.PathLike):
        raise ArgumentError(argument, describe(value), "a path, a string or pathlib.Path")


def check_kind(argument: str, value: object, kind: type, allowed: str) -> None:
    """Raises ArgumentError unless `value` is an instance of `kind`."""
    if not isinstance(value, kind):
        given = describe(value)
        plain = isinstance(given, Described | str | int | float | None)
        shown = given if plain else Described(type(value).__name__)
        raise ArgumentError(argument, shown, allowed)


def check_images(argument: str, images: object) -> None:
    """Raises ArgumentError unless `images` are uint8[n, H, W, C].

    Example:
      >>> check_images("images", np.zeros((2, 8, 8, 1)))
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: images=float64[2,8,8,1]: must be uint8[n, H, W, C]
    """
    if getattr(images, "dtype", None) != np.uint8 or len(getattr(images, "shape", ())) != 4:
        raise ArgumentError(argument, describe(images), "uint8[n, H, W, C]")


def real_numbers(argument: str, values: npt.ArrayLike, form: str) -> npt.NDArray[np.float64]:
    """Numbers as float64 on the host, refused where they are none; any shape.

    Args:
      argument: the caller's name of the parameter, for the message.
      values: an array or nested lists.
      form: what is allowed, such as "float[n, D]".

    Example:
      >>> real_numbers("real", [["a"]], "float[n, D]")
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: real=<U1[1,1]: must be real numbers, float[n, D]
    """
    if is_traced(values):
        raise ArgumentError(argument, "a traced array", f"concrete: {form}, outside jit")
    try:
        array = np.asarray(values)
    except ValueError:
        ragged = Described("rows of different lengths")
        raise ArgumentError(argument, ragged, f"real numbers, {form}") from None
    if array.dtype.kind not in "fiu" and not jnp.issubdtype(array.dtype, jnp.floating):
        shown = describe(array) if array.ndim else values
        raise ArgumentError(argument, shown, f"real numbers, {form}")
    return np.asarray(array, np.float64)
