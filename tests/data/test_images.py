"""The contract index -> image, int32 label, for arrays and for records."""

import threading

import numpy as np
import pytest

from jaxnoise.data import ArrayImages, RecordImages, fits_on_device
from jaxnoise.data.images import digest
from jaxnoise.errors import ArgumentError, ConfigError


def pixels(count, *shape):
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def records(images, labels, num_classes=3, source=list):
    return RecordImages(
        "set", source(zip(images, labels, strict=True)), lambda r: r, num_classes, "f" * 16
    )


@pytest.mark.parametrize("make", [lambda x, y: ArrayImages("set", x, y, 3), records])
@pytest.mark.parametrize("size", [8, 64], ids=["inline", "threads"])
def test_load_gives_what_the_indices_say(make, size):
    stored, labels = pixels(10, size, size, 3), np.arange(10) % 3
    images = make(stored, labels)
    indices = np.array([9, 0, 3, 3, 7])
    got, got_labels = images.load(indices)
    assert (got.dtype, got_labels.dtype) == (images.dtype, np.int32) == (np.uint8, np.int32)
    assert (images.num_examples, images.image_shape) == (10, (size, size, 3))
    np.testing.assert_array_equal(got, stored[indices])
    np.testing.assert_array_equal(got_labels, labels[indices])
    got[:] = 0  # the caller's own copy
    np.testing.assert_array_equal(images.load(indices)[0], stored[indices])
    assert [a.shape for a in images.load(indices[:0])] == [(0, size, size, 3), (0,)]


@pytest.mark.parametrize("make", [lambda x, y: ArrayImages("set", x, y, 3), records])
def test_grey_images_get_a_channel_axis(make):
    stored = pixels(4, 6, 5)
    images = make(stored, np.zeros(4, int))
    assert images.image_shape == (6, 5, 1)
    np.testing.assert_array_equal(images.load(np.arange(4))[0], stored[..., None])


@pytest.mark.parametrize("make", [lambda x, y: ArrayImages("set", x, y, 3), records])
@pytest.mark.parametrize(
    "indices", [np.array([0, -1]), np.array([4]), np.array([0.0]), np.array([[0]])]
)
def test_bad_indices_are_refused(make, indices):
    images = make(pixels(4, 6, 5), np.zeros(4, int))
    with pytest.raises(ArgumentError, match=r"^indices="):
        images.load(indices)


@pytest.mark.parametrize(
    "argument, images, labels, num_classes",
    [
        ("images", pixels(2, 4, 4).astype(np.float32), [0, 1], 2),
        ("images", pixels(2, 4), [0, 1], 2),
        ("images", pixels(0, 4, 4), [], 2),
        ("labels", pixels(2, 4, 4), [0], 2),
        ("labels", pixels(2, 4, 4), [0.0, 1.0], 2),
        ("labels", pixels(2, 4, 4), [0, 2], 2),
        ("labels", pixels(2, 4, 4), [0, -1], 2),
        ("labels", pixels(2, 4, 4), [0, 1], 0),
        ("num_classes", pixels(2, 4, 4), [0, 0], -1),
    ],
)
def test_bad_arrays_are_refused(argument, images, labels, num_classes):
    with pytest.raises(ArgumentError, match=f"^{argument}=") as caught:
        ArrayImages("set", images, np.array(labels), num_classes)
    assert len(str(caught.value).splitlines()) == 1


def test_mixed_sizes_are_refused_with_the_example_named():
    images = [np.zeros((4, 4, 3), np.uint8)] * 5 + [np.zeros((4, 6, 3), np.uint8)]
    mixed = records(images, [0] * 6)
    assert mixed.load(np.arange(5))[0].shape == (5, 4, 4, 3)
    with pytest.raises(ConfigError) as caught:
        mixed.load(np.array([0, 5, 1]))
    assert str(caught.value) == (
        "set: example 5 is 4x6x3 but example 0 is 4x4x3; all images must be of one size"
    )


@pytest.mark.parametrize(
    "image, label, message",
    [
        (np.zeros((4, 4, 3), np.float32), 0, r"example 1 is float32\[4, 4, 3\], no uint8 image"),
        (np.zeros(4, np.uint8), 0, r"example 1 is uint8\[4\], no uint8 image"),
        (np.zeros((4, 4, 3), np.uint8), 3, r"example 1 has label 3, which is not in \[0, 3\)"),
        (np.zeros((4, 4, 3), np.uint8), -1, r"example 1 has label -1"),
    ],
)
def test_bad_records_are_refused_with_the_example_named(image, label, message):
    images = records([np.zeros((4, 4, 3), np.uint8), image], [0, label])
    with pytest.raises(ConfigError, match=message):
        images.load(np.array([1]))


def test_errors_of_source_and_decoder_become_one_line():
    class Source:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            if index > 2:
                raise RuntimeError("file is cut\nlong story")
            return index

    def decode(record):
        if record == 2:
            raise OSError("not a PNG\nlong story")
        return np.zeros((2, 2), np.uint8), 0

    images = RecordImages("set", Source(), decode, 0, "f" * 16)
    with pytest.raises(ConfigError, match=r"^set: example 2 cannot be decoded: not a PNG$"):
        images.load(np.array([1, 2]))
    with pytest.raises(ConfigError, match=r"^set: examples 1 to 4 cannot be read: file is cut$"):
        images.load(np.array([4, 1]))


def test_small_images_are_decoded_in_the_calling_thread_and_large_ones_in_a_pool():
    seen = {}

    def images(size):
        def decode(record):
            seen.setdefault(size, set()).add(threading.current_thread() is threading.main_thread())
            return np.zeros((size, size), np.uint8), 0

        return RecordImages("set", range(600), decode, 0, "f" * 16)

    for size in (63, 64):
        made = images(size)
        seen.clear()  # example 0 is decoded on making it
        made.load(np.arange(600))
        assert seen == {size: {size < 64}}


def test_a_source_that_reads_many_at_once_is_asked_for_many():
    asked = []

    class Source(list):
        def __getitems__(self, keys):
            asked.append(len(keys))
            return [self[key] for key in keys]

    stored = pixels(600, 4, 4)
    images = records(stored, [0] * 600, source=Source)
    np.testing.assert_array_equal(images.load(np.arange(600))[0][..., 0], stored)
    assert asked == [1, 256, 256, 88]


def test_bad_sources_are_refused():
    with pytest.raises(ArgumentError, match=r"^source="):
        records([], [])
    with pytest.raises(ArgumentError, match=r"^num_classes="):
        records(pixels(1, 2, 2), [0], num_classes=-1)


def test_fits_on_device_counts_images_and_labels():
    images = ArrayImages("set", pixels(10, 8, 8, 3), np.zeros(10, int), 1)
    size = 10 * (8 * 8 * 3 + 4)
    assert fits_on_device(images)
    assert fits_on_device(images, size)
    assert not fits_on_device(images, size - 1)
    with pytest.raises(ArgumentError, match=r"^budget_bytes="):
        fits_on_device(images, -1)


def test_fingerprints_tell_content_apart():
    stored, labels = pixels(4, 8, 8), np.arange(4)
    prints = {
        ArrayImages("set", stored, labels, 4).fingerprint,
        ArrayImages("set", stored[::-1], labels, 4).fingerprint,
        ArrayImages("set", stored, labels[::-1], 4).fingerprint,
        ArrayImages("set", stored.reshape(4, 4, 16), labels, 4).fingerprint,
    }
    assert len(prints) == 4
    assert ArrayImages("other name", stored, labels, 4).fingerprint in prints
    assert len(digest("a")) == 16
    assert digest("a") == digest(b"a") != digest("a", "")
