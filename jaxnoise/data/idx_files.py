"""IDX files, the format of MNIST, and Fashion-MNIST, 70,000 photographs of clothes, from them."""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jaxnoise.data.images import ArrayImages
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.files import user_path

SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist installs the files."""

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_PREFIXES = {"train": ("train",), "test": ("t10k",), "train+test": ("train", "t10k")}
_UINT8 = 0x08


def fashion_mnist_folder(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The folder that holds the IDX files: `data_dir`, or where Debian installs them.

    Args:
      data_dir: a folder of one's own, or None.

    Returns:
      The folder, or None if there are no such files in it.
    """
    folder = SYSTEM_FOLDER if data_dir is None else user_path(data_dir)
    return folder if any(folder.glob("*-images-idx3-ubyte*")) else None


def open_fashion_mnist(folder: str | os.PathLike[str], split: str = "train") -> ArrayImages:
    """Fashion-MNIST from its four IDX files, gzipped or not.

    Args:
      folder: holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
        t10k-labels-idx1-ubyte, each with or without the ending .gz.
      split: "train" (60,000 images), "test" (10,000) or "train+test".

    Returns:
      Images of 28x28x1, 10 classes.

    Raises:
      ArgumentError: another split.
      ConfigError: a file that is missing or damaged; it is named.

    Reference: Xiao, Rasul and Vollgraf (arXiv 1708.07747).
    """
    if split not in _PREFIXES:
        raise ArgumentError("split", split, f"one of {', '.join(_PREFIXES)}")
    folder = user_path(folder)
    pixels, labels = [], []
    for prefix in _PREFIXES[split]:
        pixels.append(_read(folder, f"{prefix}-images-idx3-ubyte", 3))
        labels.append(_read(folder, f"{prefix}-labels-idx1-ubyte", 1))
        if len(pixels[-1]) != len(labels[-1]):
            raise ConfigError(
                f"{folder}: {prefix} has {len(pixels[-1])} images and {len(labels[-1])} labels"
            )
    try:
        return ArrayImages(
            "fashion_mnist", np.concatenate(pixels), np.concatenate(labels), 10, CLASS_NAMES
        )
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"{folder}: is not Fashion-MNIST ({error})") from error


def _read(folder: Path, name: str, rank: int) -> NDArray[np.uint8]:
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise ConfigError(f"{folder / name}: is missing, with and without the ending .gz")
    return read_idx(path, rank)


def read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """The array of an IDX file: 0, 0, type, rank, the sizes as big-endian int32, the numbers.

    Args:
      path: of the file, gzipped where it ends in .gz.
      rank: number of axes that it should have.

    Returns:
      uint8[...] of that rank.

    Raises:
      ConfigError: a file that is damaged or something else; it is named.
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    start = 4 + 4 * rank
    if len(data) < start or data[:4] != bytes([0, 0, _UINT8, rank]):
        raise ConfigError(f"{path}: is no IDX file of bytes with {rank} axes")
    shape = tuple(np.frombuffer(data, ">i4", rank, offset=4).tolist())
    found = np.frombuffer(data, np.uint8, offset=start)
    if found.size != np.prod(shape):
        raise ConfigError(f"{path}: is damaged: it holds {found.size} numbers, not {shape}")
    return found.reshape(shape)
