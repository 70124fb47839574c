"""Commands called as functions, in one process with eight devices."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny

from jaxnoise import experiment
from jaxnoise.commands import dry_run, evaluate, plot, sample, train
from jaxnoise.config.settings import EvaluateSettings
from jaxnoise.data import ArrayImages
from jaxnoise.errors import ConfigError, NonFiniteError
from jaxnoise.run.model import open_model
from jaxnoise.training.records import RunFolder

pytestmark = pytest.mark.slow

CONDITIONAL = {"model.class_conditional": True, "data.flip": True, "objective.teacher": "ema"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A class-conditional run with a teacher EMA, on eight devices."""
    checked = experiment.read(tiny.digits_config(**CONDITIONAL))
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    train.main(checked, folder)
    return checked, folder


def test_training_leaves_a_score(trained):
    _, folder = trained
    result = json.loads(folder.result.read_text())
    assert result["images_seen"] == 128
    assert np.isfinite(result["frechet_1step"])


def test_evaluate_scores_the_checkpoint_as_training_did(trained, capsys):
    checked, folder = trained
    before = folder.result.read_text()
    evaluate.main(checked, folder)
    assert json.loads(capsys.readouterr().out) == json.loads(before)


def test_sample_draws_a_grid_for_every_sampler(trained, capsys):
    checked, folder = trained
    sample.main(checked, folder)
    names = [line.rsplit("/", 1)[-1] for line in capsys.readouterr().out.split()]
    assert names == ["1step_0000008.png", "2step_0000008.png"]
    first = tiny.read_png(folder.samples / names[0])
    np.testing.assert_array_equal(first, tiny.read_png(folder.samples / "step_0000008.png"))
    assert (first != tiny.read_png(folder.samples / names[1])).any()


def test_samples_for_other_tools(trained, tmp_path, capsys):
    checked, folder = trained
    del checked
    arrays = []
    for form in ("npz", "png"):
        settings = {"sample.format": form, "sample.count": 3, "sample.step": 4}
        sample.main(experiment.read(tiny.digits_config(**CONDITIONAL, **settings)), folder)
        first = Path(capsys.readouterr().out.split()[0])
        assert first.name.startswith("1step_0000004")
        if form == "npz":
            held = np.load(first)
            arrays.append(held["arr_0"])
            assert held["arr_1"].dtype == np.int32
            assert 0 <= held["arr_1"].min() <= held["arr_1"].max() < 10
        else:
            pictures = [tiny.read_png(path) for path in sorted(first.iterdir())]
            arrays.append(np.stack(pictures)[..., None])
    np.testing.assert_array_equal(*arrays)
    assert arrays[0].shape == (3, 8, 8, 1)
    assert arrays[0].dtype == np.uint8


def test_any_checkpoint_can_be_scored(trained, capsys):
    _, folder = trained
    kept = folder.result.read_text()
    older = experiment.read(tiny.digits_config(**CONDITIONAL, **{"evaluate.step": 4}))
    evaluate.main(older, folder)
    assert json.loads(capsys.readouterr().out)["images_seen"] == 64
    assert json.loads((folder.root / "result_0000004.json").read_text())["images_seen"] == 64
    assert folder.result.read_text() == kept
    missing = experiment.read(tiny.digits_config(**CONDITIONAL, **{"evaluate.step": 5}))
    with pytest.raises(ConfigError, match=r"holds no step 5; it holds 4, 8"):
        evaluate.main(missing, folder)


def test_a_score_of_another_protocol_does_not_take_the_place_of_the_runs_own(trained, capsys):
    _, folder = trained
    kept = folder.result.read_text()
    fewer = experiment.read(tiny.digits_config(**CONDITIONAL, **{"evaluate.n": 65}))
    evaluate.main(fewer, folder)
    out, err = capsys.readouterr()
    assert "written to result_0000008.json; result.json stays\n" in err
    written = json.loads((folder.root / "result_0000008.json").read_text())
    assert written == json.loads(out)
    assert (written["n"], written["images_seen"]) == (65, 128)
    assert folder.result.read_text() == kept
    # Without one it is the run's, and so is that with which training ends.
    folder.result.unlink()
    evaluate.main(fewer, folder)
    assert json.loads(folder.result.read_text()) == written
    train.main(experiment.read(tiny.digits_config(**CONDITIONAL)), folder)
    assert json.loads(folder.result.read_text()) == json.loads(kept)


@pytest.mark.parametrize(
    "fallback, held, aside",
    [(True, "raw pixels", False), (False, "raw pixels", True), (True, "efficientnet-lite0", True)],
)
def test_the_score_of_weights_that_are_here_now_replaces_that_of_what_stood_in(
    tmp_path, fallback, held, aside
):
    folder = RunFolder(tmp_path)
    folder.result.write_text(json.dumps({"extractor": held, "n": 64, "distance": "Fréchet"}))
    settings = EvaluateSettings(fallback=fallback)
    found = {"extractor": "inception-v3", "n": 64, "distance": "FID"}
    assert train._is_another(settings, folder, found) == aside


def test_a_score_at_other_levels_is_another(tmp_path):
    folder = RunFolder(tmp_path)
    score = {"extractor": "raw pixels", "n": 64, "levels": {"2step": [80.0, 0.821]}}
    folder.result.write_text(json.dumps(score))
    assert not train._is_another(EvaluateSettings(), folder, score)
    moved = score | {"levels": {"2step": [80.0, 0.05]}}
    assert train._is_another(EvaluateSettings(), folder, moved)


def test_what_a_kill_prevented_is_made_up_and_nothing_else(trained):
    _, folder = trained
    quiet = experiment.read(tiny.digits_config(**CONDITIONAL, **{"evaluate.n": 0}))
    grid = folder.samples / "step_0000008.png"
    files = [grid, folder.curves, folder.report, folder.noise, folder.cost]
    before = {path: path.read_bytes() for path in files}

    def again(*missing, stale=()):
        """Which files a finished run writes when some are missing."""
        for path in missing:
            path.unlink()
        for path in stale:
            path.write_bytes(b"stale")
        times = {path: path.stat().st_mtime_ns for path in files if path not in missing}
        train.main(quiet, folder)
        return [path for path in files if path.stat().st_mtime_ns != times.get(path)]

    # The report is written at the end of every run.
    assert again() == [folder.report]
    assert again(folder.noise, folder.cost, folder.report) == [
        *[folder.report, folder.noise, folder.cost]
    ]
    assert again(folder.curves) == [folder.curves, folder.report]
    # Curves that were drawn before the last samples are not the last ones.
    assert again(grid, stale=[folder.curves]) == [grid, folder.curves, folder.report]
    for path in (grid, folder.curves, folder.noise, folder.cost):
        assert path.read_bytes() == before[path]


def test_scores_during_training_are_rows_of_the_record(tmp_path):
    settings = {"evaluate.every": 4, "train.checkpoint_every": 8, "ema.further_rates": (0.5,)}
    checked = experiment.read(tiny.digits_config(**settings))
    folder = RunFolder(tmp_path / "run")
    train.main(checked, folder)
    on_the_way, last = [row for row in folder.rows() if "frechet_1step" in row]
    assert (on_the_way["step"], on_the_way["images_seen"]) == (4, 64)
    result = json.loads(folder.result.read_text())
    assert on_the_way["frechet_floor"] == result["frechet_floor"]
    assert on_the_way["frechet_2step"] != result["frechet_2step"]
    assert (last["step"], last["images_seen"]) == (8, 128)
    of_average = ("ema0.5/frechet_1step", "ema0.5/frechet_2step")
    assert [key for key in result if key.startswith("ema")] == [*of_average]
    for name in ("frechet_1step", "frechet_2step", "frechet_floor", *of_average):
        assert last[name] == result[name]
    assert last["ema0.5/frechet_1step"] != last["frechet_1step"]
    names = sorted(path.name for path in folder.samples.iterdir())
    assert names == ["ema0.5_step_0000008.png", "step_0000008.png"]
    grids = [tiny.read_png(folder.samples / name) for name in names]
    assert (grids[0] != grids[1]).any()
    assert not any(name.startswith("untrained") for name in last)
    train.main(checked, folder)
    assert [row["step"] for row in folder.rows()] == [2, 4, 4, 6, 8, 8]


@pytest.mark.parametrize(
    "settings, parts",
    [
        ({"evaluate.n": 63}, ["config.evaluate.n=63", "at least 64", "few_samples=True"]),
        ({"evaluate.extractor": {"name": "inception"}}, ["config.evaluate.extractor: ", ".pth"]),
        (
            {"evaluate.extractor": {"name": "function", "path": "numpy:ravel"}},
            ["config.evaluate.extractor.path='numpy:ravel'", "float[2, D]"],
        ),
        (
            {"evaluate.extractor": {"name": "function", "path": "numpy:linalg"}},
            ["config.evaluate.extractor.path='numpy:linalg'"],
        ),
        (
            {"evaluate.extractor": {"name": "function", "path": "nowhere:f"}},
            ["config.evaluate.extractor.path='nowhere:f'"],
        ),
        ({"evaluate.reference": "none.npz"}, ["config.evaluate.reference='none.npz'"]),
        (
            {"evaluate.metrics": ("frechet", "inception_score")},
            ["config.evaluate.metrics='inception_score'", "inception"],
        ),
    ],
)
def test_a_score_that_cannot_be_had_is_refused_before_training(
    settings, parts, tmp_path, monkeypatch
):
    monkeypatch.setenv("JAXNOISE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ConfigError) as error:
        train.main(experiment.read(tiny.digits_config(**settings)), RunFolder(tmp_path / "run"))
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_plot_needs_no_data_and_no_training(tmp_path, capsys):
    checked = experiment.read(tiny.digits_config(**{"data.dataset": "no_such_set"}))
    plot.main(checked, RunFolder(tmp_path / "new"))
    assert tiny.read_png(Path(capsys.readouterr().out.strip())).shape[1] > 1000


def test_dry_run_shows_config_parameters_plateaus_and_memory(tmp_path, capsys):
    checked = experiment.read(tiny.digits_config())
    dry_run.main(checked, RunFolder(tmp_path / "none"))
    out = capsys.readouterr().out
    head, rest = out.split("\nParameters\n")
    assert json.loads(head) == json.loads(json.dumps(checked.config))
    for part in ("Curriculum", "0     20", "8 steps, 128 images seen", "activations", "optimizer"):
        assert part in rest
    assert not (tmp_path / "none").exists()


def test_dry_run_of_cifar_downloads_nothing(tmp_path, capsys):
    from configs import cifar_poly

    config = tiny.shrunk(
        cifar_poly.get_config(), **{"data.data_dir": str(tmp_path / "data"), "evaluate.n": 0}
    )
    dry_run.main(experiment.read(config), RunFolder(tmp_path / "none"))
    # 50,000 images of 3,072 bytes and a label of 4.
    assert "data set" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("dtype, size", [(np.uint8, 1), (np.float32, 4)])
def test_dry_run_counts_the_bytes_of_latents(tmp_path, dtype, size):
    images = np.random.RandomState(0).randint(0, 256, (100, 8, 8, 4))
    images = images.astype(dtype) if dtype == np.uint8 else (images / 127.5 - 1).astype(dtype)
    np.save(tmp_path / "images.npy", images)
    data = {"dataset": "arrays", "data_dir": str(tmp_path)}
    settings = {"evaluate.n": 0, "model.class_conditional": False}
    model = open_model(experiment.read(tiny.digits_config(data=data, **settings)))
    assert dry_run.model_memory(model)["data set"] == 100 * 8 * 8 * 4 * size


def test_a_checkpoint_of_another_config_is_not_adopted(trained):
    checked, folder = trained
    kept = folder.config.read_text()
    other = experiment.read(tiny.digits_config(**CONDITIONAL, **{"law.curve": 3.0}))
    folder.config.unlink()
    with pytest.raises(ConfigError, match=r"checkpoint is of another config: law.curve \(there 4"):
        train.main(other, folder)
    folder.config.write_text(kept)
    shown = experiment.read(tiny.digits_config(**CONDITIONAL, **{"sample.count": 2}))
    sample.main(shown, folder)
    sample.main(checked, folder)


def test_changed_images_are_refused_unless_they_are_allowed(trained, monkeypatch, capsys):
    checked, folder = trained
    monkeypatch.setattr(ArrayImages, "fingerprint", "another")
    with pytest.raises(ConfigError, match=r"'digits': the images are .*data.allow_changed=True"):
        sample.main(checked, folder)
    allowed = {"data.allow_changed": True, "sample.count": 2}
    sample.main(experiment.read(tiny.digits_config(**CONDITIONAL, **allowed)), folder)
    assert "warning: config.data.dataset='digits': the images are" in capsys.readouterr().err


def test_without_weights_a_score_may_fall_back_to_raw_pixels(capsys):
    inception = {"evaluate.extractor": {"name": "inception"}, "evaluate.n": 64}
    with pytest.raises(ConfigError, match=r"config.evaluate.extractor: there is no .*: put pt_inc"):
        open_model(experiment.read(tiny.digits_config(**inception)))
    model = open_model(
        experiment.read(tiny.digits_config(**inception, **{"evaluate.fallback": True}))
    )
    assert model.extractor.name == "raw pixels"
    said = capsys.readouterr().err
    assert "warning: config.evaluate.extractor: there is no " in said
    assert said.endswith("scores are taken in raw pixels until then\n")


def test_the_floor_may_be_of_a_split_that_is_held_out(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (170, 8, 8, 1)).astype(np.uint8)
    for name, part in (("train", images[:100]), ("test", images[100:])):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "images.npy", part)
    data = {"dataset": "arrays", "data_dir": str(tmp_path)}
    settings = {"evaluate.held_out": "test", "evaluate.n": 80, "model.class_conditional": False}
    model = open_model(experiment.read(tiny.digits_config(data=data, **settings)))
    reference = model.reference
    assert (reference.name, reference.count) == ("arrays train, all images", 100)
    assert (reference.n, reference.floor_count) == (80, 70)


def test_held_out_images_are_denoised_by_labels_of_the_same_classes(tmp_path):
    """Of arrays 0, 2, 3 the last two would be shown as classes 1 and 2 of four."""
    images = np.random.RandomState(0).randint(0, 256, (132, 8, 8, 1)).astype(np.uint8)
    for name, classes in (("train", [0, 1, 2, 3]), ("test", [0, 2, 3]), ("same", [3, 1, 2, 0])):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "images.npy", images)
        np.save(tmp_path / name / "labels.npy", np.resize(classes, 132))
    data = {"dataset": "arrays", "data_dir": str(tmp_path)}

    def opened(**settings):
        keys = {f"evaluate.{key}": value for key, value in settings.items()}
        conditional = {"model.class_conditional": True, "evaluate.n": 64}
        return open_model(experiment.read(tiny.digits_config(data=data, **conditional, **keys)))

    for key in ("split", "held_out"):
        with pytest.raises(ConfigError) as error:
            opened(**{key: "test"}, levels=2)
        assert str(error.value) == (
            f"config.evaluate.{key}='test': must have the classes that are trained on, "
            "['0', '1', '2', '3'], not ['0', '2', '3'], unless evaluate.levels=0 or "
            "model.class_conditional=False"
        )
    assert opened(held_out="test").held_out.num_classes == 3
    assert opened(split="same", levels=2).reference_images.num_classes == 4


def test_parameter_table_counts_every_number(tmp_path):
    import jax

    model = open_model(experiment.read(tiny.digits_config()))
    params = jax.eval_shape(model.init, model.key)
    total = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    assert f"{total:,}" in list(dry_run.parameter_table(params))[-1]
    assert dry_run.model_memory(model)["parameters"] == 4 * total


@pytest.mark.parametrize(
    "overrides, parts",
    [
        ({"train.batch": 12}, ["config.train.batch=12", "multiple of 8"]),
        ({"evaluate.n": 899}, ["config.evaluate.n=899", "at most 898"]),
        (
            {"model": {"name": "tiny", "channel_mult": (1, 1, 1, 1, 1)}},
            ["config.model.channel_mult", "8x8"],
        ),
        ({"data.split": "test"}, ["config.data.split='test'"]),
        ({"evaluate.split": "test"}, ["config.evaluate.split='test'", "no other split"]),
        ({"data.dataset": "digist"}, ["digist", "digits"]),
        ({"data.archive": "x.tar.gz"}, ["config.data.archive='x.tar.gz'"]),
    ],
)
def test_what_only_data_and_devices_tell_is_refused_in_one_line(overrides, parts, tmp_path):
    checked = experiment.read(tiny.digits_config(**overrides))
    with pytest.raises(ConfigError) as error:
        train.main(checked, RunFolder(tmp_path / "run"))
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_tensorboard_asks_for_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    checked = experiment.read(tiny.digits_config(**{"train.tensorboard": True}))
    with pytest.raises(ConfigError, match=r"config.train.tensorboard=True: needs pip install"):
        train.main(checked, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_finished_run_without_its_checkpoints_is_left_as_it_is(trained, tmp_path):
    checked, folder = trained
    root = tmp_path / "run"
    kept = shutil.ignore_patterns("checkpoints")
    shutil.copytree(folder.root, root, ignore=kept)
    before = {path: path.read_bytes() for path in root.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match=r"holds a finished run, and none of its checkpoints"):
        train.main(checked, RunFolder(root))
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_checkpoint_of_another_config_leaves_no_config_behind(trained, tmp_path):
    checked, folder = trained
    shutil.copytree(folder.root, tmp_path / "run")
    (tmp_path / "run" / "config.json").unlink()
    other = experiment.read(tiny.digits_config(**CONDITIONAL | {"law.curve": 2.0}))
    with pytest.raises(ConfigError, match=r"of another config: law.curve \(there 4.0, here 2.0\)"):
        train.main(other, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run" / "config.json").exists()
    assert (tmp_path / "run" / "noise.png").exists()
    train.main(checked, RunFolder(tmp_path / "run"))


def test_no_score_can_be_asked_for(tmp_path):
    checked = experiment.read(tiny.digits_config(**{"evaluate.n": 0}))
    with pytest.raises(ConfigError, match=r"config.evaluate.n=0: must be at least 2"):
        evaluate.main(checked, RunFolder(tmp_path))


def test_sampling_before_training(tmp_path):
    with pytest.raises(ConfigError, match="holds no checkpoint; train first"):
        sample.main(experiment.read(tiny.digits_config()), RunFolder(tmp_path))


def test_diverging_run_stops_and_names_step_levels_and_checkpoint(tmp_path):
    config = tiny.digits_config(**{"optimizer.learning_rate": 1e30, "train.log_every": 1})
    with pytest.raises(NonFiniteError, match=r"step \d+: loss .*; last good checkpoint: "):
        train.main(experiment.read(config), RunFolder(tmp_path / "run"))
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_device_count_changes_nothing_in_a_whole_run():
    """1, 2 and 8 devices: the same parameters after 5 steps, to 1e-5 in float32."""
    import jax

    from jaxnoise.data.order import batch_indices
    from jaxnoise.training.feeding import make_feeder
    from jaxnoise.training.parallel import Devices
    from jaxnoise.training.step import make_step

    checked = experiment.read(tiny.digits_config(**{"data.augment": 0.5}))
    model = open_model(checked)
    step = make_step(
        model.apply,
        checked.objective,
        checked.optimizer,
        ema_rate=checked.ema_rates,
        global_batch=16,
        num_classes=model.network.num_classes,
        dropout=True,
        flip=True,
        augment=0.5,
    )
    finals = []
    for count in (1, 2, 8):
        devices = Devices("pmap", count)
        feeder = make_feeder(model.images, devices, partial(batch_indices, 0, 1797, 16), 1)
        dispatch = devices.map(step, 1, feeder.resident)
        state = devices.replicate(model.initial_state())
        for k in range(5):
            state, _ = dispatch(state, feeder(k), model.key)
        finals.append(jax.tree.map(np.asarray, state.params))
    for other in finals[1:]:
        for a, b in zip(jax.tree.leaves(finals[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(b, a, atol=1e-5, rtol=0)
