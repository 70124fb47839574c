"""Errors that name the value, the allowed range and the argument."""

import operator
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from math import inf
from typing import Any

import jax
import numpy as np

__all__ = ["ArgumentError", "ConfigError", "NonFiniteError"]
"""What callers catch; the checks below are the library's own."""


class ArgumentError(ValueError):
    """An argument outside its allowed range.

    Configs use the argument's name to name the key, so `argument` is always the name of a
    parameter of the function that raised.

    Args:
      argument: the parameter's name.
      value: what came, or its description.
      allowed: what must come instead; it follows on "must be".

    Example:
      >>> from jaxnoise.errors import ArgumentError
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


class WeightWarning(UserWarning):
    """A weight, or its compensation, leaves a few draws to rule what is learned."""


class NonFiniteError(RuntimeError):
    """The loss, the gradient or the state of a run stopped being finite numbers."""


class Described(str):
    """A value in words, where its `repr` would not tell a reader what it is."""

    def __repr__(self) -> str:
        return str(self)


def describe(value: object) -> object:
    """An array by dtype and shape, "float32[2,8,8,1]"; anything else as it is.

    Args:
      value: what came.

    Returns:
      What a message shows.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.errors import describe
      >>> describe(np.zeros((2, 3), np.float32)), describe("x")
      (float32[2,3], 'x')
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return value
    return Described(f"{dtype}[{','.join(map(str, shape))}]")


def one_of(argument: str, value: object, choices: Iterable[str]) -> None:
    """Raises ArgumentError unless `value` is one of `choices`, with the nearest one named.

    Args:
      argument: whose value it is.
      value: what came.
      choices: what is allowed.

    Example:
      >>> from jaxnoise.errors import one_of
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
    """Whether a number, or any in a pytree of them, is known only when a program runs.

    Args:
      tree: a pytree, or a number.

    Example:
      >>> from jaxnoise.errors import is_traced
      >>> is_traced({"mu": 1.0})
      False
    """
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
      >>> from jaxnoise.errors import check_numbers
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

    Args:
      argument: whose value it is.
      value: a number or an array of any shape.

    Example:
      >>> from jaxnoise.errors import check_positive
      >>> check_positive("scale", 0.0)
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: scale=0.0: must be a finite number > 0
    """
    check_numbers(argument, value, lambda x: (x > 0) & (x < inf), "a finite number > 0")


def check_finite(argument: str, value: object) -> None:
    """Raises ArgumentError unless `value` is a finite number, or traced.

    Args:
      argument: whose value it is.
      value: a number or an array of any shape.

    Example:
      >>> from jaxnoise.errors import check_finite
      >>> check_finite("mu", float("inf"))
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: mu=inf: must be a finite number
    """
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
      >>> import numpy as np
      >>> from jaxnoise.errors import check_shape
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

    Example:
      >>> from jaxnoise.errors import check_callable
      >>> check_callable("distance", 1.0, "(a, b) -> float[B]")
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: distance=1.0: must be a function (a, b) -> float[B]
    """
    if not callable(value):
        raise ArgumentError(argument, describe(value), f"a function {form}")


def check_count(argument: str, value: object, lowest: int = 1) -> None:
    """Raises ArgumentError unless `value` is an integer, at least `lowest`, and not traced.

    Example:
      >>> from jaxnoise.errors import check_count
      >>> check_count("candidates", 2.0)
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: candidates=2.0: must be a Python integer, at least 1
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ArgumentError(argument, describe(value), f"a Python integer, at least {lowest}")
    if number < lowest:
        raise ArgumentError(argument, value, f"at least {lowest}")


def is_float(value: object) -> bool:
    """Whether `value` is an array of floats."""
    dtype: Any = getattr(value, "dtype", None)
    return dtype is not None and bool(jax.dtypes.issubdtype(dtype, np.floating))


def are_keys(keys: object, count: int | None = None) -> bool:
    """Whether `keys` are PRNG keys, key[B], of `count` examples if that is given."""
    shape: tuple[int, ...] = getattr(keys, "shape", ())
    dtype: Any = getattr(keys, "dtype", None)
    typed = dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
    # A key of jax.random.PRNGKey is a row of numbers.
    fits = len(shape) == 1 if typed else len(shape) == 2 and dtype == np.uint32
    return fits and count in (None, shape[0])


def check_keys(argument: str, keys: object, count: int | None = None) -> None:
    """Raises ArgumentError unless `keys` are PRNG keys, key[B], of `count` examples if given.

    Example:
      >>> import jax
      >>> from jaxnoise.errors import check_keys
      >>> check_keys("keys", jax.random.key(0))
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: keys=key<fry>[]: must be key[B], a PRNG key for each example
    """
    if not are_keys(keys, count):
        size = "B" if count is None else count
        raise ArgumentError(argument, describe(keys), f"key[{size}], a PRNG key for each example")


def result_of(found: object) -> Described:
    """What a caller's function gave, for a message.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.errors import result_of
      >>> result_of(np.zeros(3, np.float32)), result_of((1, 2))
      (a function to float32[3], a function to tuple)
    """
    given = describe(found)
    what = given if isinstance(given, Described) else type(found).__name__
    return Described(f"a function to {what}")
