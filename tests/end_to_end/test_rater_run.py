"""Learning a rater of noise, and training by its file, as a user does it."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import command_line
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax.traverse_util import flatten_dict
from small_network import MODEL

from configs import common, digits_noise_plain, digits_noise_rater, digits_poly
from jaxnoise import experiment
from jaxnoise.commands import dry_run, evaluate, export, plot, sample, train, train_rater
from jaxnoise.config import overrides
from jaxnoise.errors import ConfigError
from jaxnoise.models.rater import FeatureRater, LevelRater
from jaxnoise.models.rater_file import load_rater, save_rater
from jaxnoise.noise.bands import BAND_NAMES
from jaxnoise.run.model import open_model
from jaxnoise.run.rater import open_rater
from jaxnoise.training.feeding import make_feeder
from jaxnoise.training.records import RunFolder

pytestmark = pytest.mark.slow

RATER = FeatureRater(width=4, bands=1, dtype=jnp.dtype("float32"))
SMALL = (
    "--config.train.steps=4",
    "--config.train.batch=8",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=2",
    "--config.train.sample_every=4",
    "--config.rater={'name': 'feature', 'width': 4, 'bands': 1}",
    "--config.meta.outer_batch=8",
    # Model 1 is renewed after two meta-steps, model 0 after three.
    "--config.meta.population=2",
    "--config.meta.lifetime=3",
    # Compiles faster.
    "--config.meta.unroll=False",
    # One inner step compiles in half the time; more of them are tested where steps are.
    "--config.meta.inner_steps=1",
    # Large steps, and in proportion to a small gradient, which the rounding of sums moves little.
    "--config.meta.optimizer={'learning_rate': 0.2, 'warmup_steps': 0, 'eps': 1e-3}",
)
INNER = (
    f"--config.model={MODEL | {'class_conditional': True}}",
    "--config.optimizer.learning_rate=0.03",
    # Adam divides a gradient by itself, so that the rounding of one near 0 would become a step.
    "--config.optimizer.eps=1e-3",
)
ARGUMENTS = (
    "--config=configs/digits_noise_rater.py",
    *SMALL,
    *INNER,
    "--config.meta.candidates=2",
    "--config.meta.probe_every=2",
    "--config.meta.probe_draws=2",
    "--config.meta.probe_repeats=2",
)


def rater_run(config, arguments):
    _, settings = overrides.split(list(arguments))
    return experiment.read(overrides.apply(config.to_dict(), settings))


def rows_of(folder):
    timing = "images_per_second"
    return [{k: v for k, v in row.items() if k != timing} for row in RunFolder(folder).rows()]


def digests(folder, step):
    meta = folder / "checkpoints" / str(step) / "meta" / "metadata"
    return json.loads(meta.read_text())["digests"]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Stage 1 on eight devices: its experiment, run folder and last line."""
    checked = rater_run(digits_noise_rater.get_config(), ARGUMENTS)
    folder = RunFolder(tmp_path_factory.mktemp("learned"))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        train.main(checked, folder)
    return checked, folder, out.getvalue().splitlines()[-1]


def test_the_run_folder_of_a_rater(learned):
    _, folder, _ = learned
    assert {path.name for path in folder.root.iterdir()} == {
        "checkpoints",
        "config.json",
        "cost.json",
        "curves.png",
        "data.json",
        "metrics.jsonl",
        "noise.png",
        "rater.npz",
        "report.html",
        "result.json",
        "scores",
        "scores.png",
    }
    assert json.loads(folder.cost.read_text())["operations_per_step"] > 1e6
    assert tiny.read_png(folder.score_histogram).shape[1] > 1000
    assert sorted(path.name for path in folder.scores.iterdir()) == [
        "step_0000002.npz",
        "step_0000004.npz",
    ]


def test_rows_of_meta_training(learned):
    _, folder, _ = learned
    rows = [row for row in folder.rows() if "effective_share" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    # Two models of 8 images and 8 held-out ones.
    assert [row["images_seen"] for row in rows] == [32, 64, 96, 128]
    for row in rows:
        for name in ("loss", "grad_norm", "inner_loss"):
            assert np.isfinite(row[name])
        assert row["grad_norm"] > 0
        assert 0.5 <= row["effective_share"] <= 1 + 1e-6
        filled = [band for band in BAND_NAMES if row[f"loss_band/{band}"] is not None]
        assert len(filled) > 1
        for band in BAND_NAMES:
            assert (row[f"score_std/{band}"] is None) == (band not in filled)
            # Draws for one image compete, which says nothing of levels.
            assert f"score_mean/{band}" not in row
    # Before the first update all scores are 0, and so weights are equal.
    assert abs(rows[0]["effective_share"] - 1) < 1e-6
    assert all(not rows[0][f"score_std/{band}"] for band in BAND_NAMES)
    # A few updates by single steps move the weights by more than rounding does.
    assert rows[-1]["effective_share"] < 1 - 1e-4
    assert max(rows[-1][f"score_std/{band}"] or 0 for band in BAND_NAMES) > 1e-2


def test_probes_are_rows_and_in_the_result(learned):
    checked, folder, line = learned
    result = json.loads(line)
    assert result == json.loads(folder.result.read_text())
    (probe,) = [row for row in folder.rows() if "signal_f" in row]
    assert probe["step"] == 2
    assert probe["score_autocorrelation"] is None
    for found in (probe, result):
        assert -1 <= found["first_order_cosine"] <= 1 + 1e-6
        assert found["signal_f"] > 0
        np.testing.assert_allclose(found["signal_ratio"], (found["signal_f"] - 1) / 2, rtol=1e-4)
        assert any(f"signal_f/{band}" in found for band in BAND_NAMES)
    held = [np.load(folder.scores / f"step_000000{step}.npz") for step in (2, 4)]
    np.testing.assert_array_equal(held[0]["sigma"], held[1]["sigma"])
    scores = [one["scores"] for one in held]
    assert scores[0].shape == (512,)
    # Pairs of rivals.
    np.testing.assert_array_equal(held[0]["sigma"][::2], held[0]["sigma"][1::2])
    np.testing.assert_allclose(scores[1][::2], -scores[1][1::2], atol=1e-6)
    assert scores[1].std() > 1e-3
    correlation = np.corrcoef(*scores)[0, 1]
    np.testing.assert_allclose(result["score_autocorrelation"], correlation, atol=1e-5)
    np.testing.assert_allclose(result["score_std"], scores[1].std(), rtol=1e-5)
    assert (result["rater"], result["meta_steps"], result["images_seen"]) == ("rater.npz", 4, 128)
    assert result["loss"] == folder.rows()[-1]["loss"]
    # Two outer batches: one pattern of signs beside the observed one.
    assert result["signal_p"] in (0.5, 1.0)
    assert result["signal_f_without_signal"] > 0
    saved = load_rater(folder.rater)
    assert saved.network == checked.rater == RATER
    assert saved.card["step"] == 4
    assert saved.card["image_shape"] == [8, 8, 1]
    assert saved.card["config"] == json.loads(folder.config.read_text())


def test_pictures_that_a_kill_prevented_are_made_up(learned, monkeypatch):
    checked, folder, _ = learned
    # What follows draws them all; here a kill prevents that.
    monkeypatch.setattr(train_rater, "report", lambda *arguments: None)
    names = ("scores.png", "curves.png", "report.html", "noise.png", "cost.json")
    before = {name: (folder.root / name).read_bytes() for name in names}
    for missing in (names[:1], names[1:]):
        for name in missing:
            (folder.root / name).unlink()
        kept = {n: (folder.root / n).stat().st_mtime_ns for n in names if n not in missing}
        train.main(checked, folder)
        for name in names:
            path = folder.root / name
            assert name in missing or path.stat().st_mtime_ns == kept[name]
            assert name == "report.html" or path.read_bytes() == before[name]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run of `learned` on one device, without interruption."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    code, out, err = command_line.run(*ARGUMENTS, f"--workdir={folder}")
    assert code == 0, err
    return folder, out.splitlines()[-1]


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(whole, tmp_path):
    expected, line = whole
    folder, script = tmp_path / "killed", Path(__file__).with_name("killed_run.py")
    arguments = (*ARGUMENTS, f"--workdir={folder}")
    # Killed while the third meta-step is recorded.
    code, _, err = command_line.run(
        str(folder / "checkpoints" / "2"), "2", *arguments, script=script
    )
    assert code == -9, err
    assert not (folder / "rater.npz").exists()
    assert not (folder / "checkpoints" / "4").exists()
    code, out, err = command_line.run(*arguments)
    assert code == 0, err
    assert "resuming from step 2" in err
    assert (folder / "rater.npz").read_bytes() == (expected / "rater.npz").read_bytes()
    assert digests(folder, 4) == digests(expected, 4)
    assert rows_of(folder) == rows_of(expected)
    assert out.splitlines()[-1] == line


def test_eight_devices_learn_the_rater_of_one(learned, whole):
    folders = whole[0], learned[1].root
    one, eight = (flatten_dict(load_rater(folder / "rater.npz").params) for folder in folders)
    head = next(value for path, value in one.items() if "head" in path)
    assert np.abs(head).max() > 5e-3
    for path, value in one.items():
        np.testing.assert_allclose(eight[path], value, atol=1e-5, rtol=0)


# Stage 2


def selecting(**section):
    settings = {
        "train.steps": 2,
        "train.log_every": 1,
        "train.checkpoint_every": 2,
        "train.sample_every": 2,
        "sample.batch": 8,
        "sample.method": {"name": "heun", "steps": 2},
        "evaluate": {"n": 0},
        "selection": section,
    }
    return experiment.read(tiny.shrunk(digits_noise_plain.get_config(), **settings))


@pytest.fixture(scope="module")
def select(learned, tmp_path_factory):
    """Trains with a selection: its run folder."""
    root = tmp_path_factory.mktemp("selected")

    def run(name, file=learned[1].rater, **section):
        folder = RunFolder(root / f"{name}_{file.parent.name}")
        train.main(selecting(name=name, file=str(file), candidates=4, **section), folder)
        return folder

    return run


def check_rows(folder, *names):
    rows = folder.rows()
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert np.isfinite(row["loss"])
        assert row["score_margin"] > 0
        assert 0 < row["changed_share"] <= 1
        assert abs(row["noise_mean"]) < 0.3
        assert abs(row["noise_variance"] - 1) < 0.5
        assert abs(row["noise_square"] - 1) < 0.5
        assert abs(row["noise_along_image"]) < 2
        assert set(names) <= row.keys()
    return rows


def test_training_by_a_rater_knows_its_rater(select, learned, tmp_path):
    file = tmp_path / "rater.npz"
    shutil.copy(learned[1].rater, file)
    folder = select("rater", file)
    assert all(row["candidates_in_use"] == 4 for row in check_rows(folder, "candidates_in_use"))
    cost = json.loads(folder.cost.read_text())
    assert 0 < cost["selection_share"] < 1
    checked, kept = selecting(name="rater", file=str(file), candidates=4), digests(folder.root, 2)
    saved = load_rater(file)
    moved = jax.tree.map(lambda x: x + 1, saved.params)
    save_rater(file, saved.network, moved, image_shape=saved.card["image_shape"])
    with pytest.raises(
        ConfigError, match=r"config.selection.file=.*: it is not the rater that the"
    ):
        train.main(checked, folder)
    assert digests(folder.root, 2) == kept
    assert len(folder.rows()) == 2


@pytest.fixture(scope="module")
def of_batches(learned, tmp_path_factory):
    """The rater, as if all draws of a batch had competed; its file."""
    saved, file = load_rater(learned[1].rater), tmp_path_factory.mktemp("raters") / "rater.npz"
    card = {"image_shape": (8, 8, 1), "config": {"meta": {"candidates": None}}}
    save_rater(file, saved.network, saved.params, **card)
    return file


def test_training_by_shuffled_scores_and_from_a_pool(select, of_batches):
    check_rows(select("rater_shuffled", bins=1), "candidates_in_use")
    rows = check_rows(select("rater_pool", of_batches, bins=1), "image_share")
    # Parts of the batch are two examples; one of them can be drawn at least.
    assert all(0.5 <= row["image_share"] <= 1 for row in rows)


def test_a_rater_of_other_images_is_a_warning(learned, tmp_path, capsys):
    saved, file = load_rater(learned[1].rater), tmp_path / "rater.npz"
    for fingerprint, warned in ((saved.card["data"]["fingerprint"], False), ("another", True)):
        card = {"image_shape": (8, 8, 1), "data": {"fingerprint": fingerprint}}
        save_rater(file, saved.network, saved.params, **card)
        open_model(selecting(name="rater", file=str(file)), selects=True)
        assert ("the rater learned on other images" in capsys.readouterr().err) is warned


def test_a_rater_of_another_law_is_a_warning(learned, tmp_path, capsys):
    saved, file = load_rater(learned[1].rater), tmp_path / "rater.npz"
    own = saved.card["config"]["law"]
    for law, warned in ((own, False), ({**own, "name": "cauchy"}, True)):
        save_rater(file, saved.network, saved.params, image_shape=(8, 8, 1), config={"law": law})
        open_model(selecting(name="rater", file=str(file)), selects=True)
        assert ("the rater learned under law.name='cauchy'" in capsys.readouterr().err) is warned


def test_a_fresh_rater_selects_nothing(select, tmp_path):
    x0, lam = jnp.zeros((1, 8, 8, 1)), jnp.zeros(1)
    params = jax.jit(RATER.init)(jax.random.key(3), x0, x0, lam)
    save_rater(tmp_path / "rater.npz", RATER, params, image_shape=(8, 8, 1))
    folder, plain = select("rater", tmp_path / "rater.npz"), RunFolder(tmp_path / "plain")
    train.main(selecting(name="none"), plain)
    for row, alike in zip(folder.rows(), plain.rows(), strict=True):
        assert row["changed_share"] == row["score_margin"] == 0
        # The same noise, bit for bit, in another program: sums are rounded in another order.
        assert row["loss"] == pytest.approx(alike["loss"], rel=1e-6)
        assert row["grad_norm"] == pytest.approx(alike["grad_norm"], rel=1e-5)
        assert "score_margin" not in alike


def test_a_rater_that_does_not_fit_is_refused_before_training(tmp_path):
    file, network = tmp_path / "rater.npz", LevelRater(4)
    x0, lam = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 16, 16, 1), (1,)))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x0, lam=lam, eps=x0)
    params = jax.tree.map(lambda x: np.ones(x.shape, np.float32), shapes)

    def refused(**section):
        with pytest.raises(ConfigError) as caught:
            train.main(selecting(**section), RunFolder(tmp_path / "run"))
        assert not (tmp_path / "run").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    named = f"config.selection.file={str(file)!r}: must be a rater"
    assert refused(name="rater", file=str(file)) == (
        f"{named}'s file, rater.npz (No such file or directory)"
    )
    save_rater(file, network, params, image_shape=(16, 16, 1))
    message = refused(name="rater_shuffled", file=str(file))
    assert message.startswith(named)
    for part in ("(8, 8, 1)", "(16, 16, 1)"):
        assert part in message
    save_rater(file, network, params, image_shape=(8, 8, 1), config={"meta": {"candidates": 4}})
    message = refused(name="rater_pool", file=str(file))
    assert message.startswith(f"{named} whose batch competed (meta.candidates=None)")
    save_rater(file, network, params, image_shape=(8, 8, 1))
    message = refused(name="rater_pool", file=str(file), bins=4)
    assert message.startswith("config.selection.bins=4: must be a divisor of the 2 examples")


# Other modes, other objectives


@pytest.mark.parametrize("command", [sample, evaluate, export])
def test_a_rater_draws_no_images(command, tmp_path):
    checked = rater_run(digits_noise_rater.get_config(), ARGUMENTS)
    with pytest.raises(ConfigError, match=r"^config\.rater: a rater of noise draws no images"):
        command.main(checked, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_plot_and_dry_run_of_a_rater(tmp_path, capsys):
    checked = rater_run(digits_noise_rater.get_config(), ARGUMENTS)
    plot.main(checked, RunFolder(tmp_path / "new"))
    assert tiny.read_png(tmp_path / "new" / "noise.png").shape[1] > 1000
    capsys.readouterr()
    dry_run.main(checked, RunFolder(tmp_path / "none"))
    head, rest = capsys.readouterr().out.split("\nParameters", 1)
    assert json.loads(head) == json.loads(json.dumps(checked.config))
    assert "\nParameters of each of 2 inner models\n" in rest
    assert not (tmp_path / "none").exists()


def test_memory_of_a_meta_step():
    def sizes(*settings):
        checked = rater_run(digits_noise_rater.get_config(), (*ARGUMENTS, *settings))
        return dry_run.rater_memory(open_rater(checked))

    one, three = sizes(), sizes("--config.meta.inner_steps=3", "--config.meta.mode='reverse'")
    inner = one["2 inner models with optimizers"] // 2
    # Parameters and two moments of Adam, and a gradient; a step count of 4 bytes.
    kept = one["1 inner steps of one model"]
    assert kept == inner + (inner - 4) // 3
    assert three["3 inner steps of one model"] == 3 * kept
    # On each of eight devices one image with two draws of noise: 3.5 times, or 4.5 for each step.
    two = sizes("--config.meta.inner_steps=2", "--config.meta.mode='reverse'")
    found = {7: one, 18: two, 27: three}
    activations = {n: held[f"activations, batch {n} a device"] for n, held in found.items()}
    assert activations[7] > 0
    # So many bytes for each example, and a few for all of them.
    slopes = [(activations[m] - activations[n]) / (m - n) for m, n in ((18, 7), (27, 18))]
    assert slopes[0] == slopes[1] > 0


def test_dry_run_looks_at_the_rater():
    with pytest.raises(ConfigError, match=r"^config\.selection\.file='none\.npz': must be a rater"):
        dry_run.main(selecting(name="rater", file="none.npz"), RunFolder(Path("none")))


def test_a_rater_needs_held_out_images_and_images_of_its_size(tmp_path):
    for setting, part in (
        ("--config.meta.held_out=1e-5", "config.meta.held_out=1e-05: must be from 0.004452"),
        ("--config.rater.bands=9", "config.rater.bands=9: "),
        ("--config.train.batch=4", "config.train.batch=4: must be a multiple of 8"),
    ):
        checked = rater_run(digits_noise_rater.get_config(), (*ARGUMENTS, setting))
        with pytest.raises(ConfigError) as caught:
            train.main(checked, RunFolder(tmp_path / "run"))
        assert str(caught.value).startswith(part)
        assert not (tmp_path / "run").exists()


def test_consistency_models_teach_a_rater_too():
    checked = rater_run(common.rating(digits_poly.get_config()), (*SMALL, INNER[0]))
    rater = open_rater(checked)
    feeder = make_feeder(rater.images, rater.devices, rater.indices, 1)
    dispatch = rater.devices.map(train_rater.step_of(rater), 1, feeder.resident)
    state = rater.devices.replicate(jax.jit(rater.initial_state)())
    etas = []
    for step in range(2):
        etas.append(jax.tree.map(np.asarray, state.eta))
        state, metrics = dispatch(state, feeder(step), rater.key)
        assert np.isfinite(metrics["loss"]).all()
        assert (np.asarray(metrics["grad_norm"]) > 0).all()
    etas.append(jax.tree.map(np.asarray, state.eta))
    feeder.close()
    heads = [eta["params"]["head"]["kernel"] for eta in etas]
    assert not heads[0].any()
    assert (heads[1] != heads[0]).any()
    assert (heads[2] != heads[1]).any()
    assert np.isfinite(heads[2]).all()
