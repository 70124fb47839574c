"""Data sets prepared as tensorflow-datasets folders from their own files, without TensorFlow."""

import contextlib
import os
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxnoise.data import archives
from jaxnoise.data.idx_files import read_idx
from jaxnoise.data.tfds_images import prepared_folder, resolve_data_dir
from jaxnoise.errors import ConfigError

Files = Mapping[str, Path]
"""File name -> path."""


@dataclass(frozen=True)
class Contents:
    """What a data set's files hold.

    Attributes:
      splits: name -> images uint8[n, height, width, channels] and, by the feature's name, labels.
      names: of the labels of a feature, where the files say them.
      id_digits: of the index in an example's id, "<split>_<index>"; 0 where there are no ids.
    """

    splits: Mapping[str, tuple[NDArray[np.uint8], Mapping[str, NDArray[np.int64]]]]
    names: Mapping[str, list[str]] = field(default_factory=dict)
    id_digits: int = 0


def _cifar(
    folder: str,
    batches: Mapping[str, tuple[str, ...]],
    labels: Mapping[str, str],
    files: Files,
) -> Contents:
    """CIFAR's binary version: records of one byte for each label, then three planes of pixels."""
    (path,) = files.values()
    members = _members(
        path, folder, {*labels.values(), *(n for ns in batches.values() for n in ns)}
    )
    splits = {}
    for split, names in batches.items():
        stored = np.frombuffer(b"".join(members[name] for name in names), np.uint8)
        records = stored.reshape(-1, len(labels) + 3 * 32 * 32)
        pixels = records[:, len(labels) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        own = {feature: records[:, i].astype(np.int64) for i, feature in enumerate(labels)}
        splits[split] = pixels, own
    return Contents(
        splits, {key: members[name].decode().split() for key, name in labels.items()}, id_digits=5
    )


def _members(archive: Path, folder: str, wanted: set[str]) -> dict[str, bytes]:
    """The wanted members by name, in one pass and in memory: nothing is unpacked onto the disk."""
    files = {}
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            place, _, name = member.name.removeprefix("./").rpartition("/")
            if place == folder and name in wanted and member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                files[name] = content.read()
    return files


def _mnist(files: Files) -> Contents:
    splits = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        pixels = read_idx(files[f"{prefix}-images-idx3-ubyte.gz"], 3)[..., None]
        labels = read_idx(files[f"{prefix}-labels-idx1-ubyte.gz"], 1)
        splits[split] = pixels, {"label": labels.astype(np.int64)}
    return Contents(splits)


def _svhn(files: Files) -> Contents:
    """Matlab files: X of height, width, channel and image, y from 1 to 10, where 10 is the zero."""
    from scipy.io import loadmat

    splits = {}
    for split in ("train", "test", "extra"):
        held = loadmat(files[f"{split}_32x32.mat"])
        labels = held["y"].reshape(-1).astype(np.int64) % 10
        splits[split] = np.moveaxis(held["X"], 3, 0), {"label": labels}
    return Contents(splits, id_digits=6)


READERS: Mapping[str, Callable[[Files], Contents]] = {
    "cifar10": partial(
        _cifar,
        "cifar-10-batches-bin",
        {
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        {"label": "batches.meta.txt"},
    ),
    "cifar100": partial(
        _cifar,
        "cifar-100-binary",
        {"train": ("train.bin",), "test": ("test.bin",)},
        {"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
    ),
    "mnist": _mnist,
    "fashion_mnist": _mnist,
    "svhn_cropped": _svhn,
}
"""Data sets that can be prepared, and what reads their files."""


def prepare(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    archive: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes a data set as array_record files that plain `tfds.data_source(name)` reads too.

    Its files are those at `archive`, or in `<data_dir>/downloads`, to which they are downloaded
    where they are not there yet. The examples, their ids and their order are those of
    tensorflow-datasets' own builder. A finished folder appears by one rename, so what was cut short
    is never taken for finished; a folder that is already there is left as it is.

    Args:
      name: one of `READERS`.
      data_dir: where data sets are kept; None for tensorflow-datasets' default.
      archive: the path of the data set's file, or of a folder of its files; None to look for them
        in `data_dir` or download them.

    Returns:
      The folder of the prepared version.

    Raises:
      ConfigError: no files and no network, one whose SHA-256 is not the recorded one
        (nothing is written then), or an unfinished folder in the way.
    """
    done = prepared_folder(name, data_dir)
    if done is not None:
        return done
    root = resolve_data_dir(data_dir)
    return _write(name, root, archives.located(name, root, archive))


def _write(name: str, root: Path, files: Files) -> Path:
    import tensorflow_datasets as tfds

    builder = _builder_class(name, files)(data_dir=root, file_format="array_record")
    # tfds would take its mere existence for a finished folder.
    if builder.data_path.exists() and prepared_folder(name, root) is None:
        raise ConfigError(f"{builder.data_path} is unfinished: remove that folder and try again")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # tfds announces itself on stdout
            builder.download_and_prepare(download_config=config)
    except OSError:
        if prepared_folder(name, root) is None:
            raise  # else another process was quicker with the final rename
    return Path(builder.data_path)


def _builder_class(name: str, files: Files) -> Any:
    """tensorflow-datasets' own builder, with the method replaced that needs TensorFlow."""
    import tensorflow_datasets as tfds

    stock: Any = tfds.builder_cls(name)

    class Prepared(stock, skip_registration=True):  # type: ignore[call-arg]
        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Any]]]:
            contents = READERS[name](files)
            for feature, names in contents.names.items():
                self.info.features[feature].names = names
            return {split: _examples(contents, split) for split in contents.splits}

    Prepared.name = name
    return Prepared


def _examples(contents: Contents, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Pairs of the key that tfds shuffles by and the example."""
    from PIL import Image

    pixels, labels = contents.splits[split]
    grey = pixels.shape[-1] == 1
    for index in range(len(pixels)):
        # Of arrays tensorflow-datasets would make PNGs by TensorFlow.
        image = Image.fromarray(
            np.ascontiguousarray(pixels[index, ..., 0 if grey else slice(None)])
        )
        example: dict[str, Any] = {"image": image}
        example |= {feature: int(values[index]) for feature, values in labels.items()}
        if contents.id_digits:
            example["id"] = f"{split}_{index:0{contents.id_digits}d}"
        yield index, example
