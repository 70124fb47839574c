"""A folder of image files, with one sub-folder per class or with none."""

import itertools
import os
import sys
from collections import Counter
from pathlib import Path

from jaxnoise.data.cached_images import CachedImages, Example, Undecoded, decoded_once
from jaxnoise.data.decoding import Decoding
from jaxnoise.data.fingerprints import contents
from jaxnoise.data.images import digest
from jaxnoise.errors import ArgumentError, ConfigError, describe
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
FOREIGN = (
    ".3fr",
    ".arw",
    ".cr2",
    ".cr3",
    ".dng",
    ".heic",
    ".heics",
    ".heif",
    ".hif",
    ".jxl",
    ".nef",
    ".nrw",
    ".orf",
    ".pef",
    ".raf",
    ".rw2",
    ".srw",
    ".x3f",
)
"""Photographs that Pillow does not read: passed over in silence they would be missed."""
SPLITS = (
    "train",
    "training",
    "test",
    "testing",
    "val",
    "valid",
    "validation",
    "dev",
    "eval",
)
"""Sub-folders that are taken for splits, in small or capital letters."""
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
    """The images of `data_dir/split`, or of `data_dir` itself where it has no splits.

    Files are taken in the order of their names. Where there are sub-folders each is a class, in the
    order of their names; otherwise the set is unlabelled. Hidden files and what archives and
    systems leave behind are passed over, and so are whatever has no image's ending and images
    beside the split's folder; a line on standard error counts either of these. `Decoding` says how
    a file becomes pixels.

    Every file is decoded before this returns, once: the pixels are kept in the cache folder
    (`decoded_once`), and read from there as long as no file changes.

    Args:
      data_dir: the folder.
      split: its sub-folder, in small or capital letters where only one has that name; "train" may
        also be the folder itself unless one of `SPLITS` is in it, and "." always is.
      size: side of square images in pixels, for images of any sizes; None where all are of one.
      channels: 1 makes all grey, 3 makes all RGB; None where all are of one kind.
      background: what shows through transparent pixels: a colour's name or "#rrggbb".

    Returns:
      The images, fingerprinted by the files' names and contents and by how they were decoded.

    Raises:
      ArgumentError: no folder, no such split, a sub-folder that may be a split or a class, or a
        size, number of channels or background that is none.
      ConfigError: no image in it, a class without images, images beside sub-folders, files that
        cannot be used (the first five are named), two of different size or kind, one that changed
        while it was read, or no room.

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
    if not isinstance(split, str):
        raise ArgumentError("split", describe(split), "the name of a sub-folder, or 'train'")
    decoding = Decoding(size, channels, background)
    folder = user_path(data_dir)
    root = _root(folder, split)
    beside = [] if root == folder else [path for path in _inside(folder)[1] if _is_image(path)]
    classes, loose = _inside(root)
    passed_over = [path for path in loose if not _is_image(path)]
    loose = [path for path in loose if _is_image(path)]
    if classes and loose:
        why = _why_not(loose[0]) or "lies beside sub-folders; every image must be in a class"
        raise ConfigError(f"{loose[0]}: {why}")
    files = [(path, 0) for path in loose]
    for label, place in enumerate(classes):
        nested, found = _inside(place)
        own = [path for path in found if _is_image(path)]
        passed_over += [path for path in found if not _is_image(path)]
        if nested or not own:
            what = f"holds the folder {nested[0].name}" if nested else "holds no image"
            raise ConfigError(
                f"{place}: {what}; every sub-folder of {root} is a class: fill it or move it away"
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
    _tell_of(root, passed_over, "are no images")
    _tell_of(folder, beside, f"lie beside the split {root.name!r}")
    reasons = {index: _why_not(path) for index, (path, _) in enumerate(files)}
    refused = {index: why for index, why in reasons.items() if why}
    readable = [path for index, (path, _) in enumerate(files) if index not in refused]
    before, decoded = contents(readable, root), itertools.count(1)
    fingerprint = digest(digest(*before), decoding.description)

    def decode(index: int) -> Example:
        path, label = files[index]
        pixels = decoding(path)
        # After the last one, and before the pixels are kept under the digest of older bytes.
        if next(decoded) == len(files):
            _check_unchanged(readable, root, before)
        return pixels, label

    source = Undecoded(
        root, len(files), decode, lambda i: files[i][0].relative_to(root).as_posix(), refused
    )
    pixels, labels = decoded_once(source, fingerprint)
    names = tuple(place.name for place in classes)
    # The folder's own name need not be UTF-8, but records are.
    name = root.resolve().name.encode("utf-8", "backslashreplace").decode()
    return CachedImages(name, pixels, labels, len(names), fingerprint, names)


def _is_image(path: Path) -> bool:
    # What a broken link was to may have been one, or a class.
    return path.suffix.lower() in ENDINGS + FOREIGN or _leads_nowhere(path)


def _leads_nowhere(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _tell_of(folder: Path, passed_over: list[Path], why: str) -> None:
    if passed_over:
        line = f"{folder}: passed over {_counted(passed_over)}, which {why}"
        print(line, file=sys.stderr, flush=True)


def _check_unchanged(paths: list[Path], root: Path, before: list[bytes]) -> None:
    """Raises ConfigError unless the files hold what they held before."""
    for path, old, new in zip(paths, before, contents(paths, root), strict=True):
        if new != old:
            raise ConfigError(
                f"{path}: changed while it was read; start again once it is left alone"
            )


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
    folders, _ = _inside(folder)
    root = folder / split
    if not root.is_dir():
        root = _alike(folder, split, folders)
    if root == folder:
        return folder
    known = (root.name.casefold(), *SPLITS)
    others = [path.name for path in folders if path.name.casefold() not in known]
    if others and not _inside(root)[0]:
        raise ArgumentError(
            "split",
            split,
            f"'.' if {root.name!r} and {others[0]!r} in {folder} are classes; if it is a split, "
            f"move {others[0]!r} away",
        )
    return root


def _alike(folder: Path, split: str, folders: list[Path]) -> Path:
    """The sub-folder whose name differs from a split's in capitals only, or the folder itself."""
    alike = [path for path in folders if path.name.casefold() == split.casefold()]
    if len(alike) > 1:
        names = " or ".join(repr(path.name) for path in alike)
        raise ArgumentError("split", split, f"{names}, which are both in {folder}")
    if alike:
        return alike[0]
    if split != "train":
        raise ArgumentError("split", split, f"a sub-folder of {folder}")
    # As classes the images held out would be trained on.
    if splits := [repr(path.name) for path in folders if path.name.casefold() in SPLITS]:
        raise ArgumentError(
            "split",
            split,
            f"a sub-folder of {folder}, whose {', '.join(splits)} would be taken for classes; or "
            "'.', which takes the folder as it is",
        )
    return folder


def _inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sub-folders and files, in the order of their names."""
    shown = (path for path in folder.iterdir() if not path.name.startswith("."))
    visible = sorted(path for path in shown if path.name not in LITTER)
    folders = [path for path in visible if path.is_dir()]
    return folders, [path for path in visible if not path.is_dir()]
