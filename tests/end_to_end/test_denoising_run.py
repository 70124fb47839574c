"""A denoising config under the difficulty curriculum, shrunk, as a user runs it."""

import importlib
import json

import command_line
import jax
import numpy as np
import pytest
import tiny

from benchmarks import gradient_variance
from jaxnoise import experiment
from jaxnoise.commands import dry_run, evaluate, plot, sample, train
from jaxnoise.config import overrides
from jaxnoise.errors import ConfigError
from jaxnoise.run.model import open_model
from jaxnoise.run.trained import trained_state
from jaxnoise.training.records import RunFolder

pytestmark = pytest.mark.slow

KILLED = command_line.ROOT / "tests" / "end_to_end" / "killed_run.py"
ARGUMENTS = (
    "--config=configs/digits_difficulty.py",
    *command_line.SHRUNK,
    "--config.pacing.clusters=4",
    "--config.pacing.patience=4",
    # So large that the loss rises after the first step: the stage ends soon after the kill.
    "--config.optimizer={'name': 'adamw', 'learning_rate': 0.3, 'decay': 'cosine'}",
    "--config.ema.further_rates=(0.5,)",
    "--config.data.augment=0.5",
    "--config.sample.method.steps=3",
)


def paced_run():
    """The experiment that ARGUMENTS describe."""
    from configs import digits_difficulty

    _, settings = overrides.split(list(ARGUMENTS[1:]))
    return experiment.read(overrides.apply(digits_difficulty.get_config().to_dict(), settings))


def digests(folder, step):
    meta = folder / "checkpoints" / str(step) / "meta" / "metadata"
    return json.loads(meta.read_text())["digests"]


def rows(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    timing = "images_per_second"
    return [{k: v for k, v in json.loads(line).items() if k != timing} for line in lines]


def test_killed_within_a_stage_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, out, err = command_line.run(*ARGUMENTS, f"--workdir={whole}")
    assert code == 0, err
    arguments = (*ARGUMENTS, f"--workdir={killed}")
    code, _, err = command_line.run(
        str(killed / "checkpoints" / "4"), "4", *arguments, script=KILLED
    )
    assert code == -9, err
    checked = paced_run()
    halfway = trained_state(open_model(checked), RunFolder(killed)).pace
    assert int(halfway.stage) == 1
    assert int(halfway.bad) == 3
    assert np.isfinite(float(halfway.best))
    code, again, err = command_line.run(*arguments)
    assert code == 0, err
    assert "resuming from step 4" in err
    assert digests(killed, 8) == digests(whole, 8)
    assert rows(killed) == rows(whole)
    stages = [row["stage"] for row in rows(whole)]
    assert stages[0] == 1
    assert stages == sorted(stages)
    assert stages[-1] > 1
    assert again.splitlines()[-1] == out.splitlines()[-1]
    assert any(path.startswith(".ema[1]") for path in digests(whole, 8))
    for name in ("step_0000008.png", "ema0.5_step_0000008.png"):
        grids = [tiny.read_png(folder / "samples" / name) for folder in (whole, killed)]
        np.testing.assert_array_equal(*grids)
    result = json.loads(out.splitlines()[-1])
    assert np.isfinite(result["ema0.5/frechet_heun3"])
    assert result["nfe"] == {"heun3": 5}
    assert result["frechet_heun3"] > result["frechet_floor"] > 0


GUIDED = {
    "model.class_conditional": True,
    "train.label_dropout": 0.25,
    "sample.guidance": 2.0,
    "sample.method.steps": 2,
    "model.dropout": 0.0,
}


def denoising_config(name="digits_laplace", **settings):
    config = importlib.import_module(f"configs.{name}").get_config()
    return tiny.shrunk(config, **settings)


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    """A run with label dropout whose samples are guided, on eight devices."""
    checked = experiment.read(denoising_config(**GUIDED))
    folder = RunFolder(tmp_path_factory.mktemp("guided"))
    train.main(checked, folder)
    return folder


def test_guidance_costs_two_evaluations_and_changes_the_images(guided, capsys):
    assert json.loads(guided.result.read_text())["nfe"] == {"heun2": 6}
    grids = []
    for scale in (1.0, 2.0):
        sample.main(
            experiment.read(denoising_config(**GUIDED | {"sample.guidance": scale})), guided
        )
        grids.append(tiny.read_png(guided.samples / "heun2_0000008.png"))
    assert (grids[0] != grids[1]).any()
    capsys.readouterr()
    evaluate.main(experiment.read(denoising_config(**GUIDED)), guided)
    assert json.loads(capsys.readouterr().out) == json.loads(guided.result.read_text())


@pytest.mark.parametrize(
    "settings, parts",
    [
        ({"train.label_dropout": 0.0}, ["config.sample.guidance=2.0", "train.label_dropout"]),
        ({"model.class_conditional": False}, ["config.train.label_dropout=0.25", "must be 0"]),
    ],
)
def test_guidance_without_what_it_needs_is_refused(settings, parts, tmp_path):
    checked = experiment.read(denoising_config(**GUIDED | settings))
    with pytest.raises(ConfigError) as error:
        train.main(checked, RunFolder(tmp_path / "run"))
    for part in parts:
        assert part in str(error.value)


def test_plot_and_dry_run_know_laws_over_log_snr(tmp_path, capsys):
    checked = experiment.read(denoising_config("digits_clts_mdlrc"))
    plot.main(checked, RunFolder(tmp_path / "new"))
    assert tiny.read_png(tmp_path / "new" / "noise.png").shape[1] > 1000
    dry_run.main(checked, RunFolder(tmp_path / "none"))
    assert "Noise: log SNR from" in capsys.readouterr().out


def test_latents_of_a_users_folder_train_a_transformer(tmp_path):
    latents = np.random.RandomState(0).standard_normal((40, 8, 8, 4)).astype(np.float16)
    np.save(tmp_path / "images.npy", latents)
    np.save(tmp_path / "labels.npy", np.arange(40) % 3)
    config = importlib.import_module("configs.imagenet256_laplace_dit_b").get_config().to_dict()
    config["data"]["data_dir"] = str(tmp_path)
    config["model"] |= {"hidden_size": 16, "depth": 1, "num_heads": 2, "dtype": "float32"}
    config["train"] |= {
        "steps": 2,
        "batch": 16,
        "steps_per_dispatch": 1,
        "log_every": 1,
        "sample_every": 2,
        "checkpoint_every": 2,
    }
    config["sample"] |= {"count": 4, "batch": 8, "method": {"name": "ddim", "steps": 2}}
    folder = RunFolder(tmp_path / "run")
    train.main(experiment.read(config), folder)
    drawn = np.load(folder.samples / "step_0000002.npy")
    assert drawn.shape == (4, 8, 8, 4)
    assert drawn.dtype == np.float32
    assert np.isfinite(drawn).all()
    assert not folder.result.exists()
    for settings, part in (
        ({"data": {**config["data"], "flip": True}}, "config.data.flip=True"),
        ({"data": {**config["data"], "augment": 0.1}}, r"config.data.augment=0.1: must be 0"),
        ({"evaluate": {"n": 10}}, "config.evaluate.n=10"),
    ):
        with pytest.raises(ConfigError, match=part):
            train.main(experiment.read(config | settings), RunFolder(tmp_path / "other"))


def test_no_recompilation_while_pacing_and_curriculum_move():
    """One compiled step serves every step of every pacing and of every curriculum."""
    for name, settings in (
        ("digits_difficulty", {"pacing.clusters": 4, "pacing.patience": 1}),
        ("digits_adaptive", {"pacing.warmup_steps": 1}),
        ("digits_anneal", {"pacing.annealing_steps": 6}),
        ("digits_clts_mdlrc", {"pacing.ramp_steps": 6}),
        ("digits_poly", {}),
    ):
        checked = experiment.read(denoising_config(name, **settings))
        traces, moved = [], set()
        objective = checked.objective

        @jax.jit
        def draw(step, pace, objective=objective, traces=traces):
            traces.append(1)
            key = jax.random.key(0)
            return objective.draw(key, key, step, 16, pace)

        pace = objective.pacing.init()
        for step in range(8):
            sigma = draw(jax.numpy.int32(step), pace).sigma
            moved.add(np.asarray(sigma).tobytes())
            lam, losses = jax.numpy.array([-5.0, 5.0]), jax.numpy.array([1.0, 1.0 + step])
            pace = objective.pacing.update(pace, objective.pacing.observe(lam, losses))
        assert len(traces) == 1
        # The key is the same at every step, so only what moves can change the levels.
        assert len(moved) > 2, name


def test_a_law_that_learns_itself_is_recorded_and_drawn(tmp_path):
    """Over pairs, whose number moves too."""
    pacing = {"name": "adaptive", "statistic": "second_moment", "bins": 12, "warmup_steps": 2}
    folder = RunFolder(tmp_path)
    train.main(experiment.read(tiny.digits_config(pacing=pacing, evaluate={"n": 0})), folder)
    laws = [[row[key] for key in row if key.startswith("law/")] for row in folder.rows()]
    assert [len(law) for law in laws] == [12] * 4
    low, high = -2 * np.log(80), -2 * np.log(0.002)
    np.testing.assert_allclose(np.mean(laws, axis=1) * (high - low), 1, rtol=1e-5)
    assert np.abs(np.subtract(laws[3], laws[0])).max() > 1e-3
    assert tiny.read_png(folder.law).shape[:2] == (480, 1152)
    assert "how the law that learns itself moved" in folder.report.read_text()
    measured = gradient_variance.measured(folder.root, step=None, examples=8)
    assert all(column.shape == (8,) and (column > 0).all() for column in measured)
    assert (measured[1] != 1).any()
