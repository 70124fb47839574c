"""A tiny network and experiment that tests share, so that little is compiled."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from small_network import MODEL


def digits_config(**settings: Any) -> dict[str, Any]:
    """The shipped default config, shrunk to seconds, with dotted keys set."""
    from configs import digits_poly

    return shrunk(digits_poly.get_config(), **settings)


def shrunk(config: ConfigDict, **settings: Any) -> dict[str, Any]:
    """A config with a tiny network and a run of a few steps, and dotted keys set."""
    tree = config.to_dict()
    tree["model"] = MODEL | {k: v for k, v in tree["model"].items() if k == "class_conditional"}
    tree["train"] |= {
        "steps": 8,
        "batch": 16,
        "steps_per_dispatch": 1,
        "log_every": 2,
        "sample_every": 8,
        "checkpoint_every": 4,
    }
    tree["sample"] |= {"count": 4, "columns": 2, "batch": 64}
    tree["evaluate"] |= {"n": 64}
    for path, value in settings.items():
        *parents, last = path.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = value
    return tree


def read_png(path: Path) -> np.ndarray:
    """The pixels of a picture."""
    with Image.open(path) as image:
        return np.asarray(image)
