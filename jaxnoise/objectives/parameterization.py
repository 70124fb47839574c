"""How a network's raw output becomes an estimate of the clean image."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnoise.errors import (
    ArgumentError,
    check_callable,
    check_numbers,
    check_positive,
    is_float,
    result_of,
)
from jaxnoise.noise.parameters import as_level


class Preconditioning(NamedTuple):
    """Coefficients of a denoiser, `D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`.

    What `preconditioned` asks for at the noise levels of a batch.

    Args:
      c_skip: float[...], factor of the noisy image.
      c_out: float[...], factor of the network's output.
      c_in: float[...], factor of the network's input.
      c_noise: float[...], what the network is told of the noise level.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import Preconditioning, preconditioned
      >>> def plain(sigma):
      ...     return Preconditioning(0 * sigma, 1 + 0 * sigma, 1 + 0 * sigma, jnp.log(sigma) / 4)
      >>> denoise = preconditioned(lambda x, c_noise: x / 2, plain)
      >>> denoise(jnp.ones((1, 1, 1, 1)), jnp.array([2.0])).tolist()
      [[[[0.5]]]]
    """

    c_skip: jax.Array
    c_out: jax.Array
    c_in: jax.Array
    c_noise: jax.Array


SIGMA_DATA_RANGE = (1e-6, 1e6)
"""Beyond, float32 loses squares of it beside squares of noise levels."""


def check_sigma_data(sigma_data: float) -> None:
    """Raises ArgumentError unless `sigma_data` is within `SIGMA_DATA_RANGE`."""
    low, high = SIGMA_DATA_RANGE
    allowed = f"a number > 0, from {low:g} to {high:g}"
    check_numbers("sigma_data", sigma_data, lambda x: (low <= x) & (x <= high), allowed)


def karras_preconditioning(
    sigma: jax.Array, sigma_data: float = 0.5, sigma_min: float = 0.002
) -> Preconditioning:
    """Preconditioning of a consistency function, with the boundary `f(x, sigma_min) = x` exact.

      c_skip = sd^2 / ((sigma - sigma_min)^2 + sd^2)    c_out = sd (sigma - sigma_min) / sqrt(sigma^2 + sd^2)
      c_in   = 1 / sqrt(sigma^2 + sd^2)                 c_noise = ln(sigma) / 4

    For consistency models.

    Args:
      sigma: float[...], noise levels >= sigma_min, in data units.
      sigma_data: standard deviation of the data (sd), > 0.
      sigma_min: the level at which the function is the identity, > 0.

    Returns:
      Four float arrays of sigma's shape.

    Raises:
      ArgumentError: `sigma_data` or `sigma_min` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import karras_preconditioning
      >>> c = karras_preconditioning(jnp.array([0.002, 80.0]))
      >>> float(c.c_skip[0]), float(c.c_out[0])
      (1.0, 0.0)

    Reference:
      Song et al., Consistency Models (arXiv 2303.01469), equation 25 and appendix C.
    """  # noqa: E501
    check_sigma_data(sigma_data)
    check_positive("sigma_min", sigma_min)
    sigma = as_level(sigma)
    gap = sigma - sigma_min
    total = jnp.sqrt(sigma**2 + sigma_data**2)
    return Preconditioning(
        c_skip=sigma_data**2 / (gap**2 + sigma_data**2),
        c_out=sigma_data * gap / total,
        c_in=1 / total,
        c_noise=jnp.log(sigma) / 4,
    )


def edm_preconditioning(sigma: jax.Array, sigma_data: float = 0.5) -> Preconditioning:
    """EDM's preconditioning of a denoiser: the raw network's input and target have unit variance.

      c_skip = sd^2 / (sigma^2 + sd^2)        c_out   = sigma sd / sqrt(sigma^2 + sd^2)
      c_in   = 1 / sqrt(sigma^2 + sd^2)       c_noise = ln(sigma) / 4

    For EDM's denoiser.

    Args:
      sigma: float[...], noise levels > 0, in data units.
      sigma_data: standard deviation of the data (sd), > 0.

    Returns:
      Four float arrays of sigma's shape.

    Raises:
      ArgumentError: `sigma_data` is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import edm_preconditioning
      >>> c = edm_preconditioning(jnp.array([0.5]), sigma_data=0.5)
      >>> print(f"{c.c_skip[0]:.3f} {c.c_in[0]:.3f}")
      0.500 1.414

    Reference:
      Karras et al. (arXiv 2206.00364), table 1 and equation 7.
    """
    check_sigma_data(sigma_data)
    sigma = as_level(sigma)
    total = jnp.sqrt(sigma**2 + sigma_data**2)
    return Preconditioning(
        c_skip=(sigma_data / total) ** 2,
        c_out=sigma_data * (sigma / total),
        c_in=1 / total,
        c_noise=jnp.log(sigma) / 4,
    )


def wide_dtype(x: jax.Array) -> jnp.dtype:
    """The dtype of images, or float32 where that has fewer bits: of levels, losses, statistics."""
    return x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.dtype(jnp.float32)


def check_output(argument: str, raw: Any, x: jax.Array) -> None:
    """Raises ArgumentError unless a network gave as many numbers as it takes, none broadcast.

    Args:
      argument: the parameter that holds the network.
      raw: what it gave.
      x: what it took.
    """
    if not is_float(raw) or raw.shape != x.shape:
        sizes = ",".join(map(str, x.shape))
        allowed = f"a function to floats of the shape of x, here float[{sizes}]"
        raise ArgumentError(argument, result_of(raw), allowed)


def preconditioned(
    network: Callable[[jax.Array, jax.Array], jax.Array],
    coefficients: Callable[[jax.Array], Preconditioning],
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The denoiser of a raw network, `D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`.

    For samplers, which take a denoiser, and for losses of one's own. The network sees x's dtype,
    and D gives it; between them nothing has fewer than 32 bits.

    Args:
      network: F, `(x float[B, ...], c_noise float[B]) -> float[B, ...]`.
      coefficients: `sigma float[B] -> Preconditioning`.

    Returns:
      `(x float[B, ...], sigma float[B]) -> float[B, ...]`.

    Raises:
      ArgumentError: `network` cannot be called, or gives another shape than it takes.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import karras_preconditioning, preconditioned
      >>> f = preconditioned(lambda x, c_noise: x, karras_preconditioning)
      >>> x = jnp.ones((1, 2, 2, 1))
      >>> bool((f(x, jnp.asarray([0.002])) == x).all())
      True
    """
    check_callable("network", network, "(x, c_noise) -> float[B, ...]")

    def denoise(x: jax.Array, sigma: jax.Array) -> jax.Array:
        noisy = x.astype(wide_dtype(x))
        c = coefficients(jnp.asarray(sigma).astype(noisy.dtype))
        raw = network((over_pixels(c.c_in, noisy) * noisy).astype(x.dtype), c.c_noise)
        check_output("network", raw, x)
        found = over_pixels(c.c_skip, noisy) * noisy + over_pixels(c.c_out, noisy) * raw.astype(
            noisy.dtype
        )
        return found.astype(x.dtype)

    return denoise


def over_pixels(coefficient: jax.Array, like: jax.Array) -> jax.Array:
    """Shapes one number per image so that it multiplies images.

    For a loss or a preconditioning of one's own.

    Args:
      coefficient: float[B].
      like: float[B, ...], images of the wanted rank.

    Returns:
      float[B, 1, ...], of the rank of `like`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import over_pixels
      >>> over_pixels(jnp.ones(2), jnp.zeros((2, 8, 8, 3))).shape
      (2, 1, 1, 1)
    """
    return coefficient.reshape(coefficient.shape + (1,) * (like.ndim - coefficient.ndim))
