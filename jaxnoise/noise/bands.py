"""Bands of noise levels, by which losses, scores and shares of samples are reported."""

import numpy as np
import numpy.typing as npt

BAND_EDGES = (0.1, 1.0, 10.0)
"""Noise levels sigma, in units of data within [-1, 1]."""
BAND_NAMES = ("<0.1", "0.1-1", "1-10", ">10")


def band_of(sigma: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """The band that each noise level lies in; a level at an edge lies above it.

    Args:
      sigma: float[n], noise levels.

    Returns:
      int[n], indices into `BAND_NAMES`.

    Example:
      >>> from jaxnoise.noise.bands import band_of
      >>> band_of([0.05, 0.1, 80.0]).tolist()
      [0, 1, 3]
    """
    return np.searchsorted(BAND_EDGES, np.asarray(sigma), side="right")
