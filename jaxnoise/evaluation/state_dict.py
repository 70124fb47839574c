"""From a network's PyTorch tensors to its Flax parameters, with every name accounted for."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import traverse_util

from jaxnoise.errors import ConfigError

Array = npt.NDArray[Any]

_STATISTICS = ("weight", "bias", "running_mean", "running_var")


class NetworkWeights(NamedTuple):
    """Parameters with the identity of the file that they came from.

    Attributes:
      params: nested dict of float32 numpy arrays; apply with `{"params": params}`.
      sha256: digest of the file, hexadecimal, for the record of a protocol.
    """

    params: dict[str, Any]
    sha256: str


class StateDict:
    """The tensors of a network, each of them taken once and checked when it is.

    Args:
      network: its name, for messages.
      tensors: arrays by PyTorch name; `num_batches_tracked` is never asked for.

    Example:
      >>> tensors = StateDict("Net", {"fc.weight": np.ones((2, 3)), "fc.bias": np.ones(2)})
      >>> tensors.take("fc.weight", (2, 3)).sum()
      np.float64(6.0)
      >>> tensors.finish()
      Traceback (most recent call last):
      jaxnoise.errors.ConfigError: Net has no 'fc.bias' (1 unknown names)
    """

    def __init__(self, network: str, tensors: Mapping[str, Array]):
        self._network = network
        self._tensors = tensors
        self._left = {name for name in tensors if not name.endswith(".num_batches_tracked")}

    def take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """A tensor of this name and shape.

        Raises:
          ConfigError: none of this name, another shape, a value that is not finite, or a negative
            running variance.
        """
        if name not in self._tensors:
            raise ConfigError(f"{self._network}'s weights lack {name}")
        value = np.asarray(self._tensors[name])
        if value.shape != shape:
            raise ConfigError(
                f"{self._network}'s {name} has shape {value.shape} and should be {shape}"
            )
        value = value.astype(np.float64)
        if not np.isfinite(value).all() or (name.endswith(".running_var") and value.min() < 0):
            raise ConfigError(f"{self._network}'s {name} holds a value that is not possible there")
        self._left.remove(name)
        return value

    def convolution(
        self, name: str, norm: str, shape: tuple[int, ...], epsilon: float
    ) -> dict[str, Array]:
        """A convolution with the batch norm behind it folded in, computed in float64.

        `kernel = w s`, `bias = beta - mean s`, `s = gamma / sqrt(var + epsilon)`.

        Args:
          name: of the convolution; its weight is [out, in, height, width].
          norm: of the batch norm.
          shape: of the Flax kernel, (height, width, in, out).
          epsilon: of the batch norm.

        Returns:
          float32 "kernel" and "bias".

        Raises:
          ConfigError: as `take` does.
        """
        height, width, inputs, outputs = shape
        weight = self.take(f"{name}.weight", (outputs, inputs, height, width))
        gamma, beta, mean, variance = (self.take(f"{norm}.{s}", (outputs,)) for s in _STATISTICS)
        scale = gamma / np.sqrt(variance + epsilon)
        return {
            "kernel": (weight.transpose(2, 3, 1, 0) * scale).astype(np.float32),
            "bias": (beta - mean * scale).astype(np.float32),
        }

    def finish(self) -> None:
        """Raises ConfigError if a tensor is left that nobody took."""
        if self._left:
            first = ", ".join(map(repr, sorted(self._left)[:3]))
            raise ConfigError(f"{self._network} has no {first} ({len(self._left)} unknown names)")


def kernel_shapes(network: nn.Module, size: int) -> dict[tuple[str, ...], tuple[int, ...]]:
    """The shape of each layer's kernel by the layer's path, from the network itself.

    Args:
      network: takes float32[B, size, size, 3].
      size: height and width of its images.

    Returns:
      Shapes by path.

    Example:
      >>> kernel_shapes(nn.Conv(8, (5, 3), name="first"), 16)
      {(): (5, 3, 3, 8)}
    """
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = traverse_util.flatten_dict(jax.eval_shape(network.init, key, images)["params"])
    return {path[:-1]: leaf.shape for path, leaf in params.items() if path[-1] == "kernel"}
