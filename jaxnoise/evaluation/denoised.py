"""Where along the noise a model is good: held-out images, noised and denoised in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import exp, log

import numpy as np
import numpy.typing as npt

from jaxnoise.data.images import Images
from jaxnoise.evaluation.extractors import Pixels, extract
from jaxnoise.evaluation.reference import Reference
from jaxnoise.evaluation.samples import AT_ONCE
from jaxnoise.evaluation.splits import Indices
from jaxnoise.noise.bands import BAND_NAMES, band_of
from jaxnoise.sampling.images import to_uint8

SIGMA_RANGE = (0.002, 80.0)

Denoise = Callable[[Pixels, npt.NDArray[np.int32], Indices, float], npt.NDArray[np.float32]]
"""`(images uint8[n, H, W, C], labels int32[n], their indices, sigma) -> their estimates,
float32[n, H, W, C] in [-1, 1], from x0 + sigma eps`."""


def sigmas_between(count: int) -> list[float]:
    """Noise levels from .002 to 80, equally far apart in their logarithm.

    Args:
      count: how many, at least 1.

    Example:
      >>> [round(sigma, 3) for sigma in sigmas_between(3)]
      [0.002, 0.4, 80.0]
    """
    low, high = map(log, SIGMA_RANGE)
    return [exp(x) for x in np.linspace(low, high, count)]


def denoised_by_level(
    denoise: Denoise,
    images: Images,
    indices: Indices,
    reference: Reference,
    sigmas: Sequence[float],
) -> dict[str, list[float]]:
    """What a model makes of noised images, level by level.

    Args:
      denoise: estimates clean images, each from the noise of its index.
      images: of which some are noised.
      indices: which, `reference.n` of them for a distance beside the floor's.
      reference: what the distance of the estimates is taken to.
      sigmas: noise levels.

    Returns:
      `{"sigma": ..., "error": ..., "frechet": ...}`, lists of a number for each level: the mean
      squared error of the estimates, pixels in [-1, 1], and the Fréchet distance of the estimates
      to the reference. A denoiser has a low error and blurs; a consistency model, a low distance.
    """
    errors, distances = [], []
    for sigma in sigmas:
        squares: list[float] = []

        def estimates(sigma: float = sigma, squares: list[float] = squares) -> Iterator[Pixels]:
            for start in range(0, len(indices), AT_ONCE):
                rows = indices[start : start + AT_ONCE]
                pixels, labels = images.load(rows)
                found = denoise(pixels, labels, rows, sigma)
                gaps = (found - (pixels.astype(np.float32) / 127.5 - 1)).reshape(len(rows), -1)
                squares.extend(np.mean(gaps.astype(np.float64) ** 2, axis=1).tolist())
                yield to_uint8(found)

        moments = extract(reference.extractor, estimates()).moments
        distances.append(reference.frechet.distance(moments.mean, moments.covariance))
        errors.append(float(np.mean(squares)))
    return {"sigma": list(sigmas), "error": errors, "frechet": distances}


def by_band(denoised: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Means over the levels of each noise band: of errors the geometric, of distances the plain.

    Args:
      denoised: from `denoised_by_level`.

    Returns:
      `denoised_error_<band>` and `denoised_frechet_<band>` for each band that a level lies in.

    Example:
      >>> by_band({"sigma": [0.2, 0.4], "error": [0.25, 1.0], "frechet": [1.0, 2.0]})
      {'denoised_error_0.1-1': 0.5, 'denoised_frechet_0.1-1': 1.5}
    """
    bands = band_of(denoised["sigma"])
    found = {}
    for number in sorted(set(bands.tolist())):
        own = bands == number
        errors, distances = (np.asarray(denoised[key])[own] for key in ("error", "frechet"))
        # Errors of a band differ by orders of magnitude.
        found[f"denoised_error_{BAND_NAMES[number]}"] = float(np.exp(np.mean(np.log(errors))))
        found[f"denoised_frechet_{BAND_NAMES[number]}"] = float(np.mean(distances))
    return found
