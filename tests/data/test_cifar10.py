"""CIFAR-10 prepared without TensorFlow, from an archive of the original layout with few images."""

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

from jaxnoise.data import cifar10, open_images
from jaxnoise.data.cifar10 import Archive, expected_archive, prepare_cifar10
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
    monkeypatch.setattr(cifar10, "expected_archive", lambda: made[1])
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
    folder = prepare_cifar10(tmp_path, archive)
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
    monkeypatch.setattr(cifar10, "expected_archive", lambda: served)
    assert open_images("cifar10", data_dir=tmp_path).num_examples == NUM_TRAIN
    assert sorted(path.name for path in (tmp_path / "downloads").iterdir()) == [
        "cifar-10-binary.tar.gz",
        "extracted",
    ]


def test_a_download_with_another_digest_is_refused_and_not_kept(
    archive, made, monkeypatch, tmp_path
):
    served = made[1]._replace(url=archive.as_uri(), sha256="0" * 64)
    monkeypatch.setattr(cifar10, "expected_archive", lambda: served)
    with pytest.raises(ConfigError, match="should be 0000") as caught:
        open_images("cifar10", data_dir=tmp_path)
    assert served.url in one_line(caught)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_wrong_archive_names_both_digests_and_writes_nothing(archive, made, tmp_path):
    wrong = tmp_path / "wrong.tar.gz"
    wrong.write_bytes(archive.read_bytes() + b"x")
    data_dir = tmp_path / "data"
    with pytest.raises(ConfigError) as caught:
        prepare_cifar10(data_dir, wrong)
    message = one_line(caught)
    assert made[1].sha256 in message
    assert hashlib.sha256(wrong.read_bytes()).hexdigest() in message
    assert not data_dir.exists()


def test_an_archive_that_is_not_there_is_named(archive, tmp_path):
    with pytest.raises(ConfigError, match="there is no file") as caught:
        prepare_cifar10(tmp_path, tmp_path / "absent.tar.gz")
    assert "data.archive" in one_line(caught)
    assert list(tmp_path.iterdir()) == []


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
    def broken(path):
        files = read(path)
        return files | {"test_batch.bin": files["test_batch.bin"][:-1]}

    read = cifar10._read
    monkeypatch.setattr(cifar10, "_read", broken)
    with pytest.raises(ValueError, match="reshape"):
        prepare_cifar10(tmp_path, archive)
    assert prepared_folder("cifar10", tmp_path) is None
    monkeypatch.setattr(cifar10, "_read", read)
    prepare_cifar10(tmp_path, archive)
    assert len(by_id(tmp_path, "train")) == NUM_TRAIN


def test_an_unfinished_folder_in_the_way_is_named(archive, tmp_path):
    folder = tmp_path / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    (folder / "cifar10-train.array_record-00000-of-00001").write_bytes(b"half")
    with pytest.raises(ConfigError, match="unfinished: remove that folder") as caught:
        open_images("cifar10", data_dir=tmp_path, archive=archive)
    assert str(folder) in one_line(caught)


def test_another_process_that_finished_first_is_no_error(archive, monkeypatch, tmp_path):
    make = cifar10._builder_class

    def slower(path):
        class Slower(make(path), skip_registration=True):
            name = "cifar10"

            def _split_generators(self, dl_manager):
                monkeypatch.setattr(cifar10, "_builder_class", make)
                prepare_cifar10(tmp_path, path)
                return super()._split_generators(dl_manager)

        return Slower

    monkeypatch.setattr(cifar10, "_builder_class", slower)
    assert prepare_cifar10(tmp_path, archive) == tmp_path / "cifar10" / "3.0.2"
    assert len(by_id(tmp_path, "train")) == NUM_TRAIN


def test_the_expected_archive_is_tfds_own_record():
    expected = expected_archive()
    assert expected.filename == "cifar-10-binary.tar.gz"
    assert expected.url.endswith("/cifar-10-binary.tar.gz")
    assert expected.sha256 == "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"


def test_tensorflow_is_never_imported(made, tmp_path):
    """Importing, preparing, opening, reading and refusing, in a process of its own."""
    path, expected, _, _ = made
    script = f"""
        import sys
        import jaxnoise.data
        assert "tensorflow_datasets" not in sys.modules  # half a second that digits need not pay
        assert "sklearn" not in sys.modules
        import numpy as np
        from jaxnoise.data import cifar10
        from jaxnoise.errors import ConfigError

        cifar10.expected_archive = lambda: cifar10.Archive(*{tuple(expected)!r})
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
