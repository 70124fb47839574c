"""A rater's file: what goes in comes out, and anything else is one error."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxnoise.errors import ArgumentError
from jaxnoise.models.rater import RATERS, inputs_of
from jaxnoise.models.rater_file import CARD, load_rater, save_rater

SHAPE = (8, 8, 1)
FIELDS = {
    "conv": {"width": 8, "depth": 1, "dtype": jnp.dtype("float32")},
    "level": {"width": 6, "dtype": jnp.dtype("bfloat16")},
    "feature": {"width": 4, "bands": 2, "dtype": jnp.dtype("float32")},
    "noisy": {"width": 4, "depth": 1, "num_classes": 3, "dtype": jnp.dtype("float32")},
    "law": {"mu": 3.0, "b": 0.5, "dtype": jnp.dtype("float32")},
}
FACTS = {"image_shape": SHAPE, "step": 7, "config": {"rater": {"name": "any"}, "tuple": (1, 2)}}


def made(name, **other):
    """A rater of random parameters, its head too."""
    network = RATERS[name](**FIELDS[name] | other)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs_of(network, SHAPE))
    generator = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: generator.normal(size=x.shape).astype(np.float32) / 4, dict(shapes)
    )
    return network, params


@pytest.fixture
def file(tmp_path):
    network, params = made("feature")
    path = tmp_path / "rater.npz"
    save_rater(path, network, params, **FACTS)
    return path


def arrays_of(path):
    with np.load(path) as held:
        return {name: held[name] for name in held.files}


def refused(path):
    with pytest.raises(ArgumentError) as caught:
        load_rater(path)
    assert caught.value.argument == "file"
    assert str(caught.value).startswith(f"file={str(path)!r}: must be a rater's file")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", RATERS)
def test_round_trip(name, tmp_path):
    network, params = made(name)
    save_rater(tmp_path / "rater.npz", network, params, **FACTS)
    saved = load_rater(str(tmp_path / "rater.npz"))
    assert saved.network == network
    before, after = flatten_dict(params), flatten_dict(saved.params)
    assert before.keys() == after.keys()
    for key, array in before.items():
        assert after[key].dtype == np.float32
        np.testing.assert_array_equal(after[key], array)
    fields = {**FIELDS[name], "name": name, "dtype": FIELDS[name]["dtype"].name}
    known = {**json.loads(json.dumps(FACTS)), "network": fields, "sees": saved.sees}
    assert saved.card == known
    keys = jax.random.split(jax.random.key(1))
    x0, eps = (jax.random.normal(key, (3, *SHAPE)) for key in keys)
    lam = jnp.asarray([-3.0, 0.0, 3.0])

    @jax.jit
    def rate(params):
        seen = {
            "draw of noise": (x0, eps, lam),
            "noisy image": (eps, lam, jnp.arange(3)),
            "density of the level": (lam, 0 * lam),
        }
        return saved._replace(params=params).rate(*seen[saved.card["sees"]])

    scores = np.asarray(rate(saved.params))
    np.testing.assert_array_equal(scores, rate(params))
    assert scores.shape == (3,)
    assert len(np.unique(scores)) == 3
    if saved.sees != "density of the level":
        with pytest.raises(ArgumentError, match=r"^seen=\(16, 16, 1\): must be images of shape"):
            saved.rate(jnp.ones((3, 16, 16, 1)), lam, None)


def with_card(path, **facts):
    """The file with other facts on its card; None takes one away."""
    arrays = arrays_of(path)
    card = json.loads(str(arrays.pop(CARD))) | facts
    card = {name: value for name, value in card.items() if value is not None}
    np.savez(path, **{CARD: np.array(json.dumps(card))}, **arrays)


def test_a_file_says_what_its_rater_sees(file, tmp_path):
    # One of before, which did not say it.
    with_card(file, sees=None)
    assert load_rater(file).card["sees"] == load_rater(file).sees == "draw of noise"
    with_card(file, sees="noisy image")
    assert "does not see 'noisy image'" in refused(file)
    network, params = made("noisy")
    save_rater(tmp_path / "noisy.npz", network, params, **FACTS)
    with_card(tmp_path / "noisy.npz", sees=None)
    assert "does not see 'draw of noise'" in refused(tmp_path / "noisy.npz")


def test_the_same_rater_is_the_same_file(tmp_path):
    network, params = made("conv")
    backwards = {"params": dict(reversed(params["params"].items()))}
    paths = [tmp_path / name for name in ("one.npz", "two.npz", "three.npz")]
    save_rater(paths[0], network, params, image_shape=SHAPE, step=1)
    save_rater(paths[1], network, jax.tree.map(jnp.asarray, backwards), step=1, image_shape=SHAPE)
    save_rater(paths[2], network, params, image_shape=SHAPE, step=2)
    first, same, other = (path.read_bytes() for path in paths)
    assert first == same != other
    digests = [load_rater(path).sha256 for path in paths]
    assert digests[0] == digests[1] != digests[2]
    assert len(digests[0]) == 64


def test_no_part_of_a_file_is_left(file, monkeypatch):
    assert [path.name for path in file.parent.iterdir()] == ["rater.npz"]
    kept = file.read_bytes()

    def full(target, **arrays):
        del arrays
        target.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    for path in (file, file.with_name("other.npz")):
        with pytest.raises(OSError, match="No space left"):
            save_rater(path, *made("level"), **FACTS)
    assert file.read_bytes() == kept
    assert not file.with_name("other.npz").exists()


def test_only_raters_are_saved(tmp_path):
    with pytest.raises(ArgumentError, match=r"network='Dense': must be one of conv, level, feat"):
        save_rater(tmp_path / "rater.npz", nn.Dense(1), {}, image_shape=SHAPE)
    assert not list(tmp_path.iterdir())


def test_no_file(tmp_path):
    assert "No such file" in refused(tmp_path / "none.npz")
    assert "s a directory" in refused(tmp_path)


def test_damaged_files(file):
    whole = file.read_bytes()
    for length in (0, 1, 4, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        refused(file)
    # A bit of an array: only the checksum tells.
    place = whole.index(arrays_of_bytes(whole)) + 5
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    refused(file)
    file.write_bytes(b"step,loss\n1,2\n")
    refused(file)
    file.write_bytes(whole)
    load_rater(file)


def arrays_of_bytes(whole):
    """Bytes of some array as they lie in a file."""
    _, params = made("feature")
    kernel = params["params"]["hidden_0"]["kernel"].tobytes()
    assert whole.count(kernel) == 1
    return kernel


def test_arrays_of_something_else(file):
    good = arrays_of(file)
    card = json.loads(str(good[CARD]))

    def refuse(arrays, said):
        np.savez(file, **arrays)
        assert said in refused(file)

    def with_card(**changed):
        return {**good, CARD: np.array(json.dumps({**card, **changed}))}

    np.save(file.with_suffix(".npy"), np.ones(3))
    refused(file.with_suffix(".npy"))
    refuse({"images": np.ones(3)}, CARD)
    refuse({CARD: np.array("no json")}, "Expecting value")
    refuse({CARD: np.array("[1]")}, "")
    refuse({CARD: good[CARD]}, "arrays are not those of its network")
    missing = dict(good)
    del missing["params/head/kernel"]
    refuse(missing, "arrays are not those of its network")
    refuse({**good, "params/other": np.ones(1)}, "arrays are not those of its network")
    refuse({**good, "params": np.ones(1)}, "")
    kernel = good["params/head/kernel"]
    refuse({**good, "params/head/kernel": kernel * np.nan}, "arrays are not finite")
    for fields in ({"width": 6}, {"bands": 1}):
        network = {**card["network"], **fields}
        refuse(with_card(network=network), "arrays are not those of its network")
    refuse(with_card(network={**card["network"], "name": "convolutional"}), "convolutional")
    refuse(with_card(network={**card["network"], "width": -1}), "width=-1")
    refuse(with_card(network={**card["network"], "depth": 1}), "depth")
    refuse(with_card(network={**card["network"], "dtype": "int7"}), "int7")
    refuse(with_card(image_shape=[8, 8]), "")
    refuse(with_card(image_shape=None), "")
    del card["image_shape"]
    refuse(with_card(), "")


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


@pytest.mark.parametrize("name", [CARD, "params/head/kernel"])
def test_pickles_are_not_opened(name, file, tmp_path):
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(sprung)], dtype=object)
    np.savez(file, **{**arrays_of(file), name: trap})
    assert "allow_pickle=False" in refused(file)
    assert not sprung.exists()
    np.load(file, allow_pickle=True)[name]
    assert sprung.exists()
