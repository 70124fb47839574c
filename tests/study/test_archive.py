"""A study in one file: the numbers of finished runs."""

import json
import tarfile

import pytest
from study import small_study

from jaxnoise import cli
from jaxnoise.commands import study as study_command
from jaxnoise.errors import ConfigError
from jaxnoise.files import exclusive
from jaxnoise.study import Study, planned_runs
from jaxnoise.study.archive import check_archive, pack, unpack
from jaxnoise.study.folder import StudyFolder

ROWS = [
    {"step": 2, "images_seen": 32, "images_per_second": 8.0, "loss": 1.0},
    {"step": 4, "images_seen": 64, "images_per_second": 16.0, "loss": 0.5},
    {"step": 4, "images_seen": 64, "frechet_1step": 3.0},
    {"step": 8, "images_seen": 128, "images_per_second": 4.0, "loss": 0.25},
    {"step": 8, "images_seen": 128, "frechet_1step": 2.0},
]

CODE = """
class best:
    def __init__(self, file):
        pass

    def select(self, *given):
        pass
"""


@pytest.fixture
def finished(tmp_path):
    """The first run of the small study, finished by numbers of our own."""
    runs = planned_runs(small_study.get_study(), "smoke", tmp_path / "runs")
    folder = StudyFolder(tmp_path / "runs")
    run = folder.run_folder(runs[0])
    run.claim(runs[0].run.config)
    run.result.write_text(json.dumps({"frechet_1step": 2.0}))
    for row in ROWS:
        run.append(row)
    return folder, runs


def test_what_tables_and_curves_are_made_of_is_kept(finished, tmp_path):
    folder, runs = finished
    archive = tmp_path / "study.jsonl"
    pack(folder, runs, archive)
    other = StudyFolder(tmp_path / "other")
    unpack(archive, other, runs)
    assert [other.is_finished(run) for run in runs] == [True] + [False] * (len(runs) - 1)
    assert other.results(runs[0]) == folder.results(runs[0])
    rows = other.run_folder(runs[0]).rows()
    assert [(r["step"], r["frechet_1step"]) for r in rows] == [(4, 3.0), (8, 2.0)]
    # 32 images at 8 a second, 32 at 16, 64 at 4.
    assert other.hours(runs[0]) == pytest.approx((4 + 2 + 16) / 3600)
    assert other.hours(runs[0]) == pytest.approx(folder.hours(runs[0]))
    other.claim(runs)
    # The same again, and runs of another plan are kept.
    pack(other, runs, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == archive.read_text()
    pack(other, runs[1:], tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == archive.read_text()


def test_a_run_that_went_on_under_other_settings_is_kept_as_the_plan_has_it(finished, tmp_path):
    folder, runs = finished
    planned = runs[0].run.config
    folder.run_folder(runs[0]).claim({**planned, "sample": {**planned["sample"], "count": 77}})
    pack(folder, runs, tmp_path / "study.jsonl")
    other = StudyFolder(tmp_path / "other")
    unpack(tmp_path / "study.jsonl", other, runs)
    assert other.is_finished(runs[0])


def test_a_score_under_other_settings_by_hand_is_not_kept(finished, tmp_path):
    folder, runs = finished
    planned = runs[0].run.config
    few = {**planned["sample"], "method": {**planned["sample"]["method"], "sigmas": [1.5]}}
    folder.run_folder(runs[0]).claim({**planned, "sample": few})
    (said,) = pack(folder, runs, tmp_path / "study.jsonl")
    assert (tmp_path / "study.jsonl").read_text() == ""
    assert "digits/plain/seed_0 is not kept, since it went on under other settings" in said
    assert "sample.method.sigmas" in said


def test_that_it_is_not_kept_is_said_once(finished, tmp_path, capsys, monkeypatch):
    """Though the archive is written after every run."""
    folder, _ = finished

    def run_all(folder, runs, pieces, command, jobs, seconds, after_each):
        # By hand, beside the study.
        further = {"frechet_1step": 2.0, "images_seen": 256}
        folder.run_folder(runs[0]).result.write_text(json.dumps(further))
        after_each()
        after_each()
        return []

    monkeypatch.setattr(study_command.local, "run_all", run_all)
    monkeypatch.setattr(study_command, "show", lambda *given: None)
    flags = cli.parse(
        [
            f"--study={small_study.__file__}",
            "--budget=smoke",
            f"--workdir={folder.root}",
            f"--archive={tmp_path / 'study.jsonl'}",
        ]
    )
    assert study_command.main(flags, lambda planned: None) == 0
    said = capsys.readouterr().err
    assert said.count("digits/plain/seed_0 is not kept") == said.count("warning:") == 1


def test_a_tar_keeps_the_weights_that_a_run_is_still_to_start_from(tmp_path):
    folder = StudyFolder(tmp_path / "runs")
    runs = planned_runs(small_study.of_two(), "smoke", folder.root)
    finished = [runs[0], runs[1], runs[3], runs[5]]
    for planned in finished:
        run = folder.run_folder(planned)
        run.claim(planned.run.config)
        run.result.write_text(json.dumps({"frechet_1step": 2.0}))
        (run.checkpoints / "8").mkdir(parents=True)
    pack(folder, runs, tmp_path / "study.tar")
    with tarfile.open(tmp_path / "study.tar") as tar:
        held = {name for name in tar.getnames() if name.endswith("checkpoints")}
    # The first seed of the second comparison is still to start from that of the first.
    assert held == {"first/plain/seed_0/checkpoints"}


def test_files_of_other_runs_are_named_wherever_the_folder_lies(tmp_path):
    folder, study = StudyFolder(tmp_path / "runs"), small_study.of_two()
    runs = planned_runs(study, "smoke", folder.root)
    last = folder.run_folder(runs[2])
    last.claim(runs[2].run.config)
    last.result.write_text(json.dumps({"frechet_1step": 2.0}))
    pack(folder, runs, tmp_path / "study.jsonl")
    text = (tmp_path / "study.jsonl").read_text()
    assert str(tmp_path) not in text
    assert '"init_from": "{folder}/first/plain/seed_0"' in text
    other = StudyFolder(tmp_path / "other")
    others = planned_runs(study, "smoke", other.root)
    unpack(tmp_path / "study.jsonl", other, others)
    other.claim(others)
    assert [run.name for run in others if other.is_finished(run)] == [runs[2].name]


def test_a_run_that_is_finished_here_stays_as_it_is(finished, tmp_path):
    folder, runs = finished
    archive = tmp_path / "study.jsonl"
    pack(folder, runs, archive)
    archive.write_text(archive.read_text().replace('"frechet_1step": 2.0', '"frechet_1step": 9.0'))
    unpack(archive, folder, runs)
    assert folder.results(runs[0])[""] == {"frechet_1step": 2.0}
    assert folder.run_folder(runs[0]).rows() == ROWS


def test_an_archive_brings_the_further_scores_of_the_same_run(finished, tmp_path):
    """Such as of a folder that was taken up before the archive had them."""
    folder, runs = finished
    further = [runs[0].__class__(**{**vars(runs[0]), "further": {"raw": runs[0].run}})]
    again = folder.run_folder(runs[0]).further("raw")
    for own, score in (({"frechet_1step": 2.0}, 4.0), ({"frechet_1step": 2.5}, None)):
        folder.run_folder(runs[0]).result.write_text('{"frechet_1step": 2.0}')
        again.write_text('{"frechet_1step": 4.0}')
        pack(folder, further, tmp_path / "study.jsonl")
        again.unlink()
        assert folder.lacking(further[0]) == ["raw"]
        folder.run_folder(runs[0]).result.write_text(json.dumps(own))
        unpack(tmp_path / "study.jsonl", folder, further)
        found = folder.results(further[0])
        # Another training's score is not this one's.
        assert found[""] == own
        assert found.get("raw", {}).get("frechet_1step") == score
        again.unlink(missing_ok=True)


def test_a_score_of_half_way_gives_way_to_the_archive(finished, tmp_path):
    folder, runs = finished
    pack(folder, runs, tmp_path / "study.jsonl")
    half = {"frechet_1step": 9.0, "images_seen": 64}
    folder.run_folder(runs[0]).result.write_text(json.dumps(half))
    assert folder.results(runs[0]) == {}
    unpack(tmp_path / "study.jsonl", folder, runs)
    assert folder.results(runs[0])[""] == {"frechet_1step": 2.0}


def test_what_another_process_makes_is_not_written_over(finished, tmp_path):
    folder, runs = finished
    pack(folder, runs, tmp_path / "study.jsonl")
    own = folder.run_folder(runs[0])
    own.result.unlink()
    with exclusive(own.root):
        unpack(tmp_path / "study.jsonl", folder, runs)
        assert not own.result.exists()
        assert own.rows() == ROWS
    unpack(tmp_path / "study.jsonl", folder, runs)
    assert len(own.rows()) == 2


def test_what_is_not_finished_here_stays_in_the_file(finished, tmp_path):
    """Such as a run that a new further score is asked of, whose checkpoints are elsewhere."""
    folder, runs = finished
    archive = tmp_path / "study.jsonl"
    pack(folder, runs, archive)
    before = archive.read_text()
    pack(StudyFolder(tmp_path / "empty"), runs, archive)
    assert archive.read_text() == before


def test_a_run_of_another_config_is_refused_before_anything_is_written(finished, tmp_path):
    folder, runs = finished
    archive = tmp_path / "study.jsonl"
    pack(folder, runs, archive)
    archive.write_text(archive.read_text().replace('"seed": 0', '"seed": 7'))
    # By the name of what is unlike: another folder would not help.
    with pytest.raises(
        ConfigError, match=r"^--archive=.*seed_0 is a run of another config: .*seed \(there 7"
    ) as error:
        unpack(archive, StudyFolder(tmp_path / "other"), runs)
    assert str(error.value).endswith("; give another --archive")
    assert not (tmp_path / "other").exists()


def test_a_rater_is_made_again_of_the_same_config(tmp_path):
    """Other runs read its file, which the numbers do not hold."""
    archive, folder = tmp_path / "study.jsonl", StudyFolder(tmp_path / "runs")
    runs = planned_runs(small_study.by_a_rater(), "smoke", folder.root)
    for planned in runs:
        run = folder.run_folder(planned)
        run.claim(planned.run.config)
        run.result.write_text('{"steps": 8}')
    folder.run_folder(runs[0]).rater.write_bytes(b"weights")
    pack(folder, runs, archive)
    other = StudyFolder(tmp_path / "other")
    runs = planned_runs(small_study.by_a_rater(), "smoke", other.root)
    unpack(archive, other, runs)
    assert [other.is_finished(run) for run in runs] == [False, True]
    assert not other.run_folder(runs[0]).root.exists()
    other.claim(runs)
    kept = archive.read_text()
    for again in (archive, tmp_path / "again.jsonl"):
        pack(other, runs, again)
        assert sorted(again.read_text().splitlines()) == sorted(kept.splitlines())
    assert len(kept.splitlines()) == 2
    # What was selected by it is not what is selected by another.
    changed = planned_runs(small_study.by_a_rater(**{"meta.temperature": 0.5}), "smoke", tmp_path)
    with pytest.raises(ConfigError, match=r"raters/conv/seed_0 is a run of another config: meta.t"):
        unpack(archive, StudyFolder(tmp_path / "third"), changed)


def test_what_reads_files_of_another_run_than_before_is_refused(tmp_path):
    folder = StudyFolder(tmp_path)
    study = small_study.of_two("{folder}/first/plain/seed_0")
    folder.claim(planned_runs(study, "smoke", tmp_path))
    folder.claim(planned_runs(study, "smoke", tmp_path))
    for other in ("{folder}/first/plain/seed_{seed}", None, "/elsewhere/plain/seed_0"):
        changed = planned_runs(small_study.of_two(other), "smoke", tmp_path)
        with pytest.raises(
            ConfigError, match=r"digits/uniform/seed_\d is .*: train.init_from \(th"
        ):
            folder.claim(changed)
    # A plan of before has whole paths, and its folder may have been moved, here or elsewhere.
    text = folder.plan.read_text()
    for moved_from in (tmp_path, tmp_path / "below", "/elsewhere"):
        folder.plan.write_text(text.replace("{folder}", str(moved_from)))
        folder.claim(planned_runs(study, "smoke", tmp_path))
        assert folder.plan.read_text() == text


def test_code_of_ones_own_that_reads_a_file_of_another_run_is_the_same_again(tmp_path, monkeypatch):
    """Of such code nobody knows what its settings change, so that all are compared."""
    (tmp_path / "my_selection.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    file, study = "{folder}/first/plain/seed_0/export.npz", small_study.of_two()
    for place, given in (("one", file), ("more", (file,))):
        arms = {"plain": {}, "own": {"selection": {"name": "my_selection:best", "file": given}}}
        study.comparisons["digits"] = small_study.comparison(arms=arms)
        folder = StudyFolder(tmp_path / place)
        runs = planned_runs(study, "smoke", folder.root)
        for _ in range(2):
            folder.claim(runs)
        own = next(run for run in runs if run.arm == "own")
        assert own.after == ("first/plain/seed_0",)
        held = own.run.config["selection"]["file"]
        assert (held if place == "one" else held[0]).startswith(f"{folder.root}/first/")
        # A run that was made before its folder was moved here.
        if place == "one":
            before = file.replace("{folder}", "/elsewhere")
            config = own.run.config | {"selection": own.run.config["selection"] | {"file": before}}
            assert folder.difference(own, config) == ""
            config["selection"] |= {"file": before.replace("first", "second")}
            assert folder.difference(own, config).startswith("selection.file (there '/elsewhere/s")


def test_a_model_that_another_is_still_to_start_from_is_made_again(tmp_path):
    """Numbers hold no weights."""
    archive, folder = tmp_path / "study.jsonl", StudyFolder(tmp_path / "runs")
    runs = planned_runs(small_study.of_two(), "smoke", folder.root)
    finished = [run for run in runs if run.name != "digits/uniform/seed_1"]
    for planned in finished:
        run = folder.run_folder(planned)
        run.claim(planned.run.config)
        run.result.write_text('{"frechet_1step": 2.0}')
    pack(folder, runs, archive)
    other = StudyFolder(tmp_path / "other")
    unpack(archive, other, runs)
    left = {run.name for run in runs if not other.is_finished(run)}
    assert left == {"first/plain/seed_1", "digits/uniform/seed_1"}
    assert not [run for run in runs if run.name in left and other.is_ready(run, runs) and run.after]


def test_a_run_that_was_trained_further_by_hand_is_not_kept(finished, tmp_path):
    folder, runs = finished
    run = folder.run_folder(runs[0])
    run.result.write_text(json.dumps({"frechet_1step": 2.0, "images_seen": 256}))
    assert folder.is_finished(runs[0])
    (said,) = pack(folder, runs, tmp_path / "study.jsonl")
    assert (tmp_path / "study.jsonl").read_text() == ""
    assert "plan's: images_seen (there 256, here 128)" in said


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"run": "a/b/seed_0", "files": {"result.json": {}}, "rows": []}',
        '{"run": "../b", "files": {"config.json": {"a": 1}}, "rows": []}',
        '{"run": "a", "files": {"config.json": {"a": 1}, "x/y": {"a": 1}}, "rows": []}',
        '{"run": "a", "files": {"config.json": 3}, "rows": []}',
        '{"run": "a", "files": {"config.json": {"a": 1}, "result.json": []}, "rows": []}',
    ],
)
def test_a_line_that_is_no_run_is_named(line, tmp_path):
    archive = tmp_path / "study.jsonl"
    archive.write_text(line + "\n")
    with pytest.raises(ConfigError, match=r"study\.jsonl: line 1 is no run of a study"):
        unpack(archive, StudyFolder(tmp_path / "runs"), [])
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def packed(finished, tmp_path):
    """The same as a .tar beside it."""
    folder, runs = finished
    folder.claim(runs)
    pack(folder, runs, tmp_path / "study.tar")
    return folder, runs, tmp_path / "study.tar"


def test_a_tar_brings_the_folder_back(packed, tmp_path):
    folder, runs, archive = packed
    other = StudyFolder(tmp_path / "deep" / "other")
    unpack(archive, other, runs)
    assert other.plan.read_bytes() == folder.plan.read_bytes()
    assert other.run_folder(runs[0]).rows() == ROWS
    assert {path.name for path in other.root.parent.iterdir()} == {"other"}


def test_a_tar_goes_into_a_folder_that_is_there_and_over_nothing_in_it(packed, tmp_path):
    _, runs, archive = packed
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "slurm-1.out").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "place")
    other = StudyFolder(tmp_path / "link")
    unpack(archive, other, runs)
    assert other.is_finished(runs[0])
    assert (tmp_path / "link").is_symlink()
    # As where the taking up was killed.
    other.plan.unlink()
    with pytest.raises(ConfigError, match=r"link: holds 'digits' without a plan\.json"):
        unpack(archive, other, runs)
    assert {path.name for path in other.root.iterdir()} == {"digits", "slurm-1.out"}


@pytest.mark.parametrize("begun", [False, True])
def test_a_tar_that_is_none_of_this_study_is_refused_and_kept(begun, packed, tmp_path):
    folder, runs, archive = packed
    study = Study("", {"clothes": small_study.comparison()})
    other, others = StudyFolder(tmp_path / "other"), planned_runs(study, "smoke", tmp_path)
    if begun:
        other.claim(others)
    whole = archive.read_bytes()
    with pytest.raises(ConfigError, match=r"is of another study; it holds digits/plain/seed_0"):
        unpack(archive, other, others)
    for damaged, said in ((whole[:20_000], "unexpected end"), (b"my thesis", "cannot be read")):
        archive.write_bytes(damaged)
        with pytest.raises(ConfigError, match=said):
            unpack(archive, folder if begun else other, runs)
    assert other.root.exists() is begun


def test_a_tar_that_is_further_than_the_folder_is_not_written_over(packed, tmp_path):
    _, runs, archive = packed
    other = StudyFolder(tmp_path / "other")
    other.claim(runs)
    with pytest.raises(ConfigError, match=r"holds digits/plain/seed_0 finished, and --workdir="):
        unpack(archive, other, runs)
    # Nor what the plan does not have, such as an arm of a wider one.
    with pytest.raises(ConfigError, match=r"holds digits/plain/seed_0/result\.json, and --workd"):
        unpack(archive, other, runs[1:])


@pytest.mark.parametrize("beyond", ["checkpoints/1600", "result_raw.json"])
def test_a_tar_with_a_later_checkpoint_or_another_score_is_not_written_over(
    beyond, packed, tmp_path
):
    folder, runs, archive = packed
    under_way = folder.run_folder(runs[1]).root
    for step in (400, 1200):
        (under_way / "checkpoints" / str(step)).mkdir(parents=True)
    pack(folder, runs, archive)
    # An earlier one is dropped as a run goes on.
    (under_way / "checkpoints" / "400").rmdir()
    unpack(archive, folder, runs)
    there = under_way / beyond
    there.mkdir() if "/" in beyond else there.write_text("{}")
    pack(folder, runs, archive)
    whole = archive.read_bytes()
    there.rmdir() if "/" in beyond else there.unlink()
    with pytest.raises(ConfigError, match=rf"study\.tar: holds {runs[1].name}/{beyond}, and"):
        unpack(archive, folder, runs)
    assert archive.read_bytes() == whole


def test_a_score_that_was_taken_half_way_is_not_that_of_the_run(finished):
    """As `--mode=evaluate` leaves it, called by hand while the study is stopped."""
    folder, runs = finished
    (run,) = runs[:1]
    path = folder.run_folder(run).result
    result = json.loads(path.read_text())
    assert folder.lacking(run) == []
    images = run.run.images_per_step * run.run.train.last_step
    for seen, lacking in ((images, []), (images - 1, [""])):
        path.write_text(json.dumps(result | {"images_seen": seen}))
        assert folder.lacking(run) == lacking
        assert folder.is_finished(run) == (not lacking)


def test_an_archive_has_a_place_and_a_name_that_says_what_is_kept(tmp_path):
    folder = StudyFolder(tmp_path / "runs")
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.tar").mkdir()
    for name, said in {
        "study.zip": r"must end in \.tar or \.jsonl",
        "folder.tar": "is a folder",
        "runs/study.tar": "must lie outside of --workdir=",
        "file/study.tar": "file is no folder",
    }.items():
        with pytest.raises(ConfigError, match=said):
            check_archive(tmp_path / name, folder)


@pytest.mark.parametrize("text", ["", "[]", "null", "\x00"])
def test_damaged_files_of_a_study_are_named(text, finished):
    folder, runs = finished
    folder.claim(runs)
    for path, read in (
        (folder.run_folder(runs[0]).result, lambda: folder.results(runs[0])),
        (folder.run_folder(runs[0]).cost, lambda: folder.operations(runs[0])),
        (folder.plan, lambda: folder.claim(runs)),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=rf"{path.name} is damaged"):
            read()
        if path != folder.plan:
            path.write_text("{}")
            with pytest.raises(ConfigError, match=rf"{path.name} is damaged: it holds nothing"):
                read()
    folder.plan.write_text('{"digits/plain/seed_0": "x"}')
    with pytest.raises(ConfigError, match=r"plan.json is damaged: a run has no config"):
        folder.claim(runs)
