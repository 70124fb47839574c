"""A folder of image files, with one sub-folder per class or with none."""

import os
import sys
from collections import Counter
from pathlib import Path

from jaxnoise.data.cached_images import CachedImages, Example, Undecoded, decoded_once
from jaxnoise.data.decoding import Decoding
from jaxnoise.data.fingerprints import files_digest
from jaxnoise.data.images import digest
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.files import user_path

ENDINGS = (
    ".apng",
    ".avif",
    ".bmp",
    ".gif",
    ".jfif",
    ".jp2",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".mpo",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tga",
    ".tif",
    ".tiff",
    ".webp",
)
"""What is read as an image."""
FOREIGN = (".arw", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jxl", ".nef", ".orf", ".raf", ".rw2")
"""Photographs that Pillow does not read: passed over in silence they would be missed."""
SPLITS = ("train", "test", "val", "valid", "validation", "dev", "eval")
# What archives and systems leave behind.
LITTER = (
    "__MACOSX",
    "@eaDir",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
)


def open_folder(
    data_dir: str | os.PathLike[str] | None,
    split: str = "train",
    *,
    size: int | None = None,
    channels: int | None = None,
    background: str = "white",
) -> CachedImages:
    """The images of `data_dir/split`, or of `data_dir` itself where there is no such sub-folder.

    Files are taken in the order of their names. Where there are sub-folders each is a class, in the
    order of their names; otherwise the set is unlabelled. Hidden files and what archives and
    systems leave behind are passed over, and so is whatever has no image's ending; a line on
    standard error counts the latter. `Decoding` says how a file becomes pixels.

    Every file is decoded before this returns, once: the pixels are kept in the cache folder
    (`decoded_once`), and read from there as long as no file changes.

    Args:
      data_dir: the folder.
      split: its sub-folder; "train" may also be the folder itself, and "." always is.
      size: side of square images in pixels, for images of any sizes; None where all are of one.
      channels: 1 makes all grey, 3 makes all RGB; None where all are of one kind.
      background: what shows through transparent pixels: a colour's name or "#rrggbb".

    Returns:
      The images, fingerprinted by the files' names and contents and by how they were decoded.

    Raises:
      ArgumentError: no folder, no such split, a sub-folder that may be a split or a class, or a
        size, number of channels or background that is none.
      ConfigError: no image in it, a class without images, images beside sub-folders, files that
        cannot be used (the first five are named), two of different size or kind, or no room.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> from PIL import Image
      >>> from jaxnoise.data.image_folder import open_folder
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     for number, name in enumerate(("a.png", "b.png")):
      ...         Image.new("L", (6 + number, 4)).save(Path(folder) / name)
      ...     images = open_folder(folder, size=2)
      >>> images.num_examples, images.image_shape, images.num_classes
      (2, (2, 2, 1), 0)
    """
    if data_dir is None or not user_path(data_dir).is_dir():
        raise ArgumentError("data_dir", data_dir and str(data_dir), "a folder of image files")
    decoding = Decoding(size, channels, background)
    root = _root(user_path(data_dir), split)
    classes, loose = _inside(root)
    passed_over = [path for path in loose if not _is_image(path)]
    loose = [path for path in loose if _is_image(path)]
    if classes and loose:
        why = _why_not(loose[0]) or "lies beside sub-folders; every image must be in a class"
        raise ConfigError(f"{loose[0]}: {why}")
    files = [(path, 0) for path in loose]
    for label, folder in enumerate(classes):
        nested, found = _inside(folder)
        own = [path for path in found if _is_image(path)]
        passed_over += [path for path in found if not _is_image(path)]
        if nested or not own:
            what = f"holds the folder {nested[0].name}" if nested else "holds no image"
            raise ConfigError(
                f"{folder}: {what}; every sub-folder of {root} is a class: fill it or move it away"
            )
        files += [(path, label) for path in own]
    for path in (*classes, *(path for path, _ in files)):
        try:
            path.name.encode()
        except UnicodeEncodeError as error:
            raise ConfigError(f"{str(path)!a}: its name is not UTF-8; rename it") from error
    if not files:
        others = f", but {_counted(passed_over)}" if passed_over else ""
        raise ConfigError(f"{root}: holds no image file ({', '.join(ENDINGS)}){others}")
    if passed_over:
        line = f"{root}: passed over {_counted(passed_over)}, which are no images"
        print(line, file=sys.stderr, flush=True)

    def decode(index: int) -> Example:
        path, label = files[index]
        return decoding(path), label

    reasons = {index: _why_not(path) for index, (path, _) in enumerate(files)}
    refused = {index: why for index, why in reasons.items() if why}
    readable = [path for index, (path, _) in enumerate(files) if index not in refused]
    fingerprint = digest(files_digest(readable, root), decoding.description)
    source = Undecoded(
        root, len(files), decode, lambda i: files[i][0].relative_to(root).as_posix(), refused
    )
    pixels, labels = decoded_once(source, fingerprint)
    names = tuple(folder.name for folder in classes)
    name = root.resolve().name
    return CachedImages(name, pixels, labels, len(names), fingerprint, names)


def _is_image(path: Path) -> bool:
    # What a broken link was to may have been one, or a class.
    return path.suffix.lower() in ENDINGS + FOREIGN or _leads_nowhere(path)


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _counted(paths: list[Path]) -> str:
    """How many files there are of which endings: "3 files (1 .json, 2 .txt)"."""
    endings = Counter(path.suffix.lower() or "without an ending" for path in paths)
    files = "file" if len(paths) == 1 else "files"
    shown = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
    return f"{len(paths)} {files} ({shown})"


def _why_not(path: Path) -> str:
    """Why a file cannot be read; "" if it can."""
    if path.suffix.lower() in FOREIGN:
        return f"is {path.suffix.lower()}, which Pillow does not read: convert it to JPEG or PNG"
    if _leads_nowhere(path):
        return f"is a link to {os.readlink(path)}, where nothing is: restore that or remove it"
    if not path.is_file():
        return "is no regular file: remove it"
    if not os.access(path, os.R_OK):
        return "may not be read: change its permissions"
    return ""


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
