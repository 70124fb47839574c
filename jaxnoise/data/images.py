"""What every data set is to the rest: example index -> image (or latent), int32 label."""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxnoise.errors import ArgumentError


class Images(Protocol):
    """A finite, ordered set of equally large images with labels.

    The examples are uint8 images, or float32 arrays (latents) that are trained on as they are. A
    class of one's own needs no base.

    Attributes:
      name: what messages and records call the set.
      num_examples: how many images, at least 1.
      image_shape: (height, width, channels).
      dtype: of the loaded examples, uint8 or float32.
      num_classes: labels lie in [0, num_classes); 0 for an unlabelled set, whose labels are all 0.
      class_names: what the data call each class; () for an unlabelled set.
      class_counts: int64[num_classes], how many examples each class has; of very many records, how
        many of a sample of them.
      fingerprint: 16 hex digits of a SHA-256 over all content, for a run's record.
    """

    @property
    def name(self) -> str: ...

    @property
    def num_examples(self) -> int: ...

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def class_counts(self) -> NDArray[np.int64]: ...

    @property
    def fingerprint(self) -> str: ...

    def load(self, indices: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Images and labels at `indices`, in that order.

        Args:
          indices: int[n], each in [0, num_examples); repeats are allowed.

        Returns:
          dtype[n, height, width, channels], the caller's own copy, and int32[n]. uint8 are pixels
          0..255; float32 are finite, in the units that the network sees.
        """
        ...


def digest(*parts: bytes | str) -> str:
    """First 16 hex digits of the SHA-256 over the parts and where each of them ends.

    Example:
      >>> from jaxnoise.data.images import digest
      >>> digest("ab", "c") == digest("a", "bc")
      False
    """
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:16]


def fits_on_device(images: Images, budget_bytes: int = 512 * 2**20) -> bool:
    """Whether all images (of their dtype) and labels (int32) together take `budget_bytes` at most.

    To choose between a data set that lies on the device and batches that are sent to it.

    Args:
      images: the data set.
      budget_bytes: device memory that the data may take, at least 0 (default 512 MiB).

    Returns:
      True when the whole set can live on the device.

    Raises:
      ArgumentError: `budget_bytes` below 0.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data import ArrayImages, fits_on_device
      >>> black = ArrayImages("black", np.zeros((2, 8, 8), np.uint8), np.zeros(2, int), 1)
      >>> fits_on_device(black, 2 * (8 * 8 + 4)), fits_on_device(black, 2 * (8 * 8 + 4) - 1)
      (True, False)
    """
    if budget_bytes < 0:
        raise ArgumentError("budget_bytes", budget_bytes, "at least 0")
    height, width, channels = images.image_shape
    example = height * width * channels * images.dtype.itemsize + 4
    return images.num_examples * example <= budget_bytes


@dataclass(frozen=True, eq=False)
class ArrayImages:
    """Images in memory.

    For a data set of one's own that fits there; larger ones are read by `ArrayFolder` or
    `RecordImages`.

    Args:
      name: what messages and records call the set.
      images: uint8[n, height, width, channels], or uint8[n, height, width] for grey images.
      labels: integer[n], each in [0, num_classes).
      num_classes: how many classes; 0 for an unlabelled set, whose labels must all be 0.
      class_names: one for each class; by default their numbers.

    Raises:
      ArgumentError: another dtype or shape, no image at all, a label out of range, or another
        number of names than of classes.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data import ArrayImages
      >>> grey = ArrayImages("grey", np.full((3, 8, 8), 7, np.uint8), np.array([0, 1, 1]), 2)
      >>> images, labels = grey.load(np.array([2, 0]))
      >>> images.shape, labels.tolist()
      ((2, 8, 8, 1), [1, 0])
    """

    name: str
    images: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[Any] = field(repr=False)
    num_classes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        images, labels = np.asarray(self.images), np.asarray(self.labels)
        if images.ndim == 3:
            images = images[..., None]
        if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
            allowed = "uint8[n, height, width, channels] or uint8[n, height, width], n > 0"
            raise ArgumentError("images", summary(self.images), allowed)
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise ArgumentError("labels", summary(self.labels), f"integer[{len(images)}]")
        if self.num_classes < 0:
            raise ArgumentError("num_classes", self.num_classes, "at least 0")
        worst = labels[out_of_range(labels, self.num_classes)]
        if worst.size:
            allowed = label_range(self.num_classes)
            raise ArgumentError("labels", int(worst[0]), allowed)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int32))
        object.__setattr__(self, "class_names", checked_names(self.class_names, self.num_classes))

    @property
    def num_examples(self) -> int:
        """How many images, at least 1."""
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the loaded examples, uint8."""
        return np.dtype(np.uint8)

    @cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """How many examples each class has, int64[num_classes]."""
        return counted(self.labels, self.num_classes)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of a SHA-256 over all content."""
        return digest(str(self.images.shape), self.images.tobytes(), self.labels.tobytes())

    def load(self, indices: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Images and labels at `indices`, in that order.

        Args:
          indices: int[n], each in [0, num_examples); repeats are allowed.

        Returns:
          uint8[n, height, width, channels], the caller's own copy, and labels int32[n].

        Raises:
          ArgumentError: no integers of rank 1, or one out of range.
        """
        indices = checked_indices(indices, self.num_examples)
        return self.images[indices], self.labels[indices]


def checked_indices(indices: NDArray[Any], num_examples: int) -> NDArray[Any]:
    """`indices` as an array, after a check that they are what `Images.load` takes.

    Raises:
      ArgumentError: no integers of rank 1, or one outside [0, num_examples).
    """
    indices = np.asarray(indices)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ArgumentError("indices", summary(indices), "integers of rank 1")
    outside = indices[(indices < 0) | (indices >= num_examples)]
    if outside.size:  # numpy would wrap a negative index in silence
        raise ArgumentError("indices", int(outside[0]), f"in [0, {num_examples})")
    return indices


def description(images: Images) -> dict[str, Any]:
    """What a run's record says of its images, JSON-safe."""
    return {
        "name": images.name,
        "fingerprint": images.fingerprint,
        "num_examples": images.num_examples,
        "image_shape": list(images.image_shape),
        "num_classes": images.num_classes,
        "class_names": list(images.class_names),
    }


def checked_names(names: tuple[str, ...], num_classes: int) -> tuple[str, ...]:
    """A name for each class, by default its number.

    Raises:
      ArgumentError: another number of names.
    """
    names = names or tuple(map(str, range(num_classes)))
    if len(names) != num_classes:
        raise ArgumentError("class_names", names, f"{num_classes} names")
    return tuple(names)


def counted(labels: NDArray[Any], num_classes: int) -> NDArray[np.int64]:
    """How often each class occurs: int64[num_classes]."""
    return np.bincount(labels, minlength=num_classes)[:num_classes].astype(np.int64)


def out_of_range(labels: NDArray[Any], num_classes: int) -> NDArray[np.bool_]:
    """Which labels are of no class."""
    return (labels < 0) | (labels >= max(num_classes, 1))


def label_range(num_classes: int) -> str:
    """What a label may be, for a message."""
    return f"in [0, {num_classes})" if num_classes else "0 (the set is unlabelled)"


def summary(array: NDArray[Any]) -> str:
    """Dtype and shape, for a message.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data.images import summary
      >>> summary(np.zeros((2, 3), np.uint8))
      'uint8[2, 3]'
    """
    array = np.asarray(array)
    return f"{array.dtype}{list(array.shape)}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name where it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]
