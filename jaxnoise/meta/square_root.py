"""Optimizers whose square root has a derivative everywhere."""

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp


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


def _replaced(jaxpr: jex.Jaxpr) -> jex.Jaxpr:
    """The program with `_sqrt` for `sqrt`, in inner programs too; itself if it has none."""

    def inside(parameter: Any) -> Any:
        if isinstance(parameter, jex.ClosedJaxpr):
            new = _replaced(parameter.jaxpr)
            return parameter if new is parameter.jaxpr else parameter.replace(jaxpr=new)
        return tuple(map(inside, parameter)) if isinstance(parameter, tuple) else parameter

    def equation(old: jex.JaxprEqn) -> jex.JaxprEqn:
        if old.primitive.name == "sqrt":
            (new,) = jax.make_jaxpr(_sqrt)(old.invars[0].aval).eqns
            return old.replace(primitive=new.primitive, params=new.params)
        return old.replace(params={name: inside(value) for name, value in old.params.items()})

    if not _has_sqrt(jaxpr):
        return jaxpr
    return jaxpr.replace(eqns=[equation(old) for old in jaxpr.eqns])


def _has_sqrt(jaxpr: jex.Jaxpr) -> bool:
    if any(equation.primitive.name == "sqrt" for equation in jaxpr.eqns):
        return True
    return any(_has_sqrt(inner) for inner in jex.subjaxprs(jaxpr))


def with_flat_square_root(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, in whose derivatives `sqrt'(0) = 0`.

    `sqrt'(x) = 1 / (2 sqrt(x))` for x > 0, and 0 in place of infinity at x = 0; below, both are 0

    Adam divides by `sqrt(v)`. Where a gradient is exactly 0 (a dead unit, an unused embedding
    row), `sqrt'(0)` times the zero derivative of `v` would be NaN; with this rule it is 0, which
    is the true one-sided limit of the product, since v is a square. RAdam has the root of a
    negative number in the branch that its first steps do not take: that root is 0 here instead of
    NaN, which would spoil the derivative of the other branch. All other values stay as they are.

    Args:
      function: of pytrees of arrays, to a pytree of arrays; an optimizer's `update`, say.

    Returns:
      A function with the same arguments and results.

    Example:
      >>> function = lambda x: jnp.sqrt(jnp.square(x))
      >>> jax.grad(function)(0.0), jax.grad(with_flat_square_root(function))(0.0)
      (Array(nan, dtype=float32, weak_type=True), Array(0., dtype=float32, weak_type=True))
    """

    def wrapped(*arguments: Any) -> Any:
        traced, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        replaced = jex.jaxpr_as_fun(traced.replace(jaxpr=_replaced(traced.jaxpr)))
        outputs = replaced(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return wrapped
