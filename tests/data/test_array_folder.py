"""A user's own folder of .npy files."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxnoise.config.settings import DataSettings
from jaxnoise.data import batch_indices, fits_on_device, open_images
from jaxnoise.data.images import description
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.training import feeding
from jaxnoise.training.drawing import to_float
from jaxnoise.training.feeding import make_feeder
from jaxnoise.training.parallel import Devices

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 4, 6, 3), dtype=np.uint8)
LATENTS = np.random.default_rng(1).normal(size=(11, 4, 4, 2)).astype(np.float16)
LABELS = np.array([2, 0, 0, 5, 1, 1, 2, 3, 0, 4, 5])


def write(folder, images, labels=None, cuts=None):
    """One file, or shards cut before the examples `cuts`."""
    folder.mkdir(exist_ok=True)
    for name, array in (("images", images), ("labels", labels)):
        if array is None:
            continue
        if cuts is None:
            np.save(folder / f"{name}.npy", array)
            continue
        for number, shard in enumerate(np.split(array, cuts)):
            np.save(folder / f"{name}_{number:05d}.npy", shard)
    return folder


def opened(folder, **keywords):
    return open_images("arrays", data_dir=folder, **keywords)


@pytest.mark.parametrize(
    "stored, dtype",
    [
        (PIXELS, np.uint8),
        (LATENTS, np.float32),
        (LATENTS.astype(np.float32) + np.float32(1e-4), np.float32),
        (LATENTS.astype(np.float64) + 1e-9, np.float32),
        (LATENTS.astype(">f4"), np.float32),
        (LATENTS.astype(">f8"), np.float32),
    ],
    ids=["uint8", "float16", "float32", "float64", "big-endian 32", "big-endian 64"],
)
@pytest.mark.parametrize("cuts", [None, [4, 5]], ids=["whole", "sharded"])
def test_load_gives_what_the_indices_say(tmp_path, stored, dtype, cuts):
    images = opened(write(tmp_path, stored, LABELS, cuts))
    assert (images.num_examples, images.image_shape) == (11, stored.shape[1:])
    assert (images.num_classes, images.dtype) == (6, dtype)
    indices = np.array([10, 0, 4, 4, 5, 3, 9, 10, 1])
    got, labels = images.load(indices)
    assert (got.dtype, labels.dtype) == (dtype, np.int32)
    np.testing.assert_array_equal(got, stored[indices].astype(dtype))
    np.testing.assert_array_equal(labels, LABELS[indices])
    got[:] = 0  # the caller's own copy
    np.testing.assert_array_equal(images.load(indices)[0], stored[indices].astype(dtype))
    assert [a.shape for a in images.load(indices[:0])] == [(0, *stored.shape[1:]), (0,)]
    unsigned, _ = images.load(indices.astype(np.uint64))
    np.testing.assert_array_equal(unsigned, stored[indices].astype(dtype))


@pytest.mark.parametrize("indices", [[-1], [11], [0.0]])
def test_bad_indices_are_refused(tmp_path, indices):
    with pytest.raises(ArgumentError, match=r"^indices="):
        opened(write(tmp_path, PIXELS)).load(np.array(indices))


def test_many_shards_equal_one_file_bit_for_bit(tmp_path):
    stored = np.random.default_rng(2).normal(size=(300, 2, 2, 1)).astype(np.float32)
    labels = np.arange(300, dtype=np.uint8) % 7
    whole = opened(write(tmp_path / "whole", stored, labels))
    # 101 shards: the numbers in the names must sort as numbers.
    sharded = opened(write(tmp_path / "sharded", stored, labels, np.arange(1, 200, 2)))
    assert len(list((tmp_path / "sharded").iterdir())) == 2 * 101
    indices = np.random.default_rng(3).integers(0, 300, 1000)
    for one, other in zip(whole.load(indices), sharded.load(indices), strict=True):
        assert one.tobytes() == other.tobytes()


def test_images_stay_on_the_disk(tmp_path):
    images = opened(write(tmp_path, LATENTS, LABELS, [4]))
    assert [type(shard) for shard in images.shards] == [np.memmap, np.memmap]
    assert {shard.mode for shard in images.shards} == {"r"}
    changed = LATENTS[:4].copy()
    changed[2] = 7
    stored = np.lib.format.open_memmap(tmp_path / "images_00000.npy", mode="r+")
    stored[:] = changed
    stored.flush()
    np.testing.assert_array_equal(images.load(np.array([2]))[0], np.full((1, 4, 4, 2), 7))


def test_grey_pixels_get_a_channel_axis_and_unlabelled_sets_no_class(tmp_path):
    images = opened(write(tmp_path, PIXELS[..., 0], cuts=[5]))
    assert (images.image_shape, images.num_classes) == ((4, 6, 1), 0)
    got, labels = images.load(np.arange(11))
    np.testing.assert_array_equal(got, PIXELS[..., :1])
    np.testing.assert_array_equal(labels, np.zeros(11))


def test_a_split_is_a_sub_folder_and_train_may_be_the_folder(tmp_path):
    write(tmp_path, PIXELS)
    assert opened(tmp_path).num_examples == 11
    write(tmp_path / "train", PIXELS[:7])
    write(tmp_path / "held_out", PIXELS[7:])
    assert opened(tmp_path).num_examples == 7
    got, _ = opened(tmp_path, split="held_out").load(np.arange(4))
    np.testing.assert_array_equal(got, PIXELS[7:])
    for split in ("test", "train[:50%]", ""):
        with pytest.raises(
            ArgumentError, match=r"must be a sub-folder of .*, or 'train'"
        ) as caught:
            opened(tmp_path, split=split)
        assert caught.value.argument == "split"


def test_labels_of_signed_and_of_unsigned_shards_stay_integers(tmp_path):
    write(tmp_path, PIXELS[:4], cuts=[2])
    np.save(tmp_path / "labels_00000.npy", np.array([4, 7]))
    np.save(tmp_path / "labels_00001.npy", np.array([2**53 + 1, 2**53], np.uint64))
    images = opened(tmp_path)
    np.testing.assert_array_equal(images.load(np.arange(4))[1], [0, 1, 3, 2])
    assert images.class_names == ("4", "7", "9007199254740992", "9007199254740993")


@pytest.mark.parametrize(
    "stored,names",
    [([1, 2, 3], ("1", "2", "3")), ([7, 20240101, 2**40], ("7", "20240101", "1099511627776"))],
)
def test_labels_become_consecutive_classes_with_their_old_names(tmp_path, stored, names):
    labels = np.asarray(stored)[np.arange(11) % 3]
    images = opened(write(tmp_path, PIXELS, labels))
    assert (images.num_classes, images.class_names) == (3, names)
    np.testing.assert_array_equal(images.load(np.arange(11))[1], np.arange(11) % 3)
    np.testing.assert_array_equal(images.class_counts, [4, 4, 3])
    assert description(images)["class_names"] == list(names)


def test_a_dot_is_the_folder_itself(tmp_path):
    write(tmp_path / "train", PIXELS[:3])
    write(tmp_path, PIXELS)
    assert opened(tmp_path).num_examples == 3
    assert opened(tmp_path, split=".").num_examples == 11


def test_fingerprints_tell_content_apart(tmp_path):
    other = PIXELS.copy()
    other[10, 0, 0, 0] ^= 1
    many = np.zeros((1000, 1, 1, 1), np.uint8)
    last, inner = many.copy(), many.copy()
    last[-1] = 1
    inner[3] = 1
    contents = [
        (PIXELS, LABELS),
        (PIXELS, None),
        (PIXELS, np.zeros(11, int)),
        (PIXELS, LABELS[::-1]),
        (other, LABELS),
        (PIXELS.reshape(11, 6, 4, 3), LABELS),
        (PIXELS[:10], LABELS[:10]),
        (LATENTS, LABELS),
        (LATENTS.astype(np.float32), LABELS),
        (many, None),
        (many[:-1], None),
        (last, None),
        (inner, None),
    ]
    prints = [
        opened(write(tmp_path / str(i), *content)).fingerprint for i, content in enumerate(contents)
    ]
    assert len(set(prints)) == len(contents)
    assert {len(p) for p in prints} == {16}
    assert opened(write(tmp_path / "again", PIXELS, LABELS)).fingerprint == prints[0]


def test_missing_folders_are_refused_as_the_key_that_names_them(tmp_path):
    with pytest.raises(ConfigError, match=r"^config.data.data_dir=None: must be the folder that"):
        DataSettings("arrays").open()
    for path in (tmp_path / "none", write(tmp_path, PIXELS) / "images.npy"):
        with pytest.raises(ConfigError, match=r"^config.data.data_dir=.*must be an existing fold"):
            DataSettings("arrays", data_dir=str(path)).open()
    assert DataSettings("arrays", data_dir=str(tmp_path)).open().num_examples == 11


def rename(folder, old, new):
    (folder / old).rename(folder / new)


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda d: [p.unlink() for p in d.iterdir()], "holds no images.npy and no images_00000"),
        (lambda d: rename(d, "images_00000.npy", "images_0.npy"), "images_00000.npy is missing"),
        (lambda d: (d / "images_00001.npy").unlink(), "images_00001.npy is missing, but there is"),
        (lambda d: np.save(d / "images.npy", PIXELS), "images.npy and images_00000.npy: keep one"),
        (lambda d: (d / "labels_00001.npy").unlink(), "labels_00001.npy is missing: give images_0"),
        (lambda d: (d / "images_00002.npy").unlink(), "labels_00002.npy has no images_00002.npy"),
        (lambda d: np.save(d / "labels.npy", LABELS), "labels.npy has no images.npy: shard label"),
        (
            lambda d: np.save(d / "images_00001.npy", PIXELS[4:6, :, :5]),
            r"images_00001.npy is uint8\[2, 4, 5, 3\] but images_00000.npy is uint8\[4, 4, 6, 3\]",
        ),
        (
            lambda d: np.save(d / "images_00001.npy", PIXELS[4:6].astype(np.float32)),
            r"images_00001.npy is float32\[2, 4, 6, 3\] but images_00000.npy is uint8",
        ),
        (
            lambda d: np.save(d / "images_00000.npy", PIXELS.astype(int)),
            r"is int64\[11, 4, 6, 3\]: must be uint8 or float\[n, height, width, channels\], or ui",
        ),
        (lambda d: np.save(d / "images_00000.npy", PIXELS.astype("g")), r"is float128\[11"),
        (
            lambda d: np.save(d / "images_00000.npy", np.zeros((4, 3, 8, 8), np.uint8)),
            r"\[4, 3, 8, 8\], which has its channels first: .*numpy.moveaxis\(images, 1, -1\)",
        ),
        (lambda d: np.save(d / "images_00000.npy", PIXELS[0, 0]), r"is uint8\[6, 3\]: must be"),
        (lambda d: np.save(d / "images_00000.npy", LATENTS[..., 0]), r"is float16\[11, 4, 4\]: mu"),
        (lambda d: np.save(d / "images_00000.npy", PIXELS[:0]), r"is uint8\[0, 4, 6, 3\]: must"),
        (lambda d: np.save(d / "images_00000.npy", PIXELS.T), "in Fortran order: write it again"),
        (lambda d: np.save(d / "images_00000.npy", [None]), "images_00000.npy is damaged or no"),
        (
            lambda d: (d / "images_00000.npy").write_bytes(b""),
            r"is damaged or no .npy .*numpy.save",
        ),
        (lambda d: cut(d / "images_00000.npy", 60), "images_00000.npy is damaged or no .npy file"),
        (lambda d: cut(d / "images_00002.npy", 487), "images_00002.npy is damaged or no .npy file"),
        (lambda d: cut(d / "labels_00002.npy", 130), "labels_00002.npy is damaged or no .npy file"),
        (
            lambda d: np.save(d / "labels_00000.npy", LABELS[:3]),
            r"labels_00000.npy is int64\[3\]: must be integer\[4\], one for each .* images_00000",
        ),
        (lambda d: np.save(d / "labels_00000.npy", np.ones(4)), r"is float64\[4\]: must be integ"),
        (lambda d: np.save(d / "labels_00000.npy", LABELS[:4, None]), r"is int64\[4, 1\]: must be"),
        (lambda d: np.save(d / "labels_00000.npy", [0, 1, -3, 0]), "holds the label -3: labels mu"),
    ],
)
def test_bad_folders_are_refused_with_the_file_named(tmp_path, spoil, message):
    write(tmp_path, PIXELS, LABELS, [4, 6])
    spoil(tmp_path)
    with pytest.raises(ConfigError, match=message) as caught:
        opened(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_not_finite_are_refused_at_the_first_look(tmp_path, value):
    stored = np.zeros((1000, 1, 2, 1), np.float16)
    stored[[0, 999]] = value  # sampled at opening
    with pytest.raises(ConfigError, match=r"images.npy: example 0 holds NaN or an infinity"):
        opened(write(tmp_path / "ends", stored))
    stored[[0, 999]] = 0
    stored[[700, 701], 0, 1] = value
    images = opened(write(tmp_path / "middle", stored, cuts=[400]))
    assert images.load(np.arange(700))[0].sum() == 0
    with pytest.raises(ConfigError, match=r"images_00001.npy: example 300 holds NaN or an infin"):
        images.load(np.array([5, 701, 700, 3]))


@pytest.mark.parametrize("resident", [True, False], ids=["resident", "streaming"])
@pytest.mark.parametrize(
    "devices, axes", [(Devices("pmap", 2), (2, 3, 4)), (Devices("shard_map", 2), (3, 8))]
)
def test_floats_are_fed_and_trained_on_as_they_are(tmp_path, monkeypatch, resident, devices, axes):
    images = opened(write(tmp_path, LATENTS, LABELS, [4]))
    if not resident:
        monkeypatch.setattr(feeding, "fits_on_device", lambda images: False)
    feeder = make_feeder(images, devices, partial(batch_indices, 0, 11, 8), 3)
    assert feeder.resident == resident
    batch = feeder(6)
    feeder.close()
    index = np.stack([batch_indices(0, 11, 8, step) for step in (6, 7, 8)])
    if devices.uses_pmap:  # the devices' parts of every batch, stacked
        index = np.stack(np.split(index, 2, axis=1))
    if resident:
        np.testing.assert_array_equal(batch.index, index)
        got, labels = batch.read()
    else:
        assert batch.index is None
        got, labels = batch.images, batch.labels
    x0 = to_float(got)
    assert (x0.dtype, x0.shape) == (np.float32, (*axes, 4, 4, 2))
    np.testing.assert_array_equal(x0, LATENTS.astype(np.float32)[index])
    np.testing.assert_array_equal(labels, LABELS[index])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_first_is_told_by_its_shape(tmp_path, channels):
    write(tmp_path, np.zeros((5, channels, 8, 8), np.float32))
    with pytest.raises(ConfigError, match=r"which has its channels first"):
        opened(tmp_path)
    for shape in ((5, 8, 8, channels), (5, channels, channels, channels), (5, channels, 8, 6)):
        assert opened(write(tmp_path, np.zeros(shape, np.float32))).image_shape == shape[1:]


@pytest.mark.parametrize(
    "shape, dtype",
    [
        ((16, 64, 64), np.float32),
        ((8, 32, 32), np.float32),
        ((2, 32, 32), np.float16),
        ((4, 32, 48), np.float64),
        ((3, 48, 64), np.uint8),
        ((3, 64, 48), np.uint8),
        ((1, 28, 17), np.uint8),
        ((16, 17, 17), np.float32),
    ],
)
def test_channels_first_need_be_neither_square_nor_few(tmp_path, shape, dtype):
    first = np.zeros((2, *shape), dtype)
    with pytest.raises(ConfigError, match=r"which has its channels first: write it again as numpy"):
        opened(write(tmp_path, first))
    last = np.ascontiguousarray(np.moveaxis(first, 1, -1))
    assert opened(write(tmp_path, last)).image_shape == (*shape[1:], shape[0])


@pytest.mark.parametrize(
    "shape",
    [
        (8, 8, 4),
        (64, 64, 16),
        (8, 8, 1),
        (8, 12, 16),  # the last may be the channels
        (8, 8, 128),  # as high as wide
        (16, 12, 32),  # higher than wide
        (17, 32, 32),  # more than channels are taken to be
    ],
)
def test_channels_last_open(tmp_path, shape):
    assert opened(write(tmp_path, np.zeros((2, *shape), np.float32))).image_shape == shape


def test_floats_are_scaled_and_bytes_are_not(tmp_path):
    plain = opened(write(tmp_path / "floats", LATENTS, LABELS))
    scaled = opened(tmp_path / "floats", scale=0.25)
    found = scaled.load(np.arange(11))[0]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, LATENTS.astype(np.float32) / 4)
    prints = {
        plain.fingerprint,
        scaled.fingerprint,
        opened(tmp_path / "floats", scale=2).fingerprint,
    }
    assert len(prints) == 3
    assert opened(tmp_path / "floats", scale=1.0).fingerprint == plain.fingerprint
    assert opened(write(tmp_path / "bytes", PIXELS), scale=1.0).dtype == np.uint8
    with pytest.raises(ArgumentError, match=r"^scale=2: must be 1, since pixels are mapped"):
        opened(tmp_path / "bytes", scale=2)
    for scale in (0.0, -1.0, np.inf):
        with pytest.raises(ArgumentError, match="must be a finite number > 0"):
            opened(tmp_path / "floats", scale=scale)


@pytest.mark.parametrize("value, scale", [(1e300, 1.0), (1e30, 1e30)])
def test_what_float32_does_not_hold_is_refused(tmp_path, value, scale):
    write(tmp_path, np.full((3, 2, 2, 1), value))
    with pytest.raises(ConfigError, match=r"example 0 holds NaN or an infinity, or what is one in"):
        opened(tmp_path, scale=scale)


def test_a_float_takes_four_bytes_on_the_device(tmp_path):
    images = opened(write(tmp_path, LATENTS))
    size = 11 * (4 * 4 * 2 * 4 + 4)
    assert fits_on_device(images, size)
    assert not fits_on_device(images, size - 1)


def test_floats_pass_unchanged_under_jit_and_bytes_do_not():
    mapped = jax.jit(to_float)
    np.testing.assert_array_equal(mapped(np.float32([-7.5, 0.0, 255.0])), [-7.5, 0.0, 255.0])
    np.testing.assert_allclose(mapped(np.uint8([0, 255])), [-1.0, 1.0], rtol=1e-6)
