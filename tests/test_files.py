"""Paths as a user writes them, and files that are never half written."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxnoise.data import open_images
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.evaluation.moments import Moments
from jaxnoise.evaluation.statistics_files import load_statistics, save_statistics
from jaxnoise.files import drop_abandoned, exclusive, user_path, write_whole
from jaxnoise.models.rater_file import load_rater

CONFIG = """
from configs import digits_poly


def get_config():
    config = digits_poly.get_config()
    config.train.steps = 4
    config.train.update(log_every=2, sample_every=4, checkpoint_every=4)
    return config
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def test_a_tilde_is_the_home_folder_wherever_a_path_is_given(home):
    for name in ("pictures", "stored"):
        (home / name).mkdir()
    Image.new("L", (4, 4)).save(home / "pictures" / "a.png")
    np.save(home / "stored" / "images.npy", np.zeros((3, 4, 4), np.uint8))
    assert open_images("folder", data_dir="~/pictures").num_examples == 1
    assert open_images("arrays", data_dir="~/stored").num_examples == 3
    save_statistics(user_path("~/reference.npz"), Moments.of([[1.0], [3.0]]), {})
    assert load_statistics("~/reference.npz").count == 2
    (home / "rater.npz").write_bytes(b"none")
    with pytest.raises(ArgumentError, match=r"file='~/rater\.npz'.*no \.npz archive"):
        load_rater("~/rater.npz")


@pytest.mark.takes_a_second
def test_a_tilde_on_the_command_line(home, monkeypatch, capsys):
    import run

    monkeypatch.setattr(sys, "path", sys.path)
    (home / "own.py").write_text(CONFIG)
    assert run.main(["--config=~/own.py", "--workdir=~/seen", "--mode=plot"]) == 0
    assert capsys.readouterr().out.strip() == str(home / "seen" / "noise.png")
    assert not (home.parent / "~").exists()
    assert run.main(["--mode=compare", "--runs", "~/seen", "~/none"]) == 2
    assert str(home / "seen") in capsys.readouterr().err


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "file"
    for content in ("tëxt", b"bytes", lambda part: part.write(b"by hand")):
        write_whole(file, content)
    assert file.read_bytes() == b"by hand"
    write_whole(file, "tëxt")
    assert file.read_text(encoding="utf-8") == "tëxt"

    def cut_short(part):
        part.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(file, cut_short)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text(encoding="utf-8") == "tëxt"


def test_writers_of_one_process_number_do_not_share_a_part(tmp_path, monkeypatch):
    """Containers that share a folder often have the same process numbers."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    file = tmp_path / "file"

    def outer(part):
        part.write(b"outer, ")
        write_whole(file, b"inner")
        part.write(b"to its end")

    write_whole(file, outer)
    assert file.read_bytes() == b"outer, to its end"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.takes_a_second
def test_parts_that_a_kill_left_go_after_an_hour(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from jaxnoise.files import write_whole\n"
        "def write(part):\n    part.write(b'0'); print('in', flush=True); time.sleep(60)\n"
        "write_whole(Path(sys.argv[1]) / 'file', write)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        other.kill()
        other.wait()
    (part,) = tmp_path.iterdir()
    drop_abandoned(tmp_path)
    assert part.exists()
    old = time.time() - 3700
    os.utime(part, (old, old))
    (tmp_path / "file").write_text("kept")
    os.utime(tmp_path / "file", (old, old))
    drop_abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.takes_a_second
def test_a_folder_is_for_one_process_and_its_lock_dies_with_it(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from jaxnoise.files import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n    print('in', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(ConfigError, match="another process is at work"), exclusive(tmp_path):
            pass
        other.kill()
        other.wait()
    with exclusive(tmp_path):
        assert list(tmp_path.iterdir()) == []
