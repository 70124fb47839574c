"""A few CIFAR-10 (JPEG) images as a tensorflow-datasets folder, for tests that need real images.

The images come from an archive with `train/<class>/NNNN.jpg` and `test/<class>/NNNN.jpg`: the one
named by $JAXNOISE_CIFAR10_JPEG, else ../shared/data/cifar10_jpeg.tar.xz beside the repository.
Where there is none they are made up, so that every test runs everywhere.
"""

import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def find_archive() -> Path | None:
    """The archive of JPEG images, or None where there is none."""
    beside = Path(__file__).parents[2] / "shared" / "data" / "cifar10_jpeg.tar.xz"
    path = Path(os.environ.get("JAXNOISE_CIFAR10_JPEG") or beside)
    return path if path.is_file() else None


def prepare(source: Path | None, data_dir: Path, num_train: int, num_test: int) -> Path:
    """Writes `<data_dir>/cifar10/3.0.2` (array_record, images stored as JPEG) without TensorFlow.

    Args:
      source: archive of JPEG images, as `find_archive` finds it; None to make images up.
      data_dir: where the data set goes.
      num_train: how many training images, spread evenly over the ten classes.
      num_test: how many test images, likewise.

    Returns:
      The folder of the data set's version.
    """
    import tensorflow_datasets as tfds

    counts = {"train": num_train, "test": num_test}
    images = made_up(counts) if source is None else read(source, counts)
    splits = {
        split: [
            {"id": f"{split}_{i:05d}", "image": images[split][i], "label": i % 10}
            for i in range(counts[split])
        ]
        for split in counts
    }
    features = {
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(32, 32, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(names=CLASSES),
    }
    return write(data_dir, "cifar10", "3.0.2", features, splits, ("image", "label"))


def read(archive: Path, counts: Mapping[str, int]) -> dict[str, list[bytes]]:
    """The first JPEG files of every class, with class i mod 10 at place i of each split."""
    found: dict[tuple[str, str], list[bytes]] = {}
    wanted = {
        (split, name): len(range(CLASSES.index(name), count, 10))
        for split, count in counts.items()
        for name in CLASSES
    }
    missing = sum(wanted.values())
    with tarfile.open(archive, "r|xz") as tar:
        for member in tar:  # the archive is sorted, so this is a pass over nearly all of it
            if missing == 0:
                break
            key = tuple(member.name.split("/")[:2])
            files = found.setdefault(key, [])
            if member.isfile() and len(files) < wanted.get(key, 0):
                files.append(tar.extractfile(member).read())
                missing -= 1
    return {
        split: [found[split, CLASSES[i % 10]][i // 10] for i in range(count)]
        for split, count in counts.items()
    }


def made_up(counts: Mapping[str, int]) -> dict[str, list[bytes]]:
    """Smooth random colour images, encoded as JPEG, each class around a colour of its own."""
    rng = np.random.default_rng(0)
    palette = rng.integers(40, 216, (10, 3))

    def image(label: int) -> bytes:
        coarse = palette[label] + rng.integers(-40, 40, (4, 4, 3))
        smooth = Image.fromarray(coarse.astype(np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        smooth.save(file, "JPEG", quality=90)
        return file.getvalue()

    return {split: [image(i % 10) for i in range(count)] for split, count in counts.items()}


def write(
    data_dir: Path,
    dataset: str,
    version: str,
    features: Mapping[str, Any],
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    supervised_keys: tuple[str, str] | None = None,
    file_format: str = "array_record",
) -> Path:
    """Writes any examples as a tensorflow-datasets folder; images are encoded bytes or PIL images.

    Returns:
      The folder of the data set's version.
    """
    import tensorflow_datasets as tfds

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset
        VERSION = tfds.core.Version(version)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(dict(features)),
                supervised_keys=supervised_keys,
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {split: enumerate(examples) for split, examples in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError  # the splits above are the generators

    builder = Builder(data_dir=data_dir, file_format=file_format)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return Path(builder.data_path)
