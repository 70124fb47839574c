"""A folder of .npy files: a user's own images, or the latents of an autoencoder."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxnoise.data.fingerprints import files_digest
from jaxnoise.data.images import (
    checked_indices,
    checked_names,
    counted,
    digest,
    first_line,
    summary,
)
from jaxnoise.errors import ArgumentError, ConfigError, check_positive
from jaxnoise.files import user_path

_FILE = re.compile(r"(images|labels)(?:_(\d{5}))?\.npy")
_SAMPLED = 64  # examples that are looked at when a set is opened
_MOST_CHANNELS = 16  # that images with their channels first are taken to have
_ALLOWED = "uint8 or float[n, height, width, channels], or uint8[n, height, width]"


def open_arrays(
    data_dir: str | os.PathLike[str] | None, split: str = "train", scale: float = 1.0
) -> "ArrayFolder":
    """Opens a folder of arrays without reading the images.

    The folder holds `images.npy` and, for a labelled set, `labels.npy`; or shards
    `images_00000.npy`, `images_00001.npy`, ... and `labels_00000.npy`, `labels_00001.npy`, ...,
    whose examples count on from shard to shard. `numpy.save` writes such files.

    images: uint8[n, height, width, channels] pixels 0..255, or uint8[n, height, width] for grey
    ones; or floats[n, height, width, channels] of 16, 32 or 64 bits and any order of bytes, such as
    the latents of an autoencoder, which become float32 and are trained on as `scale` times what
    they are: to have the `sigma_data` of the config. Images [n, a, b, c] count as having their
    channels first, and are refused, where a <= 16 < c and a < b, or where a is 1, 3 or 4 and
    b = c != a.
    labels: integer[n], at least 0, of any size and with any gaps: the distinct labels, in ascending
    order, become the classes 0, 1, ..., and `class_names` says which is which. Without labels there
    is no class.

    Args:
      data_dir: the folder.
      split: the name of a sub-folder that holds the files; "train" may also be `data_dir` itself,
        and "." always is.
      scale: what floats are multiplied by, > 0; 1 for uint8 images.

    Returns:
      The examples, memory-mapped.

    Raises:
      ArgumentError: no `data_dir`, one that is no folder, a split without a sub-folder, or a
        `scale` that is not positive, or not 1 for uint8 images.
      ConfigError: a file that is missing, damaged, or of another dtype, shape or length than it
        should be, images with their channels first, a negative label, or a sampled float example
        that is not finite.

    Example:
      >>> import tempfile
      >>> import numpy as np
      >>> from jaxnoise.data.array_folder import open_arrays
      >>> folder = tempfile.TemporaryDirectory()
      >>> np.save(f"{folder.name}/images_00000.npy", np.zeros((3, 4, 4, 2), np.float16))
      >>> np.save(f"{folder.name}/images_00001.npy", np.ones((1, 4, 4, 2), np.float16))
      >>> latents = open_arrays(folder.name)
      >>> latents.num_examples, latents.image_shape, latents.num_classes, latents.dtype.name
      (4, (4, 4, 2), 0, 'float32')
      >>> latents.load(np.array([3, 0]))[0][:, 0, 0, 0].tolist()
      [1.0, 0.0]
      >>> folder.cleanup()
    """
    if data_dir is None:
        allowed = "the folder that holds images.npy or images_00000.npy, ..."
        raise ArgumentError("data_dir", None, allowed)
    root = user_path(data_dir)
    if not root.is_dir():
        raise ArgumentError("data_dir", os.fspath(data_dir), "an existing folder")
    folder = root / split
    if not split or not folder.is_dir():
        if split != "train":
            raise ArgumentError("split", split, f"a sub-folder of {root}, or 'train' for itself")
        folder = root
    images, labels = _files(folder)
    shards = [_open_images(path) for path in images]
    for path, shard in zip(images, shards, strict=True):
        if shard.dtype != shards[0].dtype or shard.shape[1:] != shards[0].shape[1:]:
            raise ConfigError(
                f"{path} is {summary(shard)} but {images[0].name} is {summary(shards[0])}: "
                "all shards must have one dtype and one image shape"
            )
    if not labels:
        none = np.zeros(sum(map(len, shards)), np.int32)
        return ArrayFolder("arrays", images, shards, none, 0, scale=scale)
    stored = [_open_labels(p, len(s), i) for p, s, i in zip(labels, shards, images, strict=True)]
    # Of signed and unsigned numbers numpy would make floats.
    kind = np.result_type(*stored)
    wide = [x.astype(np.uint64) for x in stored] if kind.kind == "f" else stored
    distinct, joined = np.unique(np.concatenate(wide), return_inverse=True)
    names = tuple(map(str, distinct.tolist()))
    classes = joined.astype(np.int32)
    return ArrayFolder("arrays", images, shards, classes, len(names), names, scale)


@dataclass(frozen=True, eq=False)
class ArrayFolder:
    """Memory-mapped examples; made by `open_images("arrays", data_dir=...)`.

    Of float examples 64, evenly spaced, are checked for NaN and infinities at once, the others when
    they are loaded.

    Args:
      name: what messages and records call the set.
      paths: the shards' files, for messages.
      shards: uint8[n_i, height, width(, channels)] or floats[n_i, height, width, channels], of one
        dtype and one image shape.
      labels: int32[n], n = sum n_i.
      num_classes: how many classes; 0 for an unlabelled set.
      class_names: one for each class; by default their numbers.
      scale: what floats are multiplied by, > 0; 1 for uint8 images.

    Attributes:
      fingerprint: 16 hex digits of a SHA-256 over the labels, every byte of the shards and a scale
        other than 1.

    Raises:
      ArgumentError: a `scale` that is not positive, or not 1 for uint8 images.
      ConfigError: on making it or on `load`, a float example that holds NaN or an infinity.

    Example:
      >>> import tempfile
      >>> import numpy as np
      >>> from jaxnoise.data import open_images
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.save(f"{folder}/images.npy", np.zeros((3, 4, 4, 1), np.uint8))
      ...     images = open_images("arrays", data_dir=folder)
      >>> type(images).__name__, images.num_examples, images.image_shape
      ('ArrayFolder', 3, (4, 4, 1))
    """

    name: str
    paths: Sequence[Path] = field(repr=False)
    shards: Sequence[NDArray[Any]] = field(repr=False)
    labels: NDArray[np.int32] = field(repr=False)
    num_classes: int
    class_names: tuple[str, ...] = ()
    scale: float = 1.0
    fingerprint: str = field(init=False)
    _starts: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shards = [shard[..., None] if shard.ndim == 3 else shard for shard in self.shards]
        lengths = [len(shard) for shard in shards]
        object.__setattr__(self, "shards", shards)
        object.__setattr__(self, "_starts", np.cumsum([0, *lengths[:-1]]))
        check_positive("scale", self.scale)
        if self.dtype == np.uint8 and self.scale != 1:
            raise ArgumentError("scale", self.scale, "1, since pixels are mapped to [-1, 1]")
        count = min(_SAMPLED, self.num_examples)
        self.load(np.arange(count) * (self.num_examples - 1) // max(count - 1, 1))
        object.__setattr__(self, "class_names", checked_names(self.class_names, self.num_classes))
        contents = files_digest(self.paths, self.paths[0].parent)
        names = ",".join(self.class_names)
        scaled = () if self.scale == 1 else (f"scaled by {float(self.scale)!r}",)
        found = digest(contents, self.labels.tobytes(), names, *scaled)
        object.__setattr__(self, "fingerprint", found)

    @property
    def num_examples(self) -> int:
        """How many images, at least 1."""
        return len(self.labels)

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """How many examples each class has, int64[num_classes]."""
        return counted(self.labels, self.num_classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        _, height, width, channels = self.shards[0].shape
        return height, width, channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the loaded examples, uint8 or float32."""
        return np.dtype(np.uint8 if self.shards[0].dtype == np.uint8 else np.float32)

    def load(self, indices: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Images and labels at `indices`, in that order.

        Args:
          indices: int[n], each in [0, num_examples); repeats are allowed.

        Returns:
          uint8 or float32[n, height, width, channels], the caller's own copy, and labels int32[n].

        Raises:
          ArgumentError: no integers of rank 1, or one out of range.
          ConfigError: a float example that holds NaN or an infinity once it is scaled.
        """
        indices = checked_indices(indices, self.num_examples).astype(np.int64)
        images = np.empty((len(indices), *self.image_shape), self.dtype)
        order = np.argsort(indices)  # every file is read front to back, one gather each
        shard_of = np.searchsorted(self._starts, indices[order], side="right") - 1
        numbers, cuts = np.unique(shard_of, return_index=True)
        with np.errstate(over="ignore"):  # it becomes an infinity, which is refused below
            for number, slots in zip(numbers, np.split(order, cuts[1:]), strict=False):
                images[slots] = self.shards[number][indices[slots] - self._starts[number]]
            if self.dtype != np.uint8:
                images *= np.float32(self.scale)
                self._check_finite(images, indices)
        return images, self.labels[indices]

    def _check_finite(self, images: NDArray[Any], indices: NDArray[np.int64]) -> None:
        finite = np.isfinite(images)
        if finite.all():
            return
        index = int(np.min(indices[~finite.all(axis=(1, 2, 3))]))
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        row = index - self._starts[number]
        raise ConfigError(
            f"{self.paths[number]}: example {row} holds NaN or an infinity, or what is one in "
            "float32: write the file again without such examples"
        )


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files of images and of labels (none for an unlabelled set), in order."""
    matches = filter(None, (_FILE.fullmatch(path.name) for path in folder.iterdir()))
    found = {match[0]: match for match in matches}
    images = sorted(name for name, match in found.items() if match[1] == "images")
    labels = sorted(name for name, match in found.items() if match[1] == "labels")
    if not images:
        raise ConfigError(f"{folder} holds no images.npy and no images_00000.npy: write one")
    if "images.npy" in images and len(images) > 1:
        raise ConfigError(f"{folder} holds images.npy and {images[1]}: keep one file or the shards")
    for number, name in enumerate(images):
        expected = f"images_{number:05d}.npy"
        if name not in ("images.npy", expected):
            raise ConfigError(f"{folder / expected} is missing, but there is {name}: add it")
    partners = [name.replace("images", "labels") for name in images]
    for label in labels:
        if label not in partners:
            image = label.replace("labels", "images")
            raise ConfigError(f"{folder / label} has no {image}: shard labels like images")
    for image, label in zip(images, partners, strict=True):
        if labels and label not in labels:
            raise ConfigError(
                f"{folder / label} is missing: give {image} its labels, or remove all labels"
            )
    return [folder / name for name in images], [folder / name for name in labels]


def _mapped(path: Path) -> NDArray[Any]:
    try:
        # Unlike numpy.load it takes .npy alone, and never unpickles.
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, OverflowError, ValueError) as error:
        raise ConfigError(
            f"{path} is damaged or no .npy file ({first_line(error)}): write it again with "
            "numpy.save"
        ) from error
    return array


def _open_images(path: Path) -> NDArray[Any]:
    array = _mapped(path)
    ranks = (3, 4) if array.dtype == np.uint8 else (4,)
    floats = array.dtype.kind == "f" and array.dtype.itemsize <= 8
    if not (floats or array.dtype == np.uint8) or array.ndim not in ranks or 0 in array.shape:
        raise ConfigError(f"{path} is {summary(array)}: must be {_ALLOWED}, n > 0")
    if array.ndim == 4 and _channels_first(*array.shape[1:]):
        raise ConfigError(
            f"{path} is {summary(array)}, which has its channels first: write it again as "
            "numpy.ascontiguousarray(numpy.moveaxis(images, 1, -1))"
        )
    if not array.flags.c_contiguous:  # each example would be scattered over the whole file
        raise ConfigError(
            f"{path} is in Fortran order: write it again with numpy.ascontiguousarray"
        )
    return array


def _channels_first(first: int, second: int, last: int) -> bool:
    """Whether an image's first axis looks like its channels, and its last does not."""
    if first in (1, 3, 4) and second == last != first:
        return True
    return first <= _MOST_CHANNELS < last and first < second


def _open_labels(path: Path, count: int, images: Path) -> NDArray[Any]:
    array = _mapped(path)
    if array.dtype.kind not in "iu" or array.shape != (count,):
        raise ConfigError(
            f"{path} is {summary(array)}: must be integer[{count}], one for each example of "
            f"{images.name}"
        )
    negative = array[array < 0]
    if negative.size:
        raise ConfigError(f"{path} holds the label {negative[0]}: labels must be at least 0")
    return array
