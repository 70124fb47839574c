"""Images at a smaller size."""

import numpy as np
import pytest
from PIL import Image

from jaxnoise.data import ArrayImages, ResizedImages
from jaxnoise.errors import ArgumentError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
SET = ArrayImages("noise", PIXELS, np.arange(6) % 3, 3)


def test_where_it_divides_a_pixel_is_the_mean_of_its_block():
    small, labels = ResizedImages(SET, 4).load(np.array([5, 0]))
    blocks = PIXELS[[5, 0]].reshape(2, 4, 3, 4, 3, 3).astype(np.float64)
    np.testing.assert_array_equal(small, np.rint(blocks.mean(axis=(2, 4))))
    assert labels.tolist() == [2, 0]
    # Pillow's box filter rounds its weights; it agrees to a grey value.
    pillow = Image.fromarray(PIXELS[5]).resize((4, 4), Image.Resampling.BOX)
    assert np.abs(small[0].astype(int) - np.asarray(pillow)).max() <= 1


def test_elsewhere_pillow_reduces():
    small, _ = ResizedImages(SET, 5).load(np.arange(6))
    pillow = Image.fromarray(PIXELS[3]).resize((5, 5), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(small[3], np.asarray(pillow))
    grey = ArrayImages("grey", PIXELS[..., 0], np.zeros(6, int), 0)
    assert ResizedImages(grey, 5).load(np.array([0]))[0].shape == (1, 5, 5, 1)


def test_it_is_another_data_set():
    small, same = ResizedImages(SET, 6), ResizedImages(SET, 12)
    assert len({SET.fingerprint, small.fingerprint, ResizedImages(SET, 4).fingerprint}) == 3
    assert (small.name, small.image_shape, small.num_examples) == ("noise at 6x6", (6, 6, 3), 6)
    assert (small.num_classes, small.class_names) == (3, ("0", "1", "2"))
    np.testing.assert_array_equal(small.class_counts, SET.class_counts)
    np.testing.assert_array_equal(same.load(np.arange(6))[0], PIXELS)


@pytest.mark.parametrize("size", [0, 13, 4.0, -2])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(ArgumentError, match=r"^size="):
        ResizedImages(SET, size)


def test_only_square_pixels_are_resized():
    wide = ArrayImages("wide", PIXELS[:, :6], np.zeros(6, int), 0)
    with pytest.raises(ArgumentError, match="the images are 6x12"):
        ResizedImages(wide, 4)
