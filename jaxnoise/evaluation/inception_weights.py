"""Inception's weights: finding the PyTorch file, reading it without running it, converting it."""

import hashlib
import io
import math
import os
import pickle
import shutil
import sys
import tempfile
import urllib.request
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import traverse_util

from jaxnoise.errors import ConfigError
from jaxnoise.models.inception import IMAGE_SIZE, Inception

WEIGHTS_FILE = "pt_inception-2015-12-05-6726825d.pth"
WEIGHTS_URL = (
    f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{WEIGHTS_FILE}"
)
# The authors publish these eight digits of the digest, as a part of the file's name.
SHA256_PREFIX = "6726825d"

_BATCH_NORM_EPSILON = 1e-3
_STATISTICS = ("weight", "bias", "running_mean", "running_var")

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_STORAGE_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}

Array = npt.NDArray[Any]


class InceptionWeights(NamedTuple):
    """Parameters with the identity of the file that they came from.

    Attributes:
      params: nested dict of float32 numpy arrays; apply with `{"params": params}`.
      sha256: digest of the file, hexadecimal, for the record of a protocol.
    """

    params: dict[str, Any]
    sha256: str


class _Storage(NamedTuple):
    key: str
    dtype: str
    elements: int


class _Tensor(NamedTuple):
    """A view of a storage; offset, size and stride in elements."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any
) -> _Tensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, _Storage) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor without a storage")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError(f"a tensor with offset, size and stride {numbers}")
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Any:
    return tensor


class _Unpickler(pickle.Unpickler):
    """Builds nothing but dicts, lists, numbers, strings and records of tensors."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no state dict needs")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, *view = pid
        known = kind == "storage" and dtype in _STORAGE_DTYPES.values() and type(count) is int
        if not known or any(part is not None for part in view):
            raise pickle.UnpicklingError(f"an unknown kind of storage {pid!r:.80}")
        return _Storage(str(key), dtype, count)


def _unpickle(file: Any) -> Any:
    return _Unpickler(file, encoding="utf-8").load()


def _array(tensor: _Tensor, content: bytes) -> Array:
    """The tensor's elements, copied out of its storage's bytes."""
    values = np.frombuffer(content, tensor.storage.dtype)
    if len(values) != tensor.storage.elements:
        raise ValueError(f"storage {tensor.storage.key} holds {len(values)} elements")
    elements = math.prod(tensor.size)
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.size, tensor.stride, strict=True))
    # The second bound keeps a stride of 0 from asking for more memory than the file has.
    if elements and (last >= len(values) or elements > len(values)):
        raise ValueError(f"a tensor runs past the end of storage {tensor.storage.key}")
    if not elements:
        return np.zeros(tensor.size, values.dtype)
    strides = [values.itemsize * step for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.size, strides).copy()


def _read_zip(content: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = archive.namelist()
    (pickled,) = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    root = pickled.removesuffix("data.pkl")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    found = _unpickle(io.BytesIO(archive.read(pickled)))
    return found, lambda storage: archive.read(f"{root}data/{storage.key}")


def _read_legacy(content: bytes) -> tuple[Any, Callable[[_Storage], bytes]]:
    """Five pickles (magic, protocol, system, object, keys), then counted storages in key order."""
    file = io.BytesIO(content)
    if _unpickle(file) != _LEGACY_MAGIC or _unpickle(file) != _LEGACY_PROTOCOL:
        raise ValueError("it does not begin as one")
    if not _unpickle(file)["little_endian"]:
        raise ValueError("its numbers are big-endian")
    found, keys = _unpickle(file), _unpickle(file)
    dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in _tensors(found).values()}
    storages = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        storages[key] = file.read(count * np.dtype(dtypes[key]).itemsize)
    return found, lambda storage: storages[storage.key]


def _tensors(found: Any) -> dict[str, _Tensor]:
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, not a dict")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise ValueError(f"its entry {name!r:.80} is no tensor")
    return found


def _parse(content: bytes, origin: object) -> dict[str, Array]:
    read = _read_zip if content.startswith(b"PK") else _read_legacy
    try:
        found, storage_bytes = read(content)
        return {
            name: _array(tensor, storage_bytes(tensor.storage))
            for name, tensor in _tensors(found).items()
        }
    except Exception as error:  # a damaged pickle can raise any of a dozen types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{origin} cannot be read as a PyTorch state dict: {reason}") from error


def read_torch_tensors(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The tensors of a PyTorch state dict file, read without PyTorch and without running it.

    A `.pth` file holds a pickle, and a pickle can run any program. This reader knows only what a
    state dict needs and refuses everything else. Both formats are read: the zip archive (PyTorch
    1.6 and later) and the legacy one.

    Args:
      path: the file.

    Returns:
      Arrays by name, in the file's order.

    Raises:
      ConfigError: no such file, a file that is no state dict or asks for more than tensors, a
        storage that is too short, or big-endian numbers.
    """
    return _parse(_content(Path(path).expanduser()), path)


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
    unused = {
        name
        for name in tensors
        if not name.startswith("AuxLogits.") and not name.endswith(".num_batches_tracked")
    }

    def take(name: str, shape: tuple[int, ...]) -> Array:
        if name not in tensors:
            raise ConfigError(f"Inception's weights lack {name}")
        value = np.asarray(tensors[name])
        if value.shape != shape:
            raise ConfigError(f"Inception's {name} has shape {value.shape} and should be {shape}")
        value = value.astype(np.float64)
        if not np.isfinite(value).all() or (name.endswith(".running_var") and value.min() < 0):
            raise ConfigError(f"Inception's {name} holds a value that is not possible there")
        unused.remove(name)
        return value

    params: dict[tuple[str, ...], Array] = {}
    for path, kernel in _kernels().items():
        layer = ".".join(path)
        if layer == "fc":
            inputs, outputs = kernel.shape
            weight = take("fc.weight", (outputs, inputs))
            take("fc.bias", (outputs,))
            params[*path, "kernel"] = weight.T.astype(np.float32)
            continue
        height, width, inputs, outputs = kernel.shape
        weight = take(f"{layer}.conv.weight", (outputs, inputs, height, width))
        gamma, beta, mean, variance = (take(f"{layer}.bn.{s}", (outputs,)) for s in _STATISTICS)
        scale = gamma / np.sqrt(variance + _BATCH_NORM_EPSILON)
        params[*path, "kernel"] = (weight.transpose(2, 3, 1, 0) * scale).astype(np.float32)
        params[*path, "bias"] = (beta - mean * scale).astype(np.float32)
    if unused:
        first = ", ".join(map(repr, sorted(unused)[:3]))
        raise ConfigError(f"Inception has no {first} ({len(unused)} unknown names)")
    nested: dict[str, Any] = traverse_util.unflatten_dict(params)
    return nested


def _kernels() -> dict[tuple[str, ...], jax.ShapeDtypeStruct]:
    """The shape of each layer's kernel by the layer's path, from the network itself."""
    images = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = traverse_util.flatten_dict(jax.eval_shape(Inception().init, key, images)["params"])
    return {path[:-1]: shape for path, shape in shapes.items() if path[-1] == "kernel"}


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
    _digest(_content(found), found)
    return found


def load_inception(
    path: str | os.PathLike[str] | None = None, *, fetch: bool = False
) -> InceptionWeights:
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
    content = _content(found)
    sha256 = _digest(content, found)
    return InceptionWeights(convert_torch_state_dict(_parse(content, found)), sha256)


def _locate(path: str | os.PathLike[str] | None, fetch: bool) -> Path:
    if path is not None:
        return Path(path).expanduser()
    folder = Path(os.environ.get("JAXNOISE_CACHE") or "~/.cache/jaxnoise").expanduser()
    cached = folder / WEIGHTS_FILE
    if not cached.is_file():
        if not fetch:
            raise ConfigError(f"there is no {cached}: {_cure(folder)}")
        _fetch(cached)
    return cached


def _cure(folder: Path) -> str:
    return (
        f"put {WEIGHTS_FILE} from {WEIGHTS_URL} into {folder}, or choose the extractor "
        "'raw pixels', which needs no weights"
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


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
