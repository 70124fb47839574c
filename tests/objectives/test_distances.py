import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.objectives import l1, pseudo_huber, squared_l2

KEYS = jax.random.split(jax.random.key(0), 2)
A = jax.random.normal(KEYS[0], (3, 4, 4, 2))
B = jax.random.normal(KEYS[1], (3, 4, 4, 2))
D = 32


def test_whole_image_formula_and_default_constant():
    square = np.sum((np.asarray(A, np.float64) - np.asarray(B, np.float64)) ** 2, axis=(1, 2, 3))
    c = 0.00054 * math.sqrt(D)
    np.testing.assert_allclose(pseudo_huber(A, B), np.sqrt(square + c**2) - c, rtol=1e-5)
    np.testing.assert_allclose(pseudo_huber(A, B, c=2.0), np.sqrt(square + 4.0) - 2.0, rtol=1e-5)


def test_cifar_constant_is_0_0299():
    # 0.00054 sqrt(3072) = 0.02993: the value of the iCT setting.
    a = jnp.zeros((1, 32, 32, 3))
    b = a.at[0, 0, 0, 0].set(3.0)
    c = 0.00054 * math.sqrt(3072)
    np.testing.assert_allclose(pseudo_huber(a, b)[0], math.sqrt(9 + c**2) - c, rtol=1e-6)


def test_elementwise_has_a_constant_of_its_own():
    difference = np.asarray(A, np.float64) - np.asarray(B, np.float64)
    expected = np.mean(np.sqrt(difference**2 + 0.00054**2) - 0.00054, axis=(1, 2, 3))
    np.testing.assert_allclose(pseudo_huber(A, B, elementwise=True), expected, rtol=1e-5)


def test_small_differences_do_not_cancel():
    # sqrt(s + c^2) - c rounds to 0 in float32 here; the true value is s / (2 c).
    a, b = jnp.zeros((1, 1, 1, 1)), jnp.full((1, 1, 1, 1), 1e-5)
    np.testing.assert_allclose(pseudo_huber(a, b, c=1.0), 1e-10 / 2, rtol=1e-5)


def test_gradient_at_equal_images_is_zero_and_finite():
    for distance in (pseudo_huber, squared_l2):
        gradient = jax.grad(lambda a, d=distance: d(a, A).sum())(A)
        np.testing.assert_array_equal(gradient, np.zeros_like(A))


@pytest.mark.takes_a_second
@pytest.mark.parametrize("elementwise", [False, True])
def test_gradient_against_finite_differences(elementwise):
    with jax.enable_x64(True):
        a, b = jnp.asarray(A, jnp.float64), jnp.asarray(B, jnp.float64)
        direction = jnp.asarray(np.random.RandomState(0).randn(*A.shape))

        def along(t):
            return pseudo_huber(a + t * direction, b, c=0.7, elementwise=elementwise).sum()

        slope = jax.grad(along)(jnp.float64(0.0))
        step = 1e-5
        numeric = (along(step) - along(-step)) / (2 * step)
        np.testing.assert_allclose(slope, numeric, rtol=1e-8)


def test_l1_and_l2_are_sums():
    difference = np.asarray(A - B, np.float64)
    np.testing.assert_allclose(squared_l2(A, B), (difference**2).sum((1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(l1(A, B), np.abs(difference).sum((1, 2, 3)), rtol=1e-5)


def test_bad_width():
    with pytest.raises(ArgumentError, match=r"c=-1.0: must be a number of at least 1e-15"):
        pseudo_huber(A, B, c=-1.0)


@pytest.mark.parametrize("distance", [pseudo_huber, squared_l2, l1])
def test_half_precision_is_widened_and_bytes_are_refused(distance):
    half = A.astype(jnp.bfloat16), B.astype(jnp.bfloat16)
    wide = [x.astype(jnp.float32) for x in half]
    np.testing.assert_array_equal(distance(*half), distance(*wide))
    np.testing.assert_array_equal(distance(half[0], wide[1]), distance(*wide))
    with pytest.raises(ArgumentError, match=r"b=.*: must be an array of floats: integers would"):
        distance(A, jnp.zeros(A.shape, jnp.uint8))


@pytest.mark.takes_a_second
def test_the_smallest_width_has_a_gradient():
    gradient = jax.grad(lambda a: pseudo_huber(a, A[:1], c=1e-15)[0])(A[:1])
    np.testing.assert_array_equal(gradient, 0)
    with pytest.raises(ArgumentError, match="c=1e-16"):
        pseudo_huber(A, B, c=1e-16)
