"""Samples from a consistency model, in one step or several."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError

# (x [B, H, W, C], noise level [B]) -> image estimate [B, H, W, C]
Denoiser = Callable[[jax.Array, jax.Array], jax.Array]


def image_noise(keys: jax.Array, shape: tuple[int, ...], draw_index: int) -> jax.Array:
    """Standard normal noise from one key per image.

    `z_i ~ N(0, I)` from `fold_in(keys[i], draw_index)`. An image's noise depends on its own key
    alone, so that neither the batch size nor the number of devices changes a sample.

    Args:
      keys: typed PRNG keys, key[B].
      shape: shape of one image, (H, W, C).
      draw_index: which draw of the image this is, from 0; the start of sampling is draw 0.

    Returns:
      f32[B, H, W, C].

    Raises:
      ArgumentError: a negative draw index.

    Example:
      >>> import jax
      >>> keys = jax.random.split(jax.random.key(0), 6)
      >>> noise = image_noise(keys, (2, 2, 1), draw_index=0)
      >>> bool((image_noise(keys[4:], (2, 2, 1), draw_index=0) == noise[4:]).all())
      True
    """
    if draw_index < 0:
        raise ArgumentError("draw_index", draw_index, "at least 0")

    def draw(key: jax.Array) -> jax.Array:
        return jax.random.normal(jax.random.fold_in(key, draw_index), shape, jnp.float32)

    return jax.vmap(draw)(keys)


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
      ArgumentError: sigma_max <= 0.

    Example:
      >>> import jax.numpy as jnp
      >>> mean_of_the_data = lambda x, sigma: 0 * x + 0.5
      >>> float(one_step(mean_of_the_data, jnp.ones((1, 1, 1, 1)), 80.0).squeeze())
      0.5

    Reference:
      Song et al., "Consistency Models", arXiv 2303.01469, Algorithm 1.
    """
    if not sigma_max > 0:
        raise ArgumentError("sigma_max", sigma_max, "a number > 0")
    return denoiser(sigma_max * noise, jnp.full(noise.shape[0], sigma_max, noise.dtype))


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
      sigmas: levels tau of the further steps in data units, strictly descending, each in
        (sigma_min, sigma_max); static. iCT's two-step sampling of CIFAR-10 is (0.821,).
      keys: one PRNG key per image, key[B]; the noise at the i-th tau is an image's draw i, from 1.
      sigma_min: the lowest noise level of the training, > 0.
      sigma_max: the highest noise level of the training, > sigma_min.

    Returns:
      Images in [-1, 1] units, not clipped, of the shape and dtype of `noise`.

    Raises:
      ArgumentError: levels that are out of range or not strictly descending.

    Example:
      >>> import jax
      >>> gaussian = lambda x, sigma: x / jax.numpy.sqrt(1 + sigma**2)[:, None, None, None]
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> noise = image_noise(keys, (4, 4, 1), draw_index=0)
      >>> multistep(gaussian, noise, (0.8,), keys, sigma_min=0.002, sigma_max=80.0).shape
      (3, 4, 4, 1)

    Reference:
      Song et al., "Consistency Models", arXiv 2303.01469, Algorithm 1.
    """
    if not 0 < sigma_min < sigma_max:
        raise ArgumentError("sigma_min", sigma_min, f"in (0, sigma_max={sigma_max})")
    if not all(high > low for high, low in pairwise((sigma_max, *sigmas, sigma_min))):
        raise ArgumentError(
            "sigmas",
            tuple(sigmas),
            f"strictly descending in (sigma_min={sigma_min}, sigma_max={sigma_max})",
        )
    x = one_step(denoiser, noise, sigma_max)
    for index, tau in enumerate(sigmas, start=1):
        fresh = image_noise(keys, noise.shape[1:], index).astype(noise.dtype)
        noisy = x + (tau**2 - sigma_min**2) ** 0.5 * fresh
        x = denoiser(noisy, jnp.full(noise.shape[0], tau, noise.dtype))
    return x
