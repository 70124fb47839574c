"""Checks of what this room is given: kinds, shapes and dtypes, which are known before a run."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import (
    ArgumentError,
    Described,
    check_callable,
    check_keys,
    check_numbers,
    check_shape,
    describe,
    is_float,
    result_of,
)

LOSSES = "(x0, eps) -> float[B]"
"""The form of a student's losses."""


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
        sizes = ",".join(map(str, shape))
        allowed = f"a function {form}, here float[{sizes}]"
        raise ArgumentError(argument, result_of(found), allowed)


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
