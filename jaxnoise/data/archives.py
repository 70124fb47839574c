"""A data set's original files: found on this machine or downloaded, and their digests checked."""

import hashlib
import os
import shutil
import sys
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from jaxnoise.errors import ConfigError
from jaxnoise.files import user_path


class Archive(NamedTuple):
    """What tensorflow-datasets records of one of a data set's files.

    Args:
      url: its address.
      filename: its name.
      sha256: SHA-256 of the file, in hex.
    """

    url: str
    filename: str
    sha256: str


def expected_archives(name: str) -> list[Archive]:
    """A data set's files as the installed tensorflow-datasets records them.

    Args:
      name: of a data set of tensorflow-datasets.
    """
    import tensorflow_datasets as tfds

    infos = tfds.builder_cls(name).url_infos.items()
    return [
        Archive(url, info.filename or url.rsplit("/", 1)[-1], info.checksum) for url, info in infos
    ]


def located(name: str, root: Path, given: str | os.PathLike[str] | None) -> dict[str, Path]:
    """Where a data set's files are; those that are nowhere are downloaded.

    Args:
      name: of a data set of tensorflow-datasets.
      root: where data sets are kept; downloads go to, and are looked for in, `<root>/downloads`.
      given: the file, or a folder of the files; None to look for them in `root`.

    Returns:
      file name -> path.

    Raises:
      ConfigError: no file and no network, or one whose SHA-256 is not the recorded one; one line.
    """
    expected = expected_archives(name)
    if given is not None:
        path = user_path(given)
        if path.is_file() and len(expected) > 1:
            names = ", ".join(archive.filename for archive in expected)
            raise ConfigError(f"data.archive: must be the folder that holds {names}, not a file")
        if path.is_file():
            found = {expected[0].filename: path}
        else:
            found = {archive.filename: path / archive.filename for archive in expected}
        for file in found.values():
            if not file.is_file():
                raise ConfigError(
                    f"data.archive: there is no file {file if path.is_dir() else path}"
                )
        for archive in expected:
            _check(found[archive.filename], archive, found[archive.filename])
        return found
    found = {archive.filename: root / "downloads" / archive.filename for archive in expected}
    for archive in expected:
        path = found[archive.filename]
        if path.is_file():
            _check(path, archive, path)
        else:
            _download(name, archive, path)
    return found


def _check(path: Path, expected: Archive, origin: object) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.sha256:
        raise ConfigError(
            f"{origin} is not the archive {expected.filename}: its sha256 is {found} "
            f"and should be {expected.sha256}"
        )


def _download(name: str, expected: Archive, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under its own name only when it is whole and verified.
        with tempfile.TemporaryDirectory(prefix="incomplete.", dir=path.parent) as part:
            target = Path(part) / expected.filename
            print(f"downloading {expected.url} to {path}", file=sys.stderr)
            with (
                urllib.request.urlopen(expected.url, timeout=60) as response,
                target.open("wb") as file,
            ):
                shutil.copyfileobj(response, file, 2**20)
            _check(target, expected, expected.url)
            os.replace(target, path)
    except (OSError, HTTPException) as error:  # no network, a time-out, a full disk
        raise ConfigError(
            f"{name} is not prepared and {expected.url} cannot be fetched "
            f"({str(error).splitlines()[0]}): put {expected.filename} (sha256 {expected.sha256}) "
            f"into {path.parent}, or name it, or the folder it lies in, as data.archive"
        ) from error
