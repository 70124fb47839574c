"""Images that are decoded once, looked at one and all, and kept as one array on the disk."""

import contextlib
import itertools
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from jaxnoise.data.decoding import UnusableError
from jaxnoise.data.fingerprints import files_digest
from jaxnoise.data.images import checked_indices, counted
from jaxnoise.errors import ConfigError
from jaxnoise.files import cache_folder, drop_abandoned, write_whole

_NAMED = 5  # images that cannot be used and are named
_SECONDS_BETWEEN_LINES = 10
_KINDS = {1: "grey", 3: "in colour"}

Example = tuple[NDArray[np.uint8], int]
"""uint8[height, width, channels] and a label."""


@dataclass(frozen=True, eq=False)
class CachedImages:
    """Decoded images in a memory-mapped file; made by `decoded_once`.

    Args:
      name: what messages and records call the set.
      pixels: uint8[n, height, width, channels].
      labels: int32[n], each in [0, num_classes), or 0.
      num_classes: how many classes; 0 for an unlabelled set.
      fingerprint: 16 hex digits of what the images were made of and how.
      class_names: one for each class.
    """

    name: str
    pixels: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.int32] = field(repr=False)
    num_classes: int
    fingerprint: str
    class_names: tuple[str, ...] = ()

    @property
    def num_examples(self) -> int:
        """How many images, at least 1."""
        return len(self.pixels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        _, height, width, channels = self.pixels.shape
        return height, width, channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the loaded examples, uint8."""
        return np.dtype(np.uint8)

    @cached_property
    def class_counts(self) -> NDArray[np.int64]:
        """How many examples each class has, int64[num_classes]."""
        return counted(self.labels, self.num_classes)

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
        return np.array(self.pixels[indices]), self.labels[indices]


@dataclass(frozen=True)
class Undecoded:
    """What is to be decoded, example by example.

    Args:
      root: where it lies, for messages.
      count: how many examples, at least 1.
      decode: index -> uint8[height, width, channels] and a label; called by several threads.
        Raises UnusableError.
      name_of: index -> what messages call the example.
      refused: why some are known to be of no use before they are decoded.
    """

    root: Path
    count: int
    decode: Callable[[int], Example]
    name_of: Callable[[int], str]
    refused: Mapping[int, str] = field(default_factory=dict)


def decoded_once(source: Undecoded, key: str) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The pixels and labels of a set, from the cache folder or, the first time, into it.

    They are kept in `images/<key>` of the cache folder, as `pixels.npy`, `labels.npy` and the
    digest of both, which is written last: a file that is damaged or missing makes the set be
    decoded again. Two processes that do so at once write the same files, each of them whole.

    Args:
      source: what to decode; every example is, before this returns.
      key: names the content and how it is decoded, such as a fingerprint.

    Returns:
      uint8[n, height, width, channels], memory-mapped, and int32[n].

    Raises:
      ConfigError: examples that cannot be used (five are named), examples of different sizes or
        kinds (the first two that differ are named), or no room in the cache folder.

    Example:
      >>> import numpy as np
      >>> from pathlib import Path
      >>> from jaxnoise.data.cached_images import Undecoded, decoded_once
      >>> decode = lambda index: (np.full((2, 2, 1), index, np.uint8), index % 2)
      >>> pixels, labels = decoded_once(Undecoded(Path("made up"), 4, decode, str), "0" * 16)
      >>> pixels.shape, labels.tolist()
      ((4, 2, 2, 1), [0, 1, 0, 1])
    """
    folder = cache_folder() / "images" / key
    if not source.refused and (kept := _kept(folder)) is not None:
        return kept
    labels = np.zeros(source.count, np.int32)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drop_abandoned(folder)
        write_whole(folder / "pixels.npy", lambda file: _decode_into(file, source, labels, folder))
        write_whole(folder / "labels.npy", lambda file: np.save(file, labels))
        write_whole(folder / "digest", _digest(folder))
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror or error}); set $JAXNOISE_CACHE to a "
            "folder that can"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing was written
    found = _opened(folder)
    if found is None:
        raise ConfigError(f"{folder}: cannot be read back; set $JAXNOISE_CACHE to another folder")
    return found


def _digest(folder: Path) -> str:
    return files_digest([folder / "pixels.npy", folder / "labels.npy"], folder)


def _kept(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int32]] | None:
    """What was decoded before, if every byte of it is as it was written."""
    try:
        whole = (folder / "digest").read_text() == _digest(folder)
    except (OSError, ValueError):
        return None
    return _opened(folder) if whole else None


def _opened(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int32]] | None:
    try:
        pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="r")
        return pixels, np.load(folder / "labels.npy")
    except (OSError, ValueError):
        return None


def _decode_into(
    file: BinaryIO, source: Undecoded, labels: NDArray[np.int32], folder: Path
) -> None:
    """Writes a .npy file of all pixels, and fills in the labels.

    Raises:
      ConfigError: not all can be used.
    """
    unusable: list[str] = []
    first: tuple[int, tuple[int, ...]] | None = None
    workers = min(8, os.cpu_count() or 1)
    # A few at a time: a photograph may take a hundred megabytes.
    parts = [range(source.count)[i : i + 2 * workers] for i in range(0, source.count, 2 * workers)]
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool, _progress(source) as done:
        # Pillow warns of large photographs and of what it forgives.
        warnings.simplefilter("ignore")
        for index, found in ((i, e) for part in parts for i, e in _examples(source, part, pool)):
            done()
            if isinstance(found, str):
                unusable.append(f"{source.name_of(index)} {found}")
                continue
            pixels, labels[index] = found
            if first is None:
                first = index, pixels.shape
                _check_room(source.count * pixels.nbytes, folder)
                shape = (source.count, *pixels.shape)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            if pixels.shape != first[1]:
                names = source.name_of(first[0]), source.name_of(index)
                raise _unlike(source.root, names, first[1], pixels.shape)
            if not unusable:
                file.write(pixels.tobytes())
    if unusable:
        more = len(unusable) - _NAMED
        raise ConfigError(
            f"{source.root}: {len(unusable)} of {source.count} images cannot be used: "
            + "; ".join(unusable[:_NAMED])
            + (f"; and {more} more" if more > 0 else "")
        )


def _examples(
    source: Undecoded, part: Sequence[int], pool: ThreadPoolExecutor
) -> Iterable[tuple[int, Example | str]]:
    """Each example of a part in order, or why it is of no use."""

    def one(index: int) -> tuple[int, Example | str]:
        if index in source.refused:
            return index, source.refused[index]
        try:
            return index, source.decode(index)
        except UnusableError as error:
            return index, str(error)

    return pool.map(one, part)


@contextlib.contextmanager
def _progress(source: Undecoded) -> Iterator[Callable[[], object]]:
    """Shows how many are done: a bar on a terminal, a line now and then anywhere else."""
    what = f"decoding {source.count:,} images of {source.root} once"
    if sys.stderr.isatty() and find_spec("tqdm") is not None:
        from tqdm import tqdm

        class Bar(tqdm):
            monitor_interval = 0  # no thread that outlives the bar

        with Bar(total=source.count, desc=what, unit=" images", leave=False) as bar:
            yield bar.update
        return
    counter, last = itertools.count(1), time.monotonic()

    def done() -> None:
        nonlocal last
        number = next(counter)
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{what}: {number:,} done", file=sys.stderr, flush=True)

    yield done


def _check_room(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"{folder}: {needed:,} bytes are needed for the decoded images, but {free:,} are free; "
            "set $JAXNOISE_CACHE to a folder with more room"
        )


def _unlike(
    root: Path, names: tuple[str, str], one: tuple[int, ...], other: tuple[int, ...]
) -> ConfigError:
    """That two examples cannot be in one array."""
    a, b = names
    if one[:2] != other[:2]:
        return ConfigError(
            f"{root}: {a} is {one[1]}x{one[0]} and {b} is {other[1]}x{other[0]} (width x height): "
            "set data.size, the side of the squares that all are cropped and reduced to"
        )
    return ConfigError(
        f"{root}: {a} is {_kind(one)} and {b} is {_kind(other)}: set data.channels "
        "to 1 or 3, which all are converted to"
    )


def _kind(shape: tuple[int, ...]) -> str:
    return _KINDS.get(shape[2], f"of {shape[2]} channels")
