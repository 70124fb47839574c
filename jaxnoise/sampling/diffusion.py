"""Samples from a denoiser by a deterministic ODE solver: Heun, Euler and DDIM.

Grids may ascend or descend: every sampler starts at the noisiest level.

The solvers loop with `jax.lax.scan`, so that a sampler compiles the network a fixed number of
times, however many steps it takes. Of noise in half precision the levels and the state between
evaluations are float32; the denoiser sees images in the noise's dtype.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy.typing as npt

from jaxnoise.errors import ArgumentError, Described, describe
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.objectives.parameterization import wide_dtype
from jaxnoise.objectives.prediction import vp_coefficients
from jaxnoise.sampling.checks import check_start, checked_range, estimate, ordered


def _descending_levels(levels: npt.ArrayLike, noise: jax.Array) -> jax.Array:
    values = ordered("levels", levels)
    if values[0] <= 0:
        raise ArgumentError("levels", values[0].item(), "> 0")
    return jnp.asarray(values[::-1], wide_dtype(noise))


def _in(dtype: jnp.dtype, denoiser: Denoiser) -> Denoiser:
    """A denoiser that sees images in a dtype; what is around it may be wider."""
    return lambda x, level: denoiser(x.astype(dtype), level)


def _denoise(denoiser: Denoiser, x: jax.Array, level: jax.Array) -> jax.Array:
    x0 = estimate("denoiser", denoiser, x, jnp.broadcast_to(level, x.shape[:1]))
    with jax.numpy_dtype_promotion("standard"):
        widened = jnp.promote_types(x0.dtype, x.dtype)
    if widened != x.dtype:
        # A loop must keep its dtype.
        shown = Described(f"a function to {describe(x0)}")
        raise ArgumentError("denoiser", shown, f"a function to {x.dtype} at most, as noise")
    return x0.astype(x.dtype)


def _slope(denoiser: Denoiser, x: jax.Array, sigma: jax.Array) -> jax.Array:
    """dx/dsigma of the probability-flow ODE, `(x - D(x, sigma)) / sigma`."""
    return (x - _denoise(denoiser, x, sigma)) / sigma


def heun(denoiser: Denoiser, noise: jax.Array, levels: npt.ArrayLike) -> jax.Array:
    """EDM's deterministic sampler: Heun's second-order method; 2n - 1 evaluations for n levels.

    From `x = sigma_max z`, each step from sigma to the next lower level tau takes
    `d = (x - D(x, sigma)) / sigma`, `y = x + (tau - sigma) d`, `d' = (y - D(y, tau)) / tau`,
    `x <- x + (tau - sigma) (d + d') / 2`. The last step, to noise level 0, has no d' and is
    Euler's. 18 levels are EDM's 35 evaluations for CIFAR-10.

    Args:
      denoiser: D(x f32[B, H, W, C], sigma f32[B]) -> f32[B, H, W, C], the mean of the clean image.
      noise: z ~ N(0, I), f32[B, H, W, C].
      levels: noise levels in data units, > 0, [n], in order, as `jaxnoise.noise.karras_levels`
        gives them; concrete numbers, not traced. They are visited from the noisiest on.

    Returns:
      Images in [-1, 1] units, not clipped, of the shape and dtype of `noise`.

    Raises:
      ArgumentError: levels that are not positive or in no strict order, noise that is no
        float[B, ...], or a denoiser that is no function or gives another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.sampling import heun
      >>> one_image_only = lambda x, sigma: 0 * x + 0.25
      >>> float(heun(one_image_only, jnp.ones((1, 1, 1, 1)), [0.002, 1.0, 80.0]).squeeze())
      0.25

    Reference:
      Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models",
      arXiv 2206.00364, Algorithm 1.
    """
    check_start(denoiser, noise)
    sigmas, denoiser = _descending_levels(levels, noise), _in(noise.dtype, denoiser)

    def step(x: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        sigma, tau = pair
        slope = _slope(denoiser, x, sigma)
        corrected = _slope(denoiser, x + (tau - sigma) * slope, tau)
        return x + (tau - sigma) * (slope + corrected) / 2, None

    x, _ = jax.lax.scan(step, sigmas[0] * noise.astype(sigmas.dtype), (sigmas[:-1], sigmas[1:]))
    # Euler's step to noise level 0 lands on the denoiser's output.
    return _denoise(denoiser, x, sigmas[-1]).astype(noise.dtype)


def euler(denoiser: Denoiser, noise: jax.Array, levels: npt.ArrayLike) -> jax.Array:
    """Euler's first-order method on the same ODE and grid as `heun`; n evaluations for n levels.

    `x <- x + (tau - sigma) (x - D(x, sigma)) / sigma` from each level sigma to the next lower
    level tau, and at the end to 0, which is the denoiser's output at the lowest level.

    Args:
      denoiser: D(x f32[B, H, W, C], sigma f32[B]) -> f32[B, H, W, C], the mean of the clean image.
      noise: z ~ N(0, I), f32[B, H, W, C].
      levels: noise levels in data units, > 0, [n], in order; concrete numbers, not traced.

    Returns:
      Images in [-1, 1] units, not clipped, of the shape and dtype of `noise`.

    Raises:
      ArgumentError: levels that are not positive or in no strict order, noise that is no
        float[B, ...], or a denoiser that is no function or gives another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.sampling import euler
      >>> one_image_only = lambda x, sigma: 0 * x + 0.25
      >>> float(euler(one_image_only, jnp.ones((1, 1, 1, 1)), [0.002, 1.0, 80.0]).squeeze())
      0.25

    Reference:
      Karras et al., arXiv 2206.00364, Algorithm 1 without the correction.
    """
    check_start(denoiser, noise)
    sigmas, denoiser = _descending_levels(levels, noise), _in(noise.dtype, denoiser)

    def step(x: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        sigma, tau = pair
        return x + (tau - sigma) * _slope(denoiser, x, sigma), None

    x, _ = jax.lax.scan(step, sigmas[0] * noise.astype(sigmas.dtype), (sigmas[:-1], sigmas[1:]))
    return _denoise(denoiser, x, sigmas[-1]).astype(noise.dtype)


def ddim(
    denoiser: Denoiser,
    noise: jax.Array,
    lambdas: npt.ArrayLike,
    *,
    trained_range: tuple[float, float],
) -> jax.Array:
    """Deterministic DDIM for a variance-preserving model of x0; n evaluations for n values.

    With `alpha^2 = sigmoid(lambda)`, `s^2 = sigmoid(-lambda)` and the model's
    `x0 = D(x, lambda)`, each step from lambda to the next takes `eps = (x - alpha x0) / s` and
    `x <- alpha' x0 + s' eps`; the last one, to infinite lambda, returns x0. The start is
    `x = z`, the prior of the variance-preserving process: exact as lambda goes to -inf, so the
    grid should begin where alpha is small.

    Args:
      denoiser: D(x f32[B, H, W, C], lambda f32[B]) -> f32[B, H, W, C]; lambda is the log
        signal-to-noise ratio log(alpha^2 / s^2). Models of eps or v are converted before.
      noise: z ~ N(0, I), f32[B, H, W, C].
      lambdas: grid of lambda, [n], in order; concrete, not traced. It is visited from the noisiest,
        the lowest lambda, on.
      trained_range: (lowest, highest) lambda that training has seen; a law truncated to a range
        has that range, an untruncated one (-inf, inf). Outside it the network extrapolates.

    Returns:
      Images in [-1, 1] units, not clipped, of the shape and dtype of `noise`.

    Raises:
      ArgumentError: a grid in no strict order, or that leaves the trained range;
        noise or a denoiser as for `heun`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.sampling import ddim
      >>> one_image_only = lambda x, lam: 0 * x + 0.25
      >>> z = jnp.ones((1, 1, 1, 1))
      >>> float(ddim(one_image_only, z, [-10.0, 0.0, 10.0], trained_range=(-10.0, 10.0)).squeeze())
      0.25
      >>> ddim(one_image_only, z, [-20.0, 0.0], trained_range=(-10.0, 10.0))
      Traceback (most recent call last):
      jaxnoise.errors.ArgumentError: lambdas=-20.0: must be within the trained range [-10.0, 10.0]

    Reference:
      Song et al., "Denoising Diffusion Implicit Models", arXiv 2010.02502, equation 12 at sigma=0.
    """
    check_start(denoiser, noise)
    lowest, highest = checked_range(trained_range)
    values = ordered("lambdas", lambdas)
    for end in (values[0].item(), values[-1].item()):
        # A grid made in float32 may miss the ends of the range by its rounding.
        slack = 1e-6 * max(1.0, abs(end))
        if not lowest - slack <= end <= highest + slack:
            raise ArgumentError("lambdas", end, f"within the trained range [{lowest}, {highest}]")
    grid, denoiser = jnp.asarray(values, wide_dtype(noise)), _in(noise.dtype, denoiser)
    alpha, s = vp_coefficients(grid)

    def step(x: jax.Array, at: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        lam, alpha_now, s_now, alpha_next, s_next = at
        x0 = _denoise(denoiser, x, lam)
        return alpha_next * x0 + s_next * (x - alpha_now * x0) / s_now, None

    steps = grid[:-1], alpha[:-1], s[:-1], alpha[1:], s[1:]
    x, _ = jax.lax.scan(step, noise.astype(grid.dtype), steps)
    return _denoise(denoiser, x, grid[-1]).astype(noise.dtype)
