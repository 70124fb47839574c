"""Opens what an experiment names, and checks what only images, files and devices can tell."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.commands.prepared import Prepared, samples_asked_for, warn
from jaxnoise.config.selection_choices import OpenSelection
from jaxnoise.data.images import Images
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.evaluation.extractors import Extractor, extract, raw_pixels
from jaxnoise.evaluation.protocol import check_n, checked_metrics
from jaxnoise.evaluation.statistics_files import load_statistics
from jaxnoise.experiment import Experiment
from jaxnoise.models.rater_file import SavedRater
from jaxnoise.training.parallel import Devices


def prepare(
    experiment: Experiment,
    images: Images | None = None,
    *,
    scored: bool = True,
    selects: bool = False,
) -> Prepared:
    """Checks what depends on the devices, then opens the images and builds the network.

    Args:
      experiment: a checked config.
      images: instead of the config's own.
      scored: whether a score will be taken, which may need weights.
      selects: whether noise will be selected, which may need a rater's file.

    Raises:
      ConfigError: the batch does not divide, or the images cannot be had or do not fit the network.
    """
    if experiment.train.mapping == "pmap" and jax.process_count() > 1:
        raise ConfigError(
            "config.train.mapping='pmap': must be auto or shard_map with --distributed"
        )
    devices = Devices(mapping=experiment.train.mapping)
    check_batch(experiment.train.batch, devices.size)
    own = images is None
    images = experiment.data.open() if images is None else images
    check_latents(experiment, images)
    extractor = open_extractor(experiment, images) if scored else raw_pixels()
    try:
        network = experiment.network(images.image_shape, images.num_classes)
        opened = open_selection(experiment, images, devices.size) if selects else OpenSelection()
        prepared = Prepared(
            experiment, images, extractor, network, opened.selection, opened.rater, devices
        )
        jax.eval_shape(prepared.initial_state)
    except ArgumentError as error:
        raise ConfigError(f"config.model.{error} (images are {images.image_shape})") from error
    check_labels(prepared)
    if own and opened.rater is not None:
        warn_of_other_images(opened.rater, experiment.config["selection"]["file"], images)
    return prepared


def check_batch(batch: int, devices: int) -> None:
    """Raises ConfigError unless the global batch divides by the number of devices."""
    if batch % devices:
        raise ConfigError(
            f"config.train.batch={batch}: must be a multiple of {devices}, the number of devices"
        )


def check_latents(experiment: Experiment, images: Images) -> None:
    """Raises ConfigError where arrays that are no pixels would be treated as such."""
    if images.dtype == np.uint8:
        return
    why = f"{experiment.data.dataset!r} holds {images.dtype} latents"
    if experiment.data.flip:
        raise ConfigError(f"config.data.flip=True: must be False, since {why}")
    if experiment.evaluate.n != 0:
        raise ConfigError(
            f"config.evaluate.n={experiment.evaluate.n}: must be 0, since {why}: decode samples to "
            "score them"
        )


def check_labels(prepared: Prepared) -> None:
    """Raises ConfigError where labels are withheld, or needed to be, that are not there."""
    dropout = prepared.experiment.train.label_dropout
    guidance = prepared.experiment.sample.guidance
    if dropout and not prepared.conditional:
        raise ConfigError(
            f"config.train.label_dropout={dropout}: must be 0 unless model.class_conditional=True"
        )
    if guidance != 1 and not dropout:
        raise ConfigError(
            f"config.sample.guidance={guidance}: must be 1 unless train.label_dropout is above 0"
        )


def check_draws_images(experiment: Experiment) -> None:
    """Raises ConfigError for a config that trains a rater, which has no samples to look at."""
    if experiment.rating is not None:
        raise ConfigError(
            "config.rater: a rater of noise draws no images; --mode must be train, plot or dry_run"
        )


def open_selection(experiment: Experiment, images: Images, devices: int) -> OpenSelection:
    """The selection of noise, with its rater, and a check that it fits images and batch.

    Raises:
      ConfigError: the rater's file cannot be read or does not suit the images or the selection, or
        strata of levels do not fit a device's part of the batch.
    """
    try:
        opened = experiment.selection()
        if opened.selection is not None:
            local = experiment.train.batch // devices
            x0 = jax.ShapeDtypeStruct((local, *images.image_shape), jnp.float32)
            if opened.rater is not None:
                check_rater(opened.rater, experiment.config["selection"], images)
            keys = jax.eval_shape(partial(jax.random.split, num=local), jax.random.key(0))
            lam = jax.ShapeDtypeStruct((local,), jnp.float32)
            select = partial(opened.selection.select, step=0, losses=_first_pixels)
            jax.eval_shape(select, keys, x0, lam)
    except ArgumentError as error:
        raise ConfigError(f"config.selection.{error}") from error
    return opened


def check_rater(rater: SavedRater, selection: Mapping[str, Any], images: Images) -> None:
    """Refuses a rater that cannot be asked what a selection asks, by what its file says of it.

    Raises:
      ArgumentError: a rater of other images, or of one image's draws where images compete.
    """
    card, file = rater.card, selection["file"]
    shape = tuple(card["image_shape"])
    if shape != images.image_shape:
        raise ArgumentError(
            "file", file, f"a rater of images {images.image_shape}; it is one of {shape}"
        )
    learned_by = card.get("config", {}).get("meta", {}).get("candidates")
    if selection["name"] == "rater_pool" and learned_by is not None:
        allowed = (
            "a rater whose batch competed (meta.candidates=None), since a pool compares draws for "
            f"different images; for this one only the {learned_by} draws for one image did"
        )
        raise ArgumentError("file", file, allowed)


def warn_of_other_images(rater: SavedRater, file: str, images: Images) -> None:
    """A warning where a rater's file says that it learned on other images."""
    if rater.card.get("data", {}).get("fingerprint", images.fingerprint) != images.fingerprint:
        warn(f"config.selection.file={file!r}: the rater learned on other images")


def _first_pixels(x0: jax.Array, eps: jax.Array) -> jax.Array:
    """Stands for losses where shapes alone matter."""
    return eps.reshape(eps.shape[0], -1)[:, 0]


def open_extractor(experiment: Experiment, images: Images) -> Extractor:
    """The extractor, with its weights, and a check that the score asked for can be had.

    Raises:
      ConfigError: the weights are not there, or n does not fit the images or the features.
    """
    settings = experiment.evaluate
    n, half = samples_asked_for(experiment, images), images.num_examples // 2
    if n == 0:
        return raw_pixels()
    if n > half and settings.reference is None:
        raise ConfigError(f"config.evaluate.n={n}: must be at most {half}, half of the images")
    if n < 2:
        raise ConfigError(f"config.evaluate.n={n}: must be at least 2")
    try:
        extractor = experiment.extractor()
        dimension = feature_count(extractor, images)
    except ArgumentError as error:
        raise ConfigError(f"config.evaluate.extractor.{error}") from error
    except ConfigError as error:
        raise ConfigError(f"config.evaluate.extractor: {error}") from error
    try:
        checked_metrics(extractor, settings.metrics, settings.reference is not None)
        check_n(n, dimension, settings.few_samples)
        if settings.reference is not None:
            load_statistics(settings.reference, dimension)
    except ArgumentError as error:
        key = "reference" if error.argument == "path" else error.argument
        raise ConfigError(
            f"config.evaluate.{key}={error.value!r}: must be {error.allowed}"
        ) from error
    return extractor


def feature_count(extractor: Extractor, images: Images) -> int:
    """How many features the extractor sees in these images; a user's function is called once.

    Raises:
      ArgumentError: the images do not suit the extractor.
    """
    if extractor.dimension is not None:
        return extractor.dimension(images.image_shape)
    seen = extract(extractor, [images.load(np.arange(2))[0]])
    return int(seen.moments.mean.size)
