"""Pictures of a run: grids of samples and training curves."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter
from PIL import Image

from jaxnoise.errors import ArgumentError
from jaxnoise.files import write_whole
from jaxnoise.training.bands import BAND_NAMES
from jaxnoise.training.figure_style import (
    ARM_COLORS,
    BAND_COLORS,
    FAINT,
    INK,
    MAIN,
    band_label,
    blank_figure,
    legend,
    log_axis,
    save,
    style,
)

Row = Mapping[str, Any]
Floats = npt.NDArray[np.float64]

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
        np.savez(path, *([images] if labels is None else [images, labels]))
        return path
    path = folder / name
    path.mkdir(exist_ok=True)
    # Those of an earlier call may be of other settings.
    for old in path.glob("*.png"):
        old.unlink()
    for i, image in enumerate(images):
        save_grid(image[None], path / f"{i:06d}.png", scale=1, gap=0)
    return path


def _series(records: Sequence[Row], key: str) -> tuple[Floats, Floats]:
    """Images seen and values of the rows that hold a number under `key`."""
    rows = [row for row in records if row.get(key) is not None and "images_seen" in row]
    return (
        np.array([row["images_seen"] for row in rows], np.float64),
        np.array([row[key] for row in rows], np.float64),
    )


def _smoothed(values: Floats) -> Floats:
    """Centred running mean over about a 20th of the values, narrower towards both ends."""
    reach = np.minimum(len(values) // 40, np.arange(len(values)))
    reach = np.minimum(reach, reach[::-1])
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centre = np.arange(len(values))
    smooth: Floats = (sums[centre + reach + 1] - sums[centre - reach]) / (2 * reach + 1)
    return smooth


def _raw_and_smooth(axes: Axes, x: Floats, y: Floats, color: str, label: str) -> None:
    axes.plot(x, y, color=color, linewidth=0.8, alpha=0.25)
    _line(axes, x, _smoothed(y), color, label=label)


def _line(axes: Axes, x: Floats, y: Floats, color: str, **kwargs: Any) -> None:
    # A line through one point would be invisible.
    marker = "o" if len(x) == 1 else ""
    axes.plot(x, y, color=color, linewidth=1.6, marker=marker, markersize=4, **kwargs)


def _draw_loss(axes: Axes, records: Sequence[Row]) -> None:
    style(axes, "Loss", ylabel="loss", legend_line=True)
    _raw_and_smooth(axes, *_series(records, "loss"), MAIN, "running mean")
    log_axis(axes)
    legend(axes)


def _draw_band_losses(axes: Axes, records: Sequence[Row], names: Sequence[str]) -> None:
    style(axes, "Loss by noise level σ of the student", ylabel="loss", legend_line=True)
    for name, color in zip(BAND_NAMES, BAND_COLORS, strict=True):
        if name in names:
            series = _series(records, f"loss_band/{name}")
            _raw_and_smooth(axes, *series, color, band_label(name))
    log_axis(axes)
    legend(axes)


def _draw_gradient_norm(axes: Axes, records: Sequence[Row]) -> None:
    style(axes, "Gradient norm", ylabel="global norm of the gradient", legend_line=True)
    _raw_and_smooth(axes, *_series(records, "grad_norm"), MAIN, "running mean")
    log_axis(axes)
    legend(axes)


def _draw_num_levels(axes: Axes, records: Sequence[Row]) -> None:
    style(axes, "Number of noise levels", ylabel="N(k)", legend_line=True)
    _line(axes, *_series(records, "num_levels"), MAIN, drawstyle="steps-post")
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_ylim(bottom=0)


def _draw_stage(axes: Axes, records: Sequence[Row]) -> None:
    style(axes, "Pacing", ylabel="difficulty stage", legend_line=True)
    _line(axes, *_series(records, "stage"), MAIN, drawstyle="steps-post")
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_ylim(bottom=0)


def _draw_window(axes: Axes, records: Sequence[Row]) -> None:
    title = "Share of noise left out, from the clean end"
    style(axes, title, ylabel="share of noise left out", legend_line=True)
    _line(axes, *_series(records, "window_low"), MAIN)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylim(-0.02, 1.02)


def _draw_distances(axes: Axes, records: Sequence[Row], keys: Sequence[str]) -> None:
    style(axes, "Fréchet distance", ylabel="distance", legend_line=True)
    arms = [key for key in keys if key != "frechet_floor"]
    for key, color in zip(arms, cycle(ARM_COLORS), strict=False):
        x, y = _series(records, key)
        name = key.removeprefix("frechet_").replace("_", " ")
        axes.plot(x, y, color=color, linewidth=1.6, marker="o", markersize=3.5, label=name)
    if "frechet_floor" in keys:
        floor = _series(records, "frechet_floor")[1][-1]
        axes.axhline(floor, color=FAINT, linewidth=1.4, linestyle="--", label="real images (floor)")
    log_axis(axes)
    legend(axes)


def curves_figure(records: Sequence[Row]) -> Figure:
    """Loss, loss by noise level, gradient norm, N(k), pacing and distances over the images seen.

    A panel appears when some row has its key: `loss`, `loss_band/<name>`, `grad_norm`,
    `num_levels`, `stage`, `window_low` (clean end of the window of quantiles that is drawn from, in
    [0, 1]), `frechet_<name>` (`frechet_floor` is drawn as the floor). Raw values are faint, their
    running means strong.

    Args:
      records: rows of metrics.jsonl, in order; rows without `images_seen` are left out, and so
        are nulls.

    Returns:
      The figure.

    Raises:
      ArgumentError: no row holds anything to draw.
    """
    keys = list(dict.fromkeys(key for row in records for key in row))
    keys = [key for key in keys if len(_series(records, key)[0])]
    bands = [name for name in BAND_NAMES if f"loss_band/{name}" in keys]
    arms = [key for key in keys if key.startswith("frechet_")]
    panels: list[Callable[[Axes, Sequence[Row]], None]] = []
    if "loss" in keys:
        panels.append(_draw_loss)
    if bands:
        panels.append(partial(_draw_band_losses, names=bands))
    if "grad_norm" in keys:
        panels.append(_draw_gradient_norm)
    if "num_levels" in keys:
        panels.append(_draw_num_levels)
    if "stage" in keys:
        panels.append(_draw_stage)
    if "window_low" in keys:
        panels.append(_draw_window)
    if arms:
        panels.append(partial(_draw_distances, keys=arms))
    if not panels:
        raise ArgumentError("records", f"{len(records)} rows", "rows with something to draw")
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    figure = blank_figure(5.0 * columns + 0.4, 3.1 * lines)
    grid = figure.add_gridspec(lines, columns)
    for i, draw in enumerate(panels):
        # A panel alone in the last line takes all of it.
        alone = i == len(panels) - 1 and i % columns == 0
        axes = figure.add_subplot(grid[i // columns, :] if alone else grid[divmod(i, columns)])
        draw(axes, records)
        axes.set_xlabel("images seen", fontsize=9, color=INK)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(left=0)
    return figure


def save_curves(records: Sequence[Row], path: str | Path) -> None:
    """Writes `curves_figure(records)` as a PNG; the folder of `path` must exist."""
    save(curves_figure(records), path)
