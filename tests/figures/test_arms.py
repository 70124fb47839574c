"""The pictures of a study."""

from math import inf

import numpy as np
import pytest
import tiny
from matplotlib.colors import to_rgb

from jaxnoise.figures import arms
from jaxnoise.figures.arms import Change, save_arm_samples, save_arms, save_changes
from jaxnoise.figures.samples import save_grid
from jaxnoise.figures.style import ARM_COLORS, FAINT


def test_more_arms_make_a_taller_picture(tmp_path):
    sizes = []
    for count in (2, 6):
        arms = {f"arm {i}": [1.0 + i, 1.5 + i] for i in range(count)}
        save_arms("a study", "distance", arms, "arm 1", tmp_path / "arms.png", floor=0.5)
        sizes.append(tiny.read_png(tmp_path / "arms.png").shape[0])
    assert sizes[1] - sizes[0] == round(4 * 0.32 * 120)


def test_samples_of_every_arm_are_shown_from_the_top(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(arms, "save", lambda figure, path: made.append(figure))
    images = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    # Images, columns, and the rows that are shown: a third of the width, and one at least.
    kinds = {"a": (images, 10, 3), "b": (images[:10], 10, 1), "c": (images[:9], 3, 1)}
    kinds |= {"d": (images[:1], 10, 1), "tall": (images.repeat(4, axis=1), 10, 1)}
    kinds |= {"colour": (images.repeat(3, axis=3), 10, 3)}
    grids = {}
    for name, (shown, columns, _) in kinds.items():
        save_grid(shown, tmp_path / "grid.png", columns)
        grids[name] = (tmp_path / "grid.png").read_bytes()
    save_arm_samples("a study", grids, "x.png")
    for axes, (name, (shown, columns, rows)) in zip(made[0].axes, kinds.items(), strict=True):
        assert axes.get_title(loc="left") == name
        part = axes.get_images()[0].get_array()
        own = min(columns, len(shown))
        right, down = (part.shape[1] - 2) // own, (part.shape[0] - 2) // rows
        np.testing.assert_array_equal(
            part[2::down, 2::right, 2], np.arange(rows * own).reshape(rows, own)
        )
        # Whole images, with a gap below.
        assert (part[-2:] == 232).all()
        assert down - 2 == (right - 2) * shown.shape[1] // shown.shape[2]


def test_the_same_scores_are_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        save_arms("a study", "distance", {"x": [1.0], "y": [2.0]}, "x", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_small_changes_have_ticks_that_differ(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(arms, "save", lambda figure, path: made.append(figure))
    save_changes("a study", [Change("it is", 0.001, -0.002, 0.004, "no")], ("yes", "no", "?"), "x")
    made[0].canvas.draw()
    labels = [label.get_text() for label in made[0].axes[0].get_xticklabels()]
    assert len(labels) > 3
    assert len(set(labels)) == len(labels)


def test_an_arm_has_one_color_in_all_panels(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(arms, "save", lambda figure, path: made.append(figure))
    curve = [([0.0, 1.0], [2.0, 1.0])]
    panels = {"one": {"control": curve, "a": curve, "b": curve}, "two": {"b": curve}}
    arms.save_arm_curves("a study", "images", panels, "control", tmp_path / "arms.png")
    first, second = (
        {to_rgb(line.get_color()) for line in axes.lines if line.get_alpha() is None}
        for axes in made[0].axes[:2]
    )
    assert to_rgb(ARM_COLORS[1]) in first & second
    assert to_rgb(ARM_COLORS[0]) not in second


@pytest.mark.takes_a_second
def test_a_change_is_drawn_in_the_color_of_its_verdict(tmp_path):
    verdicts = ("yes", "no", "unknown")

    def pixels(verdict, low, high):
        """How many pixels have each verdict's color, the legend's among them."""
        save_changes("a study", [Change("it is", -0.1, low, high, verdict)], verdicts, path)
        picture = tiny.read_png(path)[..., :3]
        colors = [np.round(255 * np.array(to_rgb(c))) for c in (*ARM_COLORS[:2], FAINT)]
        return np.array([(picture == color).all(axis=-1).sum() for color in colors])

    path = tmp_path / "changes.png"
    point = [pixels(verdict, -inf, inf) for verdict in verdicts]
    for own in range(3):
        # A point beside that of the legend, and with an interval a long line besides.
        others = [point[other][own] for other in range(3) if other != own]
        assert point[own][own] > max(others) + 20
        assert pixels(verdicts[own], -0.3, 0.1)[own] > point[own][own] + 500
