"""The picture of a study."""

import tiny

from jaxnoise.figures.arms import save_arms


def test_more_arms_make_a_taller_picture(tmp_path):
    sizes = []
    for count in (2, 6):
        arms = {f"arm {i}": [1.0 + i, 1.5 + i] for i in range(count)}
        save_arms("a study", "distance", arms, "arm 1", tmp_path / "arms.png", floor=0.5)
        sizes.append(tiny.read_png(tmp_path / "arms.png").shape[0])
    assert sizes[1] - sizes[0] == round(4 * 0.32 * 120)


def test_the_same_scores_are_the_same_file(tmp_path):
    for name in ("a.png", "b.png"):
        save_arms("a study", "distance", {"x": [1.0], "y": [2.0]}, "x", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
