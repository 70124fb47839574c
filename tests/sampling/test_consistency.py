"""Consistency sampling on a Gaussian, whose consistency function is known exactly."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxnoise.errors import ArgumentError
from jaxnoise.sampling import image_noise, multistep, one_step

SIGMA_DATA, SIGMA_MIN, SIGMA_MAX = 0.5, 0.002, 80.0
SHAPE = (2, 3, 1)


def gaussian(x: jax.Array, sigma: jax.Array) -> jax.Array:
    """The consistency function of N(0, sigma_data^2 I), with f(x, sigma_min) = x."""
    scale = jnp.sqrt((SIGMA_DATA**2 + SIGMA_MIN**2) / (SIGMA_DATA**2 + sigma**2))
    return x * scale[:, None, None, None]


def scale_at(sigma: float) -> float:
    return float(np.sqrt((SIGMA_DATA**2 + SIGMA_MIN**2) / (SIGMA_DATA**2 + sigma**2)))


@pytest.fixture(scope="module")
def keys() -> jax.Array:
    return jax.random.split(jax.random.key(0), 8)


@pytest.fixture(scope="module")
def sample() -> Callable[..., jax.Array]:
    def run(keys: jax.Array, sigmas: tuple[float, ...] = (5.0, 0.8)) -> jax.Array:
        noise = image_noise(keys, SHAPE, 0)
        return multistep(gaussian, noise, sigmas, keys, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)

    return run


@pytest.mark.takes_a_second
def test_one_step_scales_the_noise(keys: jax.Array) -> None:
    noise = image_noise(keys, SHAPE, 0)
    images = one_step(gaussian, noise, SIGMA_MAX)
    assert images.dtype == jnp.float32
    np.testing.assert_allclose(images, noise * (SIGMA_MAX * scale_at(SIGMA_MAX)), rtol=1e-6)


def test_multistep_is_the_recursion_written_out(
    keys: jax.Array, sample: Callable[..., jax.Array]
) -> None:
    first, second, third = (np.asarray(image_noise(keys, SHAPE, index)) for index in range(3))
    x = first * SIGMA_MAX * scale_at(SIGMA_MAX)
    x = (x + np.sqrt(5.0**2 - SIGMA_MIN**2) * second) * scale_at(5.0)
    x = (x + np.sqrt(0.8**2 - SIGMA_MIN**2) * third) * scale_at(0.8)
    images = sample(keys)
    assert images.dtype == jnp.float32
    np.testing.assert_allclose(images, x, rtol=2e-6, atol=1e-7)


def test_a_function_that_keeps_clean_images_alone_is_asked_at_the_whole_level(
    keys: jax.Array,
) -> None:
    noise = image_noise(keys, SHAPE, 0)
    found = multistep(gaussian, noise, (0.8,), keys, sigma_min=0.0, sigma_max=SIGMA_MAX)
    x = np.asarray(noise) * SIGMA_MAX * scale_at(SIGMA_MAX)
    x = (x + 0.8 * np.asarray(image_noise(keys, SHAPE, 1))) * scale_at(0.8)
    np.testing.assert_allclose(found, x, rtol=2e-6, atol=1e-7)


def test_no_further_level_is_one_step(keys: jax.Array, sample: Callable[..., jax.Array]) -> None:
    np.testing.assert_array_equal(
        sample(keys, ()), one_step(gaussian, image_noise(keys, SHAPE, 0), SIGMA_MAX)
    )


@pytest.mark.takes_a_second
def test_every_number_of_steps_draws_from_the_data(sample: Callable[..., jax.Array]) -> None:
    # The exact function maps N(0, sigma_data^2 + tau^2) onto N(0, sigma_data^2 + sigma_min^2).
    many = jax.random.split(jax.random.key(1), 1000)
    std = np.sqrt(SIGMA_DATA**2 + SIGMA_MIN**2)
    for sigmas in [(), (0.821,), (20.0, 5.0, 0.8, 0.01)]:
        images = np.asarray(sample(many, sigmas)).reshape(-1)
        assert scipy.stats.kstest(images, scipy.stats.norm(0, std).cdf).pvalue > 1e-3


def test_the_denoiser_sees_every_level_once_per_image(keys: jax.Array) -> None:
    seen = []

    def recorder(x: jax.Array, sigma: jax.Array) -> jax.Array:
        seen.append(np.asarray(sigma))
        return x

    noise = image_noise(keys, SHAPE, 0)
    multistep(recorder, noise, [5.0, 0.8], keys, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)
    np.testing.assert_array_equal(seen, np.float32([[80.0] * 8, [5.0] * 8, [0.8] * 8]))


@pytest.mark.takes_a_second
def test_an_image_depends_on_its_own_key_alone(
    keys: jax.Array, sample: Callable[..., jax.Array]
) -> None:
    together = np.asarray(sample(keys))
    np.testing.assert_array_equal(sample(keys[2:5]), together[2:5])
    np.testing.assert_array_equal(sample(keys[::-1]), together[::-1])
    devices = jax.vmap(sample)(keys.reshape(4, 2))
    np.testing.assert_allclose(devices.reshape(8, *SHAPE), together, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(sample)(keys), together, rtol=1e-6)


def test_noise_is_the_same_on_one_device_and_on_eight(keys: jax.Array) -> None:
    assert jax.device_count() == 8
    on_one = image_noise(keys, SHAPE, 3)
    on_eight = jax.pmap(lambda k: image_noise(k[None], SHAPE, 3)[0])(keys)
    np.testing.assert_array_equal(np.asarray(on_eight), np.asarray(on_one))


@pytest.mark.takes_a_second
def test_noise_is_standard_normal_and_fresh_at_every_draw() -> None:
    many = jax.random.split(jax.random.key(2), 500)
    draws = np.stack([np.asarray(image_noise(many, SHAPE, index)).ravel() for index in (0, 1)])
    for draw in draws:
        assert scipy.stats.kstest(draw, "norm").pvalue > 1e-3
    # 3000 pairs: the correlation of independent draws is within 3.3 / sqrt(3000) at p = 1e-3.
    assert abs(np.corrcoef(draws)[0, 1]) < 0.06
    images = draws[0].reshape(500, 6)
    assert abs(np.corrcoef(images[:-1].ravel(), images[1:].ravel())[0, 1]) < 0.06


def test_levels_may_ascend_or_descend(keys: jax.Array) -> None:
    noise = image_noise(keys, SHAPE, draw_index=0)
    ends = {"sigma_min": SIGMA_MIN, "sigma_max": SIGMA_MAX}
    down, up = (multistep(gaussian, noise, s, keys, **ends) for s in ((5.0, 0.8), (0.8, 5.0)))
    np.testing.assert_array_equal(up, down)


def test_noise_has_the_dtype_asked_for(keys: jax.Array) -> None:
    whole = image_noise(keys, SHAPE, 1)
    assert whole.dtype == jnp.float32
    half = image_noise(keys, SHAPE, 1, jnp.bfloat16)
    np.testing.assert_array_equal(half, whole.astype(jnp.bfloat16))
    with jax.enable_x64(True):
        assert image_noise(keys, SHAPE, 1, jnp.float64).dtype == jnp.float64
    with pytest.raises(ArgumentError, match=r"^dtype=.*: must be of floats"):
        image_noise(keys, SHAPE, 1, jnp.int32)


@pytest.mark.parametrize(
    "sigmas",
    [(0.8, 5.0, 1.0), (5.0, 5.0), (80.0,), (0.002,), (5.0, 0.001), (float("nan"),), (90.0, 1.0)],
)
def test_levels_out_of_order_or_range_are_refused(keys: jax.Array, sigmas: tuple) -> None:
    with pytest.raises(ArgumentError, match=r"sigma_min=0\.002, sigma_max=80\.0") as error:
        multistep(
            gaussian,
            jnp.zeros((8, *SHAPE)),
            sigmas,
            keys,
            sigma_min=SIGMA_MIN,
            sigma_max=SIGMA_MAX,
        )
    assert error.value.argument == "sigmas"


def test_other_arguments_are_named(keys: jax.Array) -> None:
    noise = jnp.zeros((8, *SHAPE))
    with pytest.raises(ArgumentError, match=r"sigma_min=80\.0"):
        multistep(gaussian, noise, (), keys, sigma_min=80.0, sigma_max=80.0)
    for below in (-0.1, float("nan"), jnp.zeros(2)):
        with pytest.raises(ArgumentError, match="sigma_min="):
            multistep(gaussian, noise, (), keys, sigma_min=below, sigma_max=80.0)
    with pytest.raises(ArgumentError, match="sigma_max=0"):
        one_step(gaussian, noise, 0.0)
    with pytest.raises(ArgumentError, match="draw_index=-1"):
        image_noise(keys, SHAPE, -1)


@pytest.mark.takes_a_second
def test_levels_are_never_in_half_precision():
    seen = []

    def denoiser(x, sigma):
        seen.append((x.dtype, sigma.dtype, round(float(sigma[0]), 4)))
        return x

    noise, keys = jnp.ones((1, 1, 1, 1), jnp.bfloat16), jax.random.split(jax.random.key(0), 1)
    out = multistep(denoiser, noise, (0.821,), keys, sigma_min=0.002, sigma_max=80.0)
    assert out.dtype == jnp.bfloat16
    assert seen == [(jnp.bfloat16, jnp.float32, 80.0), (jnp.bfloat16, jnp.float32, 0.821)]
