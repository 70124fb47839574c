"""Data: digits, folders of arrays and tensorflow-datasets behind one contract, index -> example."""

import os

import numpy as np

from jaxnoise.data.array_folder import ArrayFolder, open_arrays
from jaxnoise.data.augmentation import augment
from jaxnoise.data.decoding import check_decoding
from jaxnoise.data.digits import open_digits
from jaxnoise.data.idx_files import SYSTEM_FOLDER, fashion_mnist_folder, open_fashion_mnist
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
    "augment",
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


_STAND_INS = {
    "cifar10": (50_000, 32, 32, 3, 10),
    "cifar100": (50_000, 32, 32, 3, 100),
    "fashion_mnist": (60_000, 28, 28, 1, 10),
    "mnist": (60_000, 28, 28, 1, 10),
    "svhn_cropped": (73_257, 32, 32, 3, 10),
}
"""Of training splits: images, height, width, channels, classes."""


def stand_in(name: str) -> Images | None:
    """Black images of a known data set's size, for what needs shapes and not pixels.

    Args:
      name: a data set's name.

    Returns:
      As many black images as the training split has, or None for a name other than "cifar10",
      "cifar100", "fashion_mnist", "mnist" and "svhn_cropped".

    Example:
      >>> from jaxnoise.data import stand_in
      >>> stand_in("cifar10").image_shape
      (32, 32, 3)
    """
    if name not in _STAND_INS:
        return None
    *shape, classes = _STAND_INS[name]
    return ArrayImages(name, np.zeros(shape, np.uint8), np.zeros(shape[0], int), classes)


def open_images(
    name: str,
    *,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    archive: str | os.PathLike[str] | None = None,
    size: int | None = None,
    channels: int | None = None,
    background: str = "white",
    scale: float | None = None,
) -> Images:
    """Opens a data set by name.

    Args:
      name: "digits" (no files needed), "fashion_mnist" (from IDX files in `data_dir`, or where
        Debian's package dataset-fashion-mnist puts them), "folder" for a folder of image files
        (`open_folder`), "arrays" for one of .npy files (`open_arrays`: your own images, or
        latents), or a data set of tensorflow-datasets that is prepared in `data_dir`: "name",
        "name/config", "name:1.2.3" or "name/config:1.2.3".
        "cifar10", "cifar100", "mnist", "fashion_mnist" and "svhn_cropped" are prepared on the fly
        where they are not there yet; TensorFlow is never needed.
      split: a split or, for tensorflow-datasets, a slice of one such as "train[:90%]"; for folders
        and arrays a sub-folder's name, or "train" or "." for the folder itself.
      data_dir: the folder of arrays, or where data sets are kept: None for tensorflow-datasets'
        default ($TFDS_DATA_DIR or ~/tensorflow_datasets), and for digits.
      archive: the original file, or a folder of the original files, to prepare one of these from,
        read only while it is not prepared; None to find or download them.
      size: side of square images in pixels, at most their own: the middle square of each is made
        smaller, by means of blocks where `size` divides its side; None leaves them.
      channels: 1 makes image files grey, 3 makes them RGB; None leaves them. For "folder" alone.
      background: what shows through transparent pixels of image files: a colour's name or
        "#rrggbb". For "folder" alone.
      scale: what float arrays are multiplied by, > 0; None or 1 leaves them. For "arrays" alone.

    Returns:
      The images.

    Raises:
      ArgumentError: an unknown split, a missing folder, a size, number of channels, background or
        scale that is none, or an argument that the data set has no use for.
      ConfigError: an unknown name (the nearest known ones are named), data that are missing or
        damaged, or a package that is not installed; the message is one line and says what to do.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.data import open_images
      >>> images, labels = open_images("digits").load(np.arange(4))
      >>> images.shape, labels.tolist()
      ((4, 8, 8, 1), [0, 1, 2, 3])
    """
    if archive is not None and name not in _STAND_INS:
        allowed = f"None unless the data set is one of {', '.join(_STAND_INS)}"
        raise ArgumentError("archive", os.fspath(archive), allowed)
    if data_dir is not None and name == "digits":
        allowed = "None for 'digits', which need no files; 'folder' takes images of your own"
        raise ArgumentError("data_dir", os.fspath(data_dir), allowed)
    check_decoding(size, channels, background)
    if name != "folder":
        if channels is not None:
            raise ArgumentError("channels", channels, "None unless the data set is 'folder'")
        if background != "white":
            raise ArgumentError("background", background, "'white' unless the data set is 'folder'")
    if name != "arrays" and scale not in (None, 1):
        raise ArgumentError("scale", scale, "None or 1 unless the data set is 'arrays'")
    try:
        if name == "folder":
            return open_folder(data_dir, split, size=size, channels=channels, background=background)
        if name == "arrays":
            return _resized(open_arrays(data_dir, split, 1.0 if scale is None else scale), size)
        return _opened(name, split, data_dir, archive, size)
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
    size: int | None,
) -> Images:
    if name == "digits":
        return _resized(open_digits(split), size)
    own = archive is None and name == "fashion_mnist"
    if own and (folder := fashion_mnist_folder(data_dir)):
        return _resized(open_fashion_mnist(folder, split), size)
    from jaxnoise.data.prepared import READERS, prepare
    from jaxnoise.data.tfds_images import open_tfds

    try:
        if name in READERS:
            prepare(name, data_dir, archive)
    except ConfigError as error:
        if not own:
            raise
        raise ConfigError(
            f"{error}; or install Debian's dataset-fashion-mnist, which puts IDX files into "
            f"{SYSTEM_FOLDER}, or name a folder of such files in data_dir"
        ) from error
    return open_tfds(name, split, data_dir, size)


def _resized(images: Images, size: int | None) -> Images:
    return images if size is None else ResizedImages(images, size)
