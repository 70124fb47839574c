import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation.resize import RESIZES, inception_input, resize_clean, resize_tf1

SHAPES = [(32, 32), (96, 80), (350, 420)]  # two that grow and one that shrinks


def pixels(height, width, channels=3):
    rng = np.random.RandomState(height)
    return rng.randint(0, 256, (2, height, width, channels)).astype(np.uint8)


def read_at(values, position):
    low = int(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)


@pytest.mark.parametrize("height, width", SHAPES)
def test_tf1_reads_between_two_pixels(height, width):
    images = pixels(height, width)
    found = np.asarray(resize_tf1(jnp.asarray(images)))
    assert found.shape == (2, 299, 299, 3)
    assert found.dtype == np.float32
    exact = images.astype(np.float64)
    for row, column in [(0, 0), (1, 2), (150, 77), (298, 0), (297, 298)]:
        line = read_at(exact.swapaxes(0, 1), row * height / 299)
        expected = read_at(line.swapaxes(0, 1), column * width / 299)
        # Positions in float32, as TensorFlow has them, are off by 1e-5 pixels near the far end.
        np.testing.assert_allclose(found[:, row, column], expected, atol=0.02)


@pytest.mark.parametrize("height, width", SHAPES)
def test_clean_is_pil_bicubic_on_floats(height, width):
    images = pixels(height, width)
    found = np.asarray(resize_clean(jnp.asarray(images)))
    assert found.dtype == np.float32
    for image, resized in zip(images, found, strict=True):
        for channel in range(3):
            plane = Image.fromarray(image[..., channel].astype(np.float32))
            assert plane.mode == "F"
            expected = np.asarray(plane.resize((299, 299), Image.Resampling.BICUBIC))
            np.testing.assert_allclose(resized[..., channel], expected, atol=1e-3)


@pytest.mark.parametrize("resize", [resize_tf1, resize_clean])
def test_the_same_size_changes_nothing(resize):
    images = pixels(13, 13)
    np.testing.assert_array_equal(resize(jnp.asarray(images), 13), images)


@pytest.mark.takes_a_second
@settings(deadline=None, max_examples=10, derandomize=True)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    size=st.integers(1, 12),
    v=st.integers(0, 255),
)
def test_a_constant_image_stays_constant(height, width, size, v):
    images = jnp.full((1, height, width, 1), v, jnp.uint8)
    for resize in (resize_tf1, resize_clean):
        np.testing.assert_allclose(resize(images, size), np.full((1, size, size, 1), v), rtol=1e-6)


@pytest.mark.parametrize("resize", RESIZES)
def test_the_input_of_inception(resize):
    images = jnp.asarray(pixels(32, 32))
    resized = np.asarray({"tf1": resize_tf1, "clean": resize_clean}[resize](images))
    found = jax.jit(inception_input, static_argnums=1)(images, resize)
    if resize == "clean":
        # A cubic overshoots, which clean-fid clips after PIL's resize.
        assert resized.min() < -1
        assert resized.max() > 256
        resized = resized.clip(0, 255)
    np.testing.assert_allclose(found, (resized - 128) / 128, atol=1e-6)
    assert -1 <= found.min() < -0.9
    assert 0.9 < found.max() <= 127 / 128


def test_the_default_resize_is_the_graphs_own():
    images = jnp.asarray(pixels(8, 8))
    np.testing.assert_array_equal(inception_input(images), inception_input(images, "tf1"))


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((1, 8, 8, 3), np.float32), "images='float32': must be uint8"),
        (np.zeros((8, 8, 3), np.uint8), r"images=\(8, 8, 3\): must be of shape"),
        (np.zeros((1, 0, 8, 3), np.uint8), r"images=\(1, 0, 8, 3\): must be of shape"),
    ],
)
def test_other_images_are_refused(images, message):
    for resize in (resize_tf1, resize_clean, inception_input):
        with pytest.raises(ArgumentError, match=message):
            resize(jnp.asarray(images))


def test_other_arguments_are_refused():
    images = jnp.zeros((1, 8, 8, 3), jnp.uint8)
    with pytest.raises(ArgumentError, match="size=0: must be at least 1"):
        resize_tf1(images, 0)
    with pytest.raises(ArgumentError, match="resize='tf': must be one of tf1, clean"):
        inception_input(images, "tf")
    with pytest.raises(ArgumentError, match=r"must be of shape \[B, H, W, 3\]"):
        inception_input(images[..., :1])
