"""The one contract of the data floor: example index -> image (or latent), int32 label."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxnoise.errors import ArgumentError, ConfigError

_RECORDS_AT_ONCE = 256  # bounds how many encoded records are held beside the decoded images

# Below this the interpreter lock makes threads slower than none (measured: 2x slower at 32x32).
_PIXELS_WORTH_THREADS = 64 * 64


class Images(Protocol):
    """A finite, ordered set of equally large images with labels.

    The examples are uint8 images, or float32 arrays (latents) that are trained on as they are.

    Attributes:
      name: what messages and records call the set.
      num_examples: how many images, at least 1.
      image_shape: (height, width, channels).
      dtype: of the loaded examples, uint8 or float32.
      num_classes: labels lie in [0, num_classes); 0 for an unlabelled set, whose labels are all 0.
      fingerprint: 16 hex digits of a SHA-256 over identifying content, for a run's record.
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


class RandomAccess(Protocol):
    """Anything with a length and records by index; `__getitems__` is used where there is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def digest(*parts: bytes | str) -> str:
    """First 16 hex digits of the SHA-256 over the parts and where each of them ends.

    Example:
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

    Args:
      images: the data set.
      budget_bytes: device memory that the data may take, at least 0 (default 512 MiB).

    Returns:
      True when the whole set can live on the device.

    Raises:
      ArgumentError: `budget_bytes` below 0.

    Example:
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

    Args:
      name: what messages and records call the set.
      images: uint8[n, height, width, channels], or uint8[n, height, width] for grey images.
      labels: integer[n], each in [0, num_classes).
      num_classes: how many classes; 0 for an unlabelled set, whose labels must all be 0.

    Raises:
      ArgumentError: another dtype or shape, no image at all, or a label out of range.

    Example:
      >>> grey = ArrayImages("grey", np.full((3, 8, 8), 7, np.uint8), np.array([0, 1, 1]), 2)
      >>> images, labels = grey.load(np.array([2, 0]))
      >>> images.shape, labels.tolist()
      ((2, 8, 8, 1), [1, 0])
    """

    name: str
    images: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[Any] = field(repr=False)
    num_classes: int

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
        worst = labels[_out_of_range(labels, self.num_classes)]
        if worst.size:
            allowed = _label_range(self.num_classes)
            raise ArgumentError("labels", int(worst[0]), allowed)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int32))

    @property
    def num_examples(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.images.shape
        return height, width, channels

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @cached_property
    def fingerprint(self) -> str:
        return digest(str(self.images.shape), self.images.tobytes(), self.labels.tobytes())

    def load(self, indices: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """See `Images.load`."""
        indices = checked_indices(indices, self.num_examples)
        return self.images[indices], self.labels[indices]


@dataclass(frozen=True, eq=False)
class RecordImages:
    """Images that are decoded, record by record, from a random-access source.

    All images must be as large as example 0; nothing is resized or cropped behind the user's back.
    From 64 x 64 pixels on a small pool of threads decodes.

    Args:
      name: what messages and records call the set.
      source: records by index, at least one; any thread may read it.
      decode: record -> (uint8[height, width, channels] or uint8[height, width], label).
      num_classes: how many classes; 0 for an unlabelled set, whose labels must all be 0.
      fingerprint: 16 hex digits that identify the records' content (`digest` makes them).

    Raises:
      ArgumentError: an empty source or a negative number of classes.
      ConfigError: on making it or on `load`, a record that cannot be read or decoded, is no uint8
        image, is not of example 0's size, or has a label out of range; the example is named.

    Example:
      >>> records = [(np.zeros((4, 4), np.uint8), 0), (np.ones((4, 4), np.uint8), 1)]
      >>> pair = RecordImages("pair", records, lambda record: record, 2, digest("pair"))
      >>> pair.image_shape, pair.load(np.array([1, 0]))[1].tolist()
      ((4, 4, 1), [1, 0])
    """

    name: str
    source: RandomAccess = field(repr=False)
    decode: Callable[[Any], tuple[NDArray[np.uint8], int]] = field(repr=False)
    num_classes: int
    fingerprint: str
    image_shape: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.source) < 1:
            raise ArgumentError("source", "empty", "at least one record")
        if self.num_classes < 0:
            raise ArgumentError("num_classes", self.num_classes, "at least 0")
        image, _ = self._example(self._records(np.zeros(1, np.int64))[0], 0)
        height, width, channels = image.shape
        object.__setattr__(self, "image_shape", (height, width, channels))

    @property
    def num_examples(self) -> int:
        return len(self.source)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def load(self, indices: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """See `Images.load`."""
        indices = checked_indices(indices, self.num_examples)
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        labels = np.empty(len(indices), np.int32)

        def fill(part: slice) -> None:
            records = self._records(indices[part])
            for slot, record in enumerate(records, part.start):
                index = int(indices[slot])
                image, labels[slot] = self._example(record, index)
                if image.shape != self.image_shape:
                    raise ConfigError(
                        f"{self.name}: example {index} is {_times(image.shape)} but example 0 is "
                        f"{_times(self.image_shape)}; all images must be of one size"
                    )
                images[slot] = image

        height, width, _ = self.image_shape
        threaded = height * width >= _PIXELS_WORTH_THREADS
        size = _RECORDS_AT_ONCE
        if threaded:
            size = min(size, max(1, -(-len(indices) // _num_workers())))
        parts = [slice(start, start + size) for start in range(0, len(indices), size)]
        for _done in self._pool.map(fill, parts) if threaded else map(fill, parts):
            pass
        return images, labels

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(_num_workers(), thread_name_prefix="decode")

    def _records(self, indices: NDArray[Any]) -> list[Any]:
        keys = [int(i) for i in indices]
        try:
            if hasattr(self.source, "__getitems__"):
                return list(self.source.__getitems__(keys))
            return [self.source[key] for key in keys]
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"{self.name}: examples {min(keys)} to {max(keys)} cannot be read: "
                f"{first_line(error)}"
            ) from error

    def _example(self, record: Any, index: int) -> tuple[NDArray[np.uint8], int]:
        try:
            image, label = self.decode(record)
        except (OSError, SyntaxError, ValueError) as error:  # PIL raises all three
            raise ConfigError(
                f"{self.name}: example {index} cannot be decoded: {first_line(error)}"
            ) from error
        if image.ndim == 2:
            image = image[..., None]
        if image.ndim != 3 or image.dtype != np.uint8:
            raise ConfigError(f"{self.name}: example {index} is {summary(image)}, no uint8 image")
        if _out_of_range(np.array([label]), self.num_classes)[0]:
            raise ConfigError(
                f"{self.name}: example {index} has label {label}, "
                f"which is not {_label_range(self.num_classes)}"
            )
        return image, int(label)


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


def _out_of_range(labels: NDArray[Any], num_classes: int) -> NDArray[np.bool_]:
    return (labels < 0) | (labels >= max(num_classes, 1))


def _label_range(num_classes: int) -> str:
    return f"in [0, {num_classes})" if num_classes else "0 (the set is unlabelled)"


def _num_workers() -> int:
    return min(8, os.cpu_count() or 1)


def summary(array: NDArray[Any]) -> str:
    """Dtype and shape, for a message.

    Example:
      >>> summary(np.zeros((2, 3), np.uint8))
      'uint8[2, 3]'
    """
    array = np.asarray(array)
    return f"{array.dtype}{list(array.shape)}"


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type's name where it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]
