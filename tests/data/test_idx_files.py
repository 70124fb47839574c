"""Fashion-MNIST from IDX files as Debian's package installs them; small ones stand for them."""

import gzip
import struct

import numpy as np
import pytest

from jaxnoise import experiment
from jaxnoise.data import archives, idx_files, open_images
from jaxnoise.errors import ArgumentError, ConfigError

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8), np.arange(12, dtype=np.uint8) % 10
TEST = RNG.integers(0, 256, (5, 28, 28), dtype=np.uint8), np.array([9, 8, 7, 6, 5], np.uint8)


def idx(array):
    sizes = struct.pack(f">{array.ndim}i", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture(params=[True, False], ids=["gzipped", "plain"])
def folder(request, tmp_path):
    for prefix, (images, labels) in (("train", TRAIN), ("t10k", TEST)):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = tmp_path / f"{prefix}-{kind}-ubyte{'.gz' if request.param else ''}"
            path.write_bytes(gzip.compress(idx(array)) if request.param else idx(array))
    return tmp_path


def test_splits_are_what_the_files_hold(folder):
    for split, parts in (("train", [TRAIN]), ("test", [TEST]), ("train+test", [TRAIN, TEST])):
        found = open_images("fashion_mnist", split=split, data_dir=folder)
        pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        images, classes = found.load(np.arange(found.num_examples))
        np.testing.assert_array_equal(images[..., 0], pixels)
        np.testing.assert_array_equal(classes, labels)
        assert (found.image_shape, found.num_classes) == ((28, 28, 1), 10)
        assert found.class_names[9] == "Ankle boot"


def test_they_are_found_where_debian_installs_them(folder, monkeypatch):
    monkeypatch.setattr(idx_files, "SYSTEM_FOLDER", folder)
    found = open_images("fashion_mnist")
    assert found.num_examples == 12
    assert found.fingerprint == open_images("fashion_mnist", data_dir=folder).fingerprint
    assert found.fingerprint != open_images("fashion_mnist", split="test").fingerprint


def test_without_files_the_message_says_where_to_get_them(monkeypatch, tmp_path):
    nowhere = archives.Archive("http://127.0.0.1:9/archive", "train-images-idx3-ubyte.gz", "0" * 64)
    monkeypatch.setattr(archives, "expected_archives", lambda name: [nowhere])
    with pytest.raises(ConfigError, match="dataset-fashion-mnist") as caught:
        open_images("fashion_mnist", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("folder", [False], indirect=True)
@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("train-images-idx3-ubyte", lambda data: data[:-3], "holds 9405 numbers"),
        ("train-images-idx3-ubyte", lambda data: b"\0" * 20, "is no IDX file"),
        ("train-labels-idx1-ubyte", lambda data: idx(TEST[1]), "12 images and 5 labels"),
        ("train-labels-idx1-ubyte", lambda data: idx(TRAIN[1] + 1), "is not Fashion-MNIST"),
        ("train-labels-idx1-ubyte", None, "is missing, with and without"),
    ],
)
def test_damaged_files_are_named(folder, name, change, said):
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(change(data))
    with pytest.raises(ConfigError, match=said):
        open_images("fashion_mnist", data_dir=folder)


def test_damaged_gzip_is_named(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(TRAIN[0]))[:-20])
    with pytest.raises(ConfigError, match=f"{path.name}: cannot be read"):
        open_images("fashion_mnist", data_dir=tmp_path)


def test_another_split_is_refused(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").touch()
    with pytest.raises(ArgumentError, match="split='validation': must be one of train, test"):
        open_images("fashion_mnist", data_dir=tmp_path, split="validation")


def test_a_config_trains_on_them_at_half_the_size(folder):
    from configs import digits_poly

    config = digits_poly.get_config().to_dict()
    config["data"] = {"dataset": "fashion_mnist", "data_dir": str(folder), "size": 14}
    images = experiment.read(config).data.open()
    assert (images.image_shape, images.name) == ((14, 14, 1), "fashion_mnist at 14x14")
    config["data"]["size"] = 29
    with pytest.raises(ConfigError, match=r"config\.data\.size=29: must be an integer from 1"):
        experiment.read(config).data.open()
