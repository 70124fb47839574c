"""Zip checkpoints as PyTorch writes them, made without PyTorch."""

import io
import pickle
import zipfile
from collections import OrderedDict

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
