"""Opens the selection of noise that a config names, and checks that it fits images and batch."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.config.selection import OpenSelection
from jaxnoise.data.images import Images
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.experiment import ModelRun
from jaxnoise.models.rater_file import SavedRater
from jaxnoise.run.open import warn


def open_selection(run: ModelRun, images: Images, devices: int) -> OpenSelection:
    """The selection of noise, with its rater, and a check that it fits images and batch.

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
                check_rater(opened.rater, run.config["selection"], images)
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
