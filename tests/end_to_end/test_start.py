"""Runs that start from weights of elsewhere."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny
from reference import make_edm_network as reference

import run
from configs import digits_ect, digits_edm, digits_noise_rater, digits_poly, digits_scm
from jaxnoise import experiment
from jaxnoise.commands import dry_run, plot, sample, train, train_together
from jaxnoise.errors import ConfigError
from jaxnoise.export import save_weights
from jaxnoise.run import start
from jaxnoise.run.model import OpenModel, open_model
from jaxnoise.run.start import open_start
from jaxnoise.run.trained import trained_state
from jaxnoise.training.records import RunFolder

pytestmark = pytest.mark.slow

BRIEF = {"train.steps": 2, "train.log_every": 1, "train.checkpoint_every": 2, "evaluate.n": 0}


def read(config=digits_edm, **settings):
    return experiment.read(tiny.shrunk(config.get_config(), **BRIEF | settings))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of two steps with two averages, and its last state."""
    folder = RunFolder(tmp_path_factory.mktemp("source"))
    checked = read(**{"ema.further_rates": (0.5,)})
    train.main(checked, folder)
    return folder, jax.tree.map(np.asarray, trained_state(open_model(checked), folder))


def equal(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_denoiser_is_tuned_to_consistency(source, tmp_path, capsys):
    settings = {"train.init_from": str(source[0].root), "train.steps": 4, "evaluate.n": 64}
    checked = read(digits_ect, **settings | {"gap.stages": 2})
    folder = RunFolder(tmp_path / "tuned")
    dry_run.main(checked, folder)
    assert "ShrinkingGap(total_steps=4, stages=2, q=2.0, k=8.0, b=1.0)" in capsys.readouterr().out
    plot.main(checked, folder)
    assert tiny.read_png(folder.root / "noise.png").shape[1] > 1000
    train.main(checked, folder)
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    np.testing.assert_allclose([r["relative_gap"] for r in rows], [0.5, 0.5, 0.25, 0.25], rtol=1e-3)
    result = json.loads(folder.result.read_text())
    assert result["nfe"] == {"1step": 1, "2step": 2}
    assert result["levels"] == {"1step": [80.0], "2step": [80.0, 0.821]}
    assert np.isfinite([result["frechet_1step"], result["frechet_2step"]]).all()


def test_a_denoiser_becomes_consistent_without_a_gap(source, tmp_path, capsys):
    settings = {"train.init_from": str(source[0].root), "train.steps": 4, "evaluate.n": 64}
    checked = read(digits_scm, **settings | {"objective.warmup_steps": 2})
    folder = RunFolder(tmp_path / "tuned")
    dry_run.main(checked, folder)
    assert "Derivative: counts in full from step 2 on" in capsys.readouterr().out
    plot.main(checked, folder)
    assert tiny.read_png(folder.root / "noise.png").shape[1] > 1000
    train.main(checked, folder)
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [row["tangent_warmup"] for row in rows] == [0, 0.5, 1, 1]
    result = json.loads(folder.result.read_text())
    assert result["levels"] == {"1step": [80.0], "2step": [80.0, 0.821]}
    assert np.isfinite([result["frechet_1step"], result["frechet_2step"]]).all()


@pytest.mark.parametrize("config", [digits_ect, digits_scm])
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"target": "v"}, "must be of objective.target='edm'"),
        ({"sigma_data": 0.4}, "must be of objective.sigma_data=0.5"),
    ],
)
def test_only_a_denoiser_of_edm_s_form_is_tuned(source, tmp_path, config, section, message):
    folder = shutil.copytree(source[0].root, tmp_path / "other")
    described = json.loads((folder / "config.json").read_text())
    described["objective"] |= section
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match=f"^config.train.init_from='{folder}': {message}"):
        open_model(read(config, **{"train.init_from": str(folder)}), selects=True)


@pytest.mark.parametrize("which", ["ema", "raw"])
@pytest.mark.parametrize("config", [digits_edm, digits_poly])
def test_a_run_starts_from_another_runs_weights(source, which, config):
    folder, state = source
    settings = {"train.init_from": str(folder.root), "train.init_weights": which}
    model = open_model(read(config, **settings, seed=1))
    begun = model.first_state()
    wanted = (state.averages[0] if which == "ema" else state.params)["network"]
    equal(begun.params["network"], wanted)
    equal(begun.ema["network"], wanted)
    drawn = model.new_state()
    equal(begun.opt_state, drawn.opt_state)
    assert int(begun.step) == 0
    kernels = [x["network"]["params"]["Conv_0"]["kernel"] for x in (state.params, drawn.params)]
    assert np.abs(np.subtract(*kernels)).max() > 0.01


def test_a_run_that_was_started_goes_on_and_is_looked_at(source, tmp_path, capsys, monkeypatch):
    kept = tmp_path / "kept"
    shutil.copytree(source[0].root, kept)
    folder = RunFolder(tmp_path / "run", experiment.completed)
    train.main(read(**{"train.init_from": str(kept)}), folder)
    assert json.loads(folder.config.read_text())["train"]["init_from"] == str(kept)
    (moved,) = {kept.rename(tmp_path / "moved")}
    further = read(**{"train.init_from": str(moved), "train.further_steps": 2})
    train.main(further, folder)
    assert "resuming from step 2" in capsys.readouterr().err
    assert folder.rows()[-1]["step"] == 4
    for other in (None, str(folder.root)):
        for command in (train, dry_run):
            with pytest.raises(ConfigError, match=r"train.init_from=.*: its weights are not those"):
                command.main(read(**{"train.init_from": other}), folder)
    # Images are drawn and scored without the first weights.
    shutil.rmtree(moved)
    gone = read(**{"train.init_from": str(moved)})
    sample.main(gone, folder)
    assert "warning" not in capsys.readouterr().err
    model = open_model(gone)
    assert "there is nothing there; the untrained model is not scored" in capsys.readouterr().err
    state = trained_state(model, folder)
    monkeypatch.setattr(OpenModel, "score", lambda *args, **kwargs: {"frechet_heun18": 1.0})
    assert set(train.score(model, state)) == {"frechet_heun18", "devices"}
    with pytest.raises(ConfigError, match=r"there is nothing there$"):
        open_model(gone, selects=True)


def test_a_run_goes_on_though_the_one_that_it_started_from_has_trained_on(source, tmp_path, capsys):
    kept, folder = tmp_path / "kept", RunFolder(tmp_path / "run", experiment.completed)
    shutil.copytree(source[0].root, kept)
    train.main(read(**{"train.init_from": str(kept)}), folder)
    averages = {"ema.further_rates": (0.5,)}
    longer = RunFolder(kept, experiment.completed)
    train.main(read(**averages, **{"train.further_steps": 2}), longer)
    first = open_model(read(**{"train.init_from": str(source[0].root)})).start_sha256
    for steps in (2, 4):
        capsys.readouterr()
        train.main(read(**{"train.init_from": str(kept), "train.further_steps": steps}), folder)
        err = capsys.readouterr().err
        assert err.count("have changed since training began with them; the untrained model") == 1
        assert folder.rows()[-1]["step"] == 2 + steps
        held = json.loads((folder.checkpoints / str(2 + steps) / "meta" / "metadata").read_text())
        assert held["start"] == first


def test_a_run_goes_on_though_the_one_that_it_started_from_is_gone(
    source, tmp_path, capsys, monkeypatch
):
    kept, folder = tmp_path / "kept", RunFolder(tmp_path / "run", experiment.completed)
    shutil.copytree(source[0].root, kept)
    train.main(read(**{"train.init_from": str(kept)}), folder)
    metadata = "meta/metadata"
    first = json.loads((folder.checkpoints / "2" / metadata).read_text())["start"]
    assert first is not None
    shutil.rmtree(kept)
    further = read(**{"train.init_from": str(kept), "train.further_steps": 2})
    train.main(further, folder)
    err = capsys.readouterr().err
    assert err.count("there is nothing there; the untrained model is not scored") == 1
    assert "resuming from step 2" in err
    assert json.loads((folder.checkpoints / "4" / metadata).read_text())["start"] == first
    dry_run.main(further, folder)
    # Its score of the untrained model stays.
    held = {"frechet_heun18": 3.0, "untrained_frechet_heun18": 9.0}
    folder.result.write_text(json.dumps(held))
    monkeypatch.setattr(OpenModel, "score", lambda *args, **kwargs: {"frechet_heun18": 1.0})
    model = open_model(further)
    scored = replace(model, run=replace(further, evaluate=replace(further.evaluate, n=2)))
    train.report(scored, trained_state(model, folder), folder, own=True)
    result = json.loads(folder.result.read_text())
    assert result == held | {"frechet_heun18": 1.0, "devices": model.devices.description}
    # Under other settings they would be no neighbours.
    for key, value in (("seed", 7), ("weights", "raw")):
        folder.result.write_text(json.dumps(held | {key: value}))
        train.report(scored, trained_state(model, folder), folder, own=True)
        assert json.loads(folder.result.read_text()).keys() == {"frechet_heun18", "devices"}
    # Weights that cannot be read are gone only under the name that the run began with.
    monkeypatch.chdir(tmp_path)
    dry_run.main(read(**{"train.init_from": "kept/", "train.further_steps": 2}), folder)
    told = folder.config.read_text()
    for other in (str(tmp_path / "other"), str(folder.root / "other.pkl")):
        for command in (train, dry_run):
            with pytest.raises(ConfigError, match=r"other.*: its weights .* are those of '.*kept'"):
                command.main(read(**{"train.init_from": other, "train.further_steps": 4}), folder)
    assert folder.config.read_text() == told
    # A network drawn anew would be another run.
    for held in folder.checkpoints.glob(f"*/{metadata}"):
        held.write_text("{}")
    with pytest.raises(ConfigError, match=r"no checkpoint verifies \(steps 2, 4\)"):
        train.main(further, folder)
    with pytest.raises(ConfigError, match=r"holds no checkpoint that verifies"):
        dry_run.main(further, folder)
    shutil.rmtree(folder.checkpoints)
    with pytest.raises(ConfigError, match=r"init_from=.*there is nothing there$"):
        train.main(further, folder)


def test_a_run_whose_weights_were_drawn_began_with_none_that_are_gone(source, tmp_path):
    folder = RunFolder(tmp_path / "run", experiment.completed)
    shutil.copytree(source[0].root, folder.root)
    named = {"ema.further_rates": (0.5,), "train.init_from": str(tmp_path / "gone")}
    with pytest.raises(ConfigError, match=r"gone': its weights are not those .* were drawn$"):
        train.main(read(**named, **{"train.further_steps": 2}), folder)


def test_all_processes_have_the_weights_or_none_does(source, monkeypatch):
    """Each decides by itself whether it can go on without, and then all must do the same."""
    checked = read(**{"train.init_from": str(source[0].root)})
    model = open_model(checked)
    wanted = model.abstract_state.params["network"]
    network, asked = model.start.network, []

    def gather(own):
        """The others have what this one has, or weights of other bytes where it reads them."""
        asked.append(own)
        return np.stack([own, own ^ others[len(asked) - 1], own])

    # Orbax would ask the others as well.
    monkeypatch.setattr(start, "_network", lambda *given: network)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(start.multihost_utils, "process_allgather", gather)
    for others, collectives in (((0, 0), 2), ((1,), 1), ((0, 1), 2)):
        asked.clear()
        unlike = pytest.raises(ConfigError, match=r"process 1 does not have the weights that proc")
        with unlike if any(others) else nullcontext():
            assert open_start(checked, model.images, wanted).sha256 == model.start.sha256
        assert len(asked) == collectives

    # The one that has none says why, whatever it was; the others wait for no one.
    def lacks(*given):
        raise TypeError("an error of ours")

    monkeypatch.setattr(start, "_network", lacks)
    others = (0, 1)
    asked.clear()
    has_none = r"process 0 does not have the weights that process 1 has; .* \(an error of ours\)$"
    with pytest.raises(ConfigError, match=has_none):
        open_start(checked, model.images, wanted)
    # Where all have none, each says so itself.
    gone = read(**{"train.init_from": str(source[0].root / "gone")})
    asked.clear()
    with pytest.raises(ConfigError, match="there is nothing there"):
        open_start(gone, model.images, wanted)
    assert not asked[0].any()


def test_runs_that_train_together_open_their_images_once(tmp_path, monkeypatch):
    asked = []

    def opened(run, images, **given):
        asked.append((images, given))
        if len(asked) == 1:
            raise ConfigError("the first one")
        return SimpleNamespace(images="images")

    monkeypatch.setattr(train_together, "open_model", opened)
    folders = [RunFolder(tmp_path / name) for name in "abc"]
    (folders[2].checkpoints / "2").mkdir(parents=True)
    left, failed = train_together._round([(read(), folder) for folder in folders])
    assert left == []
    assert [images for images, _ in asked] == [None, None, "images"]
    assert [given["resumes"] for _, given in asked] == [False, False, True]
    assert all(given["selects"] for _, given in asked)
    assert str(failed[0]) == "the first one"


def test_a_run_starts_from_exported_weights(source, tmp_path):
    state = source[1]
    path = tmp_path / "weights.safetensors"
    path.write_bytes(save_weights(state.sampling_params))
    begun = open_model(read(**{"train.init_from": str(path)}), selects=True).first_state()
    equal(begun.params["network"], state.sampling_params["network"])
    card = {"image_shape": [16, 16, 1], "model": {"width": 8}}
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(ConfigError, match=r"of images \(8, 8, 1\), .* it is of \(16, 16, 1\)"):
        open_model(read(**{"train.init_from": str(path)}), selects=True)
    (tmp_path / "card.json").write_text(json.dumps({"model": {"dropout": 0.5, "width": 9}}))
    with pytest.raises(ConfigError, match=r"model.width is 9 there and 8 here$"):
        open_model(read(**{"train.init_from": str(path)}), selects=True)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images of the reference's size and labels."""
    folder = tmp_path_factory.mktemp("pictures")
    np.save(folder / "images.npy", np.zeros((16, 8, 8, 3), np.uint8))
    np.save(folder / "labels.npy", np.arange(16) % 3)
    return {"dataset": "arrays", "data_dir": str(folder), "scale": 1.0}


EDM = {
    "name": "ddpmpp",
    "class_conditional": True,
    "model_channels": 4,
    "channel_mult": (1, 2),
    "num_blocks": 1,
    "attn_resolutions": (4,),
}
FILE = str(reference.FOLDER / "edm_network.pkl")


def test_a_run_starts_from_edms_network(pictures):
    data = pictures | {"augment": 0.1}
    checked = read(data=data, model=EDM, **{"train.init_from": FILE})
    model = open_model(checked)
    start = open_start(checked, model.images, model.abstract_state.params["network"])
    assert model.meta["start"] == start.sha256
    assert start.network["params"]["augment"]["kernel"].shape == (9, 4)
    equal(model.first_state().params["network"], start.network)
    untold = open_model(replace(checked, data=replace(checked.data, augment=0.0)))
    assert "augment" not in untold.start.network["params"]


def test_a_run_with_augmentation_starts_from_one_without(source):
    model = open_model(read(**{"train.init_from": str(source[0].root), "data.augment": 0.1}))
    params = model.start.network["params"]
    assert sorted(params) == sorted(model.abstract_state.params["network"]["params"])


@pytest.mark.parametrize(
    "settings, parts",
    [
        (
            {"model_channels": 8},
            ["affine/kernel is (16, 4) there and (32, 8) here", "and 139 more"],
        ),
        ({"num_blocks": 2}, ["decoder0_block2/affine/kernel is missing there", " and 63 more"]),
        ({"class_conditional": False}, ["params/label/kernel is not in config.model"]),
        ({"skip_scale": 1.0}, ["model.skip_scale is 0.7071067811865476 there and 1.0 here"]),
        ({"resample_filter": (1, 3, 3, 1)}, ["model.resample_filter is [1.0, 1.0] there and [1"]),
    ],
)
def test_edms_network_in_another_is_refused(settings, parts, pictures):
    checked = read(data=pictures, model=EDM | settings, **{"train.init_from": FILE})
    with pytest.raises(ConfigError) as error:
        open_model(checked, selects=True)
    for part in [f"config.train.init_from={FILE!r}: must ", *parts]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    "size, parts",
    [
        ((16, 16, 3), ["must be of images (16, 16, 3)", "it is of (8, 8, 3)"]),
        ((8, 8, 1), ["params/input/kernel is (3, 3, 3, 4) there and (3, 3, 1, 4) here"]),
    ],
)
def test_edms_network_for_other_images_is_refused(size, parts, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((16, *size), np.uint8))
    np.save(tmp_path / "labels.npy", np.arange(16) % 3)
    data = {"dataset": "arrays", "data_dir": str(tmp_path), "scale": 1.0}
    model = EDM | {"attn_resolutions": (size[0] // 2,)}
    with pytest.raises(ConfigError) as error:
        open_model(read(data=data, model=model, **{"train.init_from": FILE}), selects=True)
    for part in parts:
        assert part in str(error.value)


def command(tmp_path, capsys, *arguments):
    """Exit code and line of the shrunk command, in this process."""
    model = "--config.model={'name': 'tests.small_network:SmallNetwork'}"
    where = f"--workdir={tmp_path / 'new'}"
    code = run.main(["--config=configs/digits_edm.py", model, where, *arguments])
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert not (tmp_path / "new").exists()
    return code, line


def test_what_cannot_be_started_from_is_one_line(source, tmp_path, capsys):
    folder = source[0].root
    rater, empty = tmp_path / "rater", tmp_path / "empty"
    for made, config in ((rater, {"rater": {}}), (empty, {"model": {}})):
        made.mkdir()
        (made / "config.json").write_text(json.dumps(config))
    for name, content in (("a.safetensors", b"weights"), ("b.pkl", b"weights"), ("c.pth", b"")):
        (tmp_path / name).write_bytes(content)
    for path, part in (
        ("none", "must be a run's folder, a .safetensors or a .pkl file; there is nothing there"),
        ("none.pkl", "there is no such file"),
        ("c.pth", "must be a run's folder"),
        ("a.safetensors", "is no file of --mode=export"),
        ("b.pkl", "cannot be read as a pickled network"),
        (".", "is no run's folder"),
        ("rater", "holds a rater's run"),
        ("empty", "holds no checkpoint"),
        (folder, "params/Conv_0/kernel is (3, 3, 1, 8) there and (3, 3, 1, 12) here"),
    ):
        given = f"--config.train.init_from={tmp_path / path}"
        code, line = command(tmp_path, capsys, given, "--config.model.width=12")
        assert code == 2
        assert line.startswith(f"error: config.train.init_from='{tmp_path / path}': ")
        assert part in line
    raw = "--config.train.init_weights=raw"
    code, line = command(tmp_path, capsys, f"--config.train.init_from={tmp_path / 'b.pkl'}", raw)
    assert "train.init_weights='raw' has a use for a run's folder alone" in line
    code, line = command(tmp_path, capsys, "--config.train.init_weights=best")
    assert "config.train.init_weights='best': must be one of ema, raw" in line


def test_a_damaged_checkpoint_is_not_started_from(source, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(source[0].root, copy)
    # Arrays that Orbax itself cannot read are tests/training/test_checkpoints.py's.
    meta = copy / "checkpoints" / "2" / "meta" / "metadata"
    held = json.loads(meta.read_text())
    held["digests"] = {path: digest[::-1] for path, digest in held["digests"].items()}
    meta.write_text(json.dumps(held))
    with pytest.raises(ConfigError, match=r"init_from=.*checkpoints: holds no checkpoint that ver"):
        open_model(read(**{"train.init_from": str(copy)}), selects=True)
    assert "is damaged" in capsys.readouterr().err


def test_a_rater_starts_from_no_weights():
    config = digits_noise_rater.get_config()
    config.train.init_from = "runs/any"
    with pytest.raises(ConfigError, match=r"config.train.init_from='runs/any': must be None"):
        experiment.read(config)
