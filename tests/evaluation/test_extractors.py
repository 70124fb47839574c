"""Extractors: pixels, a user's function, and a network split over devices."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.evaluation import (
    Features,
    efficientnet,
    extract,
    from_function,
    inception,
    raw_pixels,
)
from jaxnoise.evaluation.extractors import over_devices

IMAGES = np.random.RandomState(0).randint(0, 256, (10_000, 4, 4, 3)).astype(np.uint8)
# Sums of integers below 2^24 are exact in float32, in any order.
WEIGHTS = np.random.RandomState(1).randint(-64, 65, (48, 20))


def apply(images: jax.Array) -> Features:
    pixels = images.reshape(images.shape[0], -1).astype(jnp.float32)
    features = pixels @ jnp.asarray(WEIGHTS, jnp.float32)
    return Features(features, features[:, :3])


@pytest.mark.parametrize("count", [1, 2, 8])
def test_moments_do_not_depend_on_devices_and_batches(count, monkeypatch) -> None:
    whole = IMAGES.reshape(len(IMAGES), -1).astype(np.int64) @ WEIGHTS
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:count])
    for batch in (96, 1000, 4096):
        network = over_devices(apply, batch)
        seen = [network(IMAGES[i : i + 3000]) for i in range(0, len(IMAGES), 3000)]
        features = np.concatenate([part.features for part in seen])
        np.testing.assert_array_equal(features, whole)
        logits = np.concatenate([part.logits for part in seen])
        np.testing.assert_array_equal(logits, whole[:, :3])


@pytest.mark.takes_a_second
def test_statistics_of_10000_images_are_equal_under_any_split(monkeypatch) -> None:
    """1, 2 and 8 devices and three batch sizes, of features that every split computes alike."""
    results = []
    for count in (1, 2, 8):
        monkeypatch.setattr(jax, "local_devices", lambda n=count: jax.devices()[:n])
        for batch in (64, 250, 2000):
            network = over_devices(lambda x: Features(x.reshape(-1, 48).astype(jnp.float32)), batch)

            def portions(network=network, batch=batch):
                for i in range(0, len(IMAGES), 3 * batch):
                    yield IMAGES[i : i + 3 * batch]

            kind = raw_pixels()
            object.__setattr__(kind, "extract", network)
            results.append(extract(kind, portions()).moments)
    for other in results[1:]:
        assert other.count == 10_000
        np.testing.assert_allclose(other.mean, results[0].mean, rtol=1e-10)
        np.testing.assert_allclose(other.covariance, results[0].covariance, rtol=1e-10, atol=1e-7)
    pixels = IMAGES.reshape(len(IMAGES), -1).astype(np.float64)
    np.testing.assert_allclose(results[0].covariance, np.cov(pixels.T), rtol=1e-10, atol=1e-7)


def test_grey_images_are_repeated_and_others_refused() -> None:
    network = over_devices(apply, 8)
    grey = IMAGES[:5, :, :, :1]
    np.testing.assert_array_equal(
        network(grey, channels=3).features, network(np.repeat(grey, 3, axis=3)).features
    )
    with pytest.raises(ArgumentError, match="with 1 or 3 channels"):
        network(IMAGES[:5, :, :, :2], channels=3)


def test_a_users_function(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_features.py").write_text(
        "def means(images):\n    return images.mean(axis=(1, 2)) / 255\n\n\n"
        "def flat(images):\n    return images.mean()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = from_function("my_features:means")
    assert mine.distance == "FD (my_features:means)"
    assert len(mine.sha256) == 64
    np.testing.assert_allclose(mine.extract(IMAGES[:3]).features, IMAGES[:3].mean((1, 2)) / 255)
    with pytest.raises(ArgumentError, match=r"a function to float\[3, D\], not \(\)"):
        from_function("my_features:flat").extract(IMAGES[:3])
    for path in ("my_features:none", "no_such_module:f", "my_features", "os:name"):
        with pytest.raises(ArgumentError, match="path="):
            from_function(path)
    del sys.modules["my_features"]


def test_features_that_are_not_finite_stop_the_score(tmp_path, monkeypatch) -> None:
    (tmp_path / "nan_features.py").write_text(
        "def bad(images):\n    return images.mean(axis=(1, 2)) * float('nan')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ArgumentError, match="3 of 3 rows not finite, the first at index 0"):
        extract(from_function("nan_features:bad"), [IMAGES[:3]])
    del sys.modules["nan_features"]


def test_inception_without_its_weights_says_where_to_put_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("JAXNOISE_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"pt_inception-2015-12-05-6726825d\.pth") as error:
        inception()
    assert str(tmp_path) in str(error.value)
    with pytest.raises(ArgumentError, match="resize='tf2'"):
        inception(resize="tf2")


@pytest.mark.takes_a_second
def test_efficientnet_scores_grey_images_under_its_own_name() -> None:
    extractor = efficientnet(batch=8)
    images = IMAGES[:6, :, :, :1]
    seen = extract(extractor, [images], keep=True)
    assert seen.features.shape == (6, 1280)
    assert seen.logits is None
    assert seen.moments.mean.shape == (extractor.dimension((4, 4, 1)),)
    colours = extractor.extract(np.repeat(images, 3, axis=3)).features
    np.testing.assert_array_equal(seen.features, colours)
    assert extractor.distance == "FD (efficientnet-lite0)"
