"""Optimizers whose roots and quotients have a finite derivative everywhere."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax import lax

from jaxnoise.errors import check_callable


@jax.custom_jvp
def _sqrt(x: jax.Array) -> jax.Array:
    # NaN in a branch that is not taken would still make NaN of every derivative.
    return jnp.sqrt(jnp.where(x < 0, jnp.zeros_like(x), x))


@_sqrt.defjvp
def _sqrt_tangent(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    root = _sqrt(x)
    # Both branches are finite: an infinite one that is not taken would still make NaN.
    slope = 0.5 / jnp.where(x <= 0, jnp.ones_like(root), root)
    return root, jnp.where(x <= 0, jnp.zeros_like(slope), slope) * dx


@jax.custom_jvp
def _div(x: jax.Array, y: jax.Array) -> jax.Array:
    return x / y


@_div.defjvp
def _div_tangent(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x, y), (dx, dy) = primals, tangents
    zero = y == 0
    # As for the root: what is not taken must be finite too.
    divisor, numerator = jnp.where(zero, jnp.ones_like(y), y), jnp.where(zero, jnp.zeros_like(x), x)
    slope = jnp.where(zero, jnp.zeros_like(y), 1 / divisor)
    return _div(x, y), slope * dx - slope * (numerator / divisor) * dy


@jax.custom_jvp
def _rsqrt(x: jax.Array) -> jax.Array:
    return lax.rsqrt(x)


@_rsqrt.defjvp
def _rsqrt_tangent(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    root = _rsqrt(x)
    inner = jnp.where(x <= 0, jnp.zeros_like(root), root)
    # Factor by factor, since the cube of a root is infinite where x is tiny, and 0 times it NaN.
    return root, -0.5 * inner * (inner * (inner * dx))


_FINITE: dict[str, Callable[..., jax.Array]] = {"sqrt": _sqrt, "rsqrt": _rsqrt, "div": _div}


def _is_replaced(equation: jex.JaxprEqn) -> bool:
    # Integers divide too, and have no derivative.
    if equation.primitive.name not in _FINITE:
        return False
    aval: Any = equation.outvars[0].aval
    return bool(jnp.issubdtype(aval.dtype, jnp.floating))


def _replaced(jaxpr: jex.Jaxpr) -> jex.Jaxpr:
    """The program with `_FINITE` in place, in inner programs too; itself if it has none."""

    def inside(parameter: Any) -> Any:
        if isinstance(parameter, jex.ClosedJaxpr):
            new = _replaced(parameter.jaxpr)
            return parameter if new is parameter.jaxpr else parameter.replace(jaxpr=new)
        return tuple(map(inside, parameter)) if isinstance(parameter, tuple) else parameter

    def equation(old: jex.JaxprEqn) -> jex.JaxprEqn:
        if _is_replaced(old):
            # With its weak types, or the program around it would not fit.
            avals: Any = [variable.aval for variable in old.invars]
            (new,) = jax.make_jaxpr(_FINITE[old.primitive.name])(*avals).eqns
            return old.replace(primitive=new.primitive, params=new.params)
        return old.replace(params={name: inside(value) for name, value in old.params.items()})

    if not _has_any(jaxpr):
        return jaxpr
    return jaxpr.replace(eqns=[equation(old) for old in jaxpr.eqns])


def _has_any(jaxpr: jex.Jaxpr) -> bool:
    if any(_is_replaced(equation) for equation in jaxpr.eqns):
        return True
    return any(_has_any(inner) for inner in jex.subjaxprs(jaxpr))


def with_finite_derivatives(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, in whose derivatives `sqrt'(0) = rsqrt'(0) = 0` and `d (x / 0) = 0`.

      sqrt'(x) = 1 / (2 sqrt(x)) for x > 0, and 0 in place of infinity at x = 0; below, both are 0
      rsqrt'(x) dx = -((dx rsqrt(x)) rsqrt(x)) rsqrt(x) / 2 for x > 0, in this order; else 0
      d (x / y) = dx / y - x dy / y^2 for y != 0, and 0 at y = 0, where the value stays as it is

    Adam divides by `sqrt(v)`. Where a gradient is exactly 0 (a dead unit, an unused embedding
    row), `sqrt'(0)` times the zero derivative of `v` would be NaN; with this rule it is 0, which
    is the true one-sided limit of the product, since v is a square. RAdam has the root of a
    negative number in the branch that its first steps do not take: that root is 0 here instead of
    NaN, which would spoil the derivative of the other branch. Clipping by the global norm, LAMB and
    LARS divide by a norm, in a branch that they do not take where it is 0: the derivative of the
    branch that they do take is left. Adafactor multiplies by `rsqrt(v + 1e-30)`, whose slope is no
    float32, though its product with the derivative of v is 0. All other values stay as they are.

    Args:
      function: of pytrees of arrays, to a pytree of arrays; an optimizer's `update`, say.

    Returns:
      A function with the same arguments, by position, and the same results.

    Raises:
      ArgumentError: `function` is none.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import with_finite_derivatives
      >>> function = lambda x: jnp.sqrt(jnp.square(x))
      >>> jax.grad(function)(0.0), jax.grad(with_finite_derivatives(function))(0.0)
      (Array(nan, dtype=float32, weak_type=True), Array(0., dtype=float32, weak_type=True))
    """
    check_callable("function", function, "of pytrees of arrays")

    def wrapped(*arguments: Any) -> Any:
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        replaced = jex.jaxpr_as_fun(traced.replace(jaxpr=_replaced(traced.jaxpr)))
        outputs = replaced(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return wrapped
