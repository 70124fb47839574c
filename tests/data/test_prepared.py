"""Data sets prepared without TensorFlow, from files of the original layout with few images."""

import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import jpeg_cifar
import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy.io import savemat

from jaxnoise.data import archives, open_images, prepared
from jaxnoise.data.archives import Archive, expected_archives
from jaxnoise.data.prepared import prepare
from jaxnoise.data.tfds_images import prepared_folder
from jaxnoise.errors import ConfigError

PER_BATCH, NUM_TEST = 4, 3
NUM_TRAIN = 5 * PER_BATCH
NOWHERE = "http://127.0.0.1:9/archive"  # refuses at once: the discard port


def make_archive(path):
    """Five training batches, a test batch and the names, as the original has them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_TRAIN + NUM_TEST, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(NUM_TRAIN + NUM_TEST, dtype=np.uint8) % 10
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    stored = np.concatenate([labels[:, None], planes], axis=1)
    files = {"batches.meta.txt": ("\n".join(jpeg_cifar.CLASSES) + "\n\n").encode()}
    for batch in range(5):
        rows = stored[batch * PER_BATCH : (batch + 1) * PER_BATCH]
        files[f"data_batch_{batch + 1}.bin"] = rows.tobytes()
    files["readme.html"] = b"read by nobody"
    files["test_batch.bin"] = stored[NUM_TRAIN:].tobytes()
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return images, labels


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "any_name.tar.gz"
    images, labels = make_archive(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return path, Archive(NOWHERE, "cifar-10-binary.tar.gz", sha256), images, labels


@pytest.fixture
def archive(made, monkeypatch):
    """The small archive's path, with its digest expected and no network."""
    monkeypatch.setattr(archives, "expected_archives", lambda name: [made[1]])
    return made[0]


def one_line(caught):
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def by_id(data_dir, split):
    source = tfds.data_source(
        "cifar10", data_dir=data_dir, split=split, builder_kwargs={"file_format": "array_record"}
    )
    return {example["id"].decode(): example for example in source}


def test_plain_tfds_reads_what_was_prepared_pixel_by_pixel(archive, made, tmp_path):
    _, _, images, labels = made
    folder = prepare("cifar10", tmp_path, archive)
    assert folder == tmp_path / "cifar10" / "3.0.2" == prepared_folder("cifar10", tmp_path)
    for split, first, count in (("train", 0, NUM_TRAIN), ("test", NUM_TRAIN, NUM_TEST)):
        found = by_id(tmp_path, split)
        assert sorted(found) == [f"{split}_{i:05d}" for i in range(count)]
        for i in range(count):
            example = found[f"{split}_{i:05d}"]
            np.testing.assert_array_equal(example["image"], images[first + i])
            assert example["label"] == labels[first + i]
    label = tfds.builder_from_directory(folder).info.features["label"]
    assert tuple(label.names) == jpeg_cifar.CLASSES


def test_open_images_prepares_on_the_fly_and_only_once(archive, made, tmp_path):
    images = open_images("cifar10", data_dir=tmp_path, archive=archive)
    got, labels = images.load(np.arange(NUM_TRAIN))
    assert (images.num_examples, images.image_shape, images.num_classes) == (20, (32, 32, 3), 10)
    stored = {image.tobytes(): label for image, label in zip(made[2], made[3], strict=True)}
    assert len({image.tobytes() for image in got}) == NUM_TRAIN
    assert [stored[image.tobytes()] for image in got] == labels.tolist()
    # Once prepared, neither an archive nor a network is needed.
    again = open_images("cifar10", data_dir=tmp_path)
    assert again.fingerprint == images.fingerprint
    assert open_images("cifar10", split="test", data_dir=tmp_path).num_examples == NUM_TEST


def test_an_archive_laid_into_the_download_folder_is_found(archive, tmp_path):
    place = tmp_path / "downloads" / "cifar-10-binary.tar.gz"
    place.parent.mkdir()
    place.write_bytes(archive.read_bytes())
    assert open_images("cifar10", data_dir=tmp_path).num_examples == NUM_TRAIN


def test_an_archive_is_downloaded_where_there_is_none(archive, made, monkeypatch, tmp_path):
    served = made[1]._replace(url=archive.as_uri())
    monkeypatch.setattr(archives, "expected_archives", lambda name: [served])
    assert open_images("cifar10", data_dir=tmp_path).num_examples == NUM_TRAIN
    assert sorted(path.name for path in (tmp_path / "downloads").iterdir()) == [
        "cifar-10-binary.tar.gz",
        "extracted",
    ]


def test_a_download_with_another_digest_is_refused_and_not_kept(
    archive, made, monkeypatch, tmp_path
):
    served = made[1]._replace(url=archive.as_uri(), sha256="0" * 64)
    monkeypatch.setattr(archives, "expected_archives", lambda name: [served])
    with pytest.raises(ConfigError, match="should be 0000") as caught:
        open_images("cifar10", data_dir=tmp_path)
    assert served.url in one_line(caught)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_wrong_archive_names_both_digests_and_writes_nothing(archive, made, tmp_path):
    wrong = tmp_path / "wrong.tar.gz"
    wrong.write_bytes(archive.read_bytes() + b"x")
    data_dir = tmp_path / "data"
    with pytest.raises(ConfigError) as caught:
        prepare("cifar10", data_dir, wrong)
    message = one_line(caught)
    assert made[1].sha256 in message
    assert hashlib.sha256(wrong.read_bytes()).hexdigest() in message
    assert not data_dir.exists()


def test_an_archive_that_is_not_there_is_named(archive, tmp_path):
    with pytest.raises(ConfigError, match="there is no file") as caught:
        prepare("cifar10", tmp_path, tmp_path / "absent.tar.gz")
    assert "data.archive" in one_line(caught)
    assert list(tmp_path.iterdir()) == []


def test_one_file_of_several_is_no_archive(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"data\.archive: must be the folder that holds t10k-"):
        prepare("mnist", tmp_path, tmp_path / "train-images-idx3-ubyte.gz")


def test_without_network_and_archive_the_message_says_what_to_put_where(archive, made, tmp_path):
    with pytest.raises(ConfigError, match="cannot be fetched") as caught:
        open_images("cifar10", data_dir=tmp_path)
    message = one_line(caught)
    for part in (
        "cifar-10-binary.tar.gz",
        made[1].sha256,
        str(tmp_path / "downloads"),
        "data.archive",
    ):
        assert part in message


def test_a_preparation_cut_short_is_not_taken_for_a_finished_one(archive, monkeypatch, tmp_path):
    def broken(path, *rest):
        files = read(path, *rest)
        return files | {"test_batch.bin": files["test_batch.bin"][:-1]}

    read = prepared._members
    monkeypatch.setattr(prepared, "_members", broken)
    with pytest.raises(ValueError, match="reshape"):
        prepare("cifar10", tmp_path, archive)
    assert prepared_folder("cifar10", tmp_path) is None
    monkeypatch.setattr(prepared, "_members", read)
    prepare("cifar10", tmp_path, archive)
    assert len(by_id(tmp_path, "train")) == NUM_TRAIN


def test_an_unfinished_folder_in_the_way_is_named(archive, tmp_path):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "cifar10-train.array_record-00000-of-00001").write_bytes(b"half")
    with pytest.raises(ConfigError, match="unfinished: remove that folder") as caught:
        open_images("cifar10", data_dir=tmp_path, archive=archive)
    assert str(folder) in one_line(caught)


def test_another_process_that_finished_first_is_no_error(archive, monkeypatch, tmp_path):
    make = prepared._builder_class

    def slower(name, files):
        class Slower(make(name, files), skip_registration=True):
            def _split_generators(self, dl_manager):
                monkeypatch.setattr(prepared, "_builder_class", make)
                prepare("cifar10", tmp_path, archive)
                return super()._split_generators(dl_manager)

        Slower.name = name
        return Slower

    monkeypatch.setattr(prepared, "_builder_class", slower)
    assert prepare("cifar10", tmp_path, archive) == tmp_path / "cifar10" / "3.0.2"
    assert len(by_id(tmp_path, "train")) == NUM_TRAIN


def test_the_expected_archives_are_tfds_own_record():
    (expected,) = expected_archives("cifar10")
    assert expected.filename == "cifar-10-binary.tar.gz"
    assert expected.url.endswith("/cifar-10-binary.tar.gz")
    assert expected.sha256 == "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    assert [archive.filename for archive in expected_archives("mnist")] == [
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]


RNG = np.random.default_rng(1)
PIXELS = {
    size: RNG.integers(0, 256, (7, *size), dtype=np.uint8) for size in ((32, 32, 3), (28, 28))
}


def idx_file(path, array):
    sizes = np.array(array.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()))


def write_mnist(folder):
    pixels, labels = PIXELS[28, 28], np.arange(3, 10, dtype=np.uint8)
    for prefix, part in (("train", slice(4)), ("t10k", slice(4, 7))):
        idx_file(folder / f"{prefix}-images-idx3-ubyte.gz", pixels[part])
        idx_file(folder / f"{prefix}-labels-idx1-ubyte.gz", labels[part])
    return pixels[..., None], labels


def write_cifar100(folder):
    pixels = PIXELS[32, 32, 3]
    labels = np.array([0, 99, 7, 5, 50, 98, 1], np.uint8)
    coarse = labels // 5
    planes = pixels.transpose(0, 3, 1, 2).reshape(7, -1)
    stored = np.concatenate([coarse[:, None], labels[:, None], planes], axis=1)
    held = {
        "coarse_label_names.txt": "\n".join(f"group_{i}" for i in range(20)).encode(),
        "fine_label_names.txt": "\n".join(f"class_{i}" for i in range(100)).encode(),
        "train.bin": stored[:4].tobytes(),
        "test.bin": stored[4:].tobytes(),
    }
    with tarfile.open(folder / "cifar-100-binary.tar.gz", "w:gz") as tar:
        for name, content in held.items():
            member = tarfile.TarInfo(f"cifar-100-binary/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return pixels, labels


def write_svhn(folder):
    pixels, labels = PIXELS[32, 32, 3], np.arange(7, dtype=np.uint8)
    parts = {"train": slice(4), "test": slice(4, 7), "extra": slice(1)}
    for split, part in parts.items():
        y = np.where(labels[part] == 0, 10, labels[part])[:, None]  # ten stands for the digit zero
        savemat(folder / f"{split}_32x32.mat", {"X": np.moveaxis(pixels[part], 0, 3), "y": y})
    return pixels, labels


@pytest.mark.parametrize(
    ("name", "write", "classes"),
    [
        ("mnist", write_mnist, 10),
        ("fashion_mnist", write_mnist, 10),
        ("cifar100", write_cifar100, 100),
        ("svhn_cropped", write_svhn, 10),
    ],
)
def test_other_sets_are_prepared_from_a_folder_of_their_files(
    name, write, classes, monkeypatch, tmp_path
):
    folder, data_dir = tmp_path / "files", tmp_path / "data"
    folder.mkdir()
    pixels, labels = write(folder)
    files = [
        Archive(NOWHERE, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
    ]
    assert {file.filename for file in files} == {a.filename for a in expected_archives(name)}
    monkeypatch.setattr(archives, "expected_archives", lambda asked: files)
    for split, part in (("train", slice(4)), ("test", slice(4, 7))):
        images = open_images(name, split=split, data_dir=data_dir, archive=folder)
        assert (images.image_shape, images.num_classes) == (pixels.shape[1:], classes)
        got, found = images.load(np.arange(images.num_examples))
        held = {
            image.tobytes(): label for image, label in zip(pixels[part], labels[part], strict=True)
        }
        assert {image.tobytes(): label for image, label in zip(got, found, strict=True)} == held
    if name == "cifar100":
        assert images.class_names[99] == "class_99"
    (folder / files[-1].filename).unlink()
    with pytest.raises(ConfigError, match="there is no file") as caught:
        open_images(name, data_dir=tmp_path / "other", archive=folder)
    assert files[-1].filename in one_line(caught)
    with pytest.raises(ConfigError, match="cannot be fetched") as caught:
        open_images(name, data_dir=tmp_path / "other")
    assert files[0].sha256 in one_line(caught)


@pytest.mark.takes_a_second
def test_tensorflow_is_never_imported(made, tmp_path):
    """Importing, preparing, opening, reading and refusing, in a process of its own."""
    path, expected, _, _ = made
    script = f"""
        import sys
        import jaxnoise.data
        assert "tensorflow_datasets" not in sys.modules  # half a second that digits need not pay
        assert "sklearn" not in sys.modules
        import numpy as np
        from jaxnoise.data import archives
        from jaxnoise.errors import ConfigError

        archives.expected_archives = lambda name: [archives.Archive(*{tuple(expected)!r})]
        images = jaxnoise.data.open_images("cifar10", data_dir="data", archive={str(path)!r})
        assert images.load(np.arange(20))[0].shape == (20, 32, 32, 3)
        try:
            jaxnoise.data.open_images("cifar01", data_dir="data")
        except ConfigError:
            print("tensorflow" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    assert Path(tmp_path, "data", "cifar10", "3.0.2", "features.json").is_file()
