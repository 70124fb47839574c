"""Opens the selection of noise that a config names, and checks that it fits images and batch."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.config.selection import OpenSelection
from jaxnoise.data.images import Images
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.experiment import ModelRun
from jaxnoise.meta.neutral import Noisy, asks_what_is_shown
from jaxnoise.models.rater_file import SavedRater
from jaxnoise.models.rater_layers import NOISY
from jaxnoise.run.open import warn
from jaxnoise.training.drawing import AXIS


def open_selection(run: ModelRun, images: Images, devices: int, num_classes: int) -> OpenSelection:
    """The selection of noise, with its rater, and a check that it fits images and batch.

    Args:
      run: a checked config.
      images: to train on.
      devices: how many share a batch.
      num_classes: labels that the network sees are below it; 0 if it sees none.

    Raises:
      ConfigError: the rater's file cannot be read or does not suit the images or the selection, or
        strata of levels do not fit a device's part of the batch.
    """
    try:
        opened = run.selection()
        if opened.selection is not None:
            local = run.train.batch // devices
            x0 = jax.ShapeDtypeStruct((local, *images.image_shape), jnp.float32)
            if opened.rater is not None:
                check_rater(opened.rater, run.config, images, num_classes)
            keys = jax.eval_shape(partial(jax.random.split, num=local), jax.random.key(0))
            lam = jax.ShapeDtypeStruct((local,), jnp.float32)
            select = partial(opened.selection.select, step=0, losses=_first_pixels)
            if asks_what_is_shown(opened.selection):
                select = partial(select, shown=partial(_as_shown, num_classes))
            # Along the axis of devices, which a selection may sum over.
            alone = jax.vmap(select, axis_name=AXIS, axis_size=1)
            batch = (jax.ShapeDtypeStruct((1, *x.shape), x.dtype) for x in (keys, x0, lam))
            jax.eval_shape(alone, *batch)
    except ArgumentError as error:
        raise ConfigError(f"config.selection.{error}") from error
    return opened


def check_rater(
    rater: SavedRater, config: Mapping[str, Any], images: Images, num_classes: int
) -> None:
    """Refuses a rater that cannot be asked what a selection asks, by what its file says of it.

    Args:
      rater: the frozen rater.
      config: of the run, resolved.
      images: to train on.
      num_classes: labels that the network sees are below it; 0 if it sees none.

    Raises:
      ArgumentError: a rater of other images, labels or noisy images than are shown here, or of one
        image's draws where images compete.
    """
    selection, card = config["selection"], rater.card
    file = selection["file"]
    shape = tuple(card["image_shape"])
    if shape != images.image_shape:
        raise ArgumentError(
            "file", file, f"a rater of images {images.image_shape}; it is one of {shape}"
        )
    if rater.sees == NOISY:
        labels = rater.network.num_classes
        if labels not in (0, num_classes):
            allowed = (
                f"a rater of {num_classes or 'no'} labels, as the network; it is one of {labels}"
            )
            raise ArgumentError("file", file, allowed)
        dropout = config["train"]["label_dropout"]
        if labels and dropout:
            allowed = "a rater of no labels where some are withheld, which no rater learns to rate"
            raise ArgumentError("file", file, f"{allowed} (train.label_dropout={dropout})")
        # All objectives show (x0 + sigma eps) / sqrt(sigma^2 + sigma_data^2).
        here = config["objective"].get("sigma_data")
        there = card.get("config", {}).get("objective", {}).get("sigma_data", here)
        if there != here:
            allowed = f"a rater learned at objective.sigma_data={here}, by which noisy images are "
            raise ArgumentError("file", file, f"{allowed}scaled; this one at {there}")
    learned_by = card.get("config", {}).get("meta", {}).get("candidates")
    if selection["name"] == "rater_pool" and learned_by is not None:
        allowed = (
            "a rater whose batch competed (meta.candidates=None), since a pool compares draws for "
            f"different images; for this one only the {learned_by} draws for one image did"
        )
        raise ArgumentError("file", file, allowed)


def warn_of_other_training(rater: SavedRater, config: Mapping[str, Any], images: Images) -> None:
    """A warning where a rater's file says that it learned on other images, or by another law."""
    place = f"config.selection.file={config['selection']['file']!r}: the rater learned"
    if rater.card.get("data", {}).get("fingerprint", images.fingerprint) != images.fingerprint:
        warn(f"{place} on other images")
    # As the file holds it, which knows no tuples.
    here = json.loads(json.dumps(config["law"]))
    there = rater.card.get("config", {}).get("law", here)
    # A key that one of them does not have came with another version.
    if here["name"] != there["name"] or any(there.get(key, here[key]) != here[key] for key in here):
        warn(f"{place} under law.name={there['name']!r} with other levels than are drawn here")


def _first_pixels(x0: jax.Array, eps: jax.Array) -> jax.Array:
    """Stands for losses where shapes alone matter."""
    return eps.reshape(eps.shape[0], -1)[:, 0]


def _as_shown(num_classes: int, x0: jax.Array, eps: jax.Array) -> Noisy:
    """Stands for what the network is shown where shapes alone matter."""
    del eps
    count = x0.shape[0]
    labels = jnp.zeros(count, jnp.int32) if num_classes else None
    return Noisy(x0, jnp.zeros(count, jnp.float32), labels)
