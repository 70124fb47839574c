"""Parameters as one file of named arrays, in the safetensors format."""

from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict


def save_weights(params: dict[str, Any]) -> bytes:
    """Nested parameters as safetensors bytes: float32 arrays under names joined by "/".

    For trained parameters that other frameworks are to read.

    Args:
      params: nested dict of float32 arrays.

    Returns:
      The file's bytes, the same for the same parameters. Needs the package safetensors.

    Example:
      >>> import numpy as np
      >>> import safetensors.numpy
      >>> from jaxnoise.export import save_weights
      >>> data = save_weights({"network": {"conv": {"bias": np.zeros(3, np.float32)}}})
      >>> list(safetensors.numpy.load(data))
      ['network/conv/bias']
    """
    from safetensors.numpy import save

    flat = flatten_dict(params, sep="/")
    # Not ascontiguousarray, which makes a number an array of one.
    arrays = {name: np.asarray(flat[name], np.float32, order="C") for name in sorted(flat)}
    return bytes(save(arrays))


def load_weights(data: bytes) -> dict[str, Any]:
    """The nested parameters of `save_weights`; branches without an array are gone.

    For parameters that were kept or sent as such a file.

    Args:
      data: safetensors bytes.

    Returns:
      Nested dict of float32 numpy arrays. Needs the package safetensors.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.export import load_weights, save_weights
      >>> data = save_weights({"network": {"scale": np.ones(2, np.float32)}, "objective": {}})
      >>> load_weights(data)
      {'network': {'scale': array([1., 1.], dtype=float32)}}
    """
    from safetensors.numpy import load

    nested: dict[str, Any] = unflatten_dict(load(data), sep="/")
    return nested
