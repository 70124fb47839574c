"""Samples from a consistency model, in one step or several."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError, check_count, check_keys
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.objectives.parameterization import wide_dtype
from jaxnoise.sampling.checks import (
    check_image_shape,
    check_level,
    check_start,
    checked_steps,
    estimate,
)


def image_noise(
    keys: jax.Array, shape: tuple[int, ...], draw_index: int, dtype: Any = jnp.float32
) -> jax.Array:
    """Standard normal noise from one key per image.

    `z_i ~ N(0, I)` from `fold_in(keys[i], draw_index)`. An image's noise depends on its own key
    alone, so that neither the batch size nor the number of devices changes a sample.

    Args:
      keys: typed PRNG keys, key[B].
      shape: shape of one image, (H, W, C).
      draw_index: which draw of the image this is, from 0; the start of sampling is draw 0.
      dtype: of the noise, and so of the images that a sampler makes of it.

    Returns:
      dtype[B, H, W, C]; of half precision rounded from float32, so that it is the same noise.

    Raises:
      ArgumentError: keys that are no key[B], a shape that is none, a negative draw index, or a
        dtype of no floats.

    Example:
      >>> import jax
      >>> from jaxnoise.sampling import image_noise
      >>> keys = jax.random.split(jax.random.key(0), 6)
      >>> noise = image_noise(keys, (2, 2, 1), draw_index=0)
      >>> bool((image_noise(keys[4:], (2, 2, 1), draw_index=0) == noise[4:]).all())
      True
    """
    check_keys("keys", keys)
    check_image_shape("shape", shape)
    check_count("draw_index", draw_index, 0)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ArgumentError("dtype", dtype, "of floats, such as jnp.float32")
    wide = dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, draw_index), shape, wide)

    return jax.vmap(draw)(keys).astype(dtype)


def one_step(denoiser: Denoiser, noise: jax.Array, sigma_max: float) -> jax.Array:
    """One evaluation of a consistency model at the highest noise level.

    `x = f(sigma_max z, sigma_max)`.

    Args:
      denoiser: the consistency function f(x f32[B, H, W, C], sigma f32[B]) -> f32[B, H, W, C].
      noise: z ~ N(0, I), f32[B, H, W, C].
      sigma_max: the highest noise level of the training, > 0, in data units.

    Returns:
      Images in [-1, 1] units, not clipped, of the shape and dtype of `noise`.

    Raises:
      ArgumentError: sigma_max <= 0, noise that is no float[B, H, W, C], or a denoiser that is no
        function or gives another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.sampling import one_step
      >>> mean_of_the_data = lambda x, sigma: 0 * x + 0.5
      >>> float(one_step(mean_of_the_data, jnp.ones((1, 1, 1, 1)), 80.0).squeeze())
      0.5

    Reference:
      Song et al., "Consistency Models", arXiv 2303.01469, Algorithm 1.
    """
    check_start(denoiser, noise)
    check_level("sigma_max", sigma_max)
    return _denoised(denoiser, sigma_max * noise, sigma_max, noise.dtype)


def _denoised(
    denoiser: Denoiser, x: jax.Array, sigma: float | jax.Array, dtype: jnp.dtype
) -> jax.Array:
    level = jnp.full(x.shape[0], sigma, wide_dtype(jnp.zeros((), dtype)))
    return estimate("denoiser", denoiser, x.astype(dtype), level).astype(dtype)


def multistep(
    denoiser: Denoiser,
    noise: jax.Array,
    sigmas: Sequence[float],
    keys: jax.Array,
    *,
    sigma_min: float,
    sigma_max: float,
) -> jax.Array:
    """Alternates noising to a lower level and denoising from it; len(sigmas) + 1 evaluations.

    `x = f(sigma_max z, sigma_max)`, then for each tau in `sigmas`:
    `x <- f(x + sqrt(tau^2 - sigma_min^2) z_tau, tau)`. The output of f carries noise of level
    sigma_min, so that after the addition x is at level tau. Without any tau this is `one_step`.

    Args:
      denoiser: the consistency function f(x f32[B, H, W, C], sigma f32[B]) -> f32[B, H, W, C].
      noise: z ~ N(0, I), f32[B, H, W, C]; `image_noise` with draw_index 0 gives it.
      sigmas: levels tau of the further steps in data units, in order, each in (sigma_min,
        sigma_max), visited from the noisiest on; static. iCT's two steps of CIFAR-10 are (0.821,).
      keys: one PRNG key per image, key[B]; the noise at the i-th tau is an image's draw i, from 1.
      sigma_min: the level at which f is the identity, the lowest of a grid; 0 for ECT and sCM.
      sigma_max: the highest noise level of the training, > sigma_min.

    Returns:
      Images in [-1, 1] units, not clipped, of the shape and dtype of `noise`.

    Raises:
      ArgumentError: levels that are out of range or in no order, keys that are not
        one for each image, or as `one_step`.

    Example:
      >>> import jax
      >>> from jaxnoise.sampling import image_noise, multistep
      >>> gaussian = lambda x, sigma: x / jax.numpy.sqrt(1 + sigma**2)[:, None, None, None]
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> noise = image_noise(keys, (4, 4, 1), draw_index=0)
      >>> multistep(gaussian, noise, (0.8,), keys, sigma_min=0.002, sigma_max=80.0).shape
      (3, 4, 4, 1)

    Reference:
      Song et al., "Consistency Models", arXiv 2303.01469, Algorithm 1.
    """
    check_start(denoiser, noise)
    steps = checked_steps(sigmas, sigma_min, sigma_max)
    if steps:
        check_keys("keys", keys, noise.shape[0])
    x = one_step(denoiser, noise, sigma_max)
    for index, tau in enumerate(steps, start=1):
        fresh = image_noise(keys, noise.shape[1:], index, noise.dtype)
        noisy = x + (tau**2 - sigma_min**2) ** 0.5 * fresh
        x = _denoised(denoiser, noisy, tau, noise.dtype)
    return x
