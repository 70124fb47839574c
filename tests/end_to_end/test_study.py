"""A study from its file to its table; stopped on the way, and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time

import command_line
import pytest

from jaxnoise.cli import main
from jaxnoise.errors import ConfigError
from jaxnoise.files import exclusive

pytestmark = pytest.mark.slow

FILE = """
from tests.study.small_study import comparison
from jaxnoise.study import Budget, Study

def get_study():
    budgets = {"smoke": Budget((0,)), "long": Budget((0,), {"train.steps": 100_000}, ("plain",))}
    return Study("Is it the law?", {"digits": comparison(**budgets)})
"""


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


def test_runs_are_made_once_and_compared(study, capsys):
    flags = [f"--study={study}", f"--workdir={study.parent / 'runs'}"]
    assert main([*flags, "--index=1"]) == 0
    root = study.parent / "runs" / "digits"
    made = (root / "uniform" / "seed_0" / "result.json").stat()
    assert not (root / "plain").exists()
    capsys.readouterr()
    assert main([*flags, "--jobs=2"]) == 0
    table, said = capsys.readouterr()
    assert "1 of 2 runs are finished" in said
    assert "plain/seed_0: started" in said
    assert "uniform/seed_0: started" not in said
    assert (root / "uniform" / "seed_0" / "result.json").stat() == made
    scores = {
        arm: json.loads((root / arm / "seed_0" / "result.json").read_text())["frechet_1step"]
        for arm in ("plain", "uniform")
    }
    assert f"{scores['uniform'] - scores['plain']:+.3f} (one seed)" in table
    assert (study.parent / "runs" / "results.md").read_text().strip() == table.strip()
    assert (study.parent / "runs" / "digits_frechet_1step.png").stat().st_size > 5000
    assert (root / "compare.html").exists()
    # With nothing left to run, the same table again.
    assert main(flags) == 0
    assert capsys.readouterr().out == table


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_study_saves_its_runs(study, stop):
    folder = study.parent / stop.name
    command = [
        sys.executable,
        "run.py",
        f"--study={study}",
        "--budget=long",
        f"--workdir={folder}",
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
    # A study that was killed takes its runs with it, and they save their state.
    log = metrics.parent / "log.txt"
    while "its state was saved" not in log.read_text():
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
        (["--budget=laptop"], "--budget=laptop: belongs to --study"),
        (["--study=studies/high_noise.py", "--jobs=0"], "--jobs=0: must be at least 1"),
        (["--study=studies/high_noise.py", "--config.seed=1"], "a study has its own settings"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(flags, said, tmp_path, capsys):
    assert main([*flags, f"--workdir={tmp_path / 'runs'}"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
