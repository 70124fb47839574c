import json

import pytest

from jaxnoise.errors import ConfigError
from jaxnoise.training.records import RunFolder, differences, flatten

CONFIG = {"seed": 0, "law": {"name": "polynomial", "curve": 4.0}, "sample": {"sigmas": (0.8,)}}


def test_claim_writes_and_then_accepts_the_same_config(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.claim(CONFIG)
    written = folder.config.stat().st_mtime_ns
    assert not folder.claim(CONFIG)
    assert folder.config.stat().st_mtime_ns == written
    assert json.loads(folder.config.read_text())["law"]["curve"] == 4.0


def test_a_run_that_goes_on_under_other_viewing_settings_is_told_by_them(tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim(CONFIG)
    assert not folder.claim({**CONFIG, "sample": {"sigmas": (0.5,)}})
    assert json.loads(folder.config.read_text())["sample"]["sigmas"] == [0.5]


def test_another_config_is_refused_with_the_keys_that_differ(tmp_path):
    folder = RunFolder(tmp_path)
    folder.claim(CONFIG)
    other = {**CONFIG, "law": {"name": "lognormal", "p_mean": -1.1}}
    with pytest.raises(ConfigError) as error:
        folder.claim(other)
    message = str(error.value)
    assert "law.curve (there 4.0, here not set)" in message
    assert "law.name (there 'polynomial', here 'lognormal')" in message
    assert "\n" not in message
    assert json.loads(folder.config.read_text())["law"]["name"] == "polynomial"


# The last one nests more deeply than Python can follow.
@pytest.mark.parametrize("text", ["{", "[" * 100_000], ids=["cut", "deep"])
def test_unreadable_config_is_one_line(text, tmp_path):
    folder = RunFolder(tmp_path)
    folder.config.write_text(text)
    with pytest.raises(ConfigError, match="is damaged"):
        folder.claim(CONFIG)


def test_rows_survive_a_cut_last_line_and_rewind_drops_later_ones(tmp_path):
    folder = RunFolder(tmp_path)
    for step in (10, 20, 30):
        folder.append({"step": step, "loss": 1.0 / step})
    with folder.metrics.open("a") as file:
        file.write('{"step": 40, "lo')
    assert [row["step"] for row in folder.rows()] == [10, 20, 30]
    folder.rewind(20)
    assert [row["step"] for row in folder.rows()] == [10, 20]
    folder.append({"step": 30, "loss": 0.5})
    assert folder.rows()[-1] == {"step": 30, "loss": 0.5}


def test_rewind_without_a_record_makes_none(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.rewind(0) is None
    assert not folder.metrics.exists()


def test_a_record_that_no_checkpoint_goes_on_from_is_kept(tmp_path):
    folder = RunFolder(tmp_path)
    for step in (10, 20, 30):
        folder.append({"step": step})
    before = folder.metrics.read_text()
    assert folder.rewind(20) is None
    folder.append({"step": 30})
    copy = folder.rewind(0)
    assert (copy.name, copy.read_text()) == ("metrics.jsonl.before", before)
    assert folder.rows() == []
    # A run that is killed early does not take the place of more.
    folder.append({"step": 10})
    assert folder.rewind(0) is None
    assert copy.read_text() == before


def test_nonfinite_numbers_are_null(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append({"step": 1, "loss": float("nan")})
    assert folder.metrics.read_text() == '{"step": 1, "loss": null}\n'


def test_flatten():
    assert flatten({"a": {"b": {"c": 1}}, "d": 2}) == {"a.b.c": 1, "d": 2}


@pytest.mark.parametrize("text", ["[1]", "3"])
def test_a_config_of_another_shape(tmp_path, text):
    folder = RunFolder(tmp_path)
    folder.config.write_text(text)
    with pytest.raises(ConfigError, match="holds no config"):
        folder.claim(CONFIG)


def test_a_file_is_no_run_folder(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ConfigError, match="is no folder"):
        RunFolder(path).claim(CONFIG)


def test_what_only_looks_at_a_run_is_no_difference():
    other = {**CONFIG, "sample": {"sigmas": (0.5,)}, "data": {"archive": "x"}}
    assert differences(json.loads(json.dumps(CONFIG)), other) == ""
    assert differences(CONFIG, {**CONFIG, "seed": 1}) == "seed (there 0, here 1)"


def test_the_file_of_a_selection_of_ones_own_is_a_difference():
    def config(name, file):
        return {"selection": {"name": name, "file": file}}

    assert differences(config("rater", "a.npz"), config("rater", "b.npz")) == ""
    assert "selection.file" in differences(config("my:Best", "a"), config("my:Best", "b"))


def test_a_damaged_record_is_kept_and_its_whole_rows_go_on(tmp_path):
    folder = RunFolder(tmp_path)
    raw = b'{"step": 10}\n{"step": 2\n\xff\n{"loss": 1}\n{"step": 20}\n{"step": 30}\n'
    folder.metrics.write_bytes(raw)
    folder.rewind(20)
    assert [row["step"] for row in folder.rows()] == [10, 20]
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == raw
