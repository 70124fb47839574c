"""Pictures, read back: sizes, and pixels at known places."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from jaxnoise.errors import ArgumentError
from jaxnoise.figures.curves import curves_figure, save_curves
from jaxnoise.figures.style import ARM_COLORS, BAND_COLORS, FAINT, MAIN, save

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


@pytest.mark.takes_a_second
def test_curves_have_five_panels_at_120_dpi(curves: tuple[dict[str, Axes], np.ndarray]) -> None:
    panels, pixels = curves
    assert list(panels) == [
        "Loss",
        "Loss by noise level σ",
        "Fréchet distance",
        "Gradient norm",
        "Number of noise levels",
    ]
    assert pixels.shape[:2] == (3 * 372, 1248)
    assert (pixels[0, 0, :3] == 255).all()
    # A fifth panel takes the whole last line.
    assert panels["Number of noise levels"].bbox.width > 2 * panels["Loss"].bbox.width


@pytest.mark.takes_a_second
def test_lines_are_where_the_numbers_are(curves: tuple[dict[str, Axes], np.ndarray]) -> None:
    panels, pixels = curves
    for title, x, y, color in [
        ("Loss", 1000, 0.1, MAIN),
        ("Loss", 7000, 0.01, MAIN),
        ("Loss by noise level σ", 5000, 0.001, BAND_COLORS[0]),
        ("Loss by noise level σ", 5000, 0.1, BAND_COLORS[2]),
        ("Loss by noise level σ", 5000, 1.0, BAND_COLORS[3]),
        ("Gradient norm", 3000, 2.0, MAIN),
        ("Number of noise levels", 2000, 20, MAIN),
        ("Number of noise levels", 6000, 200, MAIN),
        ("Fréchet distance", 4000, 10.0, ARM_COLORS[0]),
        ("Fréchet distance", 8000, 0.8, ARM_COLORS[1]),
    ]:
        row, column = pixel_at(panels[title], x, y, pixels)
        around = pixels[row - 1 : row + 2, column - 1 : column + 2]
        assert is_color(around, color).any(), (title, x, y)


@pytest.mark.takes_a_second
def test_the_null_band_is_not_drawn(curves: tuple[dict[str, Axes], np.ndarray]) -> None:
    panels, pixels = curves
    axes = panels["Loss by noise level σ"]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["σ < 0.1", "σ 1 – 10", "σ > 10"]
    assert not is_color(pixel_box(axes, pixels), BAND_COLORS[1]).any()


def test_the_floor_is_a_dashed_line(curves: tuple[dict[str, Axes], np.ndarray]) -> None:
    panels, pixels = curves
    row, column = pixel_at(panels["Fréchet distance"], 100, 0.5, pixels)
    line = is_color(pixels[row - 1 : row + 2, column : column + 400], FAINT, 40).any(axis=0)
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


def test_a_loss_that_is_not_positive_is_on_a_linear_axis() -> None:
    for loss, scale in (([0.5, 2.0, 0.1], "log"), ([0.5, -2.0, -3.0], "linear")):
        records = [{"step": i, "images_seen": i, "loss": x} for i, x in enumerate(loss, start=1)]
        (axes,) = (a for a in curves_figure(records).axes if "oss" in a.get_title(loc="left"))
        assert axes.get_yscale() == scale
        low, high = axes.get_ylim()
        assert low <= min(loss)
        assert max(loss) <= high


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


def test_pacing_has_panels_of_its_own() -> None:
    records = [
        {"images_seen": 10 * i, "stage": stage, "window_low": low}
        for i, (stage, low) in enumerate([(1, 0.75), (2, 0.5), (4, 0.0)], start=1)
    ]
    stage, window = curves_figure(records).axes
    assert stage.get_title("left") == "Pacing"
    assert stage.get_ylabel() == "difficulty stage"
    assert stage.lines[0].get_drawstyle() == "steps-post"
    np.testing.assert_array_equal(stage.lines[0].get_xydata(), [[10, 1], [20, 2], [30, 4]])
    assert window.get_title("left") == "Share of noise left out"
    np.testing.assert_array_equal(window.lines[0].get_ydata(), [0.75, 0.5, 0.0])
    assert window.yaxis.get_major_formatter()(0.75) == "75%"
    assert len(curves_figure([{"images_seen": 1, "window_low": 0.9}]).axes) == 1


def test_a_learned_law_has_panels_of_its_own() -> None:
    records = [
        {"images_seen": 10 * i, "law_mu": mu, "law_b": b}
        for i, (mu, b) in enumerate([(3.0, 0.5), (1.0, 0.7), (0.5, 1.0)])
    ]
    mean, scale = curves_figure(records).axes
    assert mean.get_title("left") == "Mean of the learned law"
    np.testing.assert_array_equal(mean.lines[0].get_xydata(), [[0, 3], [10, 1], [20, 0.5]])
    # A mean may be anywhere: no logarithms, even where it is positive, and no start at 0.
    assert mean.get_yscale() == scale.get_yscale() == "linear"
    assert mean.get_ylim()[0] > 0 == scale.get_ylim()[0]


@pytest.mark.takes_a_second
def test_the_same_records_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_curves(rows(5), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
