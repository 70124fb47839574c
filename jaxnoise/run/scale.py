"""Whether the data have the standard deviation that the objective is told they have."""

import sys
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxnoise.data.images import Images
from jaxnoise.errors import ConfigError
from jaxnoise.experiment import Run
from jaxnoise.objectives import DenoisingObjective

FACTOR = 2
"""How far apart the two may be."""
_EXAMPLES, _VALUES = 1024, 2**24  # that are looked at, at most


def check_scale(run: Run, images: Images) -> None:
    """Prints the data's standard deviation beside `sigma_data`, unless `data.scale` is set.

    It is that of all values of up to 1,024 examples, evenly spaced, as the network sees them: bytes
    are mapped to [-1, 1], floats are as they are.

    Args:
      run: a checked config.
      images: what it trains on.

    Raises:
      ConfigError: one is more than twice the other.
    """
    if run.data.scale is not None:
        return
    told = sigma_data_of(run)
    values = sampled(images)
    seen = values / np.float32(127.5) - 1 if images.dtype == np.uint8 else values
    std = float(np.std(seen, dtype=np.float64))
    cause = likely_cause(values)
    line = f"the data's standard deviation is {std:.3g}, objective.sigma_data={told:g}"
    if told / FACTOR <= std <= told * FACTOR:
        if jax.process_index() == 0:
            hint = f"; {cause}" if images.dtype != np.uint8 and cause else ""
            print(f"{line}{hint}", file=sys.stderr, flush=True)
        return
    remedies = [] if std == 0 else [f"config.objective.sigma_data={std:.3g}"]
    if images.dtype != np.uint8 and std > 0:
        remedies += [f"config.data.scale={told / std:.3g}, which multiplies them"]
    raise ConfigError(
        f"{line}: more than a factor {FACTOR} apart"
        + (f" ({cause})" if cause else "")
        + f"; set {', or '.join([*remedies, 'config.data.scale=1.0 to train on them as they are'])}"
    )


def sigma_data_of(run: Run) -> float:
    """The standard deviation that the objective is told the data have."""
    objective = run.objective
    if isinstance(objective, DenoisingObjective):
        return float(objective.prediction.sigma_data)
    return float(objective.sigma_data)


def sampled(images: Images) -> NDArray[Any]:
    """Some examples, evenly spaced: dtype[n, height, width, channels]."""
    most = min(_EXAMPLES, max(16, _VALUES // int(np.prod(images.image_shape))))
    count = min(most, images.num_examples)
    return images.load(np.arange(count) * (images.num_examples - 1) // max(count - 1, 1))[0]


def likely_cause(values: NDArray[Any]) -> str:
    """Why data may be of another scale than pixels in [-1, 1], or "".

    Args:
      values: uint8 or float32[n, height, width, channels], as they are stored.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return f"all values are {low:g}"
    if values.dtype == np.uint8:
        if high <= 1:
            return "the pixels are 0 and 1 instead of 0 to 255"
        mean = float(values.mean())
        return f"{'dark images' if mean < 64 else 'little contrast'}, of mean {mean:.3g} of 255"
    if low >= 0 and high <= 1:
        return "values from 0 to 1: are they pixels? Store them as uint8, or map them to [-1, 1]"
    if low >= 0 and 1 < high <= 255:
        return "values from 0 to 255: are they pixels? Store them as uint8"
    each = [float(np.std(channel, dtype=np.float64)) for channel in np.moveaxis(values, -1, 0)]
    if max(each) > FACTOR * min(each):
        shown = ", ".join(f"{std:.3g}" for std in each[:4])
        return f"channels differ, their standard deviations are {shown}: scale each of them before"
    return ""
