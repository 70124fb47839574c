"""Contents tell files apart, and are read once while nothing changes."""

import hashlib
import json
import os
import time

import pytest

from jaxnoise.data import fingerprints
from jaxnoise.data.fingerprints import contents, files_digest
from jaxnoise.data.images import digest as digest_of
from jaxnoise.errors import ConfigError
from jaxnoise.files import cache_folder


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Digests of two files of a folder that have not changed for a while, and what was read."""
    monkeypatch.setenv("JAXNOISE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode())
    seen, later = [], time.time_ns() + 10**10
    monkeypatch.setattr(fingerprints.time, "time_ns", lambda: later)
    sha256 = fingerprints._sha256
    monkeypatch.setattr(
        fingerprints, "_sha256", lambda path: seen.append(path.name) or sha256(path)
    )

    def digest(*names):
        seen.clear()
        files = [folder / name for name in names or ("a", "b")]
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


def test_splits_of_one_folder_do_not_forget_each_other(read, monkeypatch):
    folder, digest = read
    rounds = [[digest(name) for name in ("a", "b", "a", "b")] for _ in range(2)]
    assert [names for _, names in rounds[0]] == [["a"], ["b"], [], []]
    assert [names for _, names in rounds[1]] == [[], [], [], []]
    assert [found for found, _ in rounds[0]] == [found for found, _ in rounds[1]]
    # Nor where what is read now cannot be trusted yet.
    (folder / "b").write_bytes(b"c")
    with monkeypatch.context() as patch:
        patch.setattr(fingerprints.time, "time_ns", lambda: (folder / "b").stat().st_mtime_ns)
        assert digest("b")[1] == ["b"]
    assert digest("a")[1] == []


def test_what_is_gone_is_forgotten(read):
    folder, digest = read
    (folder / "c").write_bytes(b"c")
    digest("a", "b")
    (cache,) = (cache_folder() / "digests").iterdir()
    assert sorted(json.loads(cache.read_text())) == ["a", "b"]
    (folder / "a").unlink()
    assert digest("c")[1] == ["c"]
    assert sorted(json.loads(cache.read_text())) == ["b", "c"]


def test_names_need_not_be_utf_8(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXNOISE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / os.fsdecode(b"M\xfcnchen")
    folder.mkdir()
    files = [folder / os.fsdecode(b"caf\xe9"), folder / "é"]
    for file in files:
        file.write_bytes(b"one")
    later = time.time_ns() + 10**10
    monkeypatch.setattr(fingerprints.time, "time_ns", lambda: later)
    sha = hashlib.sha256(b"one").hexdigest().encode()
    expected = [b"caf\xe9 " + sha, "é ".encode() + sha]
    assert contents(files, folder) == expected
    assert files_digest(files, folder) == digest_of(*expected)
    monkeypatch.setattr(fingerprints, "_sha256", lambda path: pytest.fail(f"{path} is read again"))
    assert contents(files, folder) == expected


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
