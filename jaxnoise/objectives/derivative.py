"""The forward-mode derivative of a network, for objectives whose target it is."""

from typing import Any

import jax

from jaxnoise.errors import ArgumentError, Described
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.objectives.parameterization import check_output, wide_dtype


def forward_derivative(
    network: Denoiser,
    at: tuple[jax.Array, jax.Array],
    along: tuple[jax.Array, jax.Array],
    like: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The output of a raw network and its derivative along a direction, in one pass.

    Products of matrices and convolutions keep all bits of float32, which by default accelerators
    do not: the derivative is a small difference of large numbers.

    Args:
      network: `(x float[B, ...], c_noise float[B] or [B, n]) -> float[B, ...]`, in an argument
        that is called teacher.
      at: x and c_noise, of at least 32 bits.
      along: the direction, of the same shapes.
      like: images whose dtype the network sees.

    Returns:
      Two float[B, ...] of at least 32 bits.

    Raises:
      ArgumentError: the network has no forward-mode derivative, or gives another shape.
    """

    def asked(x: jax.Array, c_noise: jax.Array) -> jax.Array:
        raw = network(x.astype(like.dtype), c_noise)
        check_output("teacher", raw, like)
        return raw.astype(wide_dtype(like))

    with jax.default_matmul_precision("float32"):
        # JAX itself says so under no transformation alone.
        if _has_custom_vjp(jax.make_jaxpr(asked)(*at).jaxpr):
            allowed = (
                "a network with forward-mode derivatives, without a jax.custom_vjp, such as "
                "UNet(fused=False)"
            )
            raise ArgumentError("teacher", Described("one with a custom_vjp"), allowed)
        return jax.jvp(asked, at, along)


def _has_custom_vjp(jaxpr: Any) -> bool:
    """Whether an operation of a program, or of those that it calls, has a hand-written backward."""
    for equation in jaxpr.eqns:
        if "custom_vjp" in equation.primitive.name:
            return True
        for held in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "jaxpr")):
            inner = getattr(held, "jaxpr", held)
            if hasattr(inner, "eqns") and _has_custom_vjp(inner):
                return True
    return False
