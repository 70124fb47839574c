"""Inception's weights: found, verified, fetched and converted."""

import hashlib
import os

import jax
import numpy as np
import pytest
from reference import make_inception_features as reference
from torch_archive import saved

from jaxnoise.errors import ConfigError
from jaxnoise.evaluation import inception_weights
from jaxnoise.evaluation.inception_weights import (
    WEIGHTS_FILE,
    convert_torch_state_dict,
    load_inception,
    weights_path,
)

ZIP = reference.FOLDER / "torch_zip.pth"


def one_line(caught):
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture(scope="module")
def tensors():
    with np.load(reference.FOLDER / "inception_features.npz") as stored:
        shapes = [tuple(int(n) for n in shape.split("x") if n) for shape in stored["shapes"]]
        return reference.state_dict(dict(zip(stored["names"], shapes, strict=True)))


@pytest.fixture(scope="module")
def params(tensors):
    return convert_torch_state_dict(tensors)


@pytest.mark.takes_a_second
def test_batch_norm_is_folded_into_the_convolution(tensors, params):
    layer = params["Mixed_6b"]["branch7x7_2"]
    rng = np.random.RandomState(0)
    x = rng.standard_normal((7, 128))  # one window: width, input channel
    name = "Mixed_6b.branch7x7_2."
    weight = tensors[name + "conv.weight"].astype(np.float64)
    y = np.einsum("wi,oiw->o", x, weight[:, :, 0, :])
    y = (y - tensors[name + "bn.running_mean"]) / np.sqrt(tensors[name + "bn.running_var"] + 1e-3)
    y = y * tensors[name + "bn.weight"] + tensors[name + "bn.bias"]
    assert layer["kernel"].shape == (1, 7, 128, 128)
    found = np.einsum("wi,wio->o", x, layer["kernel"][0]) + layer["bias"]
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5)


@pytest.mark.takes_a_second
def test_every_parameter_of_the_network_is_made(tensors, params):
    leaves = jax.tree.leaves(params)
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
    weights = sum(v.size for k, v in tensors.items() if k.endswith(("conv.weight", "fc.weight")))
    biases = sum(v.size for k, v in tensors.items() if k.endswith("bn.bias"))
    assert sum(leaf.size for leaf in leaves) == weights + biases
    assert len(leaves) == 2 * 94 + 1


def changed(tensors, **replaced):
    return {**tensors, **{k.replace("__", "."): v for k, v in replaced.items()}}


@pytest.mark.takes_a_second
def test_names_that_are_known_and_not_needed(tensors, params):
    known = changed(
        tensors, AuxLogits__fc__weight=np.ones(3), Mixed_9__bn__num_batches_tracked=np.array(1)
    )
    found = convert_torch_state_dict(known)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, params))
    fewer = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    assert len(fewer) == 94 * 5 + 2
    assert jax.tree.all(jax.tree.map(np.array_equal, convert_torch_state_dict(fewer), params))


@pytest.mark.takes_a_second
def test_every_name_shape_and_value_is_checked(tensors):
    bad = np.full(320, np.nan, np.float32)
    cases = [
        (changed(tensors, extra=np.ones(1)), r"no 'extra' \(1 unknown names\)"),
        (changed(tensors, Mixed_7b__branch1x1__bn__mean=np.ones(320)), "branch1x1.bn.mean"),
        (changed(tensors, fc__bias=np.ones(1000)), r"fc.bias has shape \(1000,\) and .*1008"),
        (changed(tensors, Mixed_7c__branch1x1__bn__weight=bad), "value that is not possible"),
        (changed(tensors, Mixed_7c__branch1x1__bn__running_var=-np.ones(320)), "not possible"),
    ]
    for name in ("fc.bias", "fc.weight", "Mixed_7c.branch_pool.bn.running_var"):
        cases.append(({k: v for k, v in tensors.items() if k != name}, f"lack {name}"))
    swapped = tensors["Mixed_6b.branch7x7_2.conv.weight"].swapaxes(2, 3)
    cases.append((changed(tensors, Mixed_6b__branch7x7_2__conv__weight=swapped), "should be"))
    for case, message in cases:
        with pytest.raises(ConfigError, match=message) as caught:
            convert_torch_state_dict(case)
        one_line(caught)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    folder = tmp_path / "cache"
    monkeypatch.setenv("JAXNOISE_CACHE", str(folder))
    return folder


def expect(monkeypatch, content):
    monkeypatch.setattr(inception_weights, "SHA256_PREFIX", hashlib.sha256(content).hexdigest()[:8])


@pytest.mark.takes_a_second
def test_weights_are_loaded_from_the_cache(monkeypatch, cache, tensors, params):
    content = saved(tensors)
    expect(monkeypatch, content)
    cache.mkdir()
    (cache / WEIGHTS_FILE).write_bytes(content)
    found = load_inception()
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert jax.tree.all(jax.tree.map(np.array_equal, found.params, params))


@pytest.mark.takes_a_second
def test_a_state_dict_of_another_network_is_refused(monkeypatch):
    expect(monkeypatch, ZIP.read_bytes())
    with pytest.raises(ConfigError, match=r"Inception's weights lack \w+") as caught:
        load_inception(ZIP)
    one_line(caught)


def test_missing_weights_say_where_to_put_them(cache):
    with pytest.raises(ConfigError) as caught:
        weights_path()
    message = one_line(caught)
    for part in (str(cache), WEIGHTS_FILE, inception_weights.WEIGHTS_URL, "'raw_pixels'"):
        assert part in message


def test_the_default_cache_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("JAXNOISE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=rf"no {tmp_path}/\.cache/jaxnoise/pt_inc"):
        load_inception()


def test_the_digest_is_checked(cache):
    with pytest.raises(ConfigError, match=r"torch_zip.pth is not pt_.* begin with 6726825d"):
        weights_path(ZIP)
    cache.mkdir()
    (cache / WEIGHTS_FILE).write_bytes(b"half a file")
    for use in (weights_path, load_inception):
        with pytest.raises(ConfigError, match="its sha256 is") as caught:
            use(fetch=True)
        one_line(caught)


def test_weights_are_fetched_once(monkeypatch, cache, tmp_path, capsys):
    served = tmp_path / "served.pth"
    served.write_bytes(ZIP.read_bytes())
    expect(monkeypatch, served.read_bytes())
    monkeypatch.setattr(inception_weights, "WEIGHTS_URL", served.as_uri())
    assert weights_path(fetch=True) == cache / WEIGHTS_FILE
    assert f"downloading {served.as_uri()}" in capsys.readouterr().err
    served.unlink()
    assert weights_path(fetch=True).read_bytes() == ZIP.read_bytes()
    assert weights_path() == cache / WEIGHTS_FILE
    assert os.listdir(cache) == [WEIGHTS_FILE]


def test_a_failed_fetch_leaves_nothing(monkeypatch, cache, tmp_path):
    monkeypatch.setattr(inception_weights, "WEIGHTS_URL", (tmp_path / "none").as_uri())
    with pytest.raises(ConfigError, match=r"cannot be fetched \(.*: put pt_inc") as caught:
        weights_path(fetch=True)
    one_line(caught)
    monkeypatch.setattr(inception_weights, "WEIGHTS_URL", ZIP.as_uri())
    with pytest.raises(ConfigError, match="should begin with 6726825d") as caught:
        weights_path(fetch=True)
    one_line(caught)
    assert os.listdir(cache) == []
    cache.rmdir()
    cache.write_text("a file where the folder should be")
    with pytest.raises(ConfigError, match="cannot be fetched") as caught:
        load_inception(fetch=True)
    one_line(caught)
