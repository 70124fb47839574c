"""Embeddings, resampling and dropout against direct formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.models import layers


def test_positional_embedding_formula():
    c = np.array([-1.3, 0.0, 0.7], np.float32)
    frequencies = [1.0, 10000 ** (-1 / 3), 10000 ** (-2 / 3), 1e-4]
    angle = np.outer(c.astype(np.float64), frequencies)
    want = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    got = layers.positional_embedding(jnp.asarray(c), 8)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
    assert got.dtype == jnp.float32


def test_fourier_embedding_formula():
    # At c = 0.01 / scale the phases stay within half a turn, so the sines reveal the frequencies.
    scale = 16.0
    got = np.asarray(layers.fourier_embedding(jnp.full(1, 0.01 / scale), 512, scale))[0]
    frequencies = np.arcsin(got[:256].astype(np.float64)) / (2 * np.pi * 0.01)
    assert stats.kstest(frequencies, "norm").pvalue > 1e-3
    c = np.array([-1.3, 0.4])
    want = 2 * np.pi * scale * np.outer(c, frequencies)
    got = layers.fourier_embedding(jnp.asarray(c, jnp.float32), 512, scale)
    np.testing.assert_allclose(got, np.concatenate([np.sin(want), np.cos(want)], 1), atol=1e-3)


@pytest.mark.parametrize("embed", [layers.positional_embedding, layers.fourier_embedding])
@pytest.mark.parametrize("channels", [0, 5])
def test_embedding_widths_are_even(embed, channels):
    with pytest.raises(ArgumentError, match="channels="):
        embed(jnp.zeros(1), channels)


TAPS = [(1, 1), (1, 3, 3, 1), (1, 2, 4, 4, 2, 1), (1, 3)]


def filtered(image, taps, pad):
    """The filter as explicit sums over pixels of one image, [H, W]."""
    f = np.asarray(taps, float) / sum(taps)
    margin = len(f) // 2 - 1 if pad else 0
    padded = np.pad(image, margin)
    rows, columns = ((side - len(f)) // 2 + 1 for side in padded.shape)
    return np.array(
        [
            [f @ padded[2 * i : 2 * i + len(f), 2 * j : 2 * j + len(f)] @ f for j in range(columns)]
            for i in range(rows)
        ]
    )


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("pad", [True, False])
def test_downsampling_is_the_direct_sum(taps, pad):
    image = np.random.default_rng(0).normal(size=(8, 6))
    x = jnp.asarray(image, jnp.float32)[None, :, :, None]
    got = layers.downsample(x, taps, pad)[0, :, :, 0]
    np.testing.assert_allclose(got, filtered(image, taps, pad), atol=1e-6)


@pytest.mark.parametrize("taps", TAPS)
def test_upsampling_is_the_direct_sum(taps):
    image = np.random.default_rng(0).normal(size=(3, 4))
    f = 2 * np.asarray(taps, float) / sum(taps)
    margin = len(f) // 2 - 1
    want = np.zeros((6, 8))
    for i, j in np.ndindex(3, 4):
        for a, b in np.ndindex(len(f), len(f)):
            row, column = 2 * i + a - margin, 2 * j + b - margin
            if 0 <= row < 6 and 0 <= column < 8:
                want[row, column] += f[a] * f[b] * image[i, j]
    x = jnp.asarray(image, jnp.float32)[None, :, :, None]
    np.testing.assert_allclose(layers.upsample(x, taps)[0, :, :, 0], want, atol=1e-6)


@pytest.mark.takes_a_second
def test_resampling_keeps_channels_and_examples_apart():
    x = jnp.zeros((2, 4, 4, 3)).at[1, :, :, 2].set(1.0)
    for resample in (layers.downsample, layers.upsample):
        y = resample(x)
        assert y[1, :, :, 2].min() == 1
        assert y.sum() == y[1, :, :, 2].sum()


@pytest.mark.parametrize("taps", [(), (1, 2, 1), (1, -1)])
@pytest.mark.parametrize("resample", [layers.downsample, layers.upsample])
def test_bad_filters_are_refused(resample, taps):
    with pytest.raises(ArgumentError, match="taps="):
        resample(jnp.zeros((1, 4, 4, 1)), taps)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(0), 4)


@pytest.mark.takes_a_second
def test_a_dropout_mask_depends_on_its_key_and_layer_only(keys):
    x = jnp.ones((4, 5, 5, 3))
    whole = layers.dropout(x, keys, 3, 0.3)
    halves = [layers.dropout(x[:2], part, 3, 0.3) for part in (keys[:2], keys[2:])]
    np.testing.assert_array_equal(whole, jnp.concatenate(halves))
    np.testing.assert_array_equal(whole, layers.dropout(x, keys, 3, 0.3))
    assert (whole[0] != whole[1]).any()
    assert (whole != layers.dropout(x, keys, 4, 0.3)).any()


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
def test_dropout_keeps_the_quantised_share_and_the_mean(keys, rate):
    size = 4 * 30_001  # a remainder, so that the last word is cut
    y = np.asarray(layers.dropout(jnp.ones((4, 30_001)), keys, 0, rate))
    keep = round(256 * (1 - rate)) / 256
    kept = int((y > 0).sum())
    assert stats.binomtest(kept, size, keep).pvalue > 1e-3
    np.testing.assert_allclose(y[y > 0], 1 / keep, rtol=1e-6)
    assert abs(y.mean() - 1) < 4 * np.sqrt((1 / keep - 1) / size)


def test_every_byte_of_a_word_decides_independently(keys):
    kept = np.asarray(layers.dropout(jnp.ones((4, 40_000)), keys, 0, 0.5) > 0).reshape(-1, 4)
    patterns = np.bincount(kept @ [1, 2, 4, 8], minlength=16)
    assert stats.chisquare(patterns).pvalue > 1e-3


@pytest.mark.takes_a_second
def test_dropout_rates(keys):
    x = jnp.ones((4, 3))
    assert layers.dropout(x, keys, 0, 0.0) is x
    assert layers.dropout(x.astype(jnp.bfloat16), keys, 0, 0.5).dtype == jnp.bfloat16
    for rate in (-0.1, 0.001, 0.999, 1.0):
        with pytest.raises(ArgumentError, match="rate="):
            layers.dropout(x, keys, 0, rate)


@pytest.mark.takes_a_second
def test_initial_weights_are_xavier_uniform():
    kernel = layers.xavier_uniform(0.5)(jax.random.key(0), (3, 3, 8, 24), jnp.float32)
    bound = 0.5 * np.sqrt(6 / (9 * (8 + 24)))
    assert stats.kstest(np.ravel(kernel), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
