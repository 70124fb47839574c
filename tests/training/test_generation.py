import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.data import ArrayImages, open_images
from jaxnoise.evaluation import reference_from, report
from jaxnoise.evaluation.extractors import raw_pixels
from jaxnoise.sampling.samplers import consistency_samplers
from jaxnoise.training.generation import Generator
from jaxnoise.training.parallel import Devices

SAMPLER = consistency_samplers((), 0.002, 80.0)[0]
SHAPE = (2, 2, 1)


def generator(denoise, class_counts=(), devices=1, **settings):
    counts = np.asarray(class_counts, np.int64)
    return Generator(denoise, SHAPE, counts, 8, Devices("pmap", devices), **settings)


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
    drawn = generator(denoiser, (9, 0, 1), guidance=2.0, dtype=np.float32)(scale, 5, 0, SAMPLER)
    # The null label is 3: D = 3/4 + 2 (i/4 - 3/4).
    expected = 0.75 + 2 * (np.array([0, 1, 2, 0, 1]) / 4 - 0.75)
    np.testing.assert_allclose(drawn[:, 0, 0, 0], expected, rtol=1e-6)


@pytest.mark.takes_a_second
def test_labels_are_one_class_after_another_or_as_frequent_as_in_the_data():
    def denoiser(params, labels):
        return lambda x, sigma: 0 * x + params * labels.astype(x.dtype).reshape(-1, 1, 1, 1)

    counts = np.array([70, 0, 10, 20])
    draw = generator(denoiser, counts, dtype=np.float32)
    np.testing.assert_array_equal(draw.labels(6, 0), [0, 1, 2, 3, 0, 1])
    labels = draw.labels(4000, 3, by_frequency=True)
    found = np.bincount(labels, minlength=4)
    assert found[1] == 0
    assert stats.chisquare(found[[0, 2, 3]], 40 * counts[[0, 2, 3]]).pvalue > 1e-3
    images = draw(jnp.float32(1), 20, 3, SAMPLER, by_frequency=True)
    np.testing.assert_array_equal(images[:, 0, 0, 0], labels[:20])
    assert generator(denoiser).labels(3, 0) is None
    # Of the images of a score that is not taken of the training data.
    other = draw.batches(
        jnp.float32(1), 20, 3, SAMPLER, by_frequency=True, class_counts=np.array([0, 5, 0, 0])
    )
    np.testing.assert_array_equal(np.concatenate(list(other)), np.ones((20, *SHAPE), np.float32))


@pytest.mark.takes_a_second
def test_labels_by_frequency_do_not_disturb_the_noise():
    def denoiser(params, labels):
        return lambda x, sigma: x * params

    draw, scale = generator(denoiser, (1, 9), dtype=np.float32), jnp.float32(1 / 80)
    by_frequency = draw(scale, 5, 7, SAMPLER, by_frequency=True)
    np.testing.assert_array_equal(by_frequency, draw(scale, 5, 7, SAMPLER))


@pytest.mark.takes_a_second
def test_perfect_images_of_unequal_classes_score_the_floor():
    """Real images of the wanted class, 9 zeros for each one: labels in turn are far off."""
    digits = open_images("digits")
    pixels, labels = digits.load(np.arange(digits.num_examples))
    zeros, ones = pixels[labels == 0][:170], pixels[labels == 1][:19]
    images = ArrayImages(
        "9 to 1", np.concatenate([zeros, ones]), np.repeat([0, 1], (len(zeros), len(ones))), 2
    )
    by_class = jnp.asarray(np.stack([zeros, np.resize(ones, zeros.shape)]), jnp.float32)
    held = jnp.asarray([len(zeros), len(ones)], jnp.float32)

    def denoiser(params, labels):
        def real(x, sigma):
            # The noise is the image's own source of randomness.
            u = jax.scipy.special.ndtr(x[:, 0, 0, 0] / 80)
            pick = (u * held[labels]).astype(jnp.int32)
            return by_class[labels, pick] / 127.5 - 1

        return real

    draw = Generator(denoiser, (8, 8, 1), images.class_counts, 8, Devices("pmap", 1))
    n = images.num_examples // 2
    reference = reference_from(raw_pixels(), images, n, "9 to 1")

    def distances(by_frequency):
        found = []
        for seed in range(8):
            drawn = draw(None, n, seed, SAMPLER, by_frequency=by_frequency)
            record = report(
                reference,
                {"s": drawn},
                nfe={"s": 1},
                levels={"s": (80.0,)},
                weights="raw",
                images_seen=0,
                seed=seed,
            )
            found.append(record["frechet_s"])
        return np.mean(found)

    floor = reference.floor["frechet_floor"]
    assert distances(by_frequency=True) < 1.3 * floor
    assert distances(by_frequency=False) > 4 * floor


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
