"""Pictures, read back: sizes, and pixels at known places."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from jaxnoise.errors import ArgumentError
from jaxnoise.training.figure_style import (
    ARM_COLORS,
    BAND_COLORS,
    FAINT,
    MAIN,
    MOMENT_COLORS,
    save,
)
from jaxnoise.training.pictures import (
    NoisePlan,
    band_shares,
    curves_figure,
    noise_figure,
    save_curves,
    save_grid,
    save_noise_plot,
)

GAP = 232


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def is_color(pixels: np.ndarray, color: str, tolerance: int = 3) -> np.ndarray:
    target = np.round(np.array(to_rgb(color)) * 255)
    return (np.abs(pixels[..., :3] - target) <= tolerance).all(axis=-1)


def pixel_box(axes: Axes, pixels: np.ndarray) -> np.ndarray:
    """The part of a picture inside the axes."""
    box = axes.get_window_extent()
    height = len(pixels)
    return pixels[round(height - box.y1) : round(height - box.y0), round(box.x0) : round(box.x1)]


def pixel_at(axes: Axes, x: float, y: float, pixels: np.ndarray) -> tuple[int, int]:
    """(row, column) of a point in data coordinates."""
    column, up = axes.transData.transform((x, y))
    return round(len(pixels) - up - 0.5), round(column - 0.5)


def drawn(figure: Figure, path: Path) -> tuple[dict[str, Axes], np.ndarray]:
    save(figure, path)
    return {axes.get_title("left"): axes for axes in figure.axes}, read(path)


# Grids


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


# Curves


def rows(count: int = 80) -> list[dict[str, object]]:
    records: list[dict[str, object]] = []
    for step in range(1, count + 1):
        records.append(
            {
                "step": step,
                "images_seen": 100 * step,
                "loss": 0.1 if step <= count // 2 else 0.01,
                "grad_norm": 2.0,
                "num_levels": 20 if step <= count // 2 else 200,
                "loss_band/<0.1": 0.001,
                "loss_band/0.1-1": None,
                "loss_band/1-10": 0.1,
                "loss_band/>10": 1.0,
            }
        )
    records += [
        {"images_seen": 4000, "frechet_1step": 10.0, "frechet_2step": 4.0, "frechet_floor": 0.5},
        {"images_seen": 8000, "frechet_1step": 1.0, "frechet_2step": 0.8, "frechet_floor": 0.5},
        {"note": "a row without images_seen is left out", "loss": 1e9},
    ]
    return records


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Axes], np.ndarray]:
    return drawn(curves_figure(rows()), tmp_path_factory.mktemp("curves") / "curves.png")


def test_curves_have_five_panels_at_120_dpi(curves: tuple[dict[str, Axes], np.ndarray]) -> None:
    panels, pixels = curves
    assert list(panels) == [
        "Loss",
        "Loss by noise level σ of the student",
        "Gradient norm",
        "Number of noise levels",
        "Fréchet distance",
    ]
    assert pixels.shape[:2] == (3 * 372, 1248)
    assert (pixels[0, 0, :3] == 255).all()
    # A fifth panel takes the whole last line.
    assert panels["Fréchet distance"].bbox.width > 2 * panels["Loss"].bbox.width


def test_lines_are_where_the_numbers_are(curves: tuple[dict[str, Axes], np.ndarray]) -> None:
    panels, pixels = curves
    for title, x, y, color in [
        ("Loss", 1000, 0.1, MAIN),
        ("Loss", 7000, 0.01, MAIN),
        ("Loss by noise level σ of the student", 5000, 0.001, BAND_COLORS[0]),
        ("Loss by noise level σ of the student", 5000, 0.1, BAND_COLORS[2]),
        ("Loss by noise level σ of the student", 5000, 1.0, BAND_COLORS[3]),
        ("Gradient norm", 3000, 2.0, MAIN),
        ("Number of noise levels", 2000, 20, MAIN),
        ("Number of noise levels", 6000, 200, MAIN),
        ("Fréchet distance", 4000, 10.0, ARM_COLORS[0]),
        ("Fréchet distance", 8000, 0.8, ARM_COLORS[1]),
    ]:
        row, column = pixel_at(panels[title], x, y, pixels)
        around = pixels[row - 1 : row + 2, column - 1 : column + 2]
        assert is_color(around, color).any(), (title, x, y)


def test_the_null_band_is_not_drawn(curves: tuple[dict[str, Axes], np.ndarray]) -> None:
    panels, pixels = curves
    axes = panels["Loss by noise level σ of the student"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["σ < 0.1", "σ 1 – 10", "σ > 10"]
    assert not is_color(pixel_box(axes, pixels), BAND_COLORS[1]).any()


def test_the_floor_is_a_dashed_line(curves: tuple[dict[str, Axes], np.ndarray]) -> None:
    panels, pixels = curves
    row, column = pixel_at(panels["Fréchet distance"], 100, 0.5, pixels)
    line = is_color(pixels[row - 1 : row + 2, column : column + 900], FAINT, 40).any(axis=0)
    assert 0.5 < line.mean() < 0.9


def test_legends_cover_no_data(curves: tuple[dict[str, Axes], np.ndarray]) -> None:
    panels, pixels = curves
    for axes in panels.values():
        legend = axes.get_legend()
        if legend is not None:
            box = legend.get_window_extent()
            assert box.y0 >= axes.get_window_extent().y1 - 1
            assert box.x1 <= pixels.shape[1]


def test_running_mean_keeps_a_line_and_shrinks_noise(tmp_path: Path) -> None:
    steps = np.arange(400)
    noise = np.random.RandomState(0).standard_normal(400)
    for signal, slack in [(1 + steps / 100, 1e-9), (10 + noise, 0.9)]:
        records = [
            {"images_seen": int(step), "loss": float(value)}
            for step, value in zip(steps, signal, strict=True)
        ]
        raw, smooth = curves_figure(records).axes[0].lines
        np.testing.assert_array_equal(raw.get_ydata(), signal)
        middle = np.asarray(smooth.get_ydata())[20:-20]
        trend = signal[20:-20] if slack < 1e-6 else 10
        assert np.abs(middle - trend).max() < slack
    # 21 values are averaged, so that the spread falls by about their root.
    assert middle.std() < 0.35


def test_one_row_is_a_point(tmp_path: Path) -> None:
    panels, pixels = drawn(
        curves_figure([{"images_seen": 512, "loss": 0.3, "num_levels": 20}]), tmp_path / "c.png"
    )
    for title, y in [("Loss", 0.3), ("Number of noise levels", 20)]:
        row, column = pixel_at(panels[title], 512, y, pixels)
        assert is_color(pixels[row : row + 1, column : column + 1], MAIN).all()


def test_only_what_was_recorded_is_drawn(tmp_path: Path) -> None:
    assert len(curves_figure([{"images_seen": 1, "loss": 1.0}]).axes) == 1
    with pytest.raises(ArgumentError, match="records='1 rows'"):
        save_curves([{"images_seen": 3, "loss": None}], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_same_records_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_curves(rows(5), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# The noise plot


def plan(title: str, counts: list[int], last_step: int = 100) -> NoisePlan:
    steps = np.linspace(0, last_step, len(counts)).astype(int)
    moments = []
    for step, count in zip(steps, counts, strict=True):
        levels = np.geomspace(0.002, 80, count)
        moments.append((int(step), levels, np.full(count - 1, 1 / (count - 1))))
    return NoisePlan(title, steps, np.array(counts), moments)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Axes], np.ndarray]:
    figure = noise_figure(plan("ours", [5, 9, 17, 9, 5]), plan("theirs", [11, 12, 33]))
    path = tmp_path_factory.mktemp("noise") / "noise.png"
    _, pixels = drawn(figure, path)
    return figure.axes, pixels


def test_noise_plot_has_four_lines_of_two_columns(noise: tuple[list[Axes], np.ndarray]) -> None:
    axes, pixels = noise
    assert pixels.shape[:2] == (1560, 1440)
    assert len(axes) == 8
    for left, right in zip(axes[::2], axes[1::2], strict=True):
        assert left.get_title("left") == right.get_title("left")
        assert left.get_xlim() == right.get_xlim()
        assert left.get_ylim() == right.get_ylim()


def test_columns_name_their_own_moments(noise: tuple[list[Axes], np.ndarray]) -> None:
    axes, _ = noise
    ours = ["k = 0\nN = 5", "k = 25\nN = 9", "k = 50\nN = 17", "k = 75\nN = 9", "k = 100\nN = 5"]
    theirs = ["k = 0\nN = 11", "k = 50\nN = 12", "k = 100\nN = 33"]
    for column, expected in [(0, ours), (1, theirs)]:
        for line in (1, 3):
            labels = [text.get_text() for text in axes[2 * line + column].get_yticklabels()]
            assert labels == expected
        assert axes[column].texts[0].get_text() == ["ours", "theirs"][column]


def test_counts_are_drawn_with_their_moments(noise: tuple[list[Axes], np.ndarray]) -> None:
    axes, pixels = noise
    for column, counts in [(0, [5, 9, 17, 9, 5]), (1, [11, 12, 33])]:
        steps = np.linspace(0, 100, len(counts))
        for step, count, color in zip(steps, counts, MOMENT_COLORS, strict=False):
            row, at = pixel_at(axes[column], step, count, pixels)
            assert is_color(pixels[row : row + 1, at : at + 1], color).all(), (column, step)


def test_every_level_is_a_stroke(noise: tuple[list[Axes], np.ndarray]) -> None:
    axes, pixels = noise
    panel = axes[2]
    for i, (count, color) in enumerate(zip([5, 9, 17, 9, 5], MOMENT_COLORS, strict=True)):
        row, _ = pixel_at(panel, 1.0, i, pixels)
        columns = [pixel_at(panel, x, i, pixels)[1] for x in np.geomspace(0.002, 80, count)]
        strip = pixels[row].astype(int)
        for column in columns:
            near = strip[column - 1 : column + 2, :3].sum(axis=-1)
            assert near.min() < 740, (i, column)
        # As many strokes as levels: count where the strip gets darker than the grid's lines.
        dark = (strip[columns[0] - 3 : columns[-1] + 4, :3].min(axis=-1) < 215).astype(int)
        assert (np.diff(dark) == 1).sum() == count, color


def test_bars_are_as_long_as_the_shares(noise: tuple[list[Axes], np.ndarray]) -> None:
    axes, pixels = noise
    panel, levels = axes[7], np.geomspace(0.002, 80, 33)
    shares = band_shares(levels, np.full(32, 1 / 32))
    # Near the upper edge of the third bar, where no percentage is written.
    row, first = pixel_at(panel, 0, 2 - 0.33, pixels)
    last = pixel_at(panel, 1, 2, pixels)[1]
    strip = pixels[row, first : last + 1]
    for color, share in zip(BAND_COLORS, shares, strict=True):
        assert is_color(strip, color).mean() == pytest.approx(share, abs=0.01)


def test_band_shares_follow_the_student() -> None:
    # Levels of students: 0.05 | 0.1, 0.5 | 1, 5 | 10, 80. An edge belongs to the band above it.
    levels = np.array([0.002, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 80.0])
    probs = np.array([0.3, 0.2, 0.1, 0.15, 0.05, 0.12, 0.08])
    np.testing.assert_allclose(band_shares(levels, probs), [0.3, 0.3, 0.2, 0.2], atol=1e-12)


def test_plans_of_very_different_sizes(tmp_path: Path) -> None:
    save_noise_plot(plan("a", [2], 1), plan("b", [11, 1281], 400_000), tmp_path / "noise.png")
    assert read(tmp_path / "noise.png").shape[:2] == (1560, 1440)


def test_noise_plan_refuses_what_does_not_fit() -> None:
    good = plan("x", [5, 9])
    with pytest.raises(ArgumentError, match="num_levels=1"):
        NoisePlan("x", good.steps, good.num_levels[:1], good.moments)
    with pytest.raises(ArgumentError, match="moments=0"):
        NoisePlan("x", good.steps, good.num_levels, [])
    step, levels, probs = good.moments[0]
    with pytest.raises(ArgumentError, match=r"5 levels, 3 probabilities"):
        NoisePlan("x", good.steps, good.num_levels, [(step, levels, probs[1:])])
    with pytest.raises(ArgumentError, match=r"sum 0\.5"):
        NoisePlan("x", good.steps, good.num_levels, [(step, levels, probs / 2)])
