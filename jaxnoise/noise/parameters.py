"""The numbers that a law is made of: leaves of a pytree, checked where they are known."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Number = float | jax.Array
"""A parameter of a law: a number, or one that is traced."""

_STATIC = {"str", "bool", "int", "None"}


class Parameterized:
    """A frozen dataclass whose subclasses are pytrees: its numbers are leaves, names are not.

    So a law can be an argument of a jitted function, be vmapped over an array of its numbers, and
    be differentiated in them. Fields annotated as str, bool, int or None are static; all others
    are leaves or pytrees themselves. What is rebuilt from leaves is not checked again. A subclass
    must not be registered with jax once more, as flax.struct.dataclass does.

    Example:
      >>> import jax
      >>> from jaxnoise.noise import Laplace
      >>> jax.grad(lambda law: law.log_prob(1.0))(Laplace(mu=0.0, b=0.5)).mu.item()
      2.0
    """

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        jax.tree_util.register_pytree_with_keys(
            cls,
            _flatten_with_keys,
            lambda static, leaves: _rebuild(cls, static, leaves),
            _flatten,
        )


def as_level(x: ArrayLike) -> jax.Array:
    """`x` as a float array of at least 32 bits: noise levels are never in half precision."""
    x = jnp.asarray(x)
    return x if x.dtype in (jnp.float32, jnp.float64) else x.astype(jnp.result_type(float))


def floor_of(dtype: jnp.dtype) -> float:
    """Half of the spacing of uniform draws: 2^-24 in float32, 2^-53 in float64."""
    return float(jnp.finfo(dtype).eps) / 2


def log_of(x: Any) -> Any:
    """ln x, in float64 on the host for a Python number."""
    return math.log(x) if isinstance(x, int | float) else jnp.log(x)


def log_of_expm1(x: Any) -> Any:
    """ln(e^x - 1), in float64 on the host for a Python number."""
    if isinstance(x, int | float):
        return x + math.log(-math.expm1(-x))
    return x + jnp.log(-jnp.expm1(-x))


def ceil_of(x: Any) -> Any:
    """The smallest whole number that is not below x; an int for a Python number."""
    return math.ceil(x) if isinstance(x, int | float) else jnp.ceil(x)


def _names(law: Any) -> tuple[list[str], list[str]]:
    """Names of the fields that are leaves, and of those that are not."""
    fields = dataclasses.fields(law) if dataclasses.is_dataclass(law) else ()
    if not fields and getattr(law, "__dict__", None) and not isinstance(law, type):
        raise TypeError(f"{type(law).__name__}: must be a dataclass, whose fields jax can see")
    static = [field.name for field in fields if _is_static(field.type)]
    return [field.name for field in fields if field.name not in static], static


def _is_static(annotation: Any) -> bool:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return {part.strip() for part in text.split("|")} <= _STATIC


def _flatten(law: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    leaves, static = _names(law)
    return tuple(getattr(law, name) for name in leaves), tuple(getattr(law, n) for n in static)


def _flatten_with_keys(law: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    leaves, static = _flatten(law)
    keys = [jax.tree_util.GetAttrKey(name) for name in _names(law)[0]]
    return tuple(zip(keys, leaves, strict=True)), static


def _rebuild(cls: type, static: Iterable[Any], leaves: Iterable[Any]) -> Any:
    law: Any = object.__new__(cls)
    names, fixed = _names(cls)
    for name, value in zip([*names, *fixed], [*leaves, *static], strict=True):
        object.__setattr__(law, name, value)
    return law
