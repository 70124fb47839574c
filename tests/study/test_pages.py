"""The pictures of samples in a study."""

import numpy as np
from study import small_study

from jaxnoise.figures.samples import save_grid
from jaxnoise.study import Budget, pages, planned_runs
from jaxnoise.study.folder import StudyFolder

IMAGES = np.zeros((4, 8, 8, 1), np.uint8)


def drawn(tmp_path, monkeypatch, there, shown=()):
    """Title and arms of the picture, where some runs have samples at the end of training."""
    made = []
    monkeypatch.setattr(
        pages, "save_arm_samples", lambda title, grids, path: made.append((title, [*grids]))
    )
    study = small_study.get_study(smoke=Budget((0, 1, 2)), shown=shown)
    folder = StudyFolder(tmp_path / "runs")
    runs = planned_runs(study, "smoke", folder.root)
    for run in runs:
        name = f"{run.arm}/seed_{run.seed}"
        samples = folder.run_folder(run).samples
        if name in there:
            samples.mkdir(parents=True)
            # What a run that went on by hand made later is no neighbour of the others.
            for step in (4, 8, 12):
                save_grid(IMAGES, samples / f"step_{step:07d}.png")
            (samples / "step_mine.png").write_bytes(b"")
        if there.get(name) == "damaged":
            (samples / "step_0000008.png").write_bytes(b"PNG")
    pages.draw_samples("digits", study.comparisons["digits"], folder, runs)
    return made


def test_the_first_seed_of_most_arms_is_drawn(tmp_path, monkeypatch):
    there = dict.fromkeys(("plain/seed_0", "plain/seed_1", "uniform/seed_1", "uniform/seed_2"), "")
    made = drawn(tmp_path, monkeypatch, there)
    assert made == [("digits: samples, seed 1", ["plain", "uniform"])]


def test_of_arms_with_one_picture_each_the_first_is_drawn(tmp_path, monkeypatch):
    there = {"plain/seed_2": "", "uniform/seed_1": "", "plain/seed_0": "damaged"}
    made = drawn(tmp_path, monkeypatch, there)
    assert made == [("digits: samples, seed 1", ["uniform"])]


def test_only_arms_that_are_shown_are_drawn_and_none_without_pictures(tmp_path, monkeypatch):
    there = {"plain/seed_2": "", "uniform/seed_1": "", "uniform/seed_2": ""}
    assert drawn(tmp_path, monkeypatch, there, ("plain",)) == [
        ("digits: samples, seed 2", ["plain"])
    ]
    assert drawn(tmp_path / "none", monkeypatch, {}) == []
