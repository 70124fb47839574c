"""CIFAR-10 prepared as a tensorflow-datasets folder, without TensorFlow."""

import contextlib
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnoise.data.tfds_images import prepared_folder, resolve_data_dir
from jaxnoise.errors import ConfigError
from jaxnoise.files import user_path

_FOLDER = "cifar-10-batches-bin"
_BATCHES = {
    "train": [f"data_batch_{i}.bin" for i in range(1, 6)],
    "test": ["test_batch.bin"],
}
_RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes in row order


class Archive(NamedTuple):
    """What tensorflow-datasets records of the archive.

    Args:
      url: its address.
      filename: its file's name.
      sha256: SHA-256 of the file, in hex.
    """

    url: str
    filename: str
    sha256: str


def expected_archive() -> Archive:
    """The CIFAR-10 archive (binary version) as the installed tensorflow-datasets records it."""
    import tensorflow_datasets as tfds

    ((url, info),) = tfds.builder_cls("cifar10").url_infos.items()
    return Archive(url, info.filename or url.rsplit("/", 1)[-1], info.checksum)


def prepare_cifar10(
    data_dir: str | os.PathLike[str] | None = None,
    archive: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes CIFAR-10 as array_record files that plain `tfds.data_source("cifar10")` reads too.

    The archive is `archive`, or `<data_dir>/downloads/cifar-10-binary.tar.gz`, which is downloaded
    where it is not there yet. The examples, their ids and their order are those of
    tensorflow-datasets' own builder. A finished folder appears by one rename, so what was cut short
    is never taken for finished; a folder that is already there is left as it is.

    Args:
      data_dir: where data sets are kept; None for tensorflow-datasets' default.
      archive: the archive's path; None to look for it in `data_dir` or download it.

    Returns:
      The folder of the prepared version.

    Raises:
      ConfigError: no archive and no network, an archive whose SHA-256 is not the recorded one
        (nothing is written then), or an unfinished folder in the way.
    """
    done = prepared_folder("cifar10", data_dir)
    if done is not None:
        return done
    root = resolve_data_dir(data_dir)
    expected = expected_archive()
    if archive is not None:
        path = user_path(archive)
        if not path.is_file():
            raise ConfigError(f"data.archive: there is no file {path}")
        _check(path, expected, path)
    else:
        path = root / "downloads" / expected.filename
        if path.is_file():
            _check(path, expected, path)
        else:
            _download(expected, path)
    return _write(root, path)


def _check(path: Path, expected: Archive, origin: object) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.sha256:
        raise ConfigError(
            f"{origin} is not the archive {expected.filename}: its sha256 is {found} "
            f"and should be {expected.sha256}"
        )


def _download(expected: Archive, path: Path) -> None:
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
            f"cifar10 is not prepared and {expected.url} cannot be fetched "
            f"({str(error).splitlines()[0]}): put {expected.filename} (sha256 {expected.sha256}) "
            f"into {path.parent}, or name it as data.archive"
        ) from error


def _write(root: Path, archive: Path) -> Path:
    import tensorflow_datasets as tfds

    builder = _builder_class(archive)(data_dir=root, file_format="array_record")
    # tfds would take its mere existence for a finished folder.
    if builder.data_path.exists() and prepared_folder("cifar10", root) is None:
        raise ConfigError(f"{builder.data_path} is unfinished: remove that folder and try again")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # tfds announces itself on stdout
            builder.download_and_prepare(download_config=config)
    except OSError:
        if prepared_folder("cifar10", root) is None:
            raise  # else another process was quicker with the final rename
    return Path(builder.data_path)


def _builder_class(archive: Path) -> Any:
    """tensorflow-datasets' own builder, with the two methods replaced that need TensorFlow."""
    import tensorflow_datasets as tfds
    from PIL import Image

    stock: Any = tfds.builder_cls("cifar10")

    class Cifar10(stock, skip_registration=True):  # type: ignore[call-arg]
        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Any]]]:
            files = _read(archive)
            names = files["batches.meta.txt"].decode().split()
            self.info.features["label"].names = names
            return {split: self._examples(split, files) for split in _BATCHES}

        def _examples(self, split: str, files: dict[str, bytes]) -> Iterator[tuple[int, Any]]:
            stored = b"".join(files[name] for name in _BATCHES[split])
            records = np.frombuffer(stored, np.uint8).reshape(-1, _RECORD)
            for index, record in enumerate(records):
                pixels = record[1:].reshape(3, 32, 32).transpose(1, 2, 0)
                yield (
                    index,  # the key that tfds shuffles by
                    {
                        "id": f"{split}_{index:05d}",
                        "image": Image.fromarray(np.ascontiguousarray(pixels)),
                        "label": int(record[0]),
                    },
                )

    return Cifar10


def _read(archive: Path) -> dict[str, bytes]:
    """The wanted members by name, in one pass and in memory: nothing is unpacked onto the disk."""
    wanted = {"batches.meta.txt", *_BATCHES["train"], *_BATCHES["test"]}
    files = {}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            if folder == _FOLDER and name in wanted and member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                files[name] = content.read()
    return files
