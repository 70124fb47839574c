"""What scores need of images and files is checked before anything is trained."""

from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from jaxnoise import experiment
from jaxnoise.errors import ConfigError
from jaxnoise.evaluation import Moments, raw_pixels, save_statistics
from jaxnoise.run.model import open_model


def opened(folder, counts, *, shape=(8, 8, 1), labels=None, **settings):
    """A model of random images of splits of some sizes, with settings of `evaluate`."""
    for seed, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir()
        pixels = np.random.RandomState(seed).randint(0, 256, (count, *shape)).astype(np.uint8)
        np.save(folder / name / "images.npy", pixels)
        if labels is not None:
            np.save(folder / name / "labels.npy", np.repeat([0, 1], labels[name]))
    config = tiny.digits_config(
        data={"dataset": "arrays", "data_dir": str(folder)},
        **{"model.class_conditional": labels is not None},
        **{f"evaluate.{key}": value for key, value in settings.items()},
    )
    return open_model(experiment.read(config))


@pytest.mark.parametrize(
    "counts, settings, message",
    [
        (
            {"train": 100},
            {"held_out": "train"},
            "config.evaluate.held_out='train': must be other images than those trained on",
        ),
        (
            {"train": 100, "test": 63},
            {"held_out": "test", "n": 64},
            "config.evaluate.held_out=63 images: must be at least 64, the number of features",
        ),
        (
            {"train": 63, "test": 100},
            {"held_out": "test", "n": 64},
            "config.data: 63 images: must be at least 64, the number of features",
        ),
        (
            {"train": 100},
            {"n": 3, "few_samples": True, "metrics": ("frechet", "precision_recall")},
            "config.evaluate.n=3: must be at least 4: precision_recall",
        ),
    ],
)
def test_too_few_or_the_same_images(tmp_path, counts, settings, message):
    with pytest.raises(ConfigError) as error:
        opened(tmp_path, counts, **settings)
    assert str(error.value).startswith(message)


def test_published_statistics_that_cannot_be_compared_with(tmp_path):
    path = tmp_path / "published.npz"
    pixels = np.random.RandomState(7).randint(0, 256, (70, 8, 8, 1)).astype(np.uint8)
    own = Moments.of(raw_pixels().extract(pixels).features)
    save_statistics(path, own, {"extractor": "inception-v3"})
    with pytest.raises(ConfigError) as error:
        opened(tmp_path, {"train": 100}, reference=str(path), n=64)
    assert str(error.value) == (
        "config.evaluate.reference=statistics of extractor 'inception-v3': must be of extractor "
        "'raw pixels', by which images are seen"
    )
    covariance = np.eye(64)
    covariance[3, 3] = -1
    np.savez(path, mu=np.zeros(64), sigma=covariance)
    (tmp_path / "again").mkdir()
    with pytest.raises(ConfigError, match=r"^config.evaluate.reference=.*is positive semi-def"):
        opened(tmp_path / "again", {"train": 100}, reference=str(path), n=64)


def test_published_statistics_with_a_floor_of_held_out_images(tmp_path):
    path = tmp_path / "published.npz"
    np.savez(path, mu=np.zeros(64), sigma=np.eye(64))
    counts = {"train": 100, "test": 80}
    model = opened(tmp_path, counts, reference=str(path), held_out="test", n=70)
    assert (model.reference.floor_count, model.reference.floor_is_apart) == (70, True)
    expected = raw_pixels().extract(np.load(tmp_path / "test" / "images.npy")).features
    assert model.held_out.num_examples == len(expected)


def test_pixels_of_large_images_have_no_covariance_that_fits_in_memory(tmp_path):
    with pytest.raises(ConfigError) as error:
        opened(tmp_path, {"train": 8}, shape=(128, 128, 3), n=4, few_samples=True)
    assert str(error.value) == (
        "config.evaluate.extractor: has 49,152 features of images of shape (128, 128, 3), must "
        "have at most 23,000, whose covariance takes 4 GiB; choose another extractor, or "
        "evaluate.n=0 for no score"
    )


@pytest.mark.parametrize("split, counts", [(None, None), ("test", (40, 60))])
def test_labels_are_as_frequent_as_in_the_images_compared_with(tmp_path, split, counts):
    labels = {"train": [180, 20], "test": [40, 60]}
    model = opened(
        tmp_path, {"train": 200, "test": 100}, labels=labels, split=split, n=32, few_samples=True
    )
    asked = []

    def batches(params, n, seed, sampler, *, by_frequency, class_counts):
        asked.append((by_frequency, class_counts if class_counts is None else tuple(class_counts)))
        return np.zeros((n, 8, 8, 1), np.uint8) + np.arange(n, dtype=np.uint8)[:, None, None, None]

    model.__dict__["generator"] = SimpleNamespace(batches=batches)
    record = model.score({}, "raw", 0)
    assert set(asked) == {(True, counts)}
    assert record["labels"] == f"as frequent as in {split or 'the data'}"
