"""Statistics files: round trips, files of other tools, and one line for whatever is wrong."""

import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation import Moments, frechet_distance, load_statistics, save_statistics

MOMENTS = Moments.of(np.random.RandomState(0).standard_normal((20, 4)))
METADATA = {
    "extractor": {"name": "Fréchet features", "sha256": "0f" * 32},
    "resize": None,
    "data": {"name": "digits", "count": 20},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "statistics.npz"


def _refusal(path: Path, dimension: int | None = None) -> str:
    with pytest.raises(ArgumentError) as error:
        load_statistics(path, dimension)
    message = str(error.value)
    assert message.startswith(f"path={str(path)!r}: must be ")
    assert "\n" not in message
    return message.split(": must be ", 1)[1]


def test_round_trip(path: Path) -> None:
    save_statistics(path, MOMENTS, METADATA)
    statistics = load_statistics(path, dimension=4)
    np.testing.assert_array_equal(statistics.mean, MOMENTS.mean)
    np.testing.assert_array_equal(statistics.covariance, MOMENTS.covariance)
    assert (statistics.count, statistics.metadata) == (20, METADATA)
    # What other tools do with such a file.
    with np.load(path) as held:
        assert sorted(held) == ["metadata", "mu", "n", "sigma"]
        mean, covariance = held["mu"][:], held["sigma"][:]
    assert frechet_distance(mean, covariance, MOMENTS.mean, MOMENTS.covariance) < 1e-14


def test_a_name_is_kept_as_it_is(tmp_path: Path) -> None:
    save_statistics(str(tmp_path / "reference"), MOMENTS, {})
    assert os.listdir(tmp_path) == ["reference"]
    assert load_statistics(str(tmp_path / "reference")).metadata == {}


def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_statistics(path, MOMENTS, METADATA)

    def full(file: object, **arrays: np.ndarray) -> None:
        file.write(b"PK")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        save_statistics(path, MOMENTS, {})
    assert os.listdir(path.parent) == [path.name]
    assert load_statistics(path).metadata == METADATA


def test_save_refuses_what_it_cannot_write(path: Path) -> None:
    with pytest.raises(ArgumentError, match="moments='count 1': must be of at least 2 vectors"):
        save_statistics(path, Moments.of([[1.0]]), {})
    for value in (float("nan"), object()):
        with pytest.raises(ArgumentError, match=r"metadata=.*JSON"):
            save_statistics(path, MOMENTS, {"a": value})
    assert not path.exists()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_files_of_other_tools_are_read(path: Path, dtype: type, compressed: bool) -> None:
    write = np.savez_compressed if compressed else np.savez
    # ADM's reference batches hold images and spatial statistics beside the two arrays.
    write(
        path,
        arr_0=np.zeros((3, 8, 8, 3), np.uint8),
        mu=MOMENTS.mean.astype(dtype),
        sigma=MOMENTS.covariance.astype(dtype),
        mu_s=np.zeros(7),
        sigma_s=np.eye(7),
    )
    statistics = load_statistics(path)
    assert statistics.mean.dtype == statistics.covariance.dtype == np.float64
    np.testing.assert_array_equal(statistics.mean, MOMENTS.mean.astype(dtype))
    np.testing.assert_allclose(statistics.covariance, MOMENTS.covariance, rtol=1e-6)
    assert (statistics.count, statistics.metadata) == (None, {})


def test_a_file_of_python_2_is_read(path: Path) -> None:
    np.savez(path, mu=np.zeros(4), sigma=np.eye(4))
    # Python 2 wrote long integers in the shape, in a header of the same length.
    data = path.read_bytes()
    old, new = b"'shape': (4,), } ", b"'shape': (4L,), }"
    assert data.count(old) == 1
    start = data.index(b"\x93NUMPY")
    member = data[start : start + 128 + 4 * 8]
    changed = member.replace(old, new)
    checksums = [np.uint32(zlib.crc32(m)).tobytes() for m in (member, changed)]
    path.write_bytes(data.replace(member, changed).replace(*checksums))
    np.testing.assert_array_equal(load_statistics(path, 4).mean, np.zeros(4))


def test_another_dimension_names_both(path: Path) -> None:
    save_statistics(path, MOMENTS, {})
    assert _refusal(path, 2048) == "statistics of 2048-dimensional features, not of 4-dimensional"


BROKEN = {
    "an .npz with mu and sigma": {"arr_0": np.zeros(3)},
    "an .npz with sigma": {"mu": np.zeros(3)},
    "an .npz of mu [D] and sigma [D, D], not (3,) and (3, 4)": {
        "mu": np.zeros(3),
        "sigma": np.zeros((3, 4)),
    },
    "an .npz of mu [D] and sigma [D, D], not (1, 3) and (3, 3)": {
        "mu": np.zeros((1, 3)),
        "sigma": np.eye(3),
    },
    "an .npz whose mu is finite": {"mu": np.array([np.nan]), "sigma": np.eye(1)},
    "an .npz whose sigma is finite": {"mu": np.zeros(1), "sigma": np.array([[np.inf]])},
    "an .npz whose sigma is symmetric": {"mu": np.zeros(2), "sigma": np.array([[1, 0.1], [0, 1]])},
    "an .npz whose mu holds real numbers": {"mu": np.array(["a"]), "sigma": np.eye(1)},
    "an .npz whose sigma holds real numbers": {"mu": np.zeros(1), "sigma": np.eye(1) * 1j},
    "an .npz whose sigma is positive semi-definite": {
        "mu": np.zeros(3),
        "sigma": np.diag([1.0, 1.0, -1e-3]),
    },
    "an .npz of plain arrays: it holds a pickle": {
        "mu": np.array([{"a": 1}], dtype=object),
        "sigma": np.eye(1),
    },
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_is_wrong_in_a_file_is_named(path: Path, reason: str) -> None:
    np.savez(path, **BROKEN[reason])
    assert _refusal(path) == reason


@pytest.mark.parametrize(
    "held",
    [{"n": 50_000.0}, {"n": [50_000]}, {"n": 1}, {"metadata": "of my data"}, {"metadata": "[1]"}],
)
def test_what_other_tools_call_by_our_names_is_passed_over(path: Path, held) -> None:
    np.savez(path, mu=np.zeros(1), sigma=np.eye(1), **held)
    found = load_statistics(path)
    assert (found.count, found.metadata) == (None, {})


def test_a_singular_covariance_is_one(path: Path) -> None:
    """Also of features in float32, whose eigenvalues lie below 0 by a rounding."""
    few = np.random.RandomState(0).standard_normal((5, 40)).astype(np.float32)
    np.savez(path, mu=few.mean(0), sigma=np.cov(few, rowvar=False).astype(np.float32))
    assert load_statistics(path).covariance.shape == (40, 40)
    np.savez(path, mu=np.zeros(2), sigma=np.zeros((2, 2)))
    assert not load_statistics(path).covariance.any()


def test_the_covariance_is_judged_in_doubles(path: Path) -> None:
    np.savez(path, mu=np.zeros(2, np.longdouble), sigma=np.eye(2, dtype=np.longdouble))
    assert load_statistics(path).covariance.dtype == np.float64
    np.savez(path, mu=np.zeros(2), sigma=np.diag([3e4, -3e4]).astype(np.float16))
    assert _refusal(path) == "an .npz whose sigma is positive semi-definite"


def test_a_file_in_the_home_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_statistics("~/kept.npz", Moments.of([[1.0], [3.0]]), {})
    assert load_statistics("~/kept.npz").count == 2
    assert (tmp_path / "kept.npz").exists()


class _Trap:
    def __reduce__(self) -> tuple:
        return (os.abort, ())


def test_a_pickle_is_never_opened(path: Path) -> None:
    path.write_bytes(pickle.dumps({"mu": np.zeros(2), "trap": _Trap()}))
    assert _refusal(path) == "an .npz of plain arrays: it is a pickle"


def test_what_is_no_file_of_arrays_is_refused(path: Path, tmp_path: Path) -> None:
    assert _refusal(path) == "an existing file"
    assert _refusal(tmp_path) == "an existing file"
    for content in (b"", b"hello, world", pickle.dumps([1], protocol=0)):
        path.write_bytes(content)
        assert _refusal(path) == "an .npz file"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    assert _refusal(path) == "an .npz file"


def test_every_truncation_is_noticed(path: Path) -> None:
    save_statistics(path, MOMENTS, METADATA)
    whole = path.read_bytes()
    for length in range(4, len(whole), 97):
        path.write_bytes(whole[:length])
        assert _refusal(path).startswith("an intact, readable .npz file (")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_no_flipped_byte_changes_the_numbers(path: Path, write: Callable[..., None]) -> None:
    write(path, mu=MOMENTS.mean, sigma=MOMENTS.covariance)
    whole = path.read_bytes()
    messages = []
    for position in range(0, len(whole), 2):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            statistics = load_statistics(path)
        except ArgumentError as error:
            messages.append(str(error))
        else:
            # In a field of the archive that nobody reads, such as a time.
            np.testing.assert_array_equal(statistics.mean, MOMENTS.mean)
            np.testing.assert_array_equal(statistics.covariance, MOMENTS.covariance)
    assert len(messages) > 0.3 * len(whole)
    assert not any("\n" in message for message in messages)
