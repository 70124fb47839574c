"""Bytes from floats: clipping, rounding, and the way back."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.sampling import to_uint8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_byte_survives_the_way_there_and_back(dtype: type) -> None:
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(pixels.astype(dtype) / dtype(127.5) - dtype(1)), pixels)


def test_known_values() -> None:
    # In bytes: 0, 0.25, 1, 127.5, 191.25, 254.25, 255.
    values = [-1.0, -254.5 / 255, -253 / 255, 0.0, 0.5, 253.5 / 255, 1.0]
    images = to_uint8(np.reshape(values, (1, 7, 1, 1)))
    assert images.shape == (1, 7, 1, 1)
    assert images.dtype == np.uint8
    assert images.ravel().tolist() == [0, 0, 1, 128, 191, 254, 255]


def test_a_half_goes_up() -> None:
    halves = (np.arange(255) + 0.5) / 127.5 - 1
    assert to_uint8(np.float32(0.0)).item() == 128
    np.testing.assert_array_equal(to_uint8(halves + 1e-5), np.arange(1, 256))
    np.testing.assert_array_equal(to_uint8(halves - 1e-5), np.arange(255))


def test_a_device_array_is_fetched() -> None:
    images = to_uint8(jnp.zeros((2, 2, 2, 1), jnp.bfloat16))
    assert isinstance(images, np.ndarray)
    np.testing.assert_array_equal(images, np.full((2, 2, 2, 1), 128, np.uint8))


def test_values_beyond_the_range_become_its_ends() -> None:
    assert to_uint8([-1.0001, -3e38, 1.0001, 3e38]).tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ArgumentError, match="images='nan or inf'"):
        to_uint8([0.0, bad])
