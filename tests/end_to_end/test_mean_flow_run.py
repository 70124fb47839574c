"""MeanFlow from a config to images, scores and an export."""

import json

import numpy as np
import pytest
import tiny

from configs import digits_meanflow
from jaxnoise import experiment
from jaxnoise.commands import dry_run, evaluate, export, plot, train
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.run.model import open_model
from jaxnoise.training.generation import Generator
from jaxnoise.training.kept_images import KeptImages
from jaxnoise.training.records import RunFolder

pytestmark = pytest.mark.slow


MODEL = {"name": "tiny", "model_channels": 8, "channel_mult": (1,), "num_blocks": 1}


def read(**settings):
    settings = {"model": MODEL} | settings
    return experiment.read(tiny.shrunk(digits_meanflow.get_config(), **settings))


def test_a_run_is_planned_trained_scored_and_exported(tmp_path, capsys, monkeypatch):
    settings = {"pacing": {"name": "high_to_low"}, "evaluate.untrained": False}
    run, folder = read(**{"train.steps": 4} | settings), RunFolder(tmp_path)
    dry_run.main(run, folder)
    assert "Jumps: down to the level of Normal(mean=8.0, std=3.2)" in capsys.readouterr().out
    plot.main(run, folder)
    assert tiny.read_png(folder.root / "noise.png").shape[1] > 1000
    kept = KeptImages()
    train.main(run, folder, kept)
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert np.isfinite([row["loss"] for row in rows]).all()
    result = json.loads(folder.result.read_text())
    assert result["levels"] == {"1step": [80.0], "2step": [80.0, 0.821]}
    assert np.isfinite([result["frechet_1step"], result["frechet_2step"]]).all()
    assert not any(name.startswith("untrained") for name in result)
    # Another score of the same images draws none.
    monkeypatch.setattr(Generator, "batches", lambda *given, **named: iter(()))
    by_level = read(**{"train.steps": 4, "evaluate.levels": 2} | settings)
    evaluate.score_further(by_level, folder, "by_level", kept)
    again = json.loads(folder.further("by_level").read_text())
    assert [again[name] for name in result if name.startswith("frechet_")] == [
        value for name, value in result.items() if name.startswith("frechet_")
    ]
    assert len(again["denoised"]) > 0
    of_others = read(**{"train.steps": 4, "evaluate.seed": 7} | settings)
    with pytest.raises(ArgumentError):
        evaluate.score_further(of_others, folder, "of_others", kept)
    export.main(run, folder)
    (card,) = folder.root.glob("**/card.json")
    (at,) = json.loads(card.read_text())["samplers"][0]["evaluations"]
    t = 80 / 81
    np.testing.assert_allclose(at["c_noise"], [t, t], rtol=1e-6)
    np.testing.assert_allclose([at["c_skip"], at["c_out"]], [1 - t, -t], rtol=1e-5)


def test_it_begins_with_a_run_of_its_own_kind_alone(tmp_path):
    folder = RunFolder(tmp_path / "first")
    train.main(read(**{"train.steps": 2, "train.checkpoint_every": 2}), folder)
    named = {"train.init_from": str(folder.root)}
    assert open_model(read(**named), selects=True).start is not None
    described = json.loads(folder.config.read_text())
    for section, said in (
        ({"name": "denoising", "target": "edm"}, "must be of objective.name='meanflow' too"),
        ({"sigma_data": 0.9}, "must be of objective.sigma_data=0.5"),
    ):
        changed = described | {"objective": described["objective"] | section}
        folder.config.write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=said):
            open_model(read(**named), selects=True)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"objective.interval": 0.0}, "config.objective.interval=0.0: 0 of the images"),
        ({"objective.lower.mean": -8.0}, "config.objective.interval=0.75: 0.01"),
        ({"objective.lower.high": 2.0}, "config.objective.lower: r is never below 0.27"),
        ({}, None),
    ],
)
def test_jumps_that_are_not_learned_are_warned_of(settings, said):
    found = read(**settings).warnings
    assert [line[: len(said or "")] for line in found] == ([] if said is None else [said])


def test_a_network_that_is_told_one_number_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"small_network.*told c_noise float32\[2,2\]\)$"):
        dry_run.main(read(model=tiny.MODEL), RunFolder(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("objective.interval", 2.0, r"config.objective.interval=2.0: must be a number in"),
        ("objective.lower", {"name": "norma"}, r"config.objective.lower.name='norma'"),
        ("objective.lower", {"name": "cauchy"}, r"config.objective.lower"),
        ("objective.power", 1.5, r"config.objective.power=1.5"),
        ("objective.weight", "uniform", r"config.objective.weight"),
    ],
)
def test_bad_settings_are_named(key, value, said):
    with pytest.raises(ConfigError, match=said):
        read(**{key: value})


def test_the_law_of_the_lower_time_is_the_user_s():
    settings = {"objective.lower": {"name": "laplace", "mu": 6.0}, "law": {"name": "cosine"}}
    settings["law"] |= {"low": -15.0, "high": 15.0}
    objective = read(**settings).objective
    assert "Laplace(mu=6.0" in str(objective.lower)
    assert objective.trained_range == pytest.approx((-15, 15), abs=0.1)
