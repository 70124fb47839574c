"""Data: digits, folders of arrays and tensorflow-datasets behind one contract, index -> example."""

import os

import numpy as np

from jaxnoise.data.array_folder import ArrayFolder, open_arrays
from jaxnoise.data.digits import open_digits
from jaxnoise.data.fashion_mnist import SYSTEM_FOLDER, fashion_mnist_folder, open_fashion_mnist
from jaxnoise.data.image_folder import open_folder
from jaxnoise.data.images import ArrayImages, Images, fits_on_device
from jaxnoise.data.order import batch_indices
from jaxnoise.data.record_images import RecordImages
from jaxnoise.data.resized import ResizedImages
from jaxnoise.errors import ArgumentError, ConfigError

__all__ = [
    "ArrayFolder",
    "ArrayImages",
    "Images",
    "RecordImages",
    "ResizedImages",
    "batch_indices",
    "fits_on_device",
    "open_images",
    "stand_in",
]

_PACKAGES = {
    "importlib_resources": "importlib-resources",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
}
"""What to install for a module that only some data sets need."""


_STAND_INS = {"cifar10": (50_000, 32, 32, 3), "fashion_mnist": (60_000, 28, 28, 1)}


def stand_in(name: str) -> Images | None:
    """Black images of a known data set's size, for what needs shapes and not pixels.

    Args:
      name: a data set's name.

    Returns:
      As many black images as the training split has, or None for a name other than "cifar10" and
      "fashion_mnist".

    Example:
      >>> from jaxnoise.data import stand_in
      >>> stand_in("cifar10").image_shape
      (32, 32, 3)
    """
    shape = _STAND_INS.get(name)
    if shape is None:
        return None
    return ArrayImages(name, np.zeros(shape, np.uint8), np.zeros(shape[0], int), 10)


def open_images(
    name: str,
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    archive: str | os.PathLike[str] | None = None,
) -> Images:
    """Opens a data set by name.

    Args:
      name: "digits" (no files needed), "fashion_mnist" (from IDX files in `data_dir`, or where
        Debian's package dataset-fashion-mnist puts them), "arrays" for a folder of .npy files
        (`open_arrays`: your own images, or latents), or a data set of tensorflow-datasets that is
        prepared in `data_dir`: "name", "name/config", "name:1.2.3" or "name/config:1.2.3".
        "cifar10" is prepared on the fly where it is not there yet; TensorFlow is never needed.
      split: a split or, for tensorflow-datasets, a slice of one such as "train[:90%]"; for folders
        and arrays a sub-folder's name, or "train" or "." for the folder itself.
      data_dir: the folder of arrays, or where data sets are kept: None for tensorflow-datasets'
        default ($TFDS_DATA_DIR or ~/tensorflow_datasets). Digits need none.
      archive: the CIFAR-10 archive (binary version) to prepare "cifar10" from, read only while it
        is not prepared; None to find or download it.

    Returns:
      The images.

    Raises:
      ArgumentError: an unknown split, a missing folder of arrays, or an archive for anything but
        "cifar10".
      ConfigError: an unknown name (the nearest known ones are named), data that are missing or
        damaged, or a package that is not installed; the message is one line and says what to do.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data import open_images
      >>> images, labels = open_images("digits").load(np.arange(4))
      >>> images.shape, labels.tolist()
      ((4, 8, 8, 1), [0, 1, 2, 3])
    """
    if archive is not None and name != "cifar10":
        raise ArgumentError("archive", os.fspath(archive), "None unless name is 'cifar10'")
    try:
        return _opened(name, split, data_dir, archive)
    except ModuleNotFoundError as error:
        package = _PACKAGES.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        raise ConfigError(f"data set {name!r}: needs pip install {package}") from error


def _opened(
    name: str,
    split: str,
    data_dir: str | os.PathLike[str] | None,
    archive: str | os.PathLike[str] | None,
) -> Images:
    if name == "digits":
        return open_digits(split)
    if name == "folder":
        return open_folder(data_dir, split)
    if name == "arrays":
        return open_arrays(data_dir, split)
    if name == "fashion_mnist" and (folder := fashion_mnist_folder(data_dir)):
        return open_fashion_mnist(folder, split)
    from jaxnoise.data.cifar10 import prepare_cifar10
    from jaxnoise.data.tfds_images import open_tfds

    if name == "cifar10":
        prepare_cifar10(data_dir, archive)
    try:
        return open_tfds(name, split, data_dir)
    except ConfigError as error:
        if name != "fashion_mnist":
            raise
        raise ConfigError(
            f"{error}; or install Debian's dataset-fashion-mnist, which puts IDX files into "
            f"{SYSTEM_FOLDER}, or name a folder of such files in data_dir"
        ) from error
