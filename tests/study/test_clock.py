"""The time left of a study, from records that are written here."""

import json

import pytest
from study import small_study

from jaxnoise.study import planned_runs
from jaxnoise.study.clock import Clock
from jaxnoise.study.folder import StudyFolder

STEPS = 8


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Of each comparison, `first` and `digits`, a run of seed 0 and one of seed 1."""
    study = small_study.of_two(file=None)
    study.comparisons["digits"].arms.pop("uniform")
    runs = planned_runs(study, "smoke", tmp_path_factory.mktemp("study"))
    return {run.name: run for run in runs}


def trained(folder, planned, steps, seconds):
    """Leaves the record of a run that has made `steps`, each of which took `seconds`."""
    images = planned.run.images_per_step
    row = {"step": steps, "images_seen": steps * images, "images_per_second": images / seconds}
    root = folder.run_folder(planned)
    root.root.mkdir(parents=True, exist_ok=True)
    root.metrics.write_text(json.dumps(row) + "\n")


def test_steps_are_weighed_by_what_those_of_their_comparison_have_taken(plan, tmp_path):
    folder, time = StudyFolder(tmp_path), [0.0]
    names = [f"{which}/plain/seed_{seed}" for which in ("first", "digits") for seed in (0, 1)]
    small, _, large, _ = (plan[name] for name in names)
    trained(folder, large, STEPS, seconds=90.0)
    clock = Clock(
        folder, list(plan.values()), [plan[n] for n in names[:2] + names[3:]], lambda: time[0]
    )
    assert clock.left() == "time left unknown"
    # 8 steps of 10 s took 160 s, scores between them; 8 of 10 s and 8 of 90 s are left.
    trained(folder, small, STEPS, seconds=10.0)
    time[0] = 160.0
    assert clock.left() == f"about {round((8 * 10 + 8 * 90) * 2 / 60)} min left"


def test_what_no_run_has_tried_costs_the_mean_of_the_others(plan, tmp_path):
    folder, time = StudyFolder(tmp_path), [0.0]
    first, other = plan["first/plain/seed_0"], plan["digits/plain/seed_0"]
    clock = Clock(folder, list(plan.values()), [first, other], lambda: time[0])
    trained(folder, first, 2, seconds=600.0)
    time[0] = 1200.0
    assert clock.left() == "about 2 h 20 min left"  # 6 steps and 8
    trained(folder, first, STEPS, seconds=600.0)
    time[0] = 4800.0
    assert clock.left() == "about 1 h 20 min left"


def test_steps_of_before_it_was_started_made_no_time_pass(plan, tmp_path):
    folder, time = StudyFolder(tmp_path), [0.0]
    run = plan["first/plain/seed_0"]
    trained(folder, run, 6, seconds=1.0)
    clock = Clock(folder, [run], [run], lambda: time[0])
    trained(folder, run, 7, seconds=1.0)
    time[0] = 120.0
    assert clock.left() == "about 2 min left"
    trained(folder, run, STEPS + 5, seconds=1.0)  # trained further, by hand
    assert clock.left() == "about 0 min left"
