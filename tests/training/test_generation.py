import jax.numpy as jnp
import numpy as np

from jaxnoise.sampling.samplers import consistency_samplers
from jaxnoise.training.generation import Generator
from jaxnoise.training.parallel import Devices

SAMPLER = consistency_samplers((), 0.002, 80.0)[0]
SHAPE = (2, 2, 1)


def generator(denoise, num_classes=0, devices=1, **settings):
    return Generator(denoise, SHAPE, num_classes, 8, Devices("pmap", devices), **settings)


def test_latents_are_neither_clipped_nor_rounded():
    def denoiser(params, labels):
        return lambda x, sigma: 0 * x + params

    value = jnp.float32(3.3)
    latents = generator(denoiser, dtype=np.float32)(value, 3, 0, SAMPLER)
    np.testing.assert_array_equal(latents, np.full((3, *SHAPE), 3.3, np.float32))
    images = generator(denoiser)(value, 3, 0, SAMPLER)
    np.testing.assert_array_equal(images, np.full((3, *SHAPE), 255, np.uint8))


def test_guidance_pushes_away_from_the_null_label():
    def denoiser(params, labels):
        return lambda x, sigma: 0 * x + params * labels.astype(x.dtype).reshape(-1, 1, 1, 1)

    scale = jnp.float32(0.25)
    drawn = generator(denoiser, 3, guidance=2.0, dtype=np.float32)(scale, 5, 0, SAMPLER)
    # The null label is 3: D = 3/4 + 2 (i/4 - 3/4).
    expected = 0.75 + 2 * (np.array([0, 1, 2, 0, 1]) / 4 - 0.75)
    np.testing.assert_allclose(drawn[:, 0, 0, 0], expected, rtol=1e-6)


def test_an_image_depends_on_seed_and_position_only():
    def denoiser(params, labels):
        return lambda x, sigma: x * params

    scale = jnp.float32(1 / 80)
    whole = generator(denoiser, dtype=np.float32)(scale, 20, 7, SAMPLER)
    split = generator(denoiser, devices=8, dtype=np.float32)(scale, 11, 7, SAMPLER)
    np.testing.assert_array_equal(split, whole[:11])
    other = generator(denoiser, dtype=np.float32)(scale, 11, 8, SAMPLER)
    assert (other != whole[:11]).all()


def test_portions_are_the_images_drawn_at_once():
    def denoiser(params, labels):
        return lambda x, sigma: x * params

    scale, draw = jnp.float32(1 / 80), generator(denoiser)
    portions = list(draw.batches(scale, 19, 7, SAMPLER))
    assert [len(portion) for portion in portions] == [8, 8, 3]
    np.testing.assert_array_equal(np.concatenate(portions), draw(scale, 19, 7, SAMPLER))
