"""The picture of a law that learns itself: cells where the rows say, and pixels read back."""

import numpy as np
import pytest
import tiny

from jaxnoise.errors import ArgumentError
from jaxnoise.figures.law_map import has_law, law_map_figure, law_table, save_law_map

LEVELS = (6.0, 2.0, -2.0, -6.0)
DENSITY = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [0, 0, 8, 2]]) / 40
ROWS = [
    {"step": 10 * (i + 1), "loss": 1.0}
    | {f"law/{lam:.4g}": value for lam, value in zip(LEVELS, DENSITY[i], strict=True)}
    for i in range(3)
]


def test_rows_become_a_table_of_ascending_levels():
    steps, lam, density = law_table([{"step": 5, "frechet": 1.0}, *ROWS])
    assert steps.tolist() == [10, 20, 30]
    assert lam.tolist() == [-6, -2, 2, 6]
    np.testing.assert_array_equal(density, DENSITY[:, ::-1])
    assert has_law(ROWS)
    assert not has_law([{"step": 5, "laws": 1.0}])


def test_a_cell_is_a_row_s_steps_and_a_part_of_the_range():
    left, right, bar = law_map_figure(ROWS).axes
    (mesh,) = left.collections
    np.testing.assert_array_equal(mesh.get_array().T, DENSITY[:, ::-1])
    corners = mesh.get_coordinates()
    assert corners[0, :, 0].tolist() == [0, 10, 20, 30]
    assert corners[:, 0, 1].tolist() == [-8, -4, 0, 4, 8]
    assert bar.get_ylabel() == "density over λ"
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels == ["to step 10", "to step 30"]
    first, last = right.patches
    np.testing.assert_array_equal(first.get_data().values, DENSITY[0, ::-1])
    np.testing.assert_array_equal(last.get_data().values, DENSITY[-1, ::-1])


@pytest.mark.takes_a_second
def test_the_picture_is_dark_where_much_is_drawn(tmp_path):
    save_law_map(ROWS, tmp_path / "law.png")
    pixels = tiny.read_png(tmp_path / "law.png").astype(int)
    assert pixels.shape[:2] == (480, 1152)
    save_law_map(ROWS, tmp_path / "again.png")
    assert (tmp_path / "law.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    one = [{key: row[key] for key in ("step", "law/2")} for row in ROWS]
    save_law_map(one, tmp_path / "one.png")


def test_without_a_law_there_is_nothing_to_draw():
    with pytest.raises(ArgumentError, match=r"^records='1 rows': must be rows of a law"):
        law_map_figure([{"step": 1, "loss": 2.0}])
