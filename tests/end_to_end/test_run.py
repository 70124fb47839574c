"""The shipped default config, shrunk, as a user runs it."""

import json
import shutil

import command_line
import numpy as np
import pytest
import tiny

import run
from jaxnoise.errors import ConfigError

pytestmark = pytest.mark.slow

CONFIG = "--config=configs/digits_poly.py"
KILLED = command_line.ROOT / "tests" / "end_to_end" / "killed_run.py"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 8 steps without interruption."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    code, out, err = command_line.run(CONFIG, f"--workdir={folder}", *command_line.SHRUNK)
    assert code == 0, err
    return folder, out, err


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    timing = "images_per_second"
    return [{k: v for k, v in json.loads(line).items() if k != timing} for line in lines]


def checkpoint(folder, step):
    """Digests of every array, which are equal only if every bit is."""
    meta = folder / "checkpoints" / str(step) / "meta" / "metadata"
    return json.loads(meta.read_text())["digests"]


def test_the_run_folder_holds_what_the_readme_says(whole):
    folder, _, _ = whole
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "checkpoints",
        "config.json",
        "cost.json",
        "curves.png",
        "data.json",
        "metrics.jsonl",
        "noise.png",
        "report.html",
        "result.json",
        "samples",
    }
    assert [row["step"] for row in rows(folder)] == [2, 4, 6, 8]
    assert json.loads((folder / "config.json").read_text())["law"]["curve"] == 4.0
    grid = tiny.read_png(folder / "samples" / "step_0000008.png")
    # 10 x 10 images of 8 x 8 pixels, each enlarged to a square of 8, with gaps between.
    assert grid.shape[0] == grid.shape[1]
    assert 600 < grid.shape[0] < 720


def test_the_last_line_is_the_score_with_its_protocol(whole):
    folder, out, _ = whole
    result = json.loads(out.splitlines()[-1])
    assert result == json.loads((folder / "result.json").read_text())
    assert result["n"] == 898
    assert result["reference_count"] == 899
    assert result["images_seen"] == 8 * 16
    assert result["weights"] == "ema"
    assert result["nfe"] == {"1step": 1, "2step": 2}
    for arm in ("1step", "2step"):
        assert result[f"frechet_{arm}"] > result["frechet_floor"] > 0
        assert result[f"untrained_frechet_{arm}"] > 10


def test_progress_shows_rate_loss_and_time_left(whole):
    _, _, err = whole
    last = [line for line in err.splitlines() if "images/s" in line][-1]
    assert "8/8" in last
    assert "loss" in last
    assert "left" in last


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(whole, tmp_path):
    folder = tmp_path / "killed"
    arguments = (CONFIG, f"--workdir={folder}", *command_line.SHRUNK)
    # Within a step, and between the last checkpoint and its pictures.
    for step in (4, 8):
        checkpoint_folder = folder / "checkpoints" / str(step)
        code, _, err = command_line.run(
            str(checkpoint_folder), str(step), *arguments, script=KILLED
        )
        assert code == -9, err
        assert (folder / "checkpoints" / "8").exists() == (step == 8)
    assert "resuming from step 4" in err
    assert not list((folder / "samples").glob("*"))
    code, out, err = command_line.run(*arguments)
    assert code == 0, err
    assert "resuming from step 8" in err
    assert {"curves.png", "report.html"} <= {p.name for p in folder.iterdir()}
    expected, whole_out, _ = whole
    assert checkpoint(folder, 8) == checkpoint(expected, 8)
    assert rows(folder) == rows(expected)
    assert out.splitlines()[-1] == whole_out.splitlines()[-1]
    np.testing.assert_array_equal(
        tiny.read_png(folder / "samples" / "step_0000008.png"),
        tiny.read_png(expected / "samples" / "step_0000008.png"),
    )


def test_a_finished_run_trains_on_with_schedules_at_their_end(whole, tmp_path, capsys):
    folder = tmp_path / "further"
    shutil.copytree(whole[0], folder)
    further = [
        CONFIG,
        f"--workdir={folder}",
        *command_line.SHRUNK,
        "--config.train.further_steps=4",
    ]
    code, out, err = command_line.run(*further)
    assert code == 0, err
    assert "resuming from step 8" in err
    found = rows(folder)
    assert [row["step"] for row in found] == [2, 4, 6, 8, 10, 12]
    assert found[:4] == rows(whole[0])
    last = {row["num_levels"] for row in found[3:]}
    assert last == {found[3]["num_levels"]}
    assert json.loads(out.splitlines()[-1])["images_seen"] == 12 * 16
    assert "12 steps" in (folder / "report.html").read_text()
    # Taken back, the run stands behind its end: it is finished, and scored as it is.
    code, out, err = command_line.run(*further[:-1])
    assert code == 0, err
    assert "resuming from step 12" in err
    assert rows(folder) == found
    assert json.loads(out.splitlines()[-1])["images_seen"] == 12 * 16
    assert run.main([*further, "--config.train.further_steps=-2"]) == 2
    assert "config.train.further_steps=-2: must be at least 0" in capsys.readouterr().err


def test_a_finished_run_is_scored_again_and_a_damaged_one_falls_back(whole):
    folder, out, _ = whole
    newest = folder / "checkpoints" / "8" / "state"
    arguments = (CONFIG, f"--workdir={folder}", *command_line.SHRUNK)
    code, again, err = command_line.run(*arguments, "--mode=evaluate")
    assert code == 0, err
    assert again.splitlines()[-1] == out.splitlines()[-1]
    # Arrays lie in folders "d"; which of the files is read is the format's own affair.
    for path in newest.rglob("d/*"):
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(bytes(damaged))
    # What that step would have shown, had it been asked for, is shown now.
    code, again, err = command_line.run(*arguments, "--config.train.sample_every=4")
    assert code == 0, err
    assert (folder / "samples" / "step_0000004.png").exists()
    assert f"checkpoint {folder / 'checkpoints' / '8'} is damaged" in err
    assert "resuming from step 4" in err
    assert (folder / "checkpoints_damaged" / "8").is_dir()
    assert again.splitlines()[-1] == out.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--config.law.curvature=3"], ["config.law.curvature", "curve"]),
        (["--config.law.curve=0"], ["config.law.curve=0.0", "> 0"]),
        (["--config.law.curve=high"], ["config.law.curve='high'", "a number"]),
        (["--config.train.steps"], ["config.train.steps: give a value"]),
        (["--config.data.dataset=cifra10"], ["cifra10", "cifar10"]),
        (["--config=configs/digits_ploy.py"], ["configs/digits_ploy.py"]),
        (["--mode=trian"], ["mode", "train"]),
        (["stray"], ["stray"]),
        (["--study=high_noise", "--budget="], ["error: --budget=: must not be empty\n"]),
    ],
    ids=lambda value: "-".join(value)[:40],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, parts, tmp_path, capsys):
    code = run.main([CONFIG, f"--workdir={tmp_path / 'run'}", *arguments])
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("error: ")
    for part in parts:
        assert part in err
    assert not (tmp_path / "run").exists()


def test_what_a_file_requires_may_come_from_the_command_line(tmp_path, capsys):
    path = tmp_path / "arm.py"
    path.write_text(
        "from ml_collections import config_dict\n"
        "from configs import digits_poly\n"
        "def get_config():\n"
        "    config = digits_poly.get_config()\n"
        "    config.law.curve = config_dict.required_placeholder(float)\n"
        "    return config\n"
    )
    assert run.main([f"--config={path}", "--mode=plot", "--config.law.curve=0"]) == 2
    assert capsys.readouterr().err == "error: config.law.curve=0.0: must be a finite number > 0\n"


def test_weights_that_few_draws_rule_are_a_warning_of_one_line(tmp_path, capsys):
    no_folder = tmp_path / "file"
    no_folder.write_text("")
    arguments = ["--config=configs/digits_cosine.py", f"--workdir={no_folder}"]
    assert run.main([*arguments, "--config.objective.target=eps"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(
        "warning: config.objective: the weights on the error of eps, which the network predicts, "
        "have an effective sample size of 0.00% under Cosine()"
    )
    assert second.startswith("error: --workdir=")
    bounded = "--config.objective.weight={'name': 'min_snr'}"
    assert run.main([*arguments, "--config.objective.target=eps", bounded]) == 2
    (only,) = capsys.readouterr().err.splitlines()
    assert only.startswith("error: --workdir=")


def test_devices_that_are_not_there_are_named_whatever_a_notebook_draws_with(tmp_path):
    arguments = (CONFIG, f"--workdir={tmp_path / 'run'}", "--mode=plot")
    code, out, err = command_line.run(*arguments, JAX_PLATFORMS="none_such", MPLBACKEND="Foo")
    assert (code, out) == (2, "")
    assert err.startswith("error: JAX_PLATFORMS=none_such: must name what can be used here (")
    assert len(err.splitlines()) == 1


def test_comparing_asks_for_no_devices(monkeypatch, capsys):
    monkeypatch.delattr("jaxnoise.cli.check_devices")
    assert run.main(["--mode=compare"]) == 2
    assert capsys.readouterr().err.startswith("error: --runs")


def test_what_is_noted_on_an_error_is_in_its_line(tmp_path, monkeypatch, capsys):
    def broken(*arguments):
        error = ConfigError("example 3\ncannot be decoded")
        error.add_note("last good checkpoint: 8")
        raise error

    monkeypatch.setattr("jaxnoise.commands.plot.main", broken)
    assert run.main([CONFIG, f"--workdir={tmp_path}", "--mode=plot"]) == 2
    line = "error: example 3 cannot be decoded; last good checkpoint: 8\n"
    assert capsys.readouterr().err == line


def test_a_folder_with_another_run_is_refused_and_kept(whole):
    folder, _, _ = whole
    before = (folder / "metrics.jsonl").read_bytes()
    arguments = (CONFIG, f"--workdir={folder}", *command_line.SHRUNK, "--config.law.curve=3.0")
    code, _, err = command_line.run(*arguments)
    assert code == 2
    assert "law.curve (there 4.0, here 3.0)" in err
    assert (folder / "metrics.jsonl").read_bytes() == before
