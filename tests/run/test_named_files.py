"""Files that a config names are looked for before images are."""

import re

import pytest
import tiny

from jaxnoise import experiment
from jaxnoise.config.settings import DataSettings
from jaxnoise.errors import ConfigError
from jaxnoise.run.model import open_model


@pytest.fixture
def no_images(monkeypatch):
    def opened(settings):
        raise ConfigError("the images were opened")

    monkeypatch.setattr(DataSettings, "open", opened)


def function(path):
    return {"evaluate.extractor": {"name": "function", "path": path}}


@pytest.mark.parametrize(
    "settings, said",
    [
        (
            {"selection": {"name": "rater", "file": "none.npz"}},
            "selection.file='none.npz': must be a rater's file, rater.npz (No such file or "
            "directory)",
        ),
        ({"train.init_from": "none.pkl"}, "train.init_from='none.pkl': there is no such file"),
        (
            {"train.init_from": "none"},
            "train.init_from='none': must be a run's folder, a .safetensors or a .pkl file; there "
            "is nothing there",
        ),
        (
            {"evaluate.reference": "none.npz"},
            "evaluate.reference='none.npz': must be an existing file",
        ),
        (
            {"evaluate.extractor": {"name": "inception", "path": "none.pth", "fetch": True}},
            "evaluate.extractor: cannot read none.pth: No such file or directory",
        ),
        (
            function("nowhere:f"),
            "evaluate.extractor.path='nowhere:f': must be 'module:attribute' "
            "(ModuleNotFoundError: No module named 'nowhere')",
        ),
    ],
)
def test_a_file_that_is_not_there_is_named_before_images_are_opened(settings, said, no_images):
    run = experiment.read(tiny.digits_config(**settings))
    with pytest.raises(ConfigError, match=f"^{re.escape(f'config.{said}')}$"):
        open_model(run, selects=True)
    # Where nothing asks for it, it may be elsewhere.
    with pytest.raises(ConfigError, match=r"^the images were opened$"):
        open_model(run, scored=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"evaluate.n": 0, "evaluate.reference": "none.npz"},
        {
            "evaluate.extractor": {"name": "inception", "path": "none.pth"},
            "evaluate.fallback": True,
        },
        {"evaluate.extractor": {"name": "inception", "fetch": True}},
        function("numpy:ravel"),
        {},
    ],
)
def test_a_file_that_is_not_needed_or_may_come_stops_nothing(settings, no_images):
    with pytest.raises(ConfigError, match=r"^the images were opened$"):
        open_model(experiment.read(tiny.digits_config(**settings)), selects=True)


@pytest.mark.parametrize(
    "settings, config",
    [
        ({"selection": {"name": "rater", "file": "runs/a_rater/rater.npz"}}, "a_rater"),
        ({"train.init_from": "runs/a_denoiser"}, "a_denoiser"),
        ({"train.init_from": "runs/a_denoiser/model.safetensors"}, "a_denoiser"),
    ],
)
def test_where_another_config_makes_a_file_its_command_is_told(
    settings, config, tmp_path, monkeypatch
):
    run = experiment.read(tiny.digits_config(**settings))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    with pytest.raises(ConfigError) as unknown:
        open_model(run, selects=True)
    assert "--config" not in str(unknown.value)
    (tmp_path / "configs" / f"{config}.py").touch()
    with pytest.raises(ConfigError, match=f"; python run.py --config=configs/{config}.py makes it"):
        open_model(run, selects=True)
