"""Contents tell files apart, and are read once while nothing changes."""

import os
import time

import pytest

from jaxnoise.data import fingerprints
from jaxnoise.data.fingerprints import files_digest
from jaxnoise.errors import ConfigError
from jaxnoise.files import cache_folder


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Digests of two files of a folder that have not changed for a while, and what was read."""
    monkeypatch.setenv("JAXNOISE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    files = [folder / "a", folder / "b"]
    for file in files:
        file.write_bytes(file.name.encode())
    seen, later = [], time.time_ns() + 10**10
    monkeypatch.setattr(fingerprints.time, "time_ns", lambda: later)
    sha256 = fingerprints._sha256
    monkeypatch.setattr(
        fingerprints, "_sha256", lambda path: seen.append(path.name) or sha256(path)
    )

    def digest():
        seen.clear()
        return files_digest(files, folder), sorted(seen)

    return folder, digest


def test_an_unchanged_file_is_read_once(read):
    folder, digest = read
    first, names = digest()
    assert names == ["a", "b"]
    assert digest() == (first, [])
    # As an archive unpacks it: other bytes, the same size and time.
    state = (folder / "a").stat()
    (folder / "a").write_bytes(b"c")
    os.utime(folder / "a", ns=(state.st_atime_ns, state.st_mtime_ns))
    changed, names = digest()
    assert changed != first
    assert names == ["a"]


def test_another_file_in_its_place_is_read(read):
    folder, digest = read
    first, _ = digest()
    (folder / "new").write_bytes(b"c")
    os.replace(folder / "new", folder / "b")
    changed, names = digest()
    assert changed != first
    assert names == ["b"]


def test_a_file_that_was_just_written_is_not_trusted(read, monkeypatch):
    folder, digest = read
    monkeypatch.setattr(fingerprints.time, "time_ns", lambda: (folder / "a").stat().st_mtime_ns)
    first, _ = digest()
    assert digest() == (first, ["a", "b"])


@pytest.mark.parametrize("content", ["", "[]", '{"a": 3}', '{"a": [[1], 2]}'])
def test_a_damaged_cache_is_no_cache(read, content):
    _, digest = read
    first, _ = digest()
    (cache,) = (cache_folder() / "digests").iterdir()
    cache.write_text(content)
    assert digest() == (first, ["a", "b"])


def test_a_file_that_cannot_be_read_is_named(read):
    folder, digest = read
    (folder / "b").unlink()
    with pytest.raises(ConfigError, match=r"b: cannot be read \(No such file"):
        digest()
