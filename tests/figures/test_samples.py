"""Grids of samples, read back pixel by pixel."""

from pathlib import Path

import numpy as np
import pytest
from tiny import read_png as read

from jaxnoise.errors import ArgumentError
from jaxnoise.figures.samples import save_each, save_grid

GAP = 232


def test_grey_grid_pixel_by_pixel(tmp_path: Path) -> None:
    images = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2, 1)
    save_grid(images, tmp_path / "grid.png", columns=2, scale=3)
    pixels = read(tmp_path / "grid.png")
    # Two columns and two rows of 6 x 6 tiles with 2-pixel gaps all around; the last tile is empty.
    expected = np.full((18, 18), GAP, np.uint8)
    for image, (top, left) in zip(images, [(2, 2), (2, 10), (10, 2)], strict=True):
        expected[top : top + 6, left : left + 6] = np.kron(image[..., 0], np.ones((3, 3), np.uint8))
    np.testing.assert_array_equal(pixels, expected)


def test_color_grid_keeps_the_channels(tmp_path: Path) -> None:
    images = np.random.RandomState(0).randint(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    save_grid(images, tmp_path / "grid.png")
    pixels = read(tmp_path / "grid.png")
    # 10 columns of 64 pixels and 11 gaps; 2 rows and 3 gaps.
    assert pixels.shape == (2 * 64 + 3 * 2, 10 * 64 + 11 * 2, 3)
    np.testing.assert_array_equal(pixels[2:66:2, 2:66:2], images[0])
    np.testing.assert_array_equal(pixels[3:67:2, 3:67:2], images[0])
    np.testing.assert_array_equal(pixels[68:132:2, 68:132:2], images[11])
    assert (pixels[68:132, 134:] == GAP).all()
    assert (pixels[:2] == GAP).all()


@pytest.mark.parametrize(
    "count, side, columns, width",
    [(100, 8, 10, 662), (64, 28, 8, 690), (7, 8, 10, 632), (100, 64, 10, 662), (1, 8, 10, 644)],
)
def test_grids_are_about_640_wide(
    tmp_path: Path, count: int, side: int, columns: int, width: int
) -> None:
    save_grid(np.zeros((count, side, side, 1), np.uint8), tmp_path / "grid.png", columns)
    assert read(tmp_path / "grid.png").shape[1] == width


@pytest.mark.parametrize("labels", [None, np.arange(3)])
def test_an_archive_of_images_is_whole_or_the_old_one(tmp_path: Path, monkeypatch, labels) -> None:
    images = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8, 1)
    path = save_each(images, labels, tmp_path, "all", "npz")
    assert path == tmp_path / "all.npz"
    savez = np.savez

    def no_room(file, *arrays) -> None:
        savez(file, arrays[0][:1])
        raise OSError("no room")

    monkeypatch.setattr(np, "savez", no_room)
    with pytest.raises(OSError, match="no room"):
        save_each(images[::-1], labels, tmp_path, "all", "npz")
    with np.load(path) as held:
        np.testing.assert_array_equal(held["arr_0"], images)
        assert ("arr_1" in held) == (labels is not None)


def test_grid_refuses_other_arrays(tmp_path: Path) -> None:
    images = np.zeros((4, 2, 2, 1), np.uint8)
    path = tmp_path / "grid.png"
    with pytest.raises(ArgumentError, match=r"images='float64\[4, 2, 2, 1\]'"):
        save_grid(images / 255, path)
    with pytest.raises(ArgumentError, match=r"uint8\[0, 2, 2, 1\]"):
        save_grid(images[:0], path)
    with pytest.raises(ArgumentError, match="images='2 channels'"):
        save_grid(images.repeat(2, axis=3), path)
    with pytest.raises(ArgumentError, match="columns=0"):
        save_grid(images, path, columns=0)
    with pytest.raises(ArgumentError, match="scale=0"):
        save_grid(images, path, scale=0)
    assert not path.exists()
