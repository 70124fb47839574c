import sys

import pytest

from jaxnoise.config.files import load
from jaxnoise.errors import ConfigError
from jaxnoise.study.plan import load_study


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
