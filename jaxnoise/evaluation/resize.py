"""Resizing of images for Inception: two matrix products with interpolation weights.

How images are resized moves a Fréchet distance by more than many models differ, so each way has a
name that belongs to the protocol (Parmar et al., https://arxiv.org/abs/2104.11222).
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

from jaxnoise.errors import ArgumentError, one_of
from jaxnoise.models.inception import IMAGE_SIZE

RESIZES = ("tf1", "clean")

_Matrix = npt.NDArray[np.float32]


def _tf1_matrix(size_in: int, size_out: int) -> _Matrix:
    """float32[size_out, size_in]: output pixel i is read at `i * size_in / size_out`."""
    # TensorFlow takes the positions in float32; in float64 a weight would differ by 1e-6.
    positions = np.arange(size_out, dtype=np.float32) * np.float32(size_in / size_out)
    low = positions.astype(np.int64)
    fraction = positions - low
    matrix = np.zeros((size_out, size_in), np.float64)
    rows = np.arange(size_out)
    np.add.at(matrix, (rows, low), 1.0 - fraction)
    np.add.at(matrix, (rows, np.minimum(low + 1, size_in - 1)), fraction)
    return matrix.astype(np.float32)


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -1/2, which is 0 beyond |x| = 2."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _clean_matrix(size_in: int, size_out: int) -> _Matrix:
    """float32[size_out, size_in]: the cubic kernel, widened when it shrinks, rows summing to 1."""
    scale = size_in / size_out
    stretch = max(scale, 1.0)
    centres = (np.arange(size_out) + 0.5) * scale
    distances = np.arange(size_in)[None, :] + 0.5 - centres[:, None]
    weights = _cubic(distances / stretch)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _resized(images: jax.Array, rows: _Matrix, columns: _Matrix) -> jax.Array:
    highest = lax.Precision.HIGHEST
    x = images.astype(jnp.float32)
    x = jnp.einsum("pw,bhwc->bhpc", columns, x, precision=highest)
    return jnp.einsum("oh,bhpc->bopc", rows, x, precision=highest)


def _check(images: jax.Array, size: int) -> None:
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ArgumentError("images", images.shape, "of shape [B, H, W, C]")
    if images.dtype != jnp.uint8:
        raise ArgumentError("images", str(images.dtype), "uint8")
    if size < 1:
        raise ArgumentError("size", size, "at least 1")


def resize_tf1(images: jax.Array, size: int = IMAGE_SIZE) -> jax.Array:
    """Bilinear resize of TensorFlow 1: no half-pixel centres, no antialiasing.

    `y_i = (1 - f) x_k + f x_min(k+1, n-1)`, with `k + f = i n / size`, along each axis of n pixels.

    Args:
      images: uint8[B, H, W, C].
      size: output height and width in pixels, at least 1 (static).

    Returns:
      float32[B, size, size, C] in [0, 255].

    Raises:
      ArgumentError: another dtype or shape, or a size below 1.

    Example:
      >>> images = jnp.array([[0, 100]], jnp.uint8).reshape(1, 1, 2, 1)
      >>> resize_tf1(images, 4)[0, 0, :, 0].tolist()
      [0.0, 50.0, 100.0, 100.0]

    Reference: the resize inside the graph of 2015-12-05, and of torch-fidelity.
    """
    _check(images, size)
    return _resized(images, _tf1_matrix(images.shape[1], size), _tf1_matrix(images.shape[2], size))


def resize_clean(images: jax.Array, size: int = IMAGE_SIZE) -> jax.Array:
    """Antialiased bicubic resize without rounding, as PIL does it on float images.

    `y_i = sum_k w((k + 1/2 - c_i) / s) x_k / sum_k w((k + 1/2 - c_i) / s)` along each axis of n
    pixels, with centres `c_i = (i + 1/2) n / size`, `s = max(n / size, 1)` and w the cubic
    convolution kernel with a = -1/2. Values overshoot at edges and are not clipped.

    Args:
      images: uint8[B, H, W, C].
      size: output height and width in pixels, at least 1 (static).

    Returns:
      float32[B, size, size, C], within 0..255 but for the overshoot.

    Raises:
      ArgumentError: another dtype or shape, or a size below 1.

    Example:
      >>> images = jnp.full((1, 5, 7, 3), 9, jnp.uint8)
      >>> bool(jnp.allclose(resize_clean(images, 4), 9))
      True

    Reference: Parmar et al., https://arxiv.org/abs/2104.11222; kernel: Keys, "Cubic convolution
    interpolation for digital image processing", 1981, equation 15.
    """
    _check(images, size)
    return _resized(
        images, _clean_matrix(images.shape[1], size), _clean_matrix(images.shape[2], size)
    )


def inception_input(images: jax.Array, resize: str = "tf1") -> jax.Array:
    """Images as `Inception` takes them: `(y - 128) / 128` of the resized pixels y.

    Args:
      images: uint8[B, H, W, 3]; repeat a grey channel three times before.
      resize: "tf1", the graph's own (the usual FID), or "clean" (clean-fid), `resize_clean` with
        its overshoot clipped to [0, 255].

    Returns:
      float32[B, 299, 299, 3], in [-1, 1).

    Raises:
      ArgumentError: another dtype or shape, or an unknown resize.

    Example:
      >>> images = jnp.full((1, 32, 32, 3), 192, jnp.uint8)
      >>> float(inception_input(images)[0, 0, 0, 0])
      0.5
    """
    one_of("resize", resize, RESIZES)
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ArgumentError("images", images.shape, "of shape [B, H, W, 3]")
    resized = resize_tf1(images) if resize == "tf1" else jnp.clip(resize_clean(images), 0, 255)
    return (resized - 128) / 128
