"""Exported runs give the run's own images, without the code that trained them."""

import hashlib
import json
import re
import subprocess
import sys

import command_line
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxnoise import experiment
from jaxnoise.commands import export, train
from jaxnoise.errors import ConfigError
from jaxnoise.export import load_weights, sampling_program
from jaxnoise.run.model import open_model
from jaxnoise.run.trained import trained_state
from jaxnoise.sampling import image_noise
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.generation import Generator
from jaxnoise.training.parallel import Devices
from jaxnoise.training.records import RunFolder

pytestmark = pytest.mark.slow

PAGE = (command_line.ROOT / "docs" / "export.md").read_text()
PROGRAM, WEIGHTS, HEUN = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
WITHOUT_JAXNOISE = "import sys; sys.modules['jaxnoise'] = None\n"
COUNT = 16
# Two steps so long that every weight matters.
SETTINGS = {
    # One of jaxnoise's own networks, which the weights are loaded into.
    "model": {
        "name": "dit_tiny",
        "hidden_size": 8,
        "depth": 1,
        "num_heads": 2,
        "mlp_ratio": 2.0,
        "dropout": 0.2,
        "class_conditional": True,
    },
    "train.steps": 2,
    "train.checkpoint_every": 2,
    "train.sample_every": 1000,
    "evaluate.n": 0,
    "optimizer": {"name": "adam", "learning_rate": 0.1},
}

SCORE = {
    "frechet_1step": 1.5,
    "frechet_2step": 1.25,
    "untrained_frechet_2step": 40.0,
    "frechet_floor": 0.5,
    "weights": "ema",
    "guidance": 1.0,
    "images_seen": 32,
    "levels": {"1step": [80.0], "2step": [80.0, 0.821]},
    "nfe": {"1step": 1, "2step": 2},
}


class Exported:
    """A run whose last checkpoint is at step 2, exported.

    Args:
      config: of the run.
      root: the run folder.
      make: `(experiment, folder)`, makes the checkpoint.
    """

    def __init__(self, config, root, make):
        self.experiment = experiment.read(config)
        self.sampler = self.experiment.samplers[-1]
        self.folder = RunFolder(root)
        make(self.experiment, self.folder)
        self.folder.result.write_text(json.dumps(SCORE))
        export.main(self.experiment, self.folder)
        self.path = root / "export"
        self.card = json.loads((self.path / "card.json").read_text())
        self.prepared = open_model(self.experiment)
        state = trained_state(self.prepared, self.folder)
        self.params = jax.tree.map(np.asarray, state.ema)

    def denoiser(self, params, labels):
        return self.experiment.objective.denoiser(
            lambda x, c: self.prepared.apply(params["network"], x, c, labels)
        )

    def generated(self):
        """The images of seed 0 as the run draws them, before they become bytes."""
        generator = Generator(
            self.denoiser,
            self.prepared.images.image_shape,
            self.prepared.class_counts,
            COUNT,
            Devices(count=1),
            dtype=np.float32,
        )
        return generator(self.params, COUNT, 0, self.sampler)

    def compiled(self):
        """The same images from the function that is exported, compiled here."""
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(COUNT))
        given = {
            "noise": image_noise(keys, self.prepared.images.image_shape, 0),
            "keys": jax.random.key_data(keys),
            "labels": jnp.arange(COUNT) % 10,
        }
        program = sampling_program(
            self.sampler,
            lambda labels: self.denoiser(self.params, labels),
            self.prepared.network.num_classes,
        )
        names = [a["name"] for a in self.card["samplers"][-1]["arguments"]]
        return jax.jit(program)(*[given[name] for name in names])

    def run(self, script, tmp_path):
        """The images of a script of the page, run by a fresh process on this export."""
        shown = '"runs/digits_poly/export"'
        assert shown in script
        target = tmp_path / "images.npy"
        script = script.replace(shown, repr(str(self.path)))
        script += f"\nimport numpy\nnumpy.save({str(target)!r}, images)\n"
        subprocess.run(
            [sys.executable, "-W", "error", "-c", script],
            check=True,
            cwd=tmp_path,
            env=command_line.environment(),
        )
        return np.load(target)


def save_random_checkpoint(experiment, folder):
    """A checkpoint as training writes it, at the cost of no compilation."""
    prepared, rng = open_model(experiment), np.random.default_rng(0)

    def fill(leaf):
        return (0.1 * rng.standard_normal(leaf.shape)).astype(leaf.dtype)

    state = jax.tree.map(fill, prepared.abstract_state).replace(step=np.array(2, np.int32))
    folder.claim(experiment.config)
    checkpoints = Checkpoints(folder.checkpoints)
    meta = {"config": experiment.config, "data": prepared.images.fingerprint, "images_seen": 32}
    checkpoints.save(state, meta)
    checkpoints.close()


@pytest.fixture(scope="module")
def consistency(tmp_path_factory):
    """Class-conditional, with a one-step and a two-step sampler."""
    config = tiny.digits_config(**SETTINGS)
    return Exported(config, tmp_path_factory.mktemp("consistency"), train.main)


@pytest.fixture(scope="module")
def denoising(tmp_path_factory):
    """Unconditional, with Heun's method."""
    from configs import digits_cosine

    settings = {**SETTINGS, "sample.method.steps": 4}
    config = tiny.shrunk(digits_cosine.get_config(), **settings)
    config["model"] = {**config["model"], "class_conditional": False}
    return Exported(config, tmp_path_factory.mktemp("denoising"), save_random_checkpoint)


@pytest.fixture(scope="module")
def mean_flow(tmp_path_factory):
    """Of a network that is told two numbers of the noise."""
    from configs import digits_meanflow

    config = tiny.shrunk(digits_meanflow.get_config(), **SETTINGS)
    return Exported(config, tmp_path_factory.mktemp("mean_flow"), save_random_checkpoint)


def assert_same_but_for_rounding(images, expected):
    np.testing.assert_allclose(images, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_programs_give_the_run_s_images_without_jaxnoise(consistency, denoising, tmp_path):
    for run in (consistency, denoising):
        images = run.run(WITHOUT_JAXNOISE + PROGRAM, tmp_path)
        np.testing.assert_array_equal(images, run.compiled())
        assert_same_but_for_rounding(images, run.generated())


def test_weights_give_the_run_s_images_with_the_network_s_class(
    consistency, denoising, mean_flow, tmp_path
):
    noise = np.random.default_rng(0).standard_normal((COUNT, 8, 8, 1), np.float32)
    scripts = (consistency, WEIGHTS), (denoising, WEIGHTS + HEUN), (mean_flow, WEIGHTS)
    for run, script in scripts:
        labels = jnp.arange(COUNT) % 10 if run.prepared.conditional else None
        draw, denoiser = run.experiment.samplers[0].draw, run.denoiser(run.params, labels)
        expected = jax.jit(draw, static_argnums=0)(denoiser, noise, None)
        assert_same_but_for_rounding(run.run(script, tmp_path), expected)


def test_the_weights_are_the_moving_average(consistency):
    held = load_weights((consistency.path / "weights.safetensors").read_bytes())["network"]
    jax.tree.map(np.testing.assert_array_equal, held, consistency.params["network"])
    assert consistency.card["weights"] == {"file": "weights.safetensors", "kind": "ema"}


def test_the_card_says_what_was_exported(consistency, denoising):
    card = consistency.card
    assert card["files"].keys() == {"1step.stablehlo", "2step.stablehlo", "weights.safetensors"}
    for name, digest in card["files"].items():
        assert hashlib.sha256((consistency.path / name).read_bytes()).hexdigest() == digest
    assert [(s["name"], s["nfe"]) for s in card["samplers"]] == [("1step", 1), ("2step", 2)]
    assert card["samplers"][0]["calling_convention_version"] >= 10
    sigmas = [[at["sigma"] for at in s["evaluations"]] for s in card["samplers"]]
    np.testing.assert_allclose(sigmas[1], [80, 0.821], rtol=1e-6)
    assert (card["image_shape"], card["num_classes"]) == ([8, 8, 1], 10)
    assert (card["images_seen"], card["score"]["frechet_1step"]) == (32, 1.5)
    assert card["objective"]["sigma_max"] == 80
    assert denoising.card["files"].keys() == {"heun4.stablehlo", "weights.safetensors"}
    assert [a["name"] for a in denoising.card["samplers"][0]["arguments"]] == ["noise"]
    assert len(denoising.card["samplers"][0]["evaluations"]) == 7


def test_the_same_checkpoint_gives_the_same_bytes_and_no_path(denoising):
    before = {path.name: path.read_bytes() for path in denoising.path.iterdir()}
    export.main(denoising.experiment, denoising.folder)
    assert {path.name: path.read_bytes() for path in denoising.path.iterdir()} == before
    for data in before.values():
        assert b".py" not in data
        assert str(command_line.ROOT).encode() not in data


def test_a_score_is_of_the_weights_and_samplers_that_are_exported(consistency):
    def kept(**changes):
        consistency.folder.result.write_text(json.dumps(SCORE | changes), encoding="utf-8")
        return export._score(consistency.prepared, consistency.folder, 32, "ema")

    assert kept() == SCORE == consistency.card["score"]
    for changes in ({"images_seen": 16}, {"weights": "raw"}, {"guidance": 3.0}):
        assert kept(**changes) is None
    levels = {"1step": [80.0], "2step": [80.0, 0.5]}
    other = kept(levels=levels, distance="Fréchet")
    assert other["frechet_1step"] == 1.5
    assert (other["levels"], other["nfe"]) == ({"1step": [80.0]}, {"1step": 1})
    assert not {"frechet_2step", "untrained_frechet_2step"} & other.keys()
    assert kept(levels={"heun18": [80.0, 0.0]}, nfe={"heun18": 35}) is None
    consistency.folder.result.write_text(json.dumps(SCORE))


@pytest.mark.parametrize("text", ['{"images_seen"', '{"x": 1}', "[]", '{"images_seen": 32}'])
def test_what_is_damaged_is_told_before_programs_are_built(denoising, monkeypatch, text):
    monkeypatch.setattr(export, "export_sampler", None)
    kept = denoising.folder.result.read_text()
    denoising.folder.result.write_text(text)
    with pytest.raises(ConfigError, match=r"result.json is damaged"):
        export.main(denoising.experiment, denoising.folder)
    denoising.folder.result.write_text(kept)


def test_a_file_in_the_place_of_the_folder_is_told_before_programs_are_built(
    denoising, monkeypatch
):
    monkeypatch.setattr(export, "export_sampler", None)
    aside = denoising.path.rename(denoising.path.with_name("aside"))
    denoising.path.write_text("")
    with pytest.raises(ConfigError, match="export is a file, where a folder is written"):
        export.main(denoising.experiment, denoising.folder)
    denoising.path.unlink()
    aside.rename(denoising.path)


def test_the_range_of_a_cauchy_law_is_a_number():
    """It is wider than a double can hold as sigma."""
    from configs import digits_laplace

    config = tiny.shrunk(digits_laplace.get_config(), law={"name": "cauchy"})
    found = export._sigma_range(experiment.read(config))
    assert 0 <= found["sigma_min"] < found["sigma_max"] < float("inf")


def test_export_before_training(tmp_path):
    with pytest.raises(ConfigError, match="holds no checkpoint; train first"):
        export.main(experiment.read(tiny.digits_config()), RunFolder(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["flatbuffers", "safetensors"])
def test_export_asks_for_its_extra(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as error:
        export.main(experiment.read(tiny.digits_config()), RunFolder(tmp_path))
    assert str(error.value) == f"--mode=export: needs {package}: pip install -e '.[export]'"
