"""What a distance means: the reference, the sample size, the floor, and the record of all three.

A Fréchet distance depends on the extractor, the reference and the number of samples (its bias
falls like 1/n), so that a bare number says nothing. Here every number is taken with the SAME
reference and the SAME n as its floor, the distance of real held-out images: a generator that
draws perfect samples would score the floor, not 0.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ArgumentError, one_of
from jaxnoise.evaluation.frechet import Moments, image_moments

Indices = npt.NDArray[np.int64]
Images = npt.NDArray[np.uint8]


def reference_split(num_examples: int, n: int, seed: int = 0) -> tuple[Indices, Indices]:
    """Splits the training images into a reference and a floor set, by one fixed shuffle.

    The first half of the shuffle (the larger one when the number is odd) is the reference; the
    floor set is `n` images of the other half. The halves are disjoint, because a floor measured
    on images that are also in the reference would be too low, and n generated images are then
    compared with the same reference.

    Args:
      num_examples: number of training images, at least 4.
      n: images in the floor set, and in every generated set; 2 <= n <= num_examples // 2.
      seed: of the shuffle; a number is comparable only with numbers of the same seed.

    Returns:
      (reference_idx, floor_idx), int64, ascending and disjoint.

    Raises:
      ArgumentError: too few examples, or an n outside its range.

    Example:
      >>> reference_idx, floor_idx = reference_split(1797, 898)
      >>> len(reference_idx), len(floor_idx), len(set(reference_idx) & set(floor_idx))
      (899, 898, 0)
    """
    if num_examples < 4:
        raise ArgumentError("num_examples", num_examples, "at least 4")
    if not 2 <= n <= num_examples // 2:
        raise ArgumentError("n", n, f"in 2..{num_examples // 2} (half of num_examples)")
    # RandomState's stream is frozen for good; numpy's newer generators may change between versions.
    order = np.random.RandomState(seed).permutation(num_examples).astype(np.int64)
    half = num_examples - num_examples // 2
    return np.sort(order[:half]), np.sort(order[half : half + n])


def _check_images(argument: str, images: Images) -> None:
    if images.dtype != np.uint8:
        raise ArgumentError(argument, str(images.dtype), "uint8")
    if images.ndim != 4 or len(images) < 2:
        raise ArgumentError(argument, images.shape, "of shape [n, H, W, C], n >= 2")


@dataclass(frozen=True, eq=False)
class RawPixelReference:
    """A reference set in raw-pixel space with its floor; made by `raw_pixel_reference`.

    Attributes:
      name: what the reference is, in words.
      moments: of the reference images, pixels mapped to [-1, 1].
      image_shape: (H, W, C).
      sha256: digest of the reference's pixels, hexadecimal.
      n: number of images in the floor set, and required of every generated set.
      floor: distance of the floor set to the reference.
    """

    name: str
    moments: Moments
    image_shape: tuple[int, ...]
    sha256: str
    n: int
    floor: float


def raw_pixel_reference(reference: Images, held_out: Images, name: str) -> RawPixelReference:
    """The moments of a reference set and the distance of held-out real images to it, made once.

    Args:
      reference: real images, uint8[m, H, W, C], m >= 2.
      held_out: real images that are NOT in the reference, uint8[n, H, W, C], n >= 2.
      name: what the reference is, for the record.

    Returns:
      What `raw_pixel_report` compares generated images with.

    Raises:
      ArgumentError: another dtype, or shapes that differ.
    """
    _check_images("reference", reference)
    _check_images("held_out", held_out)
    if held_out.shape[1:] != reference.shape[1:]:
        raise ArgumentError("held_out", held_out.shape, f"of shape [n, {reference.shape[1:]}]")
    moments = image_moments(reference)
    return RawPixelReference(
        name=name,
        moments=moments,
        image_shape=reference.shape[1:],
        sha256=hashlib.sha256(np.ascontiguousarray(reference).tobytes()).hexdigest(),
        n=len(held_out),
        floor=moments.distance(image_moments(held_out)),
    )


def raw_pixel_report(
    reference: RawPixelReference,
    samples: Mapping[str, Images],
    *,
    nfe: Mapping[str, int],
    weights: str,
    images_seen: int,
) -> dict[str, object]:
    """Distances of generated images to a reference, with everything that gives them a meaning.

    The space is raw pixels in [-1, 1], so the numbers are "FD (raw pixels)", never FID.

    Args:
      reference: the reference set and its floor.
      samples: generated images by name (say "1step"), each uint8[reference.n, H, W, C].
      nfe: network evaluations per image, for each name in `samples`.
      weights: which weights drew the samples, "raw" or "ema".
      images_seen: training images seen by those weights.

    Returns:
      A flat dict that JSON can hold: `frechet_<name>` for each set of samples, `frechet_floor`,
      `n`, `extractor`, `reference`, `reference_count`, `reference_sha256`, `nfe`, `weights`,
      `images_seen`.

    Raises:
      ArgumentError: a set of samples of another dtype, shape or size than the floor's, a name
        without its NFE, or unknown weights.

    Example:
      >>> import numpy as np
      >>> images = np.random.RandomState(0).randint(0, 256, (12, 2, 2, 1)).astype(np.uint8)
      >>> reference = raw_pixel_reference(images[:6], images[6:], name="noise")
      >>> report = raw_pixel_report(
      ...     reference, {"copy": images[6:]}, nfe={"copy": 1}, weights="raw", images_seen=0
      ... )
      >>> report["n"], report["frechet_copy"] == report["frechet_floor"]
      (6, True)
    """
    one_of("weights", weights, ["raw", "ema"])
    if images_seen < 0:
        raise ArgumentError("images_seen", images_seen, "at least 0")
    if set(nfe) != set(samples) or "floor" in samples:
        raise ArgumentError(
            "nfe", sorted(nfe), f"given for each of {sorted(samples)}, none called 'floor'"
        )
    distances = {}
    for name, images in samples.items():
        # The distance's bias depends on n, so an arm of another size has no floor to stand beside.
        expected = (reference.n, *reference.image_shape)
        if images.dtype != np.uint8 or images.shape != expected:
            raise ArgumentError(
                "samples",
                f"{name!r}: {images.dtype}{list(images.shape)}",
                f"uint8{list(expected)}, the floor set's",
            )
        distances[f"frechet_{name}"] = reference.moments.distance(image_moments(images))
    return {
        **distances,
        "frechet_floor": reference.floor,
        "n": reference.n,
        "extractor": "raw pixels",
        "reference": reference.name,
        "reference_count": reference.moments.count,
        "reference_sha256": reference.sha256,
        "nfe": dict(nfe),
        "weights": weights,
        "images_seen": images_seen,
    }
