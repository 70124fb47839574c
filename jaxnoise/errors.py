"""Errors that name the value, the allowed range and the argument."""

from collections.abc import Iterable
from difflib import get_close_matches
from math import inf


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


def check_positive(argument: str, value: float) -> None:
    """Raises ArgumentError unless `value` is a finite number above 0.

    Example:
      >>> check_positive("scale", 0.0)
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: scale=0.0: must be a finite number > 0
    """
    if not 0 < value < inf:
        raise ArgumentError(argument, value, "a finite number > 0")


def check_finite(argument: str, value: float) -> None:
    """Raises ArgumentError unless `value` is a finite number."""
    if not -inf < value < inf:
        raise ArgumentError(argument, value, "a finite number")
