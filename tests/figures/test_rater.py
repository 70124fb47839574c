"""Pictures of scores: what panels show and say, and pixels read back."""

import numpy as np
import pytest
import tiny
from matplotlib.colors import to_rgb

from jaxnoise.figures.rater import save_score_histogram, score_histogram_figure
from jaxnoise.figures.style import BAND_COLORS

SIGMA = np.repeat([0.05, 5.0, 50.0], [100, 300, 200]).astype(np.float32)
SCORES = np.random.default_rng(0).normal(np.log(SIGMA), 0.5).astype(np.float32)


def said(axes):
    return axes.texts[0].get_text()


def test_every_band_has_its_draws():
    panels = score_histogram_figure(SCORES, SIGMA).axes
    assert len(panels) == 4
    for axes, level, count in zip(panels, (0.05, None, 5.0, 50.0), (100, 0, 300, 200), strict=True):
        assert axes.get_title("left").endswith(f", {count} draws of noise")
        assert sum(bar.get_height() for bar in axes.patches) == count
        if level is None:
            assert said(axes) == "no draw in this band"
            assert not axes.lines
            continue
        here = SCORES[np.float32(level) == SIGMA]
        assert said(axes) == f"mean {here.mean():.3g}\nstd {here.std():.3g}"
        np.testing.assert_allclose(axes.lines[0].get_xdata(), here.mean(), rtol=1e-5)
        filled = [bar.get_x() for bar in axes.patches if bar.get_height()]
        width = axes.patches[0].get_width()
        assert -1e-5 <= here.min() - min(filled) <= width + 1e-5
        assert -1e-5 <= here.max() - max(filled) <= width + 1e-5
    assert len({axes.get_xlim() for axes in panels}) == 1


def test_levels_on_an_edge_belong_to_the_band_above():
    panels = score_histogram_figure(np.zeros(3), np.array([0.1, 1.0, 10.0])).axes
    counts = [sum(bar.get_height() for bar in axes.patches) for axes in panels]
    assert counts == [0, 1, 1, 1]


def test_equal_scores_are_one_bar():
    panels = score_histogram_figure(np.full(5, 2.0), np.full(5, 0.5)).axes
    assert sorted(bar.get_height() for bar in panels[1].patches)[-2:] == [0, 5]
    assert said(panels[1]) == "mean 2\nstd 0"


@pytest.mark.takes_a_second
def test_the_picture_shows_the_bands_that_have_draws(tmp_path):
    save_score_histogram(SCORES, SIGMA, tmp_path / "scores.png")
    pixels = tiny.read_png(tmp_path / "scores.png").astype(int)
    assert pixels.shape[:2] == (672, 1080)
    shown = []
    for color in BAND_COLORS:
        target = np.round(np.array(to_rgb(color)) * 255)
        shown.append((np.abs(pixels[..., :3] - target).max(axis=2) <= 3).sum() > 500)
    assert shown == [True, False, True, True]
    save_score_histogram(SCORES, SIGMA, tmp_path / "again.png")
    assert (tmp_path / "scores.png").read_bytes() == (tmp_path / "again.png").read_bytes()
