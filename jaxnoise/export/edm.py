"""The networks that NVIDIA's EDM published, as parameters of `jaxnoise.models.UNet`."""

import math
import os
import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from flax.traverse_util import unflatten_dict

from jaxnoise.errors import ConfigError
from jaxnoise.evaluation.torch_modules import read_pickled_module

Array = npt.NDArray[Any]
Path = tuple[str, ...]

_OF_BLOCK = {
    "norm0": ("norm_0",),
    "conv0": ("conv_0",),
    "affine": ("affine",),
    "norm1": ("norm_1",),
    "conv1": ("conv_1",),
    "skip": ("skip",),
    "norm2": ("attention", "norm"),
    "qkv": ("attention", "qkv"),
    "proj": ("attention", "output"),
}
_OF_MAPPING = {
    "map_label": "label",
    "map_augment": "augment",
    "map_layer0": "embedding_0",
    "map_layer1": "embedding_1",
}


class EdmNetwork(NamedTuple):
    """A network of EDM's.

    Attributes:
      variables: {"params": ...}, nested float32 arrays, as `UNet.apply` takes them.
      image_shape: (H, W, C) of the images that it was trained on.
      num_classes: 0 for an unconditional network.
      fields: those of `UNet` that no array's shape tells.
    """

    variables: dict[str, Any]
    image_shape: tuple[int, int, int]
    num_classes: int
    fields: dict[str, Any]


def load_edm(path: str | os.PathLike[str]) -> EdmNetwork:
    """The moving average of a network that EDM's training saved, a .pkl file; nothing in it is run.

    The raw network is the same function: outputs agree to float32's rounding. Convolutions go from
    [out, in, height, width] to [height, width, in, out], rows of `qkv` from (channel, 3) to
    (3, channel), and the bias of the label's map, which `UNet` has not, joins that of the layer
    behind it. The map of augmentation labels is there as `augment`; without it, images are those
    that were not augmented.

    Of the published files, the DDPM++ networks ("vp" in their names) fit:

    * CIFAR-10, 32x32: `model.name="ddpmpp"`, for the conditional ones `model.class_conditional`;
    * FFHQ and AFHQv2, 64x64: the same with `model.channel_mult=(1, 2, 2, 2)`.

    They are EDM's denoiser of images in [-1, 1], objective.target="edm" with sigma_data .5, and
    where consistency training in ECT's way begins. NCSN++ ("ve") is refused: it drew Fourier
    frequencies of its own, and `UNet`'s are fixed. So are ADM networks and the files of other
    preconditionings ("baseline"), which are told of noise in other numbers.

    For `train.init_from`, or for a network that is used as it is.

    Args:
      path: the file.

    Returns:
      The parameters and what they fit.

    Raises:
      ConfigError: a file that cannot be read, that asks for more than tensors, or another network.

    Reference: https://arxiv.org/abs/2206.00364, appendix F; layout of its public code.
    """
    found = read_pickled_module(path, "ema")
    if found.kind != "EDMPrecond":
        raise ConfigError(f"{path} holds a {found.kind}; only EDMPrecond is told of noise as ours")
    tensors = found.tensors
    if "model.map_noise.freqs" in tensors:
        raise ConfigError(
            f"{path} holds an NCSN++, whose Fourier frequencies are its own; ours are fixed, so "
            "DDPM++ alone can be taken over"
        )
    settings: list[Any] = [
        found.settings.get(name) for name in ("img_resolution", "img_channels", "label_dim")
    ]
    if not all(isinstance(value, int) for value in settings):
        raise ConfigError(f"{path} does not say of what images and labels its network is")
    if found.settings.get("sigma_data", 0.5) != 0.5:
        given = found.settings["sigma_data"]
        raise ConfigError(f"{path} is of sigma_data {given}; only networks of .5 can be taken over")
    side, channels, classes = settings
    flat: dict[Path, Array] = {}
    unknown, taps = [], None
    for name, value in tensors.items():
        if name.endswith(".resample_filter"):
            taps = value.sum(axis=(0, 1, 2))
            continue
        place = _place(name, value, side)
        if place is None:
            unknown.append(name)
        else:
            flat[place] = _as_ours(name, value)
    if unknown:
        first = ", ".join(unknown[:3])
        raise ConfigError(f"{path} holds no DDPM++: no place for {first} ({len(unknown)} in all)")
    _fold_label_bias(flat)
    fields: dict[str, Any] = {"embedding": "positional", "skip_scale": math.sqrt(0.5)}
    if taps is not None and taps.all():
        fields["resample_filter"] = tuple((taps / taps.min()).round(4).tolist())
    nested = unflatten_dict({path: value.astype(np.float32) for path, value in flat.items()})
    return EdmNetwork({"params": nested}, (side, side, channels), classes, fields)


def _place(name: str, value: Array, side: int) -> Path | None:
    """Where a tensor of EDM's lies in our parameters; None for no place."""
    parts = name.removeprefix("model.").split(".")
    leaf = "bias" if parts[-1] == "bias" else "scale" if value.ndim == 1 else "kernel"
    if len(parts) == 2 and parts[0] in _OF_MAPPING:
        return _OF_MAPPING[parts[0]], leaf
    found = re.fullmatch(r"(\d+)x\1_(\w+)", parts[1]) if len(parts) > 2 else None
    if found is None or int(found[1]) < 1 or parts[0] not in ("enc", "dec"):
        return None
    level, kind = (side // int(found[1])).bit_length() - 1, found[2]
    if level and parts[0] == "dec" and "aux" in kind:
        return None  # outputs of lower levels, which ours has not
    if len(parts) == 3:
        alone = {
            ("enc", "conv"): "input",
            ("enc", "aux_residual"): f"encoder{level}_residual",
            ("dec", "aux_norm"): "output_norm",
            ("dec", "aux_conv"): "output",
        }.get((parts[0], kind))
        return None if alone is None else (alone, leaf)
    if len(parts) != 4 or parts[2] not in _OF_BLOCK or "aux" in kind:
        return None
    half = "encoder" if parts[0] == "enc" else "decoder"
    block = {"in0": "middle_0", "in1": "middle_1"}.get(kind, f"{half}{level}_{kind}")
    return block, *_OF_BLOCK[parts[2]], leaf


def _as_ours(name: str, value: Array) -> Array:
    """A tensor in our order of axes, and of the rows of `qkv`."""
    if ".qkv." in name:
        value = value.reshape(-1, 3, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
    if value.ndim == 4 and value.shape[2:] == (1, 1):
        value = value[:, :, 0, 0]
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _fold_label_bias(flat: dict[Path, Array]) -> None:
    """Moves `b` of the label's map `W l + b` behind the next map: `A (e + b) + c = A e + (A b + c)`."""  # noqa: E501
    bias = flat.pop(("label", "bias"), None)
    kernel, own = flat.get(("embedding_0", "kernel")), flat.get(("embedding_0", "bias"))
    if bias is not None and kernel is not None and own is not None:
        wide = bias.astype(np.float64) @ kernel.astype(np.float64)
        flat["embedding_0", "bias"] = own + wide
