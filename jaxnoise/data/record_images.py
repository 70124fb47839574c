"""Images that are decoded one by one, from files or from the records of a data set."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jaxnoise.data.images import (
    checked_indices,
    checked_names,
    counted,
    first_line,
    label_range,
    out_of_range,
    summary,
)
from jaxnoise.errors import ArgumentError, ConfigError

_LABELS_COUNTED = 65_536
_RECORDS_AT_ONCE = 256  # bounds how many encoded records are held beside the decoded images

# Below this the interpreter lock makes threads slower than none (measured: 2x slower at 32x32).
_PIXELS_WORTH_THREADS = 64 * 64


class RandomAccess(Protocol):
    """Anything with a length and records by index; `__getitems__` is used where there is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class RecordImages:
    """Images that are decoded, record by record, from a random-access source.

    All images must be as large as example 0; nothing is resized or cropped behind the user's back.
    From 64 x 64 pixels on a small pool of threads decodes.

    For a data set of one's own that does not fit in memory.

    Args:
      name: what messages and records call the set.
      source: records by index, at least one; any thread may read it.
      decode: record -> (uint8[height, width, channels] or uint8[height, width], label).
      num_classes: how many classes; 0 for an unlabelled set, whose labels must all be 0.
      fingerprint: 16 hex digits that identify the records' content.
      class_names: one for each class; by default their numbers.
      label_of: record -> label, without decoding the image; None to decode it all the same.

    Attributes:
      image_shape: (height, width, channels), those of example 0.

    Raises:
      ArgumentError: an empty source, a negative number of classes, or another number of names.
      ConfigError: on making it or on `load`, a record that cannot be read or decoded, is no uint8
        image, is not of example 0's size, or has a label out of range; the example is named.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data import RecordImages
      >>> records = [(np.zeros((4, 4), np.uint8), 0), (np.ones((4, 4), np.uint8), 1)]
      >>> pair = RecordImages("pair", records, lambda record: record, 2, "0" * 16)
      >>> pair.image_shape, pair.load(np.array([1, 0]))[1].tolist()
      ((4, 4, 1), [1, 0])
    """

    name: str
    source: RandomAccess = field(repr=False)
    decode: Callable[[Any], tuple[NDArray[np.uint8], int]] = field(repr=False)
    num_classes: int
    fingerprint: str
    class_names: tuple[str, ...] = ()
    label_of: Callable[[Any], int] | None = field(default=None, repr=False)
    image_shape: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        if len(self.source) < 1:
            raise ArgumentError("source", "empty", "at least one record")
        if self.num_classes < 0:
            raise ArgumentError("num_classes", self.num_classes, "at least 0")
        object.__setattr__(self, "class_names", checked_names(self.class_names, self.num_classes))
        image, _ = self._example(self._records(np.zeros(1, np.int64))[0], 0)
        height, width, channels = image.shape
        object.__setattr__(self, "image_shape", (height, width, channels))

    @property
    def num_examples(self) -> int:
        """How many images, at least 1."""
        return len(self.source)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the loaded examples, uint8."""
        return np.dtype(np.uint8)

    @cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """How many examples each class has, int64[num_classes].

        Counted over all records, or over 65,536 of them, evenly spaced, where there are more.
        """
        if not self.num_classes:
            return np.zeros(0, np.int64)
        chosen = np.unique(np.linspace(0, self.num_examples - 1, _LABELS_COUNTED).astype(np.int64))
        if self.num_examples <= _LABELS_COUNTED:
            chosen = np.arange(self.num_examples)
        label_of = self.label_of or (lambda record: self.decode(record)[1])
        labels = [
            label_of(record)
            for start in range(0, len(chosen), _RECORDS_AT_ONCE)
            for record in self._records(chosen[start : start + _RECORDS_AT_ONCE])
        ]
        return counted(np.asarray(labels), self.num_classes)

    def load(self, indices: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Images and labels at `indices`, in that order.

        Args:
          indices: int[n], each in [0, num_examples); repeats are allowed.

        Returns:
          uint8[n, height, width, channels], the caller's own copy, and labels int32[n].

        Raises:
          ArgumentError: no integers of rank 1, or one out of range.
          ConfigError: an example that cannot be read or decoded, or is of another size.
        """
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
        if out_of_range(np.array([label]), self.num_classes)[0]:
            raise ConfigError(
                f"{self.name}: example {index} has label {label}, "
                f"which is not {label_range(self.num_classes)}"
            )
        return image, int(label)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _num_workers() -> int:
    return min(8, os.cpu_count() or 1)
