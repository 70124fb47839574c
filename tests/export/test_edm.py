"""EDM's networks are read from the files that EDM writes, and nothing in those is run."""

import math
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_archive
from reference import make_edm_network as reference

from jaxnoise.errors import ConfigError
from jaxnoise.evaluation.torch_modules import read_pickled_module
from jaxnoise.export.edm import load_edm
from jaxnoise.models import UNet

FILE = reference.FOLDER / "edm_network.pkl"
SETTINGS = {"img_resolution": 8, "img_channels": 3, "label_dim": 0}


@pytest.fixture(scope="module")
def network():
    """The U-Net of the reference's size."""
    small = reference.SMALL
    return UNet(
        model_channels=small["channels"],
        channel_mult=small["mult"],
        num_blocks=small["blocks"],
        attn_resolutions=small["attention"],
        num_classes=small["classes"],
        augment_labels=9,
    )


@pytest.mark.takes_a_second
def test_outputs_are_those_of_pytorch(network):
    found, outputs = load_edm(FILE), np.load(reference.FOLDER / "edm_outputs.npz")
    given = [jnp.asarray(outputs[k]) for k in ("x", "c_noise")]
    labels = jnp.asarray(outputs["labels"], jnp.int32)
    variables = found.variables
    wanted = jax.eval_shape(network.init, jax.random.key(0), *given, labels)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, wanted)
    apply = jax.jit(network.apply)
    for name, augmentation in (("output", 0), ("augmented", 1)):
        told = augmentation * jnp.asarray(outputs["augmentation"])
        output = apply(variables, *given, labels, None, told)
        assert np.abs(outputs[name]).max() > 1
        np.testing.assert_allclose(output, outputs[name], atol=1e-5)
    assert np.abs(outputs["output"] - outputs["augmented"]).max() > 0.1
    assert (found.image_shape, found.num_classes) == ((8, 8, 3), 3)
    fields = {"embedding": "positional", "skip_scale": math.sqrt(0.5), "resample_filter": (1, 1)}
    assert found.fields == fields


def test_all_that_pytorch_pickled_is_there():
    found = read_pickled_module(FILE, "ema")
    assert found.kind == "EDMPrecond"
    assert (found.settings["img_resolution"], found.settings["sigma_data"]) == (8, 0.5)
    assert len(found.tensors) == 149
    assert found.tensors["model.dec.4x4_in0.qkv.weight"].shape == (24, 8, 1, 1)


class Program:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def written(tmp_path, content):
    path = tmp_path / "network.pkl"
    path.write_bytes(content)
    return path


def refused(path, message, read=load_edm):
    with pytest.raises(ConfigError, match=message) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


def test_a_pickle_that_would_run_a_program_is_refused(tmp_path):
    mark = tmp_path / "it_ran"
    for held in ({"ema": Program(mark)}, {"other": [Program(mark)], "ema": 1}):
        refused(written(tmp_path, pickle.dumps(held, 4)), r"asks for \w+\.mkdir")
    inner = pickle.dumps(Program(mark), 2)
    for content in (inner, b"".join(pickle.dumps(x, 2) for x in (1, 2)) + inner):
        storage = torch_archive._call(
            "torch.storage", "_load_from_bytes", pickle.dumps(content, 3)[2:-1]
        )
        refused(written(tmp_path, b"\x80\x03" + storage + b"."), "cannot be read as a pickled")
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", ["builtins\neval", "builtins\ngetattr", "torch\nload", "torch.nn.modules\nModule"]
)
def test_no_other_name_is_known(name, tmp_path):
    refused(written(tmp_path, f"c{name}\n.".encode()), "asks for")


def test_what_the_reader_hands_out_cannot_be_changed_by_a_pickle(tmp_path):
    for name in ("torch_utils.persistence\n_reconstruct_persistent_obj", "numpy\ndtype"):
        changes = f"c{name}\n".encode() + torch_archive.push((None, {"__call__": 1})) + b"b."
        refused(written(tmp_path, b"\x80\x02" + changes), "cannot be read")
    load_edm(FILE)


def test_damaged_files_are_refused(tmp_path):
    whole = FILE.read_bytes()
    for content in (b"", b"weights", whole[:-1], whole[: len(whole) // 2], pickle.dumps({})):
        refused(written(tmp_path, content), "cannot be read as a pickled network")
    refused(tmp_path / "none.pkl", "No such file")


WEIGHT = {"model.map_layer0.weight": np.ones((2, 2), np.float32)}


@pytest.mark.parametrize(
    "kind, settings, tensors, message",
    [
        ("VPPrecond", SETTINGS, WEIGHT, "holds a VPPrecond; only EDMPrecond"),
        (
            "EDMPrecond",
            SETTINGS,
            WEIGHT | {"model.map_noise.freqs": np.ones(4, np.float32)},
            "an NCSN.., whose Fourier frequencies",
        ),
        ("EDMPrecond", SETTINGS, WEIGHT | {"model.out_norm.weight": np.ones(4, np.float32)},
         r"no place for model.out_norm.weight \(1 in all\)"),
        ("EDMPrecond", SETTINGS, WEIGHT | {"model.dec.4x4_aux_norm.weight": np.ones(4, np.float32)},
         r"no place for model.dec.4x4_aux_norm.weight \(1 in all\)"),
        ("EDMPrecond", {}, WEIGHT, "does not say of what images"),
        ("EDMPrecond", SETTINGS | {"sigma_data": 1.0}, WEIGHT, "is of sigma_data 1.0; only"),
    ],
)  # fmt: skip
def test_other_networks_are_refused(kind, settings, tensors, message, tmp_path):
    content = torch_archive.pickled_module(kind, settings, tensors)
    refused(written(tmp_path, content), message)


def test_the_bias_of_the_labels_map_is_folded_into_the_next(tmp_path):
    rng = np.random.RandomState(0)
    drawn = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in {
            "model.map_label.weight": (4, 3),
            "model.map_label.bias": (4,),
            "model.map_layer0.weight": (5, 4),
            "model.map_layer0.bias": (5,),
        }.items()
    }
    content = torch_archive.pickled_module("EDMPrecond", SETTINGS, drawn)
    params = load_edm(written(tmp_path, content)).variables["params"]
    assert set(params["label"]) == {"kernel"}
    w, b, a, c = drawn.values()
    label = rng.standard_normal(3)
    behind = (label @ params["label"]["kernel"]) @ params["embedding_0"]["kernel"]
    np.testing.assert_allclose(
        behind + params["embedding_0"]["bias"], a @ (w @ label + b) + c, rtol=1e-5
    )
