"""Classifier-free guidance: a conditional denoiser pushed away from the unconditional one."""

import jax
import numpy as np

from jaxnoise.errors import ArgumentError, check_callable, check_finite, describe, is_traced
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.sampling.checks import DENOISER, estimate


def guided(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """`D = D_uncond + scale (D_cond - D_uncond)`: two evaluations of the network for one.

    The estimates of x0, of eps and of v are affine in one another at given (x, sigma), so that it
    does not matter in which of them one extrapolates. A scale of 1 is the conditional denoiser, at
    its own cost.

    Args:
      conditional: D(x f32[B, ...], sigma f32[B]) -> f32[B, ...] with its condition bound.
      unconditional: the same with the dropped condition bound.
      scale: finite; 0 is unconditional, above 1 sharpens. Ho and Salimans' w is `scale - 1`.

    Returns:
      A denoiser.

    Raises:
      ArgumentError: `scale` is no finite number, or a denoiser no function; when called, a
        denoiser that gives another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.sampling import guided
      >>> class_mean, mean = lambda x, sigma: 0 * x + 0.5, lambda x, sigma: 0 * x + 0.25
      >>> guided(class_mean, mean, 2.0)(jnp.zeros((1, 1)), jnp.ones(1)).item()
      0.75

    Reference: Ho and Salimans (arXiv 2207.12598), equation 6.
    """
    check_callable("conditional", conditional, DENOISER)
    check_callable("unconditional", unconditional, DENOISER)
    if np.ndim(scale):
        raise ArgumentError("scale", describe(scale), "one finite number")
    check_finite("scale", scale)
    if not is_traced(scale) and scale == 1:
        return conditional

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        plain = estimate("unconditional", unconditional, x, sigma)
        return plain + scale * (estimate("conditional", conditional, x, sigma) - plain)

    return denoise
