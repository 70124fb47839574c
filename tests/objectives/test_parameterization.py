import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import KarrasGrid, LognormalPairs, constant
from jaxnoise.objectives import (
    ConsistencyObjective,
    edm_preconditioning,
    karras_preconditioning,
    over_pixels,
    squared_l2,
    uniform,
)


def objective(sigma_data=0.5, sigma_min=0.002):
    return ConsistencyObjective(
        grid=KarrasGrid(5, sigma_min, 80.0, 7.0),
        law=LognormalPairs(),
        curriculum=constant(s0=5),
        distance=squared_l2,
        weight=uniform,
        sigma_data=sigma_data,
    )


@hypothesis.given(sigma=st.floats(0.002, 80.0), sigma_data=st.floats(0.1, 2.0))
@hypothesis.settings(deadline=None, max_examples=25, derandomize=True)
def test_coefficients_follow_the_formula(sigma, sigma_data):
    c = karras_preconditioning(jnp.float32(sigma), sigma_data, 0.002)
    s, sd = np.float64(np.float32(sigma)), sigma_data
    np.testing.assert_allclose(c.c_skip, sd**2 / ((s - 0.002) ** 2 + sd**2), rtol=1e-5)
    np.testing.assert_allclose(
        c.c_out, sd * (s - 0.002) / np.sqrt(s**2 + sd**2), rtol=1e-5, atol=1e-9
    )
    np.testing.assert_allclose(c.c_in, 1 / np.sqrt(s**2 + sd**2), rtol=1e-5)
    np.testing.assert_allclose(c.c_noise, np.log(s) / 4, rtol=1e-5, atol=1e-7)


def test_scaled_input_has_unit_variance():
    x0 = 0.5 * jax.random.normal(jax.random.key(0), (200_000,))
    eps = jax.random.normal(jax.random.key(1), (200_000,))
    for sigma in (0.01, 0.5, 20.0):
        c = karras_preconditioning(jnp.float32(sigma))
        # The standard error of a variance over 2e5 normal draws is .0032.
        assert abs(float(jnp.var(c.c_in * (x0 + sigma * eps))) - 1) < 0.013


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("sigma_min", [0.002, 0.01, 0.3])
def test_boundary_is_the_identity_bit_for_bit(jit, sigma_min):
    f = objective(sigma_min=sigma_min).denoiser(lambda x, c_noise: 1e3 * jnp.sin(37 * x))
    x = 3 * jax.random.normal(jax.random.key(0), (4, 3, 3, 2))
    sigma = jnp.full(4, sigma_min)
    np.testing.assert_array_equal((jax.jit(f) if jit else f)(x, sigma), x)


def test_lowest_level_of_the_grid_is_the_boundary():
    f = objective().denoiser(lambda x, c_noise: x + 1)
    level = KarrasGrid(5, 0.002, 80.0, 7.0)(jnp.int32(5))[:1]
    x = jnp.ones((1, 2, 2, 1))
    np.testing.assert_array_equal(f(x, level), x)


def test_over_pixels_shapes_one_number_an_image():
    assert over_pixels(jnp.ones(3), jnp.ones((3, 4, 5, 2))).shape == (3, 1, 1, 1)


@pytest.mark.parametrize(
    "argument, allowed", [("sigma_data", "a number > 0"), ("sigma_min", "a finite number > 0")]
)
def test_errors_name_the_argument(argument, allowed):
    with pytest.raises(ArgumentError, match=f"{argument}=0.0: must be {allowed}"):
        karras_preconditioning(jnp.ones(1), **{argument: 0.0})


@hypothesis.given(sigma=st.floats(0.002, 80.0), sigma_data=st.floats(0.1, 2.0))
@hypothesis.settings(deadline=None, max_examples=25, derandomize=True)
def test_edm_coefficients_follow_the_formula(sigma, sigma_data):
    c = edm_preconditioning(jnp.float32(sigma), sigma_data)
    s, sd = np.float64(np.float32(sigma)), sigma_data
    np.testing.assert_allclose(c.c_skip, sd**2 / (s**2 + sd**2), rtol=1e-5)
    np.testing.assert_allclose(c.c_out, s * sd / np.sqrt(s**2 + sd**2), rtol=1e-5)
    np.testing.assert_allclose(c.c_in, 1 / np.sqrt(s**2 + sd**2), rtol=1e-5)
    np.testing.assert_allclose(c.c_noise, np.log(s) / 4, rtol=1e-5, atol=1e-7)


def test_edm_and_consistency_meet_where_the_boundary_does_not_matter():
    edm = edm_preconditioning(jnp.float32(0.7))
    consistency = karras_preconditioning(jnp.float32(0.7), 0.5, 1e-9)
    np.testing.assert_allclose(edm, consistency, rtol=1e-6)


def test_levels_in_half_precision_are_widened():
    sigma = jnp.bfloat16(0.0078125)
    for made in (karras_preconditioning, edm_preconditioning):
        for found, wanted in zip(made(sigma), made(sigma.astype(jnp.float32)), strict=True):
            assert found.dtype == jnp.float32
            assert found == wanted
    traced = jax.jit(lambda least: karras_preconditioning(jnp.ones(1), 0.5, least).c_skip)(0.002)
    assert traced == karras_preconditioning(jnp.ones(1), 0.5, 0.002).c_skip
