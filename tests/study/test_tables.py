"""Means, paired differences and intervals of a study."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from study import small_study

from jaxnoise.errors import ConfigError
from jaxnoise.study import planned_runs
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.pages import answered_claims, scored_rows, show, tables
from jaxnoise.study.tables import as_csv, as_markdown, distinct, paired_difference, rows_of


def test_intervals_are_those_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 0.5, 6), rng.normal(0.7, 0.5, 6)
    found = paired_difference(dict(enumerate(a)), dict(enumerate(b)))
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(a - b))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.effect == pytest.approx(np.mean(a - b) / np.std(a - b, ddof=1))
    assert found.seeds == 6


def test_differences_that_are_unlike_by_rounding_alone_have_no_effect():
    found = paired_difference({0: 1.1, 1: 1.2, 2: 1.3}, {0: 3.1, 1: 3.2, 2: 3.3})
    assert found.effect is None
    assert (found.mean, found.high - found.low) == pytest.approx((-2.0, 0.0), abs=1e-12)


def test_one_seed_has_no_interval_and_no_seed_no_difference():
    found = paired_difference({3: 2.0, 4: 1.0}, {3: 1.5})
    assert (found.mean, found.low, found.high, found.effect) == (0.5, -np.inf, np.inf, None)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert paired_difference({0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.0}).effect is None


PROTOCOL = {
    "images_seen": 128,
    "distance": "Fréchet, raw pixels",
    "n": 64,
    "weights": "ema",
    "reference": "digits",
    "reference_count": 899,
    "devices": {"platform": "cpu", "kind": "cpu", "count": 2},
}


@pytest.fixture
def finished(tmp_path):
    """Three of four runs of the small study with scores of our own."""
    runs = planned_runs(small_study.get_study(), "smoke", tmp_path)
    folder = StudyFolder(tmp_path)
    for planned, score in zip(runs[:3], (3.0, 2.0, 5.0), strict=True):
        root = folder.run_folder(planned).root
        root.mkdir(parents=True)
        result = {
            "frechet_1step": score,
            "frechet_floor": 0.5,
            "untrained_frechet_1step": 9.0,
            "nfe": {"1step": 1},
            **PROTOCOL,
        }
        (root / "result.json").write_text(json.dumps(result))
    return folder, runs


def test_rows_pair_arms_by_seed_and_leave_out_what_is_not_finished(finished):
    folder, runs = finished
    uniform, plain = rows_of(folder, runs, {"digits": "plain"})
    assert (uniform.arm, uniform.values, uniform.mean) == ("uniform", {0: 2.0}, 2.0)
    assert (plain.values, plain.mean, plain.difference) == ({0: 3.0, 1: 5.0}, 4.0, None)
    assert plain.spread == pytest.approx(np.sqrt(2))
    assert (uniform.difference.mean, uniform.difference.seeds) == (-1.0, 1)
    assert plain.floor == 0.5
    assert plain.about == (
        "128 images seen; Fréchet, raw pixels; 64 images drawn with the moving average of the "
        "weights, against 899 of digits"
    )


@pytest.mark.parametrize(
    "fact,said",
    [
        ({"n": 600}, "n was 600 for the one and 64"),
        ({"weights": "raw"}, "weights was 'raw' for the one and 'ema'"),
        ({"reference": "others"}, "reference was 'others' for the one and 'digits'"),
        ({"reference_count": 7}, "reference_count was 7 for the one and 899"),
    ],
)
def test_scores_that_do_not_mean_the_same_are_not_averaged(fact, said, finished):
    folder, runs = finished
    path = folder.run_folder(runs[2]).result
    path.write_text(json.dumps(json.loads(path.read_text()) | fact))
    with pytest.raises(ConfigError, match=f"plain/seed_1 cannot be .*plain/seed_0: {said}"):
        rows_of(folder, runs, {"digits": "plain"})


def test_arms_may_differ_in_weights_and_folders_in_their_names(finished):
    folder, runs = finished
    for planned, weights, name in zip(runs, ("ema", "raw", "ema"), "aba", strict=False):
        path = folder.run_folder(planned).result
        facts = {"weights": weights, "reference": name, "reference_sha256": "1f"}
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    rows = rows_of(folder, runs, {"digits": "plain"})
    assert len(rows) == 2
    for row in rows:
        assert " with the moving average of the weights or the raw weights, against " in row.about


def test_a_run_that_went_on_by_hand_is_not_compared_as_planned(finished):
    """Scored under other settings, or trained further, in its folder of the study."""
    folder, runs = finished
    run = folder.run_folder(runs[1])
    planned = runs[1].run.config
    run.config.write_text(json.dumps(planned | {"evaluate": planned["evaluate"] | {"every": 2}}))
    assert len(rows_of(folder, runs, {"digits": "plain"})) == 2
    raw = {"evaluate": planned["evaluate"] | {"weights": "raw"}}
    run.config.write_text(json.dumps(planned | raw))
    says = r"uniform/seed_0 went on under .* plan's: {}; delete its folder to make it anew, or give"
    weights = r"evaluate\.weights \(there 'raw', here 'ema'\)"
    with pytest.raises(ConfigError, match=says.format(weights)):
        rows_of(folder, runs, {"digits": "plain"})
    run.config.unlink()
    result = json.loads(run.result.read_text())
    run.result.write_text(json.dumps(result | {"images_seen": 256}))
    with pytest.raises(ConfigError, match=says.format(r"images_seen \(there 256, here 128\)")):
        rows_of(folder, runs, {"digits": "plain"})


def test_runs_on_other_images_are_not_compared(finished):
    folder, runs = finished
    for planned, fingerprint in zip(runs[:2], ("one", "two"), strict=True):
        folder.run_folder(planned).data.write_text(json.dumps({"fingerprint": fingerprint}))
    with pytest.raises(
        ConfigError, match="the images' fingerprint was 'two' for the one and 'one'"
    ):
        rows_of(folder, runs, {"digits": "plain"})


def test_a_score_of_half_way_is_in_no_table(finished):
    folder, runs = finished
    path = folder.run_folder(runs[1]).result
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images_seen": 64}))
    (plain,) = rows_of(folder, runs, {"digits": "plain"})
    assert plain.values == {0: 3.0, 1: 5.0}


def test_a_further_score_of_an_earlier_checkpoint_counts(finished):
    folder, runs = finished
    early = replace(runs[0].run, evaluate=replace(runs[0].run.evaluate, step=4))
    planned = replace(runs[0], further={"half": early, "end": runs[0].run})
    path = folder.run_folder(planned).result
    half = json.loads(path.read_text()) | {"images_seen": 64}
    for name in ("half", "end"):
        folder.run_folder(planned).further(name).write_text(json.dumps(half))
    assert folder.lacking(planned) == ["end"]


def test_only_claims_whose_runs_are_not_finished_wait(finished):
    """Not those of another budget's arms, nor those at equal cost where steps cost alike."""
    folder, runs = finished
    claims = (
        small_study.claim(),
        small_study.claim(further="equal_cost"),
    )
    study = small_study.get_study(claims)

    def says():
        rows = rows_of(folder, runs, {"digits": "plain"})
        return answered_claims(study, rows, folder, runs).splitlines()[3:]

    assert says() == ["", "1 of 2 claims wait for runs."]
    others = [run for run in runs if run.arm == "plain"]
    rows = rows_of(folder, runs, {"digits": "plain"})
    assert answered_claims(study, rows, folder, others).count("wait") == 0
    whole = folder.run_folder(runs[1]).result.read_text()
    folder.run_folder(runs[3]).root.mkdir(parents=True)
    folder.run_folder(runs[3]).result.write_text(whole)
    why = "where steps cost alike, or no score was taken so early"
    assert says() == ["", f"1 of 2 claims are about equal cost, {why}."]


def test_tables_say_all_of_it(finished):
    rows = rows_of(*finished, {"digits": "plain"})
    table = as_markdown(rows)
    assert "**digits: frechet_1step**, floor 0.500" in table
    assert "| uniform | 2.000 | 1 | -1.000 (one seed) |  |" in table
    assert "128 images seen" in table
    assert "| arm | frechet_1step |" in table
    assert "| plain | 4 |" in table
    assert "| *real images* | 0.5 |" in table
    assert as_csv(rows).splitlines()[1:] == [
        "digits,,uniform,frechet_1step,0,2.0",
        "digits,,plain,frechet_1step,0,3.0",
        "digits,,plain,frechet_1step,1,5.0",
    ]


def test_a_table_says_that_its_arms_have_seen_unlike_many_images(finished):
    """An arm that selects from a pool looks at more images than it trains on."""
    folder, _ = finished
    arms = {"plain": {}, "uniform": {"train.batch": 640}}
    runs = planned_runs(small_study.get_study(arms=arms), "smoke", folder.root)
    path = folder.run_folder(runs[1]).result
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images_seen": 5120}))
    for row in rows_of(folder, runs, {"digits": "plain"}):
        assert row.about.startswith("128 to 5,120 images seen; Fr")


@pytest.mark.takes_a_second
def test_further_scores_have_tables_and_pictures_of_their_own(finished, capsys):
    folder, _ = finished
    further = {"raw": {"evaluate.weights": "raw"}}
    claims = [small_study.claim(further=name) for name in ("", "raw")]
    study = small_study.get_study(claims, further=further)
    runs = planned_runs(study, "smoke", folder.root)
    assert not any(map(folder.is_finished, runs))
    levels = {"sigma": [0.05, 0.5, 50.0], "error": [1e-4, 1e-2, 0.5], "frechet": [0.5, 1.0, 4.0]}
    for planned, score in zip(runs[:2], (6.0, 4.0), strict=True):
        result = {"frechet_1step": score, "frechet_floor": 0.6, "denoised": levels}
        result |= {"nfe": {"1step": 1}, **PROTOCOL, "weights": "raw"}
        folder.run_folder(planned).further("raw").write_text(json.dumps(result))
        rows = [{"step": s, "images_seen": 16 * s, "frechet_1step": 8.0 - s} for s in (2, 4)]
        rows += [{"step": 4, "images_seen": 64, "images_per_second": 0.01}]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        folder.run_folder(planned).metrics.write_text(text)
    assert [folder.is_finished(planned) for planned in runs] == [True, True, False, False]
    rows = rows_of(folder, runs, {"digits": "plain"})
    own = [row for row in rows if row.further == "raw" and row.score == "frechet_1step"]
    assert [(row.arm, row.values) for row in own] == [("uniform", {0: 4.0}), ("plain", {0: 6.0})]
    assert own[0].difference.mean == -2.0
    assert own[0].floor == 0.6
    bands = {row.score: row.mean for row in rows if row.arm == "plain" and row.further == "raw"}
    assert bands["denoised_error_>10"] == pytest.approx(0.5)
    assert bands["denoised_frechet_0.1-1"] == 1.0
    show(study, folder, runs)
    table = capsys.readouterr().out
    assert "**digits_raw: frechet_1step**, floor 0.600" in table
    assert table.index("## Answers") < table.index("## Scores")
    assert "| **cannot tell** | digits, raw | frechet_1step | 4.000 | 6.000 | -2.000 |" in table
    assert "64 images drawn with the raw weights" in table
    # Two runs of 64 images at .01 a second.
    assert "3 runs, 3.6 hours of training, each on 2 x cpu." in table
    assert "| plain | 6 | 0.0001 | 0.5 | 0.01 | 1 | 0.5 | 4 |" in table
    names = ("digits_raw_frechet_1step", "digits_raw_by_level", "digits_curves")
    for name in names:
        assert (folder.root / f"{name}.png").stat().st_size > 5000


def test_a_further_score_that_is_the_own_one_again_is_left_out(finished):
    folder, _ = finished
    runs = planned_runs(small_study.get_study(further={"raw": {}}), "smoke", folder.root)
    path = folder.run_folder(runs[1]).further("raw")
    result = json.loads(folder.run_folder(runs[1]).result.read_text())
    for again, left in (({"precision_1step": 0.5}, {"precision_1step"}), ({}, set())):
        path.write_text(json.dumps(result | again))
        rows = distinct(rows_of(folder, runs, {"digits": "plain"}))
        assert {row.score for row in rows if row.further} == left
    path.write_text(json.dumps(result | {"frechet_1step": 2.5}))
    rows = distinct(rows_of(folder, runs, {"digits": "plain"}))
    assert [row.mean for row in rows if row.further] == [2.5]


def test_a_claim_on_a_score_that_is_the_own_one_again_is_answered(finished):
    folder, _ = finished
    claims = [small_study.claim(further="raw"), small_study.claim(score="frechet_2step")]
    study = small_study.get_study(claims, further={"raw": {}})
    runs = planned_runs(study, "smoke", folder.root)
    for planned in runs[:2]:
        result = folder.run_folder(planned).result.read_text()
        folder.run_folder(planned).further("raw").write_text(result)
    text = tables(study, scored_rows(study, folder, runs), folder, runs)
    assert "digits, raw | frechet_1step | 2.000 | 3.000 | -1.000 |" in text
    assert "1 of 2 claims wait for runs." in text
    assert "### digits_raw" not in text


def test_runs_that_train_raters_are_shown_beside_those_that_are_scored(finished, capsys):
    """A rater of noise draws no images, so that it has no distance."""
    folder, runs = finished
    folder.run_folder(runs[3]).root.mkdir(parents=True)
    rater = {"rater": "rater.npz", "meta_steps": 4, "images_seen": 128, "loss": 0.5}
    folder.run_folder(runs[3]).result.write_text(json.dumps(rater))
    show(small_study.get_study(), folder, runs)
    assert "4 runs, 0.0 hours of training, each on 2 x cpu." in capsys.readouterr().out


def test_arms_of_unlike_cost_are_compared_at_equal_cost(finished):
    """The cheap arm ends at cost 80; the dear one, of twice its cost a step, is read at step 4."""
    folder, runs = finished
    for planned, cost in zip(runs[:2], (10.0, 20.0), strict=True):
        run = folder.run_folder(planned)
        run.cost.write_text(json.dumps({"operations_per_step": cost}))
        curve = {2: 8.0, 8: 2.0}
        rows = [{"step": s, "images_seen": 16 * s, "frechet_1step": v} for s, v in curve.items()]
        run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = rows_of(folder, runs, {"digits": "plain"})
    equal = {row.arm: row.values for row in rows if row.further == "equal_cost"}
    # Halfway between the two in the logarithm of steps, and of distances.
    assert equal == {"plain": {0: pytest.approx(2.0)}, "uniform": {0: pytest.approx(4.0)}}
    assert "### digits_equal_cost\n\neach arm where it has cost as much" in as_markdown(rows)
    folder.run_folder(runs[1]).cost.write_text(json.dumps({"operations_per_step": 10.1}))
    rows = rows_of(folder, runs, {"digits": "plain"})
    assert not [row for row in rows if row.further == "equal_cost"]
