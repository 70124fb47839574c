import sys
from pathlib import Path

import pytest

from jaxnoise.config.files import load
from jaxnoise.config.overrides import apply
from jaxnoise.errors import ConfigError
from jaxnoise.study.question import load_study


def write(folder, text):
    path = folder / "arm.py"
    path.write_text(text)
    return str(path)


def test_a_config_dict_becomes_a_plain_mapping(tmp_path):
    path = write(
        tmp_path,
        "from ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict({'a': {'b': (1, 2)}})\n",
    )
    assert load(path) == {"a": {"b": (1, 2)}}


REQUIRING = """
from ml_collections import ConfigDict, config_dict

def get_config():
    config = ConfigDict({"steps": 4, "name": "of one type", "part": {}})
    config.part.size = config_dict.required_placeholder(int)
    config.part.warmup = config.get_ref("steps")
    return %s
"""


@pytest.mark.parametrize("given", ["config", "{'a': config}"])
def test_what_is_required_is_named(tmp_path, given):
    path = write(tmp_path, REQUIRING % given)
    with pytest.raises(ConfigError) as caught:
        load(path)
    key = "config.part.size" if given == "config" else "config.a.part.size"
    where = "must be set, in the file or on the command line"
    assert str(caught.value) == f"--config={path}: {key}: {where}"


def test_settings_fill_what_is_required_and_references_follow_them(tmp_path):
    path = write(tmp_path, REQUIRING % "config")
    settings = {
        "part.size": "8",
        "steps": "6",
        "name": "3",
        "new.key": "1",
        "part.none.at_all": "2",
    }
    config = load(path, settings)
    # What nothing refers to is left to `apply`.
    assert config == {"steps": 6, "name": "of one type", "part": {"size": 8, "warmup": 6}}
    within = write(tmp_path, REQUIRING % "{'a': config}")
    assert load(within, {"a.part.size": "8", "a.steps": "6"})["a"]["part"]["warmup"] == 6
    halved = REQUIRING.replace('get_ref("steps")', 'get_ref("steps") // 2') % "config"
    path = write(tmp_path, halved)
    with pytest.raises(ConfigError, match=r"TypeError: unsupported operand"):
        load(path, {"part.size": "8", "steps": "many"})
    whole = {"part": "{'size': 1}", "part.warmup": "2"}
    assert apply(load(path, whole | {"part.size": "8"}), whole)["part"] == {"size": 1, "warmup": 2}
    frozen = write(tmp_path, REQUIRING.replace("config_dict.required_placeholder(int)", "1"))
    Path(frozen).write_text(Path(frozen).read_text() % "config_dict.FrozenConfigDict(config)")
    assert load(frozen, settings)["part"] == {"size": 1, "warmup": 4}


def test_a_section_in_two_places_is_changed_in_the_one_that_is_named(tmp_path):
    """Two names of one object are no reference."""
    body = "    c = ConfigDict({'law': {'b': 1.0}})\n    c.outer = c.law\n"
    frozen = "    c.part = FrozenConfigDict({'a': 1})\n    return c\n"
    head = "from ml_collections import ConfigDict, FrozenConfigDict\ndef get_config():\n"
    settings = {"outer.b": "2.0", "part.a": "3"}
    found = apply(load(write(tmp_path, head + body + frozen), settings), settings)
    assert found == {"law": {"b": 1.0}, "outer": {"b": 2.0}, "part": {"a": 3}}


@pytest.mark.parametrize("kind", ["dict", "ConfigDict"])
def test_config_dicts_in_sections_become_plain_and_none_holds_itself(tmp_path, kind):
    head = "from ml_collections import ConfigDict\ndef get_config():\n"
    path = write(
        tmp_path, f"{head}    return {kind}(dict(a={kind}(dict(b=ConfigDict(dict(c=1))))))\n"
    )
    found = load(path)
    assert found == {"a": {"b": {"c": 1}}}
    assert type(found["a"]["b"]) is dict
    path = write(tmp_path, f"{head}    c = {kind}(dict(a=1))\n    c['c'] = c\n    return c\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    said = "config: must be sections of values; it holds itself"
    assert str(caught.value) == f"--config={path}: {said}"


def test_an_argument_after_a_colon(tmp_path):
    path = write(tmp_path, "def get_config(arm):\n    return {'arm': arm}\n")
    assert load(f"{path}:lognormal") == {"arm": "lognormal"}


@pytest.mark.parametrize(
    "text, message",
    [
        ("x = 1", "has no function get_config"),
        ("import sys; sys.exit()", "SystemExit"),
        ("def get_config(): return 3", "gave int"),
        ("def get_config(): return {1: 2}", "gave dict, no mapping of names"),
        ("def get_config(:", "SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_files_that_give_no_config(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(write(tmp_path, text))


def test_shipped_files_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_name, by_path = load("digits_laplace"), load("configs/digits_laplace.py")
    assert by_name == by_path
    assert by_name["law"]["name"] == "laplace"
    assert load_study("high_noise").question == load_study("studies/high_noise.py").question
    before = list(sys.path)
    with pytest.raises(ConfigError, match=r"digits_plane is no Python file; did you mean"):
        load("digits_plane")
    assert sys.path == before
    # A file of the user's own comes first.
    (tmp_path / "configs").mkdir()
    own = tmp_path / "configs" / "digits_laplace.py"
    own.write_text("def get_config():\n    return {'own': 1}\n")
    assert load("configs/digits_laplace.py") == {"own": 1}


def test_a_missing_file_names_its_neighbours(tmp_path):
    write(tmp_path, "")
    with pytest.raises(ConfigError, match=r"is no Python file; did you mean arm\?; .* holds arm"):
        load(str(tmp_path / "amr.py"))
