"""PyTorch's files of weights, read without PyTorch and without running the pickle in them."""

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jaxnoise.errors import ConfigError
from jaxnoise.files import user_path

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


class Storage(NamedTuple):
    """Numbers in a row, by the key under which a file holds them."""

    key: str
    dtype: str
    elements: int


class Tensor(NamedTuple):
    """A view of a storage; offset, size and stride in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any
) -> Tensor:
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor without a storage")
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise pickle.UnpicklingError(f"a tensor with offset, size and stride {numbers}")
    return Tensor(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Any:
    return tensor


class TensorUnpickler(pickle.Unpickler):
    """Builds nothing but dicts, lists, numbers, strings and records of tensors."""

    def __init__(self, file: Any):
        super().__init__(file, encoding="utf-8")

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

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, count, *view = pid
        known = kind == "storage" and dtype in _STORAGE_DTYPES.values() and type(count) is int
        if not known or any(part is not None for part in view):
            raise pickle.UnpicklingError(f"an unknown kind of storage {pid!r:.80}")
        return Storage(str(key), dtype, count)


def _unpickle(file: Any) -> Any:
    return TensorUnpickler(file).load()


def tensor_array(tensor: Tensor, content: bytes) -> Array:
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


def _read_zip(content: bytes) -> tuple[Any, Callable[[Storage], bytes]]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    names = archive.namelist()
    (pickled,) = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    root = pickled.removesuffix("data.pkl")
    if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("its numbers are big-endian")
    found = _unpickle(io.BytesIO(archive.read(pickled)))
    return found, lambda storage: archive.read(f"{root}data/{storage.key}")


def read_legacy(content: bytes) -> tuple[Any, Callable[[Storage], bytes]]:
    """Five pickles (magic, protocol, system, object, keys), then counted storages in key order."""
    file = io.BytesIO(content)
    if _unpickle(file) != _LEGACY_MAGIC or _unpickle(file) != _LEGACY_PROTOCOL:
        raise ValueError("it does not begin as one")
    if not _unpickle(file)["little_endian"]:
        raise ValueError("its numbers are big-endian")
    found, keys = _unpickle(file), _unpickle(file)
    # A storage that was pickled on its own is such a file, too.
    held = [found] if isinstance(found, Storage) else [t.storage for t in _tensors(found).values()]
    dtypes = {storage.key: storage.dtype for storage in held}
    storages = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        storages[key] = file.read(count * np.dtype(dtypes[key]).itemsize)
    return found, lambda storage: storages[storage.key]


def _tensors(found: Any) -> dict[str, Tensor]:
    if not isinstance(found, dict):
        raise ValueError(f"it holds a {type(found).__name__}, not a dict")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"its entry {name!r:.80} is no tensor")
    return found


def parse_torch_tensors(content: bytes, origin: object) -> dict[str, Array]:
    """The tensors of a state dict file's bytes; see `read_torch_tensors`.

    Args:
      content: the whole file.
      origin: what messages call it.

    Returns:
      Arrays by name, in the file's order.

    Raises:
      ConfigError: bytes that `read_torch_tensors` refuses.
    """
    read = _read_zip if content.startswith(b"PK") else read_legacy
    try:
        found, storage_bytes = read(content)
        return {
            name: tensor_array(tensor, storage_bytes(tensor.storage))
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
    return parse_torch_tensors(file_content(user_path(path)), path)


def file_content(path: Path) -> bytes:
    """The bytes of a file; ConfigError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
