"""Statistics of a pair of image and noise, standardised by what Gaussian noise would show."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from scipy.fft import dct

from jaxnoise.errors import ArgumentError, check_shape
from jaxnoise.models.fused import at_least_float32


def noise_features(x0: jax.Array, eps: jax.Array, bands: int = 4) -> jax.Array:
    """Statistics of the noise, each of mean 0 and variance 1 if `eps ~ N(0, I)`, whatever x0 is.

      0        (||eps||^2 - D) / sqrt(2 D)                                energy
      1        <x0, eps> / ||x0||                                         alignment, exactly N(0, 1)
      2        (||x0 - eps||^2 - ||x0||^2 - D) / sqrt(4 ||x0||^2 + 2 D)   distance
      3, 4     sum of eps_p eps_q over the n pairs (p, q) of neighbours along a row, then along a
               column, over sqrt(n)                                       lag-1 autocovariance
      5..      (E_b - n_b) / sqrt(2 n_b)                                  band energies, low to high

    with D = H W C. E_b is the energy of the n_b coefficients of eps in band b of an orthonormal
    two-dimensional cosine transform (DCT-II), frequencies (u, v): with `r = max(u / H, v / W)`,
    band 0 is `r < 2^(1 - bands)`, and band b > 0 the octave `2^(b - bands) <= r < 2^(b + 1 - bands)`.
    All moments are exact: energy and bands are chi-square, the products of neighbours uncorrelated.
    The choice of statistics is ours.

    Args:
      x0: float[B, H, W, C], clean images.
      eps: float[B, H, W, C], noise.
      bands: number of bands, at least 1; both sides need at least `2^(bands - 1)` pixels, and 2.

    Returns:
      float[B, 5 + bands], float32 at least.

    Raises:
      ArgumentError: `bands` does not fit the image.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.models.noise_features import noise_features
      >>> x0 = jnp.ones((1, 8, 8, 1))
      >>> [round(value, 2) for value in jax.jit(noise_features)(x0, x0)[0].tolist()]
      [0.0, 8.0, -6.53, 7.48, 7.48, 44.55, -1.22, -2.45, -4.9]

    Reference: cosine transform, https://doi.org/10.1109/T-C.1974.223784.
    """  # noqa: E501
    check_shape("x0", x0, (None, None, None, None), "[B, H, W, C]")
    check_shape("eps", eps, x0.shape, "that of x0")
    _, height, width, channels = eps.shape
    if bands < 1 or min(height, width) < max(2, 2 ** (bands - 1)):
        allowed = f"at least 1, and few enough for 2^(bands - 1) pixels to fit {height}x{width}"
        raise ArgumentError("bands", bands, allowed)
    dtype = at_least_float32(eps.dtype)
    x0, eps = x0.astype(dtype), eps.astype(dtype)
    pixels = height * width * channels

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(x, axis=(1, 2, 3))

    energy, size, inner = total(eps * eps), total(x0 * x0), total(x0 * eps)
    # An image of zeros is aligned with nothing: the floor makes the quotient 0, the slope finite.
    floored = jnp.maximum(size, 1e-12)
    along_row = total(eps[:, :, 1:] * eps[:, :, :-1])
    along_column = total(eps[:, 1:] * eps[:, :-1])
    features = [
        (energy - pixels) / math.sqrt(2 * pixels),
        inner * lax.rsqrt(floored),
        (energy - 2 * inner - pixels) * lax.rsqrt(4 * size + 2 * pixels),
        along_row / math.sqrt(height * (width - 1) * channels),
        along_column / math.sqrt((height - 1) * width * channels),
    ]

    rows, columns = (
        jnp.asarray(dct(np.eye(side), norm="ortho", axis=0), dtype) for side in (height, width)
    )
    # The default precision of matrix products on accelerators would blur small bands.
    spectrum = jnp.einsum("uh,bhwc,vw->buvc", rows, eps, columns, precision=lax.Precision.HIGHEST)
    power = jnp.sum(spectrum * spectrum, axis=3)
    corners = [jnp.zeros_like(energy)]
    counts = [0]
    for b in range(bands):
        # r < 2^(b + 1 - bands) is the corner of the first u and v, rounded up.
        u, v = (-(-side // 2 ** (bands - 1 - b)) for side in (height, width))
        corners.append(jnp.sum(power[:, :u, :v], axis=(1, 2)))
        counts.append(u * v * channels)
        n = counts[-1] - counts[-2]
        features.append((corners[-1] - corners[-2] - n) / math.sqrt(2 * n))
    return jnp.stack(features, axis=1)
