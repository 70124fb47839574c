"""Smaller versions of images, for studies that a laptop can afford."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jaxnoise.data.images import Images, digest
from jaxnoise.errors import ArgumentError


@dataclass(frozen=True, eq=False)
class ResizedImages:
    """Square images at a smaller size; they are resized as they are loaded.

    Where the size divides the images' own, each pixel is the mean of a block (a box filter),
    rounded to the nearest number, halves to even; else Pillow's bicubic filter, which averages
    where it reduces.

    For studies that a laptop can afford. What it has beside its arguments is that of `Images`.

    Args:
      base: uint8 images, as wide as they are high.
      size: of the smaller images in pixels, from 1 to the images' own.

    Raises:
      ArgumentError: images that are not square or no pixels, or `size` outside its range.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data import ArrayImages, ResizedImages
      >>> grey = ArrayImages("grey", np.arange(16, dtype=np.uint8).reshape(1, 4, 4), [0], 0)
      >>> ResizedImages(grey, 2).load(np.array([0]))[0][0, :, :, 0].tolist()
      [[2, 4], [10, 12]]
    """

    base: Images
    size: int

    def __post_init__(self) -> None:
        height, width, _ = self.base.image_shape
        if self.base.dtype != np.uint8:
            raise ArgumentError("size", self.size, f"None: {self.base.name!r} holds no pixels")
        if height != width:
            allowed = f"None: the images are {height}x{width}, and only square ones are resized"
            raise ArgumentError("size", self.size, allowed)
        whole = isinstance(self.size, int | np.integer) and not isinstance(self.size, bool)
        if not whole or not 1 <= self.size <= height:
            raise ArgumentError("size", self.size, f"an integer from 1 to {height}, the images'")

    @property
    def name(self) -> str:
        return f"{self.base.name} at {self.size}x{self.size}"

    @property
    def num_examples(self) -> int:
        return self.base.num_examples

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.size, self.size, self.base.image_shape[2]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.base.dtype

    @property
    def num_classes(self) -> int:
        return self.base.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.base.class_names

    @property
    def class_counts(self) -> NDArray[np.int64]:
        return self.base.class_counts

    @property
    def fingerprint(self) -> str:
        return digest(self.base.fingerprint, f"resized to {self.size}")

    def load(self, indices: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Images and labels at `indices`, in that order.

        Args:
          indices: int[n], each in [0, num_examples); repeats are allowed.

        Returns:
          uint8[n, size, size, channels], the caller's own copy, and labels int32[n].
        """
        images, labels = self.base.load(indices)
        return resized(images, self.size), labels


def resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Square images at a smaller size, by the rule of `ResizedImages`.

    Args:
      images: uint8[n, side, side, channels].
      size: from 1 to side.

    Returns:
      uint8[n, size, size, channels].

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data.resized import resized
      >>> resized(np.full((1, 9, 9, 3), 7, np.uint8), 4)[0, 0, 0].tolist()
      [7, 7, 7]
    """
    count, side, _, channels = images.shape
    if side == size:
        return images
    if side % size == 0:
        block = side // size
        cut = images.reshape(count, size, block, size, block, channels)
        # Sums of bytes are exact, so that the mean is rounded once.
        means = cut.sum(axis=(2, 4), dtype=np.int64) / block**2
        return np.rint(means).astype(np.uint8)
    out = np.empty((count, size, size, channels), np.uint8)
    for image, small in zip(images, out, strict=True):
        for channel in range(channels):
            grey = Image.fromarray(image[..., channel])
            small[..., channel] = np.asarray(grey.resize((size, size), Image.Resampling.BICUBIC))
    return out
