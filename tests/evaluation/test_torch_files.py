"""PyTorch's files are read as PyTorch wrote them, and nothing in them is run."""

import os
import pickle

import numpy as np
import pytest
from reference import make_inception_features as reference
from torch_archive import archive, push, saved, tensor

from jaxnoise.errors import ConfigError
from jaxnoise.evaluation import torch_files
from jaxnoise.evaluation.torch_files import read_torch_tensors

ZIP = reference.FOLDER / "torch_zip.pth"
LEGACY = reference.FOLDER / "torch_legacy.pth"


def one_line(caught):
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("path", [ZIP, LEGACY])
def test_what_torch_saved_is_read(path):
    found, expected = read_torch_tensors(path), reference.stored_tensors()
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, err_msg=name)


class Program:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "first pickle of legacy"])
def test_a_pickle_that_would_run_a_program_is_refused(form, tmp_path):
    mark = tmp_path / "it_ran"
    program = pickle.dumps({"weight": Program(mark)}, 2)
    pickle.loads(program)  # the program does run where pickle runs it
    mark.rmdir()
    begin = [torch_files._LEGACY_MAGIC, 1001, {"little_endian": True}]
    content = {
        "zip": archive(program, {}),
        "legacy": b"".join(pickle.dumps(part, 2) for part in begin) + program,
        "first pickle of legacy": program,
    }[form]
    path = tmp_path / "evil.pth"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"asks for \w+\.mkdir, which no state") as caught:
        read_torch_tensors(path)
    one_line(caught)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", [b"builtins\neval", b"torch\nload", b"collections\nCounter", b"torch.nn\nLinear"]
)
def test_no_other_name_is_known(name, tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(archive(b"\x80\x02c" + name + b"\n.", {}))
    with pytest.raises(ConfigError, match="which no state dict needs") as caught:
        read_torch_tensors(path)
    one_line(caught)


FOUR = np.arange(4, dtype=np.float32).tobytes()


@pytest.mark.parametrize(
    "record, message",
    [
        ((4, 0, (5,), (1,)), "runs past the end"),
        ((4, 1, (2, 2), (2, 1)), "runs past the end"),
        ((4, 0, (9999, 9999), (0, 0)), "runs past the end"),
        ((4, 0, (2,), (-1,)), "offset, size and stride"),
        ((4, -1, (1,), (1,)), "offset, size and stride"),
        ((4, 0, (2, 2), (1,)), "a tensor without a storage"),
        ((5, 0, (4,), (1,)), "holds 4 elements"),
        (("4", 0, (4,), (1,)), "unknown kind of storage"),
    ],
)
def test_a_tensor_that_its_storage_cannot_hold_is_refused(record, message, tmp_path):
    path = tmp_path / "a.pth"
    pickled = b"\x80\x02}(" + push("x") + tensor("0", "<f4", *record) + b"u."
    path.write_bytes(archive(pickled, {"0": FOUR}))
    with pytest.raises(ConfigError, match=message) as caught:
        read_torch_tensors(path)
    one_line(caught)


def test_an_empty_tensor(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(saved({"x": np.zeros((0, 3), np.float32), "y": np.ones(2, np.float32)}))
    found = read_torch_tensors(path)
    assert found["x"].shape == (0, 3)
    assert found["y"].tolist() == [1, 1]


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.pth"
    legacy, zipped = LEGACY.read_bytes(), ZIP.read_bytes()
    damaged = [legacy[:cut] for cut in range(0, len(legacy), 50)] + [legacy[:-1]]
    damaged += [zipped[:cut] for cut in range(0, len(zipped), 500)]
    damaged += [
        b"weights",
        pickle.dumps(1),
        archive(push([1]) + b".", {}),
        archive(push({"epoch": 3}) + b".", {}),
        archive(push({}) + b".", {}, byteorder=b"big"),
        legacy.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"),
    ]
    assert damaged[-1] != legacy
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"a\.pth cannot be read as a PyTorch") as caught:
            read_torch_tensors(path)
        one_line(caught)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none\.pth: No such file") as caught:
        read_torch_tensors(tmp_path / "none.pth")
    one_line(caught)
