"""Opens the extractor that scores a run, and checks that weights and images suffice for it."""

from dataclasses import replace

import numpy as np

from jaxnoise.data.images import Images
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.evaluation.extractors import Extractor, extract, raw_pixels
from jaxnoise.evaluation.reference import (
    check_same_space,
    check_sizes,
    checked_metrics,
    sizes_of_sets,
)
from jaxnoise.evaluation.statistics_files import load_statistics
from jaxnoise.experiment import ModelRun
from jaxnoise.run.open import holds_latents, warn

MOST_FEATURES = 23_000
"""Of which a covariance matrix in float64 takes 4 GiB."""


def open_split(run: ModelRun, images: Images, key: str) -> Images | None:
    """The images of the split that a key of `evaluate` names, None for none.

    Args:
      run: a checked config.
      images: that are trained on.
      key: "split" or "held_out".

    Raises:
      ConfigError: the split cannot be opened, its images have another shape, or held-out images
        are those trained on.
    """
    split = getattr(run.evaluate, key)
    if split is None or run.evaluate.n == 0:
        return None
    try:
        found = replace(run.data, split=split).open()
    except ConfigError as error:
        raise ConfigError(f"config.evaluate.{key}={split!r}: {error}") from error
    if key == "held_out" and found.fingerprint == images.fingerprint:
        raise ConfigError(
            f"config.evaluate.held_out={split!r}: must be other images than those trained on"
        )
    if found.image_shape != images.image_shape:
        raise ConfigError(
            f"config.evaluate.{key}={split!r}: its images are of shape {found.image_shape}, "
            f"those trained on of {images.image_shape}"
        )
    return found


def open_extractor(run: ModelRun, images: Images, held_out: Images | None) -> Extractor:
    """The extractor, with its weights, and a check that the score asked for can be had.

    Args:
      run: a checked config.
      images: of the reference.
      held_out: of the floor, or None.

    Raises:
      ConfigError: the weights are not there, or numbers of images do not fit the features.
    """
    settings = run.evaluate
    if settings.n != 0 and images.dtype != np.uint8:
        raise ConfigError(
            f"config.evaluate.n={settings.n}: must be 0, since {holds_latents(run, images)}: "
            "decode samples to score them"
        )
    n, half = samples_asked_for(run, images), images.num_examples // 2
    if settings.n == 0:
        return raw_pixels()
    halves = settings.reference is None and settings.held_out is None
    if n > half and halves:
        what = "half of the images" if half > 1 else too_few_to_score(images)
        raise ConfigError(f"config.evaluate.n={n}: must be at most {half}, {what}")
    if n < 2 and settings.n is None:
        raise ConfigError(f"config.evaluate.n=None: {too_few_to_score(images)}")
    if n < 2:
        raise ConfigError(f"config.evaluate.n={n}: must be at least 2")
    try:
        extractor = run.extractor()
        dimension = feature_count(extractor, images)
    except ArgumentError as error:
        raise ConfigError(f"config.evaluate.extractor.{error}") from error
    except ConfigError as error:
        if not settings.fallback:
            raise ConfigError(f"config.evaluate.extractor: {error}") from error
        warn(f"config.evaluate.extractor: {error}; scores are taken in raw pixels until then")
        extractor = raw_pixels()
        dimension = feature_count(extractor, images)
    try:
        published = settings.reference is not None
        checked_metrics(extractor, settings.metrics, published)
        sizes = sizes_of_sets(n, images, held_out, published)
        if settings.reference is not None:
            statistics = load_statistics(settings.reference, dimension)
            check_same_space(extractor, statistics.metadata)
            sizes |= {} if statistics.count is None else {"published": statistics.count}
        check_sizes(sizes, settings.metrics, dimension, settings.few_samples)
    except ArgumentError as error:
        if error.argument == "images":
            raise ConfigError(f"config.data: {error.value}: must be {error.allowed}") from error
        key = {"path": "reference", "published": "reference"}.get(error.argument, error.argument)
        raise ConfigError(
            f"config.evaluate.{key}={error.value!r}: must be {error.allowed}"
        ) from error
    if dimension > MOST_FEATURES:
        raise ConfigError(
            f"config.evaluate.extractor: has {dimension:,} features of images of shape "
            f"{images.image_shape}, must have at most {MOST_FEATURES:,}, whose covariance takes "
            "4 GiB; choose another extractor, or evaluate.n=0 for no score"
        )
    return extractor


def too_few_to_score(images: Images) -> str:
    """That there are no halves to compare, and what to do."""
    return (
        f"a set of {images.num_examples} has no halves to score with; set evaluate.n=0 for no "
        "score, or add images"
    )


def feature_count(extractor: Extractor, images: Images) -> int:
    """How many features the extractor sees in these images; a user's function is called once.

    Raises:
      ArgumentError: the images do not suit the extractor.
    """
    if extractor.dimension is not None:
        return extractor.dimension(images.image_shape)
    seen = extract(extractor, [images.load(np.arange(2))[0]])
    return int(seen.moments.mean.size)


def samples_asked_for(run: ModelRun, images: Images) -> int:
    """How many images are generated for a score; 0 for no score."""
    n = run.evaluate.n
    return images.num_examples // 2 if n is None else n
