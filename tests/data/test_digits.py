"""The embedded digits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxnoise.data import open_images
from jaxnoise.errors import ArgumentError


def test_digits_are_sklearns_scaled_to_bytes():
    digits = open_images("digits")
    images, labels = digits.load(np.arange(1797))
    stored = load_digits()
    assert (digits.num_examples, digits.image_shape, digits.num_classes) == (1797, (8, 8, 1), 10)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    # 255/16 v, rounded half to even: 0, 15.9, 31.9, .., 127.5 -> 128, .., 255.
    table = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    np.testing.assert_array_equal(images[..., 0], np.array(table)[stored.images.astype(int)])
    np.testing.assert_array_equal(labels, stored.target)


def test_digits_are_recognised_by_their_fingerprint():
    assert open_images("digits").fingerprint == "b301741a06bf8b59"


def test_digits_have_no_test_split():
    with pytest.raises(ArgumentError, match="digits has no other split") as caught:
        open_images("digits", split="test")
    assert caught.value.argument == "split"


def test_digits_lie_in_no_folder():
    with pytest.raises(ArgumentError) as caught:
        open_images("digits", data_dir="photos")
    assert str(caught.value) == (
        "data_dir='photos': must be None for 'digits', which need no files; 'folder' takes images "
        "of your own"
    )


def test_an_archive_is_for_cifar10_alone():
    with pytest.raises(ArgumentError, match=r"^archive="):
        open_images("digits", archive="/no/such.tar.gz")
