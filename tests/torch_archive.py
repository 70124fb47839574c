"""Checkpoints and pickled modules as PyTorch writes them, made without PyTorch."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np

TYPES = {"<f4": b"FloatStorage", "<i8": b"LongStorage"}


def push(value):
    """Pickle opcodes that leave `value` on the stack."""
    return pickle.dumps(value, 2)[2:-1]


def tensor(key, dtype, count, offset, size, stride):
    """Pickle opcodes that leave a tensor on the stack, as torch writes them."""
    storage = push("storage") + b"ctorch\n" + TYPES[dtype] + b"\n" + push(key) + push("cpu")
    arguments = push(offset) + push(size) + push(stride) + push(False) + push(OrderedDict())
    return b"ctorch._utils\n_rebuild_tensor_v2\n((" + (
        storage + push(count) + b"tQ" + arguments + b"tR"
    )


def archive(pickled, storages, byteorder=b"little"):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("any/data.pkl", pickled)
        file.writestr("any/byteorder", byteorder)
        for key, stored in storages.items():
            file.writestr(f"any/data/{key}", stored)
    return content.getvalue()


def saved(tensors):
    """A zip checkpoint of contiguous arrays."""
    entries, storages = b"", {}
    for i, (name, array) in enumerate(tensors.items()):
        strides = tuple(step // array.itemsize for step in array.strides)
        record = tensor(str(i), array.dtype.str, array.size, 0, array.shape, strides)
        entries += push(str(name)) + record
        storages[str(i)] = array.tobytes()
    return archive(b"\x80\x02}(" + entries + b"u.", storages)


def _call(module, name, *arguments):
    """Pickle opcodes of a call of a global with arguments that are opcodes themselves."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def _storage_file(array):
    """A storage as `torch.save` writes it alone, in the legacy format."""
    begin = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    own = push("storage") + b"ctorch\n" + TYPES[array.dtype.str] + b"\n" + push("0") + push("cpu")
    storage = b"\x80\x02(" + own + push(array.size) + push(None) + b"tQ."
    parts = [pickle.dumps(part, 2) for part in begin] + [storage, pickle.dumps(["0"], 2)]
    return b"".join(parts) + struct.pack("<q", array.size) + array.tobytes()


def _pickled_tensor(array):
    array = np.ascontiguousarray(array)
    storage = _call(
        "torch.storage", "_load_from_bytes", pickle.dumps(_storage_file(array), 3)[2:-1]
    )
    strides = tuple(step // array.itemsize for step in array.strides)
    return _call(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage,
        *map(push, (0, array.shape, strides, False, OrderedDict())),
    )


def _dictionary(entries):
    return b"}(" + b"".join(push(name) + value for name, value in entries.items()) + b"u"


def _module(kind, settings, tensors):
    """A module of nested tensors as NVIDIA's torch_utils.persistence has it pickled."""
    own = {name: array for name, array in tensors.items() if "." not in name}
    below = {}
    for name, array in tensors.items():
        first, _, rest = name.partition(".")
        if rest:
            below.setdefault(first, {})[rest] = array
    state = {name: push(value) for name, value in settings.items()}
    state["_parameters"] = _dictionary({n: _pickled_tensor(x) for n, x in own.items()})
    state["_modules"] = _dictionary({n: _module("Any", {}, x) for n, x in below.items()})
    meta = {"type": push("class"), "version": push(6), "module_src": push("raise SystemExit")}
    meta |= {"class_name": push(kind), "state": _dictionary(state)}
    return _call("torch_utils.persistence", "_reconstruct_persistent_obj", _dictionary(meta))


def pickled_module(kind, settings, tensors):
    """A pickle {"ema": module} of tensors by dotted name."""
    return b"\x80\x03" + _dictionary({"ema": _module(kind, settings, tensors)}) + b"."
