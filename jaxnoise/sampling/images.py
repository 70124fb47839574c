"""From a model's output to bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ArgumentError, describe, is_float, is_traced


def to_uint8(images: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Images in [-1, 1] as bytes, clipped and rounded; on the host, outside jit.

    `p = floor(127.5 (clip(x, -1, 1) + 1) + 1/2)`: to the nearest byte, and a half goes up (away
    from 0, where rounding to even could go down), so that 0 becomes 128. The inverse of
    `p / 127.5 - 1`: every byte survives the way there and back. Values outside [-1, 1], which a
    model is free to produce, become the nearest end.

    Args:
      images: float[...] in [-1, 1] units; a device array is fetched.

    Returns:
      uint8[...].

    Raises:
      ArgumentError: anything else than floats, such as images in bytes already; or a value that
        is not finite, which no byte can stand for.

    Example:
      >>> from jaxnoise.sampling import to_uint8
      >>> to_uint8([-7.0, -1.0, 0.0, 1.0]).tolist()
      [0, 0, 128, 255]
    """
    if is_traced(images):
        raise ArgumentError("images", "a traced array", "concrete: call this outside jit")
    try:
        given = np.asarray(images)
    except ValueError:
        given = None
    if not is_float(given):
        shown = describe(images if given is None or not given.ndim else given)
        raise ArgumentError("images", shown, "float[...] in [-1, 1] units")
    values = np.asarray(images, np.float32)
    if not np.isfinite(values).all():
        raise ArgumentError("images", "nan or inf", "finite")
    scaled: npt.NDArray[np.float32] = np.float32(127.5) * (np.clip(values, -1, 1) + 1)
    return np.floor(scaled + np.float32(0.5)).astype(np.uint8)
