"""Pictures of samples: grids, single images, and arrays that are none."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from jaxnoise.errors import ArgumentError
from jaxnoise.files import write_whole

_GRID_WIDTH = 640
_GAP = 2
_GAP_VALUE = 232


def save_grid(
    images: npt.NDArray[np.uint8],
    path: str | Path,
    columns: int = 10,
    scale: int | None = None,
    gap: int = _GAP,
) -> None:
    """Writes images as one PNG, row by row, each pixel enlarged to a square.

    Args:
      images: uint8[n, H, W, C], n >= 1, C = 1 (grey) or 3 (RGB).
      path: file to write; its folder must exist.
      columns: images in a row, at least 1; fewer when there are fewer images.
      scale: side of an enlarged pixel, at least 1; by default the integer that brings the picture
        nearest to 640 pixels in width.
      gap: pixels between images and around them.

    Raises:
      ArgumentError: an argument outside its range.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise ArgumentError("images", f"{images.dtype}{list(images.shape)}", "uint8[n, H, W, C]")
    count, height, width, channels = images.shape
    if channels not in (1, 3):
        raise ArgumentError("images", f"{channels} channels", "with 1 or 3 channels")
    if columns < 1:
        raise ArgumentError("columns", columns, "at least 1")
    columns = min(columns, count)
    if scale is None:
        scale = max(1, round((_GRID_WIDTH / columns - _GAP) / width))
    if scale < 1:
        raise ArgumentError("scale", scale, "at least 1")
    enlarged = images.repeat(scale, axis=1).repeat(scale, axis=2)
    down, right = height * scale + gap, width * scale + gap
    rows = -(-count // columns)
    canvas = np.full((rows * down + gap, columns * right + gap, channels), _GAP_VALUE, np.uint8)
    for i, image in enumerate(enlarged):
        top, left = gap + i // columns * down, gap + i % columns * right
        canvas[top : top + height * scale, left : left + width * scale] = image
    data = BytesIO()
    Image.fromarray(canvas[..., 0] if channels == 1 else canvas).save(data, format="PNG")
    write_whole(Path(path), data.getvalue())


def upper_rows(png: bytes, share: float) -> npt.NDArray[np.uint8]:
    """The upper rows of images of a picture of `save_grid`.

    Args:
      png: the picture, with gaps between its images.
      share: of its width; as many whole rows as are no higher, and at least one.

    Returns:
      uint8[h, w, 3].
    """
    picture = np.asarray(Image.open(BytesIO(png)).convert("RGB"))
    is_gap = (picture == _GAP_VALUE).all(axis=(1, 2))
    # Where a gap follows an image.
    ends = np.flatnonzero(is_gap[1:] & ~is_gap[:-1]) + 1 + _GAP
    fitting = ends[ends <= share * picture.shape[1]]
    return picture[: max([*fitting, *ends[:1]])] if len(ends) else picture


def can_be_shown(shape: tuple[int, ...], dtype: npt.DTypeLike) -> bool:
    """Whether arrays of a shape [..., C] are pictures: uint8 of 1 or 3 channels."""
    return bool(np.dtype(dtype) == np.uint8 and shape[-1] in (1, 3))


def samples_path(folder: Path, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Path:
    """The file that `save_samples` writes for images of a shape [..., C]."""
    return folder / f"{name}.{'png' if can_be_shown(shape, dtype) else 'npy'}"


def save_samples(images: npt.NDArray[Any], folder: Path, name: str, columns: int) -> Path:
    """Writes a grid `name`.png of images, or `name`.npy of what cannot be shown as such.

    Args:
      images: [n, H, W, C]; uint8 of 1 or 3 channels makes a picture, anything else an array file.
      folder: made if it is not there.
      name: file name without its ending.
      columns: images in a row.

    Returns:
      The file.
    """
    folder.mkdir(exist_ok=True)
    path = samples_path(folder, name, images.shape, images.dtype)
    if path.suffix == ".png":
        save_grid(images, path, columns)
    else:
        data = BytesIO()
        np.save(data, images)
        write_whole(path, data.getvalue())
    return path


def save_each(
    images: npt.NDArray[Any], labels: npt.NDArray[Any] | None, folder: Path, name: str, form: str
) -> Path:
    """Writes images for other tools: a folder of PNGs, or one .npz of `arr_0` and labels `arr_1`.

    Args:
      images: [n, H, W, C]; PNGs need uint8 of 1 or 3 channels.
      labels: int[n], or None without classes; PNGs leave them out.
      folder: made if it is not there.
      name: of the new folder, in which image i is `<i, six digits>.png`, or of the .npz.
      form: "png" or "npz".

    Returns:
      The folder or the file.

    Raises:
      ArgumentError: images that cannot be PNGs.
    """
    folder.mkdir(exist_ok=True)
    if form == "npz":
        path = folder / f"{name}.npz"
        arrays = [images] if labels is None else [images, labels]
        write_whole(path, lambda file: np.savez(file, *arrays))
        return path
    path = folder / name
    path.mkdir(exist_ok=True)
    # Those of an earlier call may be of other settings.
    for old in path.glob("*.png"):
        old.unlink()
    for i, image in enumerate(images):
        save_grid(image[None], path / f"{i:06d}.png", scale=1, gap=0)
    return path
