"""Errors that name the value, the allowed range and the argument."""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from math import inf
from typing import Any

import jax
import numpy as np


class ArgumentError(ValueError):
    """An argument outside its allowed range.

    Configs use the argument's name to name the key, so `argument` is always the name of a
    parameter of the function that raised.

    Example:
      >>> raise ArgumentError("curve", -1.0, "a number > 0")
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: curve=-1.0: must be a number > 0
    """

    def __init__(self, argument: str, value: object, allowed: str):
        super().__init__(f"{argument}={value!r}: must be {allowed}")
        self.argument = argument
        self.value = value
        self.allowed = allowed


class ConfigError(ValueError):
    """A run that cannot start (bad config, data or work folder); the message is one line."""


class NonFiniteError(RuntimeError):
    """The loss, the gradient or the state of a run stopped being finite numbers."""


class Described(str):
    """A value in words, where its `repr` would not tell a reader what it is."""

    def __repr__(self) -> str:
        return str(self)


def describe(value: object) -> object:
    """An array by dtype and shape, "float32[2,8,8,1]"; anything else as it is.

    Example:
      >>> import numpy as np
      >>> describe(np.zeros((2, 3), np.float32)), describe("x")
      (float32[2,3], 'x')
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return value
    return Described(f"{dtype}[{','.join(map(str, shape))}]")


def one_of(argument: str, value: object, choices: Iterable[str]) -> None:
    """Raises ArgumentError unless `value` is one of `choices`, with the nearest one named.

    Example:
      >>> one_of("rule", "evn", ["even"])
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: rule='evn': must be one of even (did you mean 'even'?)
    """
    choices = list(choices)
    if value in choices:
        return
    near = get_close_matches(str(value), choices, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise ArgumentError(argument, value, f"one of {', '.join(choices)}{hint}")


def is_traced(tree: object) -> bool:
    """Whether a number, or any in a pytree of them, is known only when a program runs."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def check_numbers(
    argument: str, value: object, holds: Callable[[np.ndarray], Any], allowed: str
) -> None:
    """Raises ArgumentError unless `value` is real numbers for which `holds` is true everywhere.

    What is traced passes: its value is not known.

    Args:
      argument: whose value it is.
      value: a number or an array of any shape.
      holds: `float64[...] -> bool[...]`.
      allowed: for the message.

    Example:
      >>> check_numbers("width", 2.0, lambda x: (0 < x) & (x <= 1), "a number in (0, 1]")
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: width=2.0: must be a number in (0, 1]
    """
    if is_traced(value):
        return
    try:
        # Strings of digits and booleans are no numbers here.
        kind = np.asarray(value).dtype
        real = np.issubdtype(kind, np.number) or kind.name == "bfloat16"
        fits = real and bool(np.all(holds(np.asarray(value, np.float64))))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ArgumentError(argument, describe(value), allowed)


def check_positive(argument: str, value: object) -> None:
    """Raises ArgumentError unless `value` is a finite number above 0, or traced.

    Example:
      >>> check_positive("scale", 0.0)
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: scale=0.0: must be a finite number > 0
    """
    check_numbers(argument, value, lambda x: (x > 0) & (x < inf), "a finite number > 0")


def check_finite(argument: str, value: object) -> None:
    """Raises ArgumentError unless `value` is a finite number, or traced."""
    check_numbers(argument, value, np.isfinite, "a finite number")


def check_shape(
    argument: str, value: object, shape: tuple[int | None, ...], meaning: str = ""
) -> None:
    """Raises ArgumentError unless `value` is an array of this shape; its values may be traced.

    Args:
      argument: whose value it is.
      value: what came.
      shape: sizes, None for any.
      meaning: what the axes are, for the message.

    Example:
      >>> check_shape("sigma", np.zeros((2, 3)), (2,), "one level for each image")
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: sigma=float64[2,3]: must be of shape [2], one level for each image
    """  # noqa: E501
    found = getattr(value, "shape", None)
    if (
        found is None
        or len(found) != len(shape)
        or any(size not in (None, have) for size, have in zip(shape, found, strict=True))
    ):
        sizes = ",".join("n" if size is None else str(size) for size in shape)
        allowed = f"of shape [{sizes}]" + (f", {meaning}" if meaning else "")
        raise ArgumentError(argument, describe(value), allowed)


def check_callable(argument: str, value: object, form: str) -> None:
    """Raises ArgumentError unless `value` can be called.

    Args:
      argument: whose value it is.
      value: what came.
      form: such as "(a, b) -> float[B]".
    """
    if not callable(value):
        raise ArgumentError(argument, describe(value), f"a function {form}")
