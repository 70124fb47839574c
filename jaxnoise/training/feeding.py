"""Brings the examples of each step to the devices."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from jaxnoise.data.images import Images, fits_on_device
from jaxnoise.training.drawing import Batch
from jaxnoise.training.parallel import Devices

Indices = Callable[[int], NDArray[np.int64]]
"""Step -> which examples it trains on: int64[B, ...], B the GLOBAL batch."""


class Feeder(Protocol):
    """Step -> the batch of the dispatch that starts there; a pure function of the step."""

    resident: bool

    def __call__(self, step: int) -> Batch: ...

    def close(self) -> None: ...


class ResidentFeeder:
    """The whole data set lies on every device; only indices travel."""

    resident = True

    def __init__(self, images: Images, devices: Devices, indices: Indices, steps_per_dispatch: int):
        pixels, labels = images.load(np.arange(images.num_examples))
        self._pixels = devices.replicate(pixels)
        self._labels = devices.replicate(labels)
        self._devices = devices
        self._indices, self._stride = indices, steps_per_dispatch

    def __call__(self, step: int) -> Batch:
        index = _several(self._indices, step, self._stride).astype(np.int32)
        return Batch(
            index=self._devices.split(index, axis=1), images=self._pixels, labels=self._labels
        )

    def close(self) -> None:
        """Nothing is held."""


class StreamingFeeder:
    """Images are read by index, one dispatch ahead; each process reads its own rows only."""

    resident = False

    def __init__(self, images: Images, devices: Devices, indices: Indices, steps_per_dispatch: int):
        self._images = images
        self._devices = devices
        self._indices, self._stride = indices, steps_per_dispatch
        self._rows = devices.local_rows(len(indices(0)))
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._ahead: dict[int, Future[tuple[np.ndarray, np.ndarray]]] = {}

    def _read(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        index = _several(self._indices, step, self._stride)
        local = index[:, self._rows]
        pixels, labels = self._images.load(local.reshape(-1))
        # Rows of other processes are never touched, so they take no memory.
        all_pixels = np.empty((*index.shape, *self._images.image_shape), self._images.dtype)
        all_labels = np.empty(index.shape, np.int32)
        all_pixels[:, self._rows] = pixels.reshape(*local.shape, *self._images.image_shape)
        all_labels[:, self._rows] = labels.reshape(local.shape)
        return all_pixels, all_labels

    def __call__(self, step: int) -> Batch:
        future = self._ahead.pop(step, None) or self._pool.submit(self._read, step)
        self._ahead = {step + self._stride: self._pool.submit(self._read, step + self._stride)}
        pixels, labels = future.result()
        return Batch(
            index=None,
            images=self._devices.split(pixels, axis=1),
            labels=self._devices.split(labels, axis=1),
        )

    def close(self) -> None:
        """Stops reading ahead."""
        self._pool.shutdown(cancel_futures=True)


def _several(indices: Indices, step: int, count: int) -> NDArray[np.int64]:
    return np.stack([indices(step + i) for i in range(count)])


def make_feeder(
    images: Images, devices: Devices, indices: Indices, steps_per_dispatch: int
) -> Feeder:
    """A resident feeder for data sets that fit on a device, a streaming one for larger ones.

    Args:
      images: example index -> uint8 image or float32 latent, label.
      devices: where the batch goes.
      indices: which examples each step trains on.
      steps_per_dispatch: how many steps one dispatch makes.
    """
    kind = ResidentFeeder if fits_on_device(images) else StreamingFeeder
    return kind(images, devices, indices, steps_per_dispatch)
