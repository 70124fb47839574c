"""A folder of image files, with one sub-folder per class or with none."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jaxnoise.data.images import RecordImages, digest
from jaxnoise.errors import ArgumentError, ConfigError

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp")

Record = tuple[Path, int]


@dataclass(frozen=True)
class _Files:
    """Image files and labels by index."""

    files: Sequence[Record]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int, /) -> Record:
        return self.files[index]


def open_folder(data_dir: str | os.PathLike[str] | None, split: str = "train") -> RecordImages:
    """The images of `data_dir/split`, or of `data_dir` itself where there is no such sub-folder.

    Files are taken in the order of their names. Where there are sub-folders each is a class, in the
    order of their names; otherwise the set is unlabelled. Grey files stay grey, all others become
    RGB; nothing is resized or cropped.

    Args:
      data_dir: the folder.
      split: its sub-folder; "train" may also be the folder itself.

    Returns:
      The images, fingerprinted by names and sizes of the files.

    Raises:
      ArgumentError: no folder, or no such split.
      ConfigError: no image in it, images beside sub-folders, a file that is no image, or (when it
        is loaded) one of another size than the first; the file is named.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     for name in ("a.png", "b.png"):
      ...         Image.new("L", (4, 4)).save(Path(folder) / name)
      ...     images = open_folder(folder)
      >>> images.num_examples, images.image_shape, images.num_classes
      (2, (4, 4, 1), 0)
    """
    if data_dir is None or not Path(data_dir).is_dir():
        raise ArgumentError("data_dir", data_dir and str(data_dir), "a folder of image files")
    root = Path(data_dir) / split
    if not root.is_dir():
        if split != "train":
            raise ArgumentError("split", split, f"a sub-folder of {data_dir}")
        root = Path(data_dir)
    visible = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    classes = [path for path in visible if path.is_dir()]
    loose = [path for path in visible if not path.is_dir()]
    if classes and loose:
        raise ConfigError(f"{loose[0]}: lies beside sub-folders; every image must be in a class")
    files = [(path, label) for label, folder in enumerate(classes) for path in _files(folder)]
    files = files or [(path, 0) for path in loose]
    for path, _ in files:
        if path.suffix.lower() not in ENDINGS:
            raise ConfigError(f"{path}: is no image file ({', '.join(ENDINGS)})")
    if not files:
        raise ConfigError(f"{root}: holds no image file")
    named = "\n".join(f"{path.relative_to(root)} {path.stat().st_size}" for path, _ in files)
    return RecordImages(root.name, _Files(files), _decode, len(classes), digest(named))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _decode(record: Record) -> tuple[NDArray[np.uint8], int]:
    path, label = record
    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L")
            return np.asarray(image.convert("L" if grey else "RGB")), label
    except (OSError, SyntaxError, ValueError) as error:  # PIL raises all three
        raise ConfigError(f"{path}: cannot be read as an image") from error
