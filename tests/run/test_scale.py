"""The data's standard deviation beside the objective's."""

import json
import re

import numpy as np
import pytest
import tiny
from PIL import Image

from jaxnoise import experiment
from jaxnoise.cli import main
from jaxnoise.errors import ConfigError
from jaxnoise.run.open import open_images
from jaxnoise.run.scale import check_scale, likely_cause, sigma_data_of

NOISE = np.random.default_rng(0).normal(size=(64, 8, 8, 3))


def opened(folder, images, **settings):
    """What opening a run on these arrays does."""
    np.save(folder / "images.npy", images)
    data = {"data.dataset": "arrays", "data.data_dir": str(folder)}
    settings = data | {"model.class_conditional": False} | settings
    return open_images(experiment.read(tiny.digits_config(**settings)), None)[1]


def test_it_is_printed_once_beside_sigma_data(tmp_path, capsys):
    images = opened(tmp_path, (0.5 * NOISE).astype(np.float32))
    std = images.load(np.arange(64))[0].std(dtype=np.float64)
    assert capsys.readouterr().err == (
        f"the data's standard deviation is {std:.3g}, objective.sigma_data=0.5\n"
    )
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 8, 3), np.uint8)
    opened(tmp_path, pixels)
    expected = (pixels / 127.5 - 1).std()
    assert f"deviation is {expected:.3g}, objective" in capsys.readouterr().err


@pytest.mark.parametrize("factor, fits", [(0.24, False), (0.26, True), (0.96, True), (1.04, False)])
def test_a_factor_of_two_is_the_most(tmp_path, factor, fits):
    noise = (factor * NOISE / NOISE.std()).astype(np.float32)
    if fits:
        opened(tmp_path, noise)
        return
    remedy = (
        rf"set config\.objective\.sigma_data={factor}, or config\.data\.scale={0.5 / factor:.3g}, "
        r"which multiplies them, or config\.data\.scale=1\.0 to train on them as they are"
    )
    with pytest.raises(ConfigError, match=remedy) as caught:
        opened(tmp_path, noise)
    assert len(str(caught.value).splitlines()) == 1
    # What the message says helps.
    opened(tmp_path, noise, **{"objective.sigma_data": factor})
    opened(tmp_path, noise, **{"data.scale": float(f"{0.5 / factor:.3g}")})
    opened(tmp_path, noise, **{"data.scale": 1.0})


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "images, cause",
    [
        (np.random.default_rng(2).uniform(0, 255, (9, 8, 8, 3)), "values from 0 to 255: are they"),
        (np.random.default_rng(2).beta(2, 40, (9, 8, 8, 3)), "values from 0 to 1: are they pixels"),
        (NOISE * [1, 3, 9], r"channels differ, their standard deviations are 1\.\d+, 2\.\d+, 8"),
        (
            np.random.default_rng(2).integers(0, 30, (9, 8, 8, 3), np.uint8),
            "dark images, of mean 1",
        ),
        (
            np.random.default_rng(2).integers(0, 2, (9, 8, 8, 1), np.uint8),
            "the pixels are 0 and 1 ins",
        ),
        (
            np.random.default_rng(2).integers(100, 120, (9, 8, 8, 3), np.uint8),
            "little contrast, of mean 1",
        ),
        (np.full((9, 8, 8, 1), 7, np.uint8), "all values are 7"),
        (np.zeros((9, 8, 8, 1)), "all values are 0"),
    ],
    ids=["0..255", "0..1", "channels", "dark", "bits", "flat", "bytes", "zeros"],
)
def test_the_likely_cause_is_named(tmp_path, images, cause):
    with pytest.raises(ConfigError, match=rf"more than a factor 2 apart \({cause}"):
        opened(tmp_path, images)
    # Where all are equal, or bytes, only what can help is named.
    with pytest.raises(ConfigError) as caught:
        opened(tmp_path, images)
    assert ("config.objective.sigma_data=" in str(caught.value)) == (images.std() > 0)
    multiplies = images.dtype != np.uint8 and images.std() > 0
    assert ("which multiplies them" in str(caught.value)) == multiplies


def test_values_from_zero_to_one_are_asked_about_even_where_they_fit(tmp_path, capsys):
    opened(tmp_path, np.random.default_rng(2).uniform(0, 1, (9, 8, 8, 3)))
    assert "; values from 0 to 1: are they pixels?" in capsys.readouterr().err
    assert likely_cause(NOISE) == ""


def test_sigma_data_is_found_in_both_objectives():
    from configs import digits_cosine

    run = experiment.read(tiny.digits_config(**{"objective.sigma_data": 0.7}))
    assert sigma_data_of(run) == 0.7
    run = experiment.read(tiny.shrunk(digits_cosine.get_config(), **{"objective.sigma_data": 0.3}))
    assert sigma_data_of(run) == 0.3


def test_only_the_configs_own_images_are_measured(tmp_path, capsys):
    black = opened(tmp_path, np.zeros((9, 8, 8, 1), np.uint8), **{"data.scale": 1.0})
    run = experiment.read(tiny.digits_config(**{"model.class_conditional": False}))
    open_images(run, black)
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match="factor 2 apart"):
        check_scale(run, black)


def test_the_command_line_says_it_in_one_line_before_anything_is_compiled(tmp_path, capsys):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    Image.new("L", (8, 8)).save(tmp_path / "b.png")
    command = [
        "--config=configs/digits_cosine.py",
        f"--workdir={tmp_path / 'run'}",
        "--config.data.dataset=folder",
        f"--config.data.data_dir={tmp_path}",
        "--config.model.class_conditional=False",
        "--config.evaluate.n=0",
    ]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: the data's standard deviation is 0, .*1\.0 to train .*\n", error)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    command = ["--mode=dry_run", "--config=configs/cifar_poly.py", f"--config.model={tiny.MODEL}"]
    assert main(command) == 0  # with black stand-ins
    assert json.loads(capsys.readouterr().out.partition("\nParameters")[0])["data"]["scale"] is None
