"""Generated images as they come: whole or in portions, checked while they pass."""

from collections.abc import Iterable, Iterator

import numpy as np

from jaxnoise.errors import ArgumentError, Described, describe
from jaxnoise.evaluation.extractors import Pixels

AT_ONCE = 1024
"""Images read at a time."""


def check_data(argument: str, images: object) -> None:
    """Raises ArgumentError unless `images` is a data set of uint8 images."""
    known = all(hasattr(images, name) for name in ("num_examples", "image_shape", "load"))
    dtype = getattr(images, "dtype", np.uint8)
    if not known or dtype != np.uint8:
        name = describe(images) if hasattr(images, "shape") else type(images).__name__
        shown = Described(f"{name} of {dtype}" if known else name)
        allowed = "a data set of uint8 images, such as jaxnoise.data.ArrayImages"
        raise ArgumentError(argument, shown, allowed)


def checked_samples(
    n: int, image_shape: tuple[int, ...], name: str, images: Pixels | Iterable[Pixels]
) -> Iterator[Pixels]:
    """Portions of generated images, refused where they have no floor to stand beside.

    Args:
      n: how many there must be.
      image_shape: (H, W, C).
      name: of the set, for messages.
      images: uint8[n, H, W, C], or portions of them.

    Raises:
      ArgumentError: another dtype, shape or number; while the portions are taken.
    """
    expected = (n, *image_shape)
    count = 0

    def refused(dtype: object, shape: tuple[int, ...]) -> ArgumentError:
        return ArgumentError(
            "samples",
            f"{name!r}: {dtype}{[count, *shape]}",
            f"uint8{list(expected)}, the floor set's",
        )

    if not isinstance(images, Iterable):
        shown = Described(f"{name!r}: {type(images).__name__}")
        raise ArgumentError("samples", shown, f"uint8{list(expected)}, or portions of them")
    for portion in _portions(images) if isinstance(images, np.ndarray) else images:
        if not getattr(portion, "shape", ()) or not hasattr(portion, "dtype"):
            shown = Described(f"{name!r}: {type(portion).__name__}")
            raise ArgumentError("samples", shown, f"uint8{list(expected)}, or portions of them")
        count += len(portion)
        if portion.dtype != np.uint8 or portion.shape[1:] != image_shape:
            raise refused(portion.dtype, portion.shape[1:])
        yield portion
    # The distance's bias depends on n.
    if count != n:
        raise refused("uint8", image_shape)


def _portions(images: Pixels) -> Iterator[Pixels]:
    for start in range(0, len(images), AT_ONCE):
        yield images[start : start + AT_ONCE]
