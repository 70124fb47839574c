"""Image data sets of tensorflow-datasets, read without TensorFlow.

What is read is a prepared folder `<data_dir>/<name>[/<config>]/<version>` of array_record files,
whoever prepared it: images stored as PNG, JPEG or raw tensors alike.
"""

import io
import os
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxnoise.data.cached_images import CachedImages, Example, Undecoded, decoded_once
from jaxnoise.data.decoding import Decoding, UnusableError
from jaxnoise.data.fingerprints import files_digest
from jaxnoise.data.images import Images, digest, first_line, label_range, out_of_range
from jaxnoise.data.record_images import RecordImages
from jaxnoise.data.resized import ResizedImages
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.files import user_path

_NAME = re.compile(r"(\w+)(?:/(\w[\w.+-]*))?(?::(\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NEEDED = ("dataset_info.json", "features.json")  # tfds writes them last, and renames at the end
_EMPTY = "a record is empty"  # what array_record reads, without error, past a cut at a 64 KiB block
_PIL_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def check_name(name: str) -> None:
    """Raises ArgumentError unless a data set may be called so; whether it exists is not asked.

    Example:
      >>> from jaxnoise.data.tfds_images import check_name
      >>> check_name("imagenette/320px-v2:1.0.0")
    """
    if _NAME.fullmatch(name) is None:
        raise ArgumentError("dataset", name, "of the form name[/config][:1.2.3]")


def resolve_data_dir(data_dir: str | os.PathLike[str] | None) -> Path:
    """`data_dir`, or tensorflow-datasets' own default ($TFDS_DATA_DIR or ~/tensorflow_datasets).

    Example:
      >>> from jaxnoise.data.tfds_images import resolve_data_dir
      >>> resolve_data_dir("some/where").as_posix()
      'some/where'
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return user_path(chosen)


def prepared_folder(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Folder of the newest prepared version of a data set; None where there is none.

    Folders that lack tfds' description files (a copy or a preparation that was cut short) do not
    count. Reads folder names only, so it is quick.

    Args:
      name: "name", "name/config", "name:1.2.3" or "name/config:1.2.3".
      data_dir: where data sets are kept; None for tensorflow-datasets' default.

    Returns:
      The version's folder, or None.

    Raises:
      ConfigError: a malformed name, or several prepared configs to choose from.
    """
    base, config, version = _parse(name)
    root = resolve_data_dir(data_dir) / base
    if config is not None:
        return _newest(root / config, version)
    found = _newest(root, version)
    if found is not None:
        return found
    configs = [child for child in _subfolders(root) if not _VERSION.fullmatch(child.name)]
    folders = {child.name: folder for child in configs if (folder := _newest(child, version))}
    if len(folders) > 1:
        choices = ", ".join(f"{base}/{config}" for config in sorted(folders))
        raise ConfigError(f"data set {name!r} has several prepared configs: name one of {choices}")
    return next(iter(folders.values()), None)


def open_tfds(
    name: str,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    size: int | None = None,
) -> Images:
    """A prepared image data set of tensorflow-datasets, through its random-access data source.

    The image is the first supervised key or the one Image feature, the label the second
    supervised key or the one ClassLabel feature. A set without a label, or with several of equal
    rank, counts as unlabelled (`num_classes` 0).

    Where the set's description gives no one height and width, or `size` is asked of images that are
    not square, all are decoded once into the cache folder, cropped and reduced as `Decoding` says.

    Args:
      name: "name", "name/config", "name:1.2.3" or "name/config:1.2.3".
      split: a split or a slice of one in tensorflow-datasets' notation, such as "train[:90%]".
      data_dir: where data sets are kept; None for tensorflow-datasets' default.
      size: side of square images in pixels, at most their own; None leaves them.

    Returns:
      The images; where they are of one size nothing but a few records is read yet.

    Raises:
      ArgumentError: an unknown or empty split, or a `size` that they cannot have.
      ConfigError: an unknown name (the nearest known ones are named), a set that is not prepared
        (with the command that prepares it), one whose files or features do not serve, or images of
        different sizes without a `size`.
    """
    folder = prepared_folder(name, data_dir)
    if folder is None:
        raise _not_prepared(name, resolve_data_dir(data_dir))
    import tensorflow_datasets as tfds  # half a second to import

    builder = tfds.builder_from_directory(folder)
    image_key, label_key = _keys(name, builder)
    source = _source(name, folder, builder, split)
    names: tuple[str, ...] = ()
    if label_key is not None:
        names = tuple(builder.info.features[label_key].names)
    sampled = np.linspace(0, len(source) - 1, min(16, len(source))).astype(np.int64).tolist()
    try:
        records = source.__getitems__(sampled)
    except RuntimeError as error:  # array_record's only error, for a truncated file above all
        raise _damaged(name, folder, str(error).splitlines()[0]) from error
    if not all(records):
        raise _damaged(name, folder, _EMPTY)
    parts = builder.info.splits[split].file_instructions
    contents = files_digest([Path(part.filename) for part in parts], folder)
    identity = digest(contents, *(f"{part.skip} {part.take}" for part in parts))
    decode, label_of = _decoders(builder.info.features, image_key, label_key)
    height, width = builder.info.features[image_key].shape[:2]
    if None not in (height, width) and (size is None or height == width):
        images = RecordImages(name, source, decode, len(names), identity, names, label_of)
        return images if size is None else ResizedImages(images, size)
    fit = Decoding(size)

    def example(index: int) -> Example:
        try:
            pixels, label = decode(source.__getitems__([index])[0])
        except Exception as error:  # as manifold as the formats
            raise UnusableError(f"cannot be decoded: {first_line(error)}") from error
        if out_of_range(np.array([label]), len(names))[0]:
            raise UnusableError(f"has label {label}, which is not {label_range(len(names))}")
        return fit.fitted(pixels[..., None] if pixels.ndim == 2 else pixels), label

    key = digest(identity, fit.description)
    undecoded = Undecoded(folder, len(source), example, lambda index: f"example {index}")
    all_pixels, labels = decoded_once(undecoded, key)
    fingerprint = identity if size is None else key
    return CachedImages(name, all_pixels, labels, len(names), fingerprint, names)


def _parse(name: str) -> tuple[str, str | None, str | None]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ConfigError(f"data set {name!r} is not of the form name[/config][:1.2.3]")
    base, config, version = match.groups()
    return base, config, version


def _subfolders(root: Path) -> list[Path]:
    return [child for child in root.iterdir() if child.is_dir()] if root.is_dir() else []


def _versions(root: Path, version: str | None) -> list[Path]:
    versions = [
        child
        for child in _subfolders(root)
        if _VERSION.fullmatch(child.name) and version in (None, child.name)
    ]
    return sorted(versions, key=lambda child: [int(n) for n in child.name.split(".")])


def _complete(folder: Path) -> bool:
    return all((folder / file).is_file() for file in _NEEDED)


def _newest(root: Path, version: str | None) -> Path | None:
    return next((f for f in reversed(_versions(root, version)) if _complete(f)), None)


def _not_prepared(name: str, data_dir: Path) -> ConfigError:
    base, config, version = _parse(name)
    root = data_dir / base / (config or "")
    cut_short = _versions(root, version)
    if cut_short:
        return _damaged(name, cut_short[-1], f"{' or '.join(_NEEDED)} is missing")
    if version is not None and (other := _newest(root, None)):
        return ConfigError(f"data set {name!r} is not prepared in {data_dir}, but {other.name} is")
    import tensorflow_datasets as tfds

    # The community's list would need the network, and TensorFlow to say that there is none.
    known = set(tfds.list_builders(with_community_datasets=False))
    if base in known:
        return ConfigError(
            f"data set {name!r} is not prepared in {data_dir}: where TensorFlow is installed, run "
            f"tfds build {name} --data_dir={data_dir} --file_format=array_record"
        )
    local = [child.name for child in _subfolders(data_dir) if _newest(child, None)]
    near = get_close_matches(base, sorted(known | {"digits"} | set(local)), n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "no name is near it"
    return ConfigError(
        f"unknown data set {name!r} ({hint}); known are 'digits', the names of "
        f"tensorflow-datasets, and what is prepared in {data_dir}"
    )


def _damaged(name: str, folder: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"data set {name!r} in {folder} is damaged or incomplete ({reason}): "
        "remove that folder and prepare it again"
    )


def _keys(name: str, builder: Any) -> tuple[str, str | None]:
    """Names of the image feature and of the label feature (None for an unlabelled set)."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    supervised: list[Any] = [*(builder.info.supervised_keys or ()), None, None]
    first, second = supervised[:2]
    # A subclass of Image, such as a segmentation mask, is no image to train on.
    images = [key for key in features if type(features[key]) is tfds.features.Image]
    tensors = [key for key in features if type(features[key]) is tfds.features.Tensor]
    labels = [key for key in features if isinstance(features[key], tfds.features.ClassLabel)]
    if first in images + tensors:
        image = first
    elif len(images) == 1:
        image = images[0]
    else:
        found = ", ".join(sorted(images)) or "none"  # features come in no fixed order
        raise ConfigError(f"data set {name!r} has no single image feature (found: {found})")
    feature = features[image]
    if feature.np_dtype != np.uint8 or len(feature.shape) not in (2, 3):
        raise ConfigError(
            f"data set {name!r} has images of type {np.dtype(feature.np_dtype).name} and shape "
            f"{feature.shape}; only uint8 images of rank 2 or 3 are read"
        )
    if second in labels:
        return image, second
    return image, labels[0] if len(labels) == 1 else None


def _source(name: str, folder: Path, builder: Any, split: str) -> Any:
    import tensorflow_datasets as tfds

    try:
        files = builder.info.splits[split].file_instructions
    except (KeyError, ValueError) as error:
        allowed = f"one of {', '.join(sorted(builder.info.splits))}, or a slice of one"
        raise ArgumentError("split", split, allowed) from error
    if not files:
        raise ArgumentError("split", split, "a split with at least one example")
    for path in (Path(file.filename) for file in files):
        if not path.is_file():
            raise _damaged(name, folder, f"{path.name} is missing")
    try:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        return builder.as_data_source(split, deserialize_method=raw)
    except NotImplementedError as error:
        file_format = builder.info.file_format.value
        raise ConfigError(
            f"data set {name!r} in {folder} is stored as {file_format}, which has no random "
            "access: prepare it with file_format array_record, or name another data_dir"
        ) from error


def _decoders(
    features: Any, image_key: str, label_key: str | None
) -> tuple[Callable[[Any], tuple[NDArray[np.uint8], int]], Callable[[Any], int]]:
    """What makes an image and its label of a record, and what makes the label alone."""
    import tensorflow_datasets as tfds
    from PIL import Image

    wanted = [key for key in (image_key, label_key) if key is not None]
    parser = tfds.features.FeaturesDict({key: features[key] for key in wanted})
    encoded = isinstance(features[image_key], tfds.features.Image)
    # Left to itself tfds decodes with OpenCV wherever that happens to be installed, and a JPEG
    # then has other pixels; always PIL, so that the data are the same everywhere.
    decoders = {image_key: tfds.decode.SkipDecoding()} if encoded else None
    mode = _PIL_MODES.get(features[image_key].shape[-1]) if encoded else None

    def decode(record: Any) -> tuple[NDArray[np.uint8], int]:
        if not record:
            raise ValueError(_EMPTY)
        example = parser.deserialize_example_np(record, decoders=decoders)
        image = example[image_key]
        if encoded:
            with Image.open(io.BytesIO(image)) as file:
                image = np.asarray(file if mode in (None, file.mode) else file.convert(mode))
        return image, 0 if label_key is None else int(example[label_key])

    labels = tfds.features.FeaturesDict({label_key: features[label_key]} if label_key else {})

    def label_of(record: Any) -> int:
        return 0 if label_key is None else int(labels.deserialize_example_np(record)[label_key])

    return decode, label_of
