"""Inception's weights: finding the PyTorch file, verifying and converting it."""

import hashlib
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flax import traverse_util

from jaxnoise.errors import ConfigError
from jaxnoise.evaluation.state_dict import NetworkWeights, StateDict, kernel_shapes
from jaxnoise.evaluation.torch_files import file_content, parse_torch_tensors
from jaxnoise.files import cache_folder, user_path
from jaxnoise.models.inception import IMAGE_SIZE, Inception

WEIGHTS_FILE = "pt_inception-2015-12-05-6726825d.pth"
WEIGHTS_URL = (
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{WEIGHTS_FILE}"
)
# The authors publish these eight digits of the digest, as a part of the file's name.
SHA256_PREFIX = "6726825d"

_BATCH_NORM_EPSILON = 1e-3

Array = npt.NDArray[Any]


def convert_torch_state_dict(tensors: Mapping[str, Array]) -> dict[str, Any]:
    """Inception's parameters from the tensors of its PyTorch conversion, batch norm folded in.

    `kernel = w s`, `bias = beta - mean s`, `s = gamma / sqrt(var + 1e-3)`, computed in float64.

    Args:
      tensors: arrays by PyTorch name. Convolution weights are [out, in, height, width].
        `num_batches_tracked` and the auxiliary classifier `AuxLogits` are ignored, and so is the
        value of `fc.bias` (the logits are without bias).

    Returns:
      The `params` of `Inception`, nested dict of float32 numpy arrays.

    Raises:
      ConfigError: a name that is missing or unknown, another shape, a value that is not finite or
        a negative variance.
    """
    needed = {name: x for name, x in tensors.items() if not name.startswith("AuxLogits.")}
    state = StateDict("Inception", needed)
    params: dict[tuple[str, ...], Any] = {}
    for path, shape in kernel_shapes(Inception(), IMAGE_SIZE).items():
        name = ".".join(path)
        if name == "fc":
            inputs, outputs = shape
            weight = state.take("fc.weight", (outputs, inputs))
            state.take("fc.bias", (outputs,))
            params[path] = {"kernel": weight.T.astype(np.float32)}
        else:
            names = f"{name}.conv", f"{name}.bn"
            params[path] = state.convolution(*names, shape, _BATCH_NORM_EPSILON)
    state.finish()
    nested: dict[str, Any] = traverse_util.unflatten_dict(params)
    return nested


def weights_path(path: str | os.PathLike[str] | None = None, *, fetch: bool = False) -> Path:
    """The verified file of Inception's weights.

    Args:
      path: the file; None for `pt_inception-2015-12-05-6726825d.pth` in the cache folder,
        `$JAXNOISE_CACHE` or `~/.cache/jaxnoise`.
      fetch: download it into the cache folder where it is not there yet (only without `path`).

    Returns:
      The path of a file whose SHA-256 begins with 6726825d.

    Raises:
      ConfigError: no file, a file of another digest, or a download that fails (nothing of it is
        kept).
    """
    found = _locate(path, fetch)
    _digest(file_content(found), found)
    return found


def load_inception(
    path: str | os.PathLike[str] | None = None, *, fetch: bool = False
) -> NetworkWeights:
    """The verified and converted weights; see `weights_path` and `convert_torch_state_dict`.

    Args:
      path: the file; None to look in the cache folder.
      fetch: download it into the cache folder where it is not there yet.

    Returns:
      Parameters, and the file's digest.

    Raises:
      ConfigError: no file, or one that is not the weights.
    """
    found = _locate(path, fetch)
    content = file_content(found)
    sha256 = _digest(content, found)
    return NetworkWeights(convert_torch_state_dict(parse_torch_tensors(content, found)), sha256)


def _locate(path: str | os.PathLike[str] | None, fetch: bool) -> Path:
    if path is not None:
        return user_path(path)
    folder = cache_folder()
    cached = folder / WEIGHTS_FILE
    if not cached.is_file():
        if not fetch:
            raise ConfigError(f"there is no {cached}: {_cure(folder)}")
        _fetch(cached)
    return cached


def _cure(folder: Path) -> str:
    return (
        f"put {WEIGHTS_FILE} from {WEIGHTS_URL} into {folder}, set fetch=True to download it, "
        "or choose the extractor 'raw_pixels', which needs no weights"
    )


def _digest(content: bytes, origin: object) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    if not sha256.startswith(SHA256_PREFIX):
        raise ConfigError(
            f"{origin} is not {WEIGHTS_FILE}: its sha256 is {sha256} and should begin with "
            f"{SHA256_PREFIX}"
        )
    return sha256


def _fetch(cached: Path) -> None:
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        # Under its own name only when it is whole and verified.
        with tempfile.TemporaryDirectory(prefix="incomplete.", dir=cached.parent) as part:
            target = Path(part) / WEIGHTS_FILE
            print(f"downloading {WEIGHTS_URL} to {cached}", file=sys.stderr)
            with (
                urllib.request.urlopen(WEIGHTS_URL, timeout=60) as response,
                target.open("wb") as file,
            ):
                shutil.copyfileobj(response, file, 2**20)
            _digest(target.read_bytes(), WEIGHTS_URL)
            os.replace(target, cached)
    except (OSError, HTTPException) as error:  # no network, a time-out, a full disk
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{WEIGHTS_URL} cannot be fetched ({reason}): {_cure(cached.parent)}"
        ) from error
