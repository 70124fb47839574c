"""Prepared tensorflow-datasets folders, read without TensorFlow."""

import dataclasses
import io
import shutil
from pathlib import Path

import jpeg_cifar
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxnoise.data import open_images
from jaxnoise.data.tfds_images import open_tfds, prepared_folder, resolve_data_dir
from jaxnoise.errors import ArgumentError, ConfigError

ANY_SIZE = tfds.features.Image(shape=(None, None, 3))
LABEL = tfds.features.ClassLabel(num_classes=3)


def one_line(caught):
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def encoded(pixels, file_format="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    return file.getvalue()


def pixels(count, *shape):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def examples(images, labels):
    return [
        {"image": encoded(image), "label": int(label)}
        for image, label in zip(images, labels, strict=True)
    ]


def write(data_dir, name, features, splits, *args, version="1.0.0"):
    return jpeg_cifar.write(data_dir, name, version, features, splits, *args)


@pytest.fixture(scope="module")
def jpeg(tmp_path_factory):
    """A folder named cifar10 that somebody prepared otherwise: its images are JPEGs."""
    data_dir = tmp_path_factory.mktemp("jpeg")
    jpeg_cifar.prepare(jpeg_cifar.find_archive(), data_dir, num_train=300, num_test=40)
    return data_dir


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Nine grey 6x5 images in a folder named small."""
    data_dir = tmp_path_factory.mktemp("small")
    features = {"image": tfds.features.Image(shape=(6, 5, 1)), "label": LABEL}
    stored = pixels(9, 6, 5)
    write(data_dir, "small", features, {"train": examples(stored, np.arange(9) % 3)})
    return data_dir, stored


@pytest.mark.takes_a_second
def test_a_folder_of_jpegs_named_cifar10_is_opened_as_it_is(jpeg):
    images = open_images("cifar10", data_dir=jpeg)
    assert (images.num_examples, images.image_shape, images.num_classes) == (300, (32, 32, 3), 10)
    got, labels = images.load(np.arange(300))
    assert (got.dtype, labels.dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(labels, np.arange(300) % 10)
    source = tfds.data_source(
        "cifar10", data_dir=jpeg, split="train", builder_kwargs={"file_format": "array_record"}
    )
    np.testing.assert_array_equal(got, [source[i]["image"] for i in range(300)])
    assert open_images("cifar10", split="test", data_dir=jpeg).num_examples == 40


def test_made_up_jpegs_need_no_archive(tmp_path):
    jpeg_cifar.prepare(None, tmp_path, num_train=20, num_test=10)
    images, labels = open_images("cifar10", data_dir=tmp_path).load(np.arange(20))
    np.testing.assert_array_equal(labels, np.arange(20) % 10)
    assert images.std() > 10


def test_pixels_labels_and_slices_survive_the_round_trip(small):
    data_dir, stored = small
    images = open_tfds("small", data_dir=data_dir)
    got, labels = images.load(np.array([8, 1]))
    np.testing.assert_array_equal(got, stored[[8, 1], ..., None])
    np.testing.assert_array_equal(labels, [2, 1])
    tail = open_tfds("small", "train[4:]", data_dir)
    np.testing.assert_array_equal(tail.load(np.arange(5))[0], stored[4:, ..., None])
    assert tail.fingerprint != images.fingerprint
    assert open_tfds("small", "train[:5]", data_dir).fingerprint != tail.fingerprint
    np.testing.assert_array_equal(tail.class_counts, [1, 2, 2])
    assert images.class_names == tuple(LABEL.names)
    assert open_tfds("small:1.0.0", "train", data_dir).fingerprint == images.fingerprint


def test_names_with_versions_and_configs_find_their_folder(small, tmp_path):
    folder = prepared_folder("small", small[0])
    for version in ("1.9.0", "1.10.0"):
        shutil.copytree(folder, tmp_path / "small" / version)
    (tmp_path / "small" / "2.0.0").mkdir()  # cut short: no description files
    assert prepared_folder("small", tmp_path).name == "1.10.0"
    assert prepared_folder("small:1.9.0", tmp_path).name == "1.9.0"
    assert prepared_folder("small:2.0.0", tmp_path) is None
    shutil.copytree(folder, tmp_path / "many" / "first" / "1.0.0")
    assert prepared_folder("many", tmp_path) == tmp_path / "many" / "first" / "1.0.0"
    shutil.copytree(folder, tmp_path / "many" / "second" / "1.0.0")
    assert prepared_folder("many/second:1.0.0", tmp_path).parent.name == "second"
    with pytest.raises(ConfigError, match="name one of many/first, many/second") as caught:
        prepared_folder("many", tmp_path)
    one_line(caught)


def test_data_dir_defaults_to_tfds_own(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert resolve_data_dir(None) == tmp_path
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_data_dir(None) == tmp_path / "tensorflow_datasets"
    assert resolve_data_dir("~/here") == tmp_path / "here"


@pytest.mark.parametrize(
    "name, nearest",
    [("cifar01", "'cifar10'"), ("digit", "'digits'"), ("smal", "'small'")],
)
def test_an_unknown_name_names_the_nearest(small, name, nearest):
    with pytest.raises(ConfigError, match=f"unknown data set '{name}'") as caught:
        open_images(name, data_dir=small[0])
    assert nearest in one_line(caught)


def test_a_name_near_to_nothing_says_so(tmp_path):
    with pytest.raises(ConfigError, match="no name is near it") as caught:
        open_images("qqqqzzzz", data_dir=tmp_path)
    one_line(caught)


@pytest.mark.parametrize("name", ["", "../small", "a b", "small:1", "small/../x"])
def test_malformed_names_are_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="is not of the form") as caught:
        open_images(name, data_dir=tmp_path)
    one_line(caught)


def test_a_known_set_that_is_not_prepared_says_how_to_prepare_it(tmp_path):
    with pytest.raises(ConfigError) as caught:
        open_images("kmnist", data_dir=tmp_path)
    command = f"tfds build kmnist --data_dir={tmp_path} --file_format=array_record"
    assert one_line(caught).endswith(command)
    assert list(tmp_path.iterdir()) == []


def test_another_version_than_the_prepared_one_is_named(small):
    with pytest.raises(ConfigError, match=r"'small:2.0.0' is not prepared .*, but 1.0.0 is") as e:
        open_tfds("small:2.0.0", data_dir=small[0])
    one_line(e)


@pytest.mark.parametrize("split", ["tset", "train[:x]", "train[9:]"])
def test_bad_splits_are_refused(small, split):
    with pytest.raises(ArgumentError) as caught:
        open_tfds("small", split, small[0])
    assert caught.value.argument == "split"
    one_line(caught)


def damage_description(folder: Path):
    (folder / "dataset_info.json").unlink()


def damage_missing(folder: Path):
    next(folder.glob("*array_record*")).unlink()


def damage_truncated(folder: Path):
    file = next(folder.glob("*array_record*"))
    file.write_bytes(file.read_bytes()[:100_000])


def damage_truncated_at_a_block(folder: Path):
    """There array_record hands out empty records and raises nothing."""
    file = next(folder.glob("*array_record*"))
    file.write_bytes(file.read_bytes()[: 2**16])


@pytest.mark.parametrize(
    "damage", [damage_description, damage_missing, damage_truncated, damage_truncated_at_a_block]
)
def test_damaged_folders_are_refused(small, tmp_path, damage):
    shutil.copytree(small[0], tmp_path, dirs_exist_ok=True)
    folder = prepared_folder("small", tmp_path)
    damage(folder)
    with pytest.raises(ConfigError, match="remove that folder and prepare it again") as caught:
        open_tfds("small", data_dir=tmp_path)
    assert str(folder) in one_line(caught)


def test_an_empty_record_met_on_loading_is_an_error(small):
    images = open_tfds("small", data_dir=small[0])
    cut = dataclasses.replace(images, source=[images.source[0], b""])
    with pytest.raises(ConfigError, match="small: example 1 cannot be decoded: a record is empty"):
        cut.load(np.arange(2))


def test_images_of_mixed_sizes_need_a_size(tmp_path):
    images = [*pixels(30, 8, 8, 3), *pixels(1, 8, 9, 3)]
    features = {"image": ANY_SIZE, "label": LABEL}
    write(tmp_path, "mixed", features, {"train": examples(images, np.arange(31) % 3)})
    message = r"example 0 is 8x8 and example 30 is 9x8 \(width x height\): set data\.size"
    with pytest.raises(ConfigError, match=message) as caught:
        open_tfds("mixed", data_dir=tmp_path)
    one_line(caught)
    small = open_images("mixed", data_dir=tmp_path, size=4)
    found, labels = small.load(np.arange(31))
    squares = np.stack([image[:, :8] for image in images])
    blocks = squares.reshape(31, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    np.testing.assert_array_equal(found, np.rint(blocks))
    np.testing.assert_array_equal(labels, np.arange(31) % 3)
    np.testing.assert_array_equal(small.class_counts, [11, 10, 10])
    head = open_tfds("mixed", "train[:30]", tmp_path, 4)
    assert head.fingerprint != small.fingerprint
    # The images of one size are as they were without a cache.
    whole = open_tfds("mixed", "train[:30]", tmp_path)
    np.testing.assert_array_equal(whole.load(np.arange(30))[0], images[:30])
    with pytest.raises(ConfigError, match=r"31 of 31 .*example 0 is 8x8 .*smaller than size 9; ex"):
        open_tfds("mixed", data_dir=tmp_path, size=9)


def test_images_of_one_size_are_made_smaller_as_they_are_loaded(small, tmp_path):
    square = pixels(4, 6, 6, 1)
    features = {"image": tfds.features.Image(shape=(6, 6, 1)), "label": LABEL}
    stored = examples(square[..., 0], [0, 1, 2, 0])
    write(tmp_path, "square", features, {"train": stored})
    images = open_images("square", data_dir=tmp_path, size=3)
    assert type(images).__name__ == "ResizedImages"
    blocks = square.reshape(4, 3, 2, 3, 2, 1).mean(axis=(2, 4))
    np.testing.assert_array_equal(images.load(np.arange(4))[0], np.rint(blocks))
    # Others are cropped, which is done once.
    data_dir, oblong = small
    cut = oblong[:, :5].reshape(9, 5, 5, 1)
    images = open_images("small", data_dir=data_dir, size=5)
    np.testing.assert_array_equal(images.load(np.arange(9))[0], cut)


def test_stored_grey_and_palette_images_become_what_the_feature_declares(tmp_path):
    colour = pixels(1, 8, 8, 3)[0]
    grey = Image.fromarray(colour).convert("L")
    palette = Image.fromarray(np.full((8, 8, 3), (10, 200, 30), np.uint8)).quantize(4)
    stored = [{"image": image, "label": 0} for image in (Image.fromarray(colour), grey, palette)]
    write(tmp_path, "modes", {"image": ANY_SIZE, "label": LABEL}, {"train": stored})
    images, _ = open_tfds("modes", data_dir=tmp_path).load(np.arange(3))
    np.testing.assert_array_equal(images[0], colour)
    np.testing.assert_array_equal(images[1], np.repeat(np.asarray(grey)[..., None], 3, -1))
    np.testing.assert_array_equal(images[2], np.full((8, 8, 3), (10, 200, 30)))


def test_sets_without_one_label_are_unlabelled(tmp_path):
    image, label = tfds.features.Image(shape=(4, 4, 3)), LABEL
    stored = [encoded(p) for p in pixels(2, 4, 4, 3)]
    plain = [{"image": one} for one in stored]
    write(tmp_path, "plain", {"image": image}, {"train": plain})
    two = [{"image": one, "hue": 1, "size": 2} for one in stored]
    write(tmp_path, "two", {"image": image, "hue": label, "size": label}, {"train": two})
    for name in ("plain", "two"):
        images = open_tfds(name, data_dir=tmp_path)
        assert images.num_classes == 0
        np.testing.assert_array_equal(images.load(np.arange(2))[1], [0, 0])


def test_supervised_keys_choose_among_several_features(tmp_path):
    features = {
        "image": tfds.features.Tensor(shape=(4, 4, 3), dtype=np.uint8),
        "other": tfds.features.Image(shape=(2, 2, 3)),
        "hue": LABEL,
        "size": LABEL,
    }
    stored = pixels(3, 4, 4, 3)
    rows = [
        {"image": image, "other": encoded(image[:2, :2]), "hue": 0, "size": i}
        for i, image in enumerate(stored)
    ]
    write(tmp_path, "several", features, {"train": rows}, ("image", "size"))
    images = open_tfds("several", data_dir=tmp_path)
    got, labels = images.load(np.arange(3))
    np.testing.assert_array_equal(got, stored)
    np.testing.assert_array_equal(labels, [0, 1, 2])


@pytest.mark.parametrize(
    "features, row, message",
    [
        ({"label": LABEL}, {"label": 1}, "no single image feature .found: none"),
        (
            {"left": ANY_SIZE, "right": ANY_SIZE},
            {"left": encoded(pixels(1, 4, 4, 3)[0]), "right": encoded(pixels(1, 4, 4, 3)[0])},
            "no single image feature .found: left, right",
        ),
        (
            {"image": tfds.features.Image(shape=(4, 4, 1), dtype=np.uint16)},
            {"image": encoded(pixels(1, 4, 4)[0])},
            "images of type uint16",
        ),
    ],
)
def test_features_that_do_not_serve_are_refused(tmp_path, features, row, message):
    write(tmp_path, "odd", features, {"train": [row]})
    with pytest.raises(ConfigError, match=message) as caught:
        open_tfds("odd", data_dir=tmp_path)
    one_line(caught)


def test_a_format_without_random_access_is_refused(small, tmp_path):
    folder = tmp_path / "small" / "1.0.0"
    shutil.copytree(prepared_folder("small", small[0]), folder)
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    for file in folder.glob("*array_record*"):
        file.rename(folder / file.name.replace("array_record", "tfrecord"))
    with pytest.raises(ConfigError, match="stored as tfrecord, which has no random access") as e:
        open_tfds("small", data_dir=tmp_path)
    one_line(e)
