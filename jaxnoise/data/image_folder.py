"""A folder of image files, with one sub-folder per class or with none."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jaxnoise.data.fingerprints import files_digest
from jaxnoise.data.record_images import RecordImages
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.files import user_path

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp")
SPLITS = ("train", "test", "val", "valid", "validation", "dev", "eval")
# What archives and systems leave behind.
LITTER = (
    "__MACOSX",
    "@eaDir",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "desktop.ini",
)

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
    RGB; nothing is resized or cropped. What archives and systems leave behind (hidden files,
    `__MACOSX`, `Thumbs.db`, ...) is passed over.

    Args:
      data_dir: the folder.
      split: its sub-folder; "train" may also be the folder itself, and "." always is.

    Returns:
      The images, fingerprinted by the files' names and contents.

    Raises:
      ArgumentError: no folder, no such split, or a sub-folder that may be a split or a class.
      ConfigError: no image in it, a class without images, images beside sub-folders, a file that is
        no image, or (when it is loaded) one of another size than the first; the file is named.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from PIL import Image
      >>> from jaxnoise.data.image_folder import open_folder
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     for name in ("a.png", "b.png"):
      ...         Image.new("L", (4, 4)).save(Path(folder) / name)
      ...     images = open_folder(folder)
      >>> images.num_examples, images.image_shape, images.num_classes
      (2, (4, 4, 1), 0)
    """
    if data_dir is None or not user_path(data_dir).is_dir():
        raise ArgumentError("data_dir", data_dir and str(data_dir), "a folder of image files")
    root = _root(user_path(data_dir), split)
    classes, loose = _inside(root)
    if classes and loose:
        raise ConfigError(f"{loose[0]}: lies beside sub-folders; every image must be in a class")
    files = [(path, 0) for path in loose]
    for label, folder in enumerate(classes):
        nested, own = _inside(folder)
        if nested or not own:
            what = f"holds the folder {nested[0].name}" if nested else "holds no image"
            raise ConfigError(
                f"{folder}: {what}; every sub-folder of {root} is a class: fill it or move it away"
            )
        files += [(path, label) for path in own]
    for path, _ in files:
        if path.suffix.lower() not in ENDINGS:
            raise ConfigError(f"{path}: is no image file ({', '.join(ENDINGS)})")
    if not files:
        raise ConfigError(f"{root}: holds no image file")
    contents = files_digest([path for path, _ in files], root)
    names = tuple(folder.name for folder in classes)
    name = root.resolve().name
    return RecordImages(name, _Files(files), _decode, len(names), contents, names, _label_of)


def _root(folder: Path, split: str) -> Path:
    """The folder of a split, unless its sub-folder might as well be a class."""
    root = folder / split
    if not root.is_dir():
        if split != "train":
            raise ArgumentError("split", split, f"a sub-folder of {folder}")
        return folder
    others = [path.name for path in _inside(folder)[0] if path.name not in (root.name, *SPLITS)]
    if root != folder and others and not _inside(root)[0]:
        raise ArgumentError(
            "split",
            split,
            f"'.' if {split!r} and {others[0]!r} in {folder} are classes; if it is a split, move "
            f"{others[0]!r} away",
        )
    return root


def _inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sub-folders and files, in the order of their names."""
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    visible = sorted(path for path in shown if path.name not in LITTER)
    folders = [path for path in visible if path.is_dir()]
    return folders, [path for path in visible if not path.is_dir()]


def _label_of(record: Record) -> int:
    return record[1]


def _decode(record: Record) -> tuple[NDArray[np.uint8], int]:
    path, label = record
    try:
        with Image.open(path) as image:
            grey = image.mode in ("1", "L")
            return np.asarray(image.convert("L" if grey else "RGB")), label
    except (OSError, SyntaxError, ValueError) as error:  # PIL raises all three
        raise ConfigError(f"{path}: cannot be read as an image") from error
