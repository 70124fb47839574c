"""Networks that were pickled whole, with the source of their classes: their tensors, and no more.

`pickle.dump` of a PyTorch module keeps each tensor's storage as a small file of its own, and
NVIDIA's `torch_utils.persistence` puts the source code of every class beside its state. Neither is
run here: the source is dropped, and what stands for a module holds its state.
"""

import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxnoise.errors import ConfigError
from jaxnoise.evaluation.torch_files import (
    Array,
    Storage,
    Tensor,
    TensorUnpickler,
    file_content,
    read_legacy,
    tensor_array,
)
from jaxnoise.files import user_path

_SCALARS = ("numpy.core.multiarray", "numpy._core.multiarray")
_PLAIN = (bool, int, float, str, type(None))


class PickledModule(NamedTuple):
    """What a pickled network holds.

    Attributes:
      kind: the name of its class.
      settings: its plain attributes (numbers, strings, None) by name.
      tensors: parameters and buffers by dotted name, as a state dict has them.
    """

    kind: str
    settings: dict[str, Any]
    tensors: dict[str, Array]


class _Module:
    """A module's state, whatever its class would do with it."""

    kind = ""
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Ignored:
    """Stands for a value that nobody reads, such as a numpy scalar."""

    def __init__(self, *arguments: Any):
        del arguments

    def __setstate__(self, state: Any) -> None:
        del state


class _ModuleUnpickler(TensorUnpickler):
    """Builds modules' states beside what `TensorUnpickler` builds; imports and runs nothing."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.contents: dict[str, bytes] = {}
        """The bytes of each storage, by a key of its own."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch_utils.persistence", "_reconstruct_persistent_obj"):
            return self._module
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return self._storage
        if (module, name) == ("torch.nn.modules.container", "ModuleDict"):
            return type(name, (_Module,), {"kind": name})
        if (module, name) == ("dnnlib.util", "EasyDict"):
            return OrderedDict
        if module in ("builtins", "__builtin__") and name == "set":
            return set
        if (module, name) == ("numpy", "dtype") or (module in _SCALARS and name == "scalar"):
            return type(name, (_Ignored,), {})
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Storage:
        raise pickle.UnpicklingError(f"a storage outside the file {pid!r:.80}")

    def _module(self, meta: Any) -> _Module:
        if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
            raise pickle.UnpicklingError("a module without the name of its class")
        found = _Module()
        found.kind, found.state = meta["class_name"], meta.get("state")
        return found

    def _storage(self, content: Any) -> Storage:
        storage, bytes_of = read_legacy(content)
        if not isinstance(storage, Storage):
            raise pickle.UnpicklingError("a storage's file that holds no storage")
        key = str(len(self.contents))
        self.contents[key] = bytes_of(storage)
        return storage._replace(key=key)


def _tensors_of(module: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer below a module by its dotted name."""
    if not isinstance(module, _Module) or not isinstance(module.state, dict):
        raise ValueError(f"{prefix.rstrip('.') or 'what it holds'} is no module")
    for kind in ("_parameters", "_buffers", "_modules"):
        held = module.state.get(kind)
        for name, value in (held if isinstance(held, dict) else {}).items():
            if value is None:
                continue
            if kind == "_modules":
                yield from _tensors_of(value, f"{prefix}{name}.")
            elif isinstance(value, Tensor):
                yield f"{prefix}{name}", value
            else:
                raise ValueError(f"{prefix}{name} is no tensor")


def parse_pickled_module(content: bytes, origin: object, key: str) -> PickledModule:
    """The network under a key of a pickle's bytes; see `read_pickled_module`.

    Args:
      content: the whole file.
      origin: what messages call it.
      key: of the dict that the pickle holds.

    Returns:
      What the network holds.

    Raises:
      ConfigError: bytes that `read_pickled_module` refuses.
    """
    unpickler = _ModuleUnpickler(io.BytesIO(content))
    try:
        found = unpickler.load()
        if not isinstance(found, Mapping) or key not in found:
            raise ValueError(f"it holds no {key!r}")
        tensors = {
            name: tensor_array(tensor, unpickler.contents[tensor.storage.key])
            for name, tensor in _tensors_of(found[key])
        }
        module = found[key]
        settings = {name: v for name, v in module.state.items() if isinstance(v, _PLAIN)}
        return PickledModule(module.kind, settings, tensors)
    except Exception as error:  # a damaged pickle can raise any of a dozen types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{origin} cannot be read as a pickled network: {reason}") from error


def read_pickled_module(path: str | os.PathLike[str], key: str) -> PickledModule:
    """A network of a pickle, read without PyTorch and without running anything in the file.

    Such a pickle names functions that run the source code in it. This reader knows by name what
    rebuilds tensors and what marks a module, puts its own inert pieces in their place, and refuses
    every other name before anything is called.

    Args:
      path: the file, as `pickle.dump({key: module, ...})` writes it where the module's classes are
        wrapped by NVIDIA's `torch_utils.persistence`.
      key: of the dict in it, "ema" in EDM's.

    Returns:
      The class's name, its plain settings and all tensors.

    Raises:
      ConfigError: no such file, a file that asks for more than tensors and modules, one without
        `key`, or a damaged one.
    """
    return parse_pickled_module(file_content(user_path(path)), path, key)
