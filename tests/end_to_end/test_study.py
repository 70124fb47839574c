"""A study from its file to its table; stopped on the way, and gone on with."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import command_line
import pytest

from jaxnoise.cli import main
from jaxnoise.errors import ConfigError
from jaxnoise.files import exclusive
from jaxnoise.study import local

pytestmark = pytest.mark.slow

FILE = """
from tests.study.small_study import comparison
from jaxnoise.study import Budget, Study

def get_study():
    budgets = {
        "smoke": Budget((0,)),
        "seeds": Budget((0, 1), {}, ("plain",)),
        "killed": Budget((0, 1), {"train.steps": 64}, ("plain",)),
        "long": Budget((0,), {"train.steps": 100_000}, ("plain",)),
    }
    further = {"raw": {"evaluate.weights": "raw", "evaluate.levels": 4}}
    return Study("Is it the law?", {"digits": comparison(further=further, **budgets)})
"""


def read(path):
    return json.loads(path.read_text())


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def found_by_runs(monkeypatch):
    """Runs are processes of their own, which import the file's network from tests/."""
    here = (command_line.ROOT, command_line.ROOT / "tests")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, here)))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "small.py"
    path.write_text(FILE)
    return path


def finished_and_interrupted(folder, runs, pieces, command, jobs, seconds, after_each):
    after_each()
    raise KeyboardInterrupt


def test_runs_are_made_once_and_compared(study, capsys, monkeypatch):
    flags = [f"--study={study}", f"--workdir={study.parent / 'runs'}"]
    assert main([*flags, "--index=1"]) == 0
    root = study.parent / "runs" / "digits"
    made = (root / "uniform" / "seed_0" / "result.json").stat()
    assert len(read(root / "uniform" / "seed_0" / "result_raw.json")["denoised"]["error"]) == 4
    assert not (root / "plain").exists()
    capsys.readouterr()
    assert main([*flags, "--jobs=2"]) == 0
    table, said = capsys.readouterr()
    assert "1 of 2 runs are finished" in said
    assert "plain/seed_0: started" in said
    assert "uniform/seed_0: started" not in said
    assert (root / "uniform" / "seed_0" / "result.json").stat() == made
    scores = {
        arm: read(root / arm / "seed_0" / "result.json")["frechet_1step"]
        for arm in ("plain", "uniform")
    }
    assert f"{scores['uniform'] - scores['plain']:+.3f} (one seed)" in table
    assert (study.parent / "runs" / "results.md").read_text().strip() == table.strip()
    assert (study.parent / "runs" / "digits_frechet_1step.png").stat().st_size > 5000
    assert (root / "compare.html").exists()
    assert (study.parent / "runs" / "digits_samples.png").stat().st_size > 2000
    # With nothing left to run, the same table again; elsewhere too, from the runs' numbers alone.
    archive = study.parent / "finished.jsonl"
    assert main([*flags, f"--archive={archive}"]) == 0
    assert capsys.readouterr().out == table
    elsewhere = [flags[0], f"--workdir={study.parent / 'restored'}", f"--archive={archive}"]
    assert main(elsewhere) == 0
    again, said = capsys.readouterr()
    assert "2 of 2 runs are finished" in said
    assert again == table
    results = [study.parent / folder / "results.csv" for folder in ("runs", "restored")]
    assert results[0].read_text() == results[1].read_text()
    # Kept as soon as a run is finished, whatever comes then.
    kept = study.parent / "kept.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(local, "run_all", finished_and_interrupted)
        assert main([*flags, f"--archive={kept}"]) == 130
    assert kept.read_text() == archive.read_text()
    # Of another config now, they are refused.
    changed = archive.read_text().replace('"batch": 16', '"batch": 32')
    (study.parent / "changed.jsonl").write_text(changed)
    flags = [flags[0], f"--workdir={study.parent / 'other'}"]
    assert main([*flags, f"--archive={study.parent / 'changed.jsonl'}"]) == 2
    assert "is a run of another config: train.batch" in capsys.readouterr().err


def test_a_further_score_is_taken_of_a_run_that_is_finished(study, capsys):
    """It needs `test_runs_are_made_once_and_compared` to have come first, or makes the run."""
    run = study.parent / "runs" / "digits" / "uniform" / "seed_0"
    flags = [f"--study={study}", f"--workdir={study.parent / 'runs'}", "--index=1"]
    assert main(flags) == 0
    made, further = (run / "result.json").stat(), read(run / "result_raw.json")
    (run / "result_raw.json").unlink()
    (run / "checkpoints").rename(run / "elsewhere")
    assert main(flags) == 2
    told = "uniform/seed_0 lacks its score 'raw', and came from an archive without checkpoints"
    assert told in capsys.readouterr().err
    (run / "elsewhere").rename(run / "checkpoints")
    assert main(flags) == 0
    assert read(run / "result_raw.json") == further
    assert (run / "result.json").stat() == made


def test_seeds_that_train_together_are_as_alone(study, capsys):
    """Equal to rounding; all at once, each in its folder, and packed into one file."""
    alone, both = study.parent / "alone", study.parent / "both"
    flags = [f"--study={study}", "--budget=seeds"]
    assert main([*flags, f"--workdir={alone}", "--index=0"]) == 0
    archive = study.parent / "study.tar"
    together = [*flags, "--engine=together", f"--archive={archive}"]
    assert main([*together, f"--workdir={both}"]) == 0
    assert "plain/seed_0 and 1 further seeds: finished" in capsys.readouterr().err
    one, other = (rows_of(root / "digits" / "plain" / "seed_0") for root in (alone, both))
    assert [row.keys() for row in one] == [row.keys() for row in other]
    for mine, theirs in zip(one, other, strict=True):
        for key in mine.keys() - {"images_per_second"}:
            assert mine[key] == pytest.approx(theirs[key], rel=1e-4), key
    # One that cannot begin does not stop the others.
    damaged = study.parent / "damaged" / "digits" / "plain"
    (damaged / "seed_1").mkdir(parents=True)
    (damaged / "seed_1" / "config.json").write_text("{")
    assert main([*flags, f"--workdir={damaged.parents[1]}", "--index=0,1"]) == 2
    assert "plain/seed_1: config.json is damaged" in capsys.readouterr().err
    assert sorted(path.name for path in (damaged / "seed_0").glob("result*")) == [
        "result.json",
        "result_raw.json",
    ]
    # The next piece of work takes the file up, elsewhere, and finds nothing to do.
    again = study.parent / "again"
    assert main([*together, f"--workdir={again}"]) == 0
    assert "2 of 2 runs are finished" in capsys.readouterr().err
    assert not (again / "digits" / "plain" / "seed_0" / "checkpoints").exists()
    archive.write_bytes(b"no archive")
    assert main([*together, f"--workdir={study.parent / 'broken'}"]) == 2
    assert "study.tar: cannot be read" in capsys.readouterr().err


def test_a_piece_of_work_ends_in_time_and_packs_its_states(study, capsys):
    archive, folder = study.parent / "piece.tar", study.parent / "piece"
    flags = [f"--study={study}", "--budget=long", f"--archive={archive}", "--minutes=0.3"]
    assert main([*flags, f"--workdir={folder}"]) == 0
    said = capsys.readouterr().err
    assert "stopping: the runs save their state" in said
    assert "no run is finished yet" in said
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    kept = [name for name in names if name.endswith("commit_success.txt")]
    assert kept
    assert all(name.startswith("digits/plain/seed_0/checkpoints/") for name in kept)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the worker in /proc")
def test_a_worker_of_ray_that_is_killed_costs_the_time_since_its_checkpoint(study):
    folder = study.parent / "cluster"
    first = folder / "digits" / "plain" / "seed_0"
    command = [sys.executable, "run.py", f"--study={study}", "--budget=killed", "--engine=ray"]
    killer = threading.Thread(target=kill_parent, args=(f"--workdir={folder}", "--index=0", first))
    killer.start()
    # A process of its own: Ray forks, which a process that has computed with jax must not.
    done = subprocess.run(
        [*command, "--jobs=2", f"--workdir={folder}"],
        cwd=command_line.ROOT,
        env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
    )
    killer.join()
    assert done.returncode == 0, done.stderr
    assert "0 of 2 runs are finished" in done.stderr
    log = (first / "log.txt").read_text()
    assert int(re.findall(r"resuming from step (\d+)", log)[0]) > 0
    assert [row["step"] for row in rows_of(first) if "grad_norm" in row] == list(range(2, 66, 2))
    assert (first.parent / "seed_1" / "result.json").exists()


def kill_parent(workdir, index, run):
    """Kills the process that started a run, once the run has saved a state."""
    deadline = time.monotonic() + 240
    while not any(path.name.isdigit() for path in (run / "checkpoints").glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            arguments = path.read_bytes().decode().split("\0")
            if workdir in arguments and index in arguments:
                status = (path.parent / "status").read_text()
                os.kill(int(re.findall(r"PPid:\s+(\d+)", status)[0]), signal.SIGKILL)
                return


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_study_saves_its_runs(study, stop):
    folder = study.parent / stop.name
    command = [
        sys.executable,
        "run.py",
        f"--study={study}",
        "--budget=long",
        f"--workdir={folder}",
        f"--archive={folder}.tar",
    ]
    process = subprocess.Popen(
        command, cwd=command_line.ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    metrics = folder / "digits" / "plain" / "seed_0" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # Nobody else gets in.
    with pytest.raises(ConfigError, match="another process is at work in it"), exclusive(folder):
        pass
    with pytest.raises(ConfigError, match="seed_0: another process"), exclusive(metrics.parent):
        pass
    os.kill(process.pid, stop)
    _, said = process.communicate(timeout=60)
    if stop == signal.SIGTERM:
        assert process.returncode == 130
        assert "stopping: the runs save their state" in said
        # What goes with the machine is kept.
        with tarfile.open(f"{folder}.tar") as tar:
            assert any(name.endswith("commit_success.txt") for name in tar.getnames())
    # A study that was killed takes its runs with it, and they save their state.
    log = metrics.parent / "log.txt"
    while "last good checkpoint" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    steps = [int(path.name) for path in (metrics.parent / "checkpoints").iterdir()]
    assert max(steps) > 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--study=studies/no_such.py"], "studies/no_such.py is no Python file"),
        (["--study=configs/digits_poly.py"], "has no function get_study"),
        (["--study=studies/high_noise.py", "--budget=huge"], "--budget=huge: must be one of"),
        (["--study=studies/high_noise.py", "--index=2"], "--index=2: must be from 0 to 1"),
        (["--study=studies/high_noise.py", "--mode=plot"], "--mode=plot: has no place beside"),
        (["--study=studies/high_noise.py", "--config=a.py"], "--config=a.py: has no place"),
        (
            ["--study=studies/noise_rater.py", "--index=3"],
            "--index=3: digits/neutral-weights/seed_0 reads files of raters/noisy/seed_0, which is "
            "not finished; make that first, by --index=1",
        ),
        (["--budget=laptop"], "--budget=laptop: belongs to --study"),
        (["--study=studies/high_noise.py", "--jobs=0"], "--jobs=0: must be at least 1"),
        (["--study=studies/high_noise.py", "--minutes=0"], "--minutes=0.0: must be above 0"),
        (["--engine=ray"], "--engine=ray: belongs to --study"),
        (["--study=studies/high_noise.py", "--engine=slurm"], "invalid choice: 'slurm'"),
        (["--study=studies/high_noise.py", "--config.seed=1"], "a study has its own settings"),
        (["--study="], "--study=: must not be empty"),
        (["--config="], "--config=: must not be empty"),
        (["--runs", "a", "b"], "--runs=a b: has no place but with --mode=compare"),
        (["--mode=compare", "--config=digits_poly"], "--config=digits_poly: has no place beside"),
        (["--mode=compare", "--config.seed=1"], "--config.seed: has no place beside"),
        *(
            (["--study=studies/high_noise.py", "--index=0", flag], f"{flag}: has no place beside")
            for flag in ("--jobs=2", "--engine=ray", "--minutes=1.0", "--archive=a.tar")
        ),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(flags, said, tmp_path, capsys):
    assert main([*flags, f"--workdir={tmp_path / 'runs'}"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flags", [[], ["--study=studies/high_noise.py"], ["--mode=plot"]])
def test_a_work_folder_that_cannot_be_made_is_named(flags, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for place in ("file", "file/below"):
        assert main([*flags, f"--workdir={tmp_path / place}"]) == 2
        error = capsys.readouterr().err
        assert f"--workdir={tmp_path / place}: {tmp_path / 'file'} is no folder" in error
    assert (tmp_path / "file").read_text() == ""
