"""Checks of what this room is given: kinds, shapes and dtypes, which are known before a run."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import (
    ArgumentError,
    Described,
    check_callable,
    check_numbers,
    check_shape,
    describe,
)

LOSSES = "(x0, eps) -> float[B]"
"""The form of a student's losses."""


def check_count(argument: str, value: object, lowest: int = 1) -> None:
    """Raises ArgumentError unless `value` is an integer, at least `lowest`, and not traced.

    Example:
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
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


def are_keys(keys: object, count: int | None = None) -> bool:
    """Whether `keys` are PRNG keys, key[B], of `count` examples if that is given."""
    shape: tuple[int, ...] = getattr(keys, "shape", ())
    dtype = getattr(keys, "dtype", None)
    if dtype is None or not shape or count not in (None, shape[0]):
        return False
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return len(shape) == 1
    # A key of jax.random.PRNGKey is a row of numbers.
    return len(shape) == 2 and bool(dtype == jnp.uint32)


def check_keys(argument: str, keys: object, count: int | None = None) -> None:
    """Raises ArgumentError unless `keys` are PRNG keys, key[B].

    Example:
      >>> check_keys("keys", jax.random.key(0))
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: keys=key<fry>[]: must be key[B], a PRNG key for each example
    """
    if not are_keys(keys, count):
        size = "B" if count is None else count
        raise ArgumentError(argument, describe(keys), f"key[{size}], a PRNG key for each example")


def check_images(argument: str, images: object, count: int | None = None) -> None:
    """Raises ArgumentError unless `images` are float[B, ...]."""
    shape: tuple[int, ...] = getattr(images, "shape", ())
    if not is_float(images) or len(shape) < 2 or count not in (None, shape[0]):
        size = "B" if count is None else count
        raise ArgumentError(argument, describe(images), f"float[{size}, ...], one for each example")


def check_result(argument: str, found: object, shape: tuple[int, ...], form: str) -> None:
    """Raises ArgumentError unless what a caller's function gave are floats of this shape.

    Args:
      argument: the parameter that holds the function.
      found: what it gave.
      shape: what was expected.
      form: of the function, such as "(x0, eps) -> float[B]".

    Example:
      >>> check_result("losses", jnp.ones((2, 8)), (2,), LOSSES)
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: losses=a function to float32[2,8]: must be a function \
(x0, eps) -> float[B], here float[2]
    """
    if not is_float(found) or getattr(found, "shape", None) != shape:
        given = describe(found)
        what = given if isinstance(given, Described) else type(found).__name__
        sizes = ",".join(map(str, shape))
        allowed = f"a function {form}, here float[{sizes}]"
        raise ArgumentError(argument, Described(f"a function to {what}"), allowed)


def check_step(step: Any) -> None:
    """Raises ArgumentError unless `step` is one integer, which may be traced."""
    try:
        whole = jnp.issubdtype(jnp.result_type(step), jnp.integer) and np.shape(step) == ()
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise ArgumentError("step", describe(step), "an integer, int[]")


def check_batch(keys: object, x0: object, lam: object, step: Any, losses: object) -> None:
    """Raises ArgumentError unless the arguments of `select` are of one batch."""
    check_keys("keys", keys)
    count: int = keys.shape[0]  # type: ignore[attr-defined]
    check_images("x0", x0, count)
    check_shape("lam", lam, (count,), "the log SNR of each example")
    if not is_float(lam):
        raise ArgumentError("lam", describe(lam), "float[B], log SNR")
    check_numbers("lam", lam, np.isfinite, "finite: log SNR, -2 ln sigma for a noise level sigma")
    check_step(step)
    if losses is not None:
        check_callable("losses", losses, f"{LOSSES}, or None")


def one_axis(found: object) -> tuple[Any, ...]:
    """The shape that what a function gave has if it is one number for each example."""
    return getattr(found, "shape", ())[:1] or ("B",)


def check_floats(argument: str, tree: Any, allowed: str) -> None:
    """Raises ArgumentError unless all leaves of a pytree are floats or arrays of them."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not isinstance(leaf, float) and not is_float(leaf):
            shown = Described(f"a pytree with {jax.tree_util.keystr(path)}={describe(leaf)}")
            raise ArgumentError(argument, shown if path else describe(leaf), allowed)


def shapes_of(tree: Any) -> Any:
    """A pytree of numbers with their shapes and dtypes in place of their values."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), tree)
