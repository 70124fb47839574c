import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.export import argument_names, export_sampler, sampling_program
from jaxnoise.sampling import (
    consistency_samplers,
    ddim_sampler,
    euler_sampler,
    heun_sampler,
    image_noise,
)

ONE_STEP, TWO_STEP = consistency_samplers((0.5,), 0.002, 80.0)


def of_class(labels):
    """A denoiser whose estimate is a tenth of the label, with a little of the noisy image."""

    def denoise(x, sigma):
        level = (labels.astype(x.dtype) / 10)[:, None, None, None]
        return level + x / (1 + sigma**2)[:, None, None, None]

    return denoise


def unconditional(labels):
    assert labels is None
    return of_class(jnp.zeros(1, jnp.int32))


@pytest.fixture(scope="module")
def program():
    """A guided two-step program."""
    return jax.export.deserialize(export_sampler(TWO_STEP, of_class, (4, 2, 3), 10, 2.0))


@pytest.mark.parametrize("sampler", [ONE_STEP, heun_sampler(3), euler_sampler(3), ddim_sampler(3)])
def test_a_deterministic_sampler_takes_no_keys(sampler):
    assert argument_names(sampler, 0) == ("noise",)
    assert argument_names(sampler, 10) == ("noise", "labels")
    program = jax.export.deserialize(export_sampler(sampler, unconditional, (2, 2, 1)))
    assert [str(kind) for kind in program.in_avals] == ["float32[b,2,2,1]"]


@pytest.mark.takes_a_second
@pytest.mark.parametrize("count", [1, 5])
def test_one_program_takes_every_batch_and_gives_each_image_its_own_noise(program, count):
    keys = jax.random.split(jax.random.key(3), 5)[:count]
    labels = jnp.arange(count, dtype=jnp.int32)
    noise = image_noise(keys, (4, 2, 3), 0)
    images = program.call(noise, jax.random.key_data(keys), labels)
    # Guidance 2 against the label 10, whose estimate is 1: twice label/10, less 1.
    estimate = (2 * labels / 10 - 1)[:, None, None, None]
    x = estimate + 80 * noise / (1 + 80**2)
    x = x + (0.5**2 - 0.002**2) ** 0.5 * image_noise(keys, (4, 2, 3), 1)
    np.testing.assert_allclose(images, estimate + x / 1.25, atol=1e-5)


def test_a_program_runs_on_every_platform(program):
    assert program.platforms == ("cpu", "cuda", "tpu")


def test_a_program_carries_no_source_location_and_settings_are_put_back():
    before = jax.config.jax_traceback_in_locations_limit
    data = export_sampler(ONE_STEP, unconditional, (2, 2, 1))
    assert b".py" not in data
    assert data == export_sampler(ONE_STEP, unconditional, (2, 2, 1))
    assert jax.config.jax_traceback_in_locations_limit == before


def test_guidance_needs_classes():
    with pytest.raises(ArgumentError, match=r"guidance=2.0: must be 1 for an unconditional"):
        sampling_program(ONE_STEP, unconditional, 0, guidance=2.0)
