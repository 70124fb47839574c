"""Which real images are the reference, and which are held out for the floor."""

import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation.checks import check_count, check_integer, check_seed

Indices = npt.NDArray[np.int64]


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
      ArgumentError: too few examples, an n outside its range, or anything but integers.

    Example:
      >>> from jaxnoise.evaluation import reference_split
      >>> reference_idx, floor_idx = reference_split(1797, 898)
      >>> len(reference_idx), len(floor_idx), len(set(reference_idx) & set(floor_idx))
      (899, 898, 0)
    """
    check_count("num_examples", num_examples, 4)
    check_integer("n", n)
    check_seed("seed", seed)
    if not 2 <= n <= num_examples // 2:
        raise ArgumentError("n", n, f"in 2..{num_examples // 2} (half of num_examples)")
    # RandomState's stream is frozen for good; numpy's newer generators may change between versions.
    order = np.random.RandomState(seed).permutation(num_examples).astype(np.int64)
    half = num_examples - num_examples // 2
    return np.sort(order[:half]), np.sort(order[half : half + n])


def floor_indices(num_examples: int, n: int, halves: bool) -> Indices:
    """The images of the floor: those of `reference_split` wherever they can be kept apart.

    Args:
      num_examples: number of images that the floor is taken from.
      n: images in the floor set; of fewer images all are taken.
      halves: whether the reference is the other half of them. What a published reference was made
        of is not known, so that with more than half of the images asked for none are kept apart.
    """
    if halves or n <= num_examples // 2:
        return reference_split(num_examples, n)[1]
    order = np.random.RandomState(0).permutation(num_examples)
    return np.sort(order[:n]).astype(np.int64)
