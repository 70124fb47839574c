"""A tiny network and experiment that tests share, so that little is compiled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image


def digits_config(**overrides: Any) -> ConfigDict:
    """The shipped default config, shrunk to seconds; overrides are dotted keys."""
    from configs import digits_poly

    config = digits_poly.get_config()
    shrink(config)
    apply(config, overrides)
    return config


def shrink(config: ConfigDict) -> None:
    """Makes a config's network tiny and its run a few steps long."""
    config.model.update(
        model_channels=8, channel_mult=(1, 2), num_blocks=1, attn_resolutions=(), dropout=0.2
    )
    config.train.update(
        steps=8, batch=16, steps_per_dispatch=1, log_every=2, sample_every=8, checkpoint_every=4
    )
    config.sample.update(count=4, columns=2, batch=64)
    config.evaluate.update(n=64)


def apply(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Sets dotted keys, made where they are missing."""
    for path, value in overrides.items():
        *parents, last = path.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        with node.unlocked():
            node[last] = value


def read_png(path: Path) -> np.ndarray:
    """The pixels of a picture."""
    with Image.open(path) as image:
        return np.asarray(image)
