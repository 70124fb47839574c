import os
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxnoise.config.settings import DataSettings
from jaxnoise.data import fingerprints, image_folder, open_images
from jaxnoise.data.decoding import Decoding
from jaxnoise.data.fingerprints import files_digest
from jaxnoise.data.image_folder import open_folder
from jaxnoise.data.images import digest
from jaxnoise.errors import ArgumentError, ConfigError

PIXELS = np.random.RandomState(0).randint(0, 256, (6, 5, 4, 3)).astype(np.uint8)


def write(folder, pixels, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for image, name in zip(pixels, names, strict=True):
        Image.fromarray(image).save(folder / name)


def test_sub_folders_are_classes_in_the_order_of_their_names(tmp_path):
    write(tmp_path / "train" / "dog", PIXELS[:2], "2.png", "1.png")
    write(tmp_path / "train" / "cat", PIXELS[2:5], "a.png", "b.png", "c.png")
    write(tmp_path / "test" / "cat", PIXELS[5:], "a.png")
    images = open_images("folder", data_dir=tmp_path)
    assert (images.num_examples, images.image_shape, images.num_classes) == (5, (5, 4, 3), 2)
    pixels, labels = images.load(np.array([4, 0, 3]))
    np.testing.assert_array_equal(pixels, PIXELS[[0, 2, 1]])
    assert labels.tolist() == [1, 0, 1]
    assert images.class_names == ("cat", "dog")
    np.testing.assert_array_equal(images.class_counts, [3, 2])
    assert open_images("folder", data_dir=tmp_path, split="test").num_examples == 1


def test_what_systems_leave_behind_is_no_class(tmp_path):
    write(tmp_path / "cat", PIXELS[:1], "a.png")
    write(tmp_path / "dog", PIXELS[1:2], "a.png")
    for folder in ("__MACOSX", "@eaDir", ".git"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "._a.png").write_bytes(b"x")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    images = open_folder(tmp_path)
    assert (images.num_classes, images.load(np.arange(2))[1].tolist()) == (2, [0, 1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: holds no image; every sub-folder of .* class"):
        open_folder(tmp_path)
    (tmp_path / "empty" / "deeper").mkdir()
    with pytest.raises(ConfigError, match=r"empty: holds the folder deeper; every sub-folder"):
        open_folder(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    for i, name in enumerate(("bus", "car", "train")):
        write(tmp_path / name, PIXELS[i : i + 1], "a.png")
    message = (
        r"split='train': must be '\.' if 'train' and 'bus' in .* are classes; if it is a split"
    )
    with pytest.raises(ArgumentError, match=message):
        open_folder(tmp_path)
    images = open_folder(tmp_path, ".")
    assert images.class_names == ("bus", "car", "train")
    # Among splits alone it is one.
    for name in ("bus", "car"):
        shutil.rmtree(tmp_path / name)
    write(tmp_path / "test", PIXELS[3:5], "a.png", "b.png")
    assert (open_folder(tmp_path).num_examples, open_folder(tmp_path).num_classes) == (1, 0)


@pytest.mark.parametrize("train, test", [("Train", "Test"), ("TRAIN", "test"), ("train", "TEST")])
@pytest.mark.parametrize("inside", ["", "cat"])
def test_splits_may_have_capitals(tmp_path, train, test, inside):
    write(tmp_path / train / inside, PIXELS[:3], "a.png", "b.png", "c.png")
    write(tmp_path / test / inside, PIXELS[3:5], "a.png", "b.png")
    names = (inside,) if inside else ()
    for split, pixels in (("train", PIXELS[:3]), ("test", PIXELS[3:5]), (test, PIXELS[3:5])):
        images = open_folder(tmp_path, split)
        assert images.class_names == names
        np.testing.assert_array_equal(images.load(np.arange(images.num_examples))[0], pixels)


def test_two_splits_of_one_name_are_told_apart_by_capitals(tmp_path):
    write(tmp_path / "TRAIN", PIXELS[:1], "a.png")
    write(tmp_path / "Train", PIXELS[1:3], "a.png", "b.png")
    with pytest.raises(
        ArgumentError, match=r"split='train': must be 'TRAIN' or 'Train', which are both in "
    ):
        open_folder(tmp_path)
    assert open_folder(tmp_path, "Train").num_examples == 2


@pytest.mark.parametrize(
    "folders, named",
    [
        (("cats", "dogs", "test"), "'test'"),
        (("Test", "cats", "dogs"), "'Test'"),
        (("VAL", "cats"), "'VAL'"),
        (("dev", "photos"), "'dev'"),
        (("test",), "'test'"),
        (("Testing", "Training"), "'Testing', 'Training'"),
        (("test", "training", "validation"), "'test', 'training', 'validation'"),
    ],
)
def test_held_out_images_are_no_class(tmp_path, folders, named):
    for i, name in enumerate(folders):
        write(tmp_path / name, PIXELS[i : i + 1], "a.png")
    message = (
        rf"^split='train': must be a sub-folder of {tmp_path}, whose {named} would be taken for "
        r"classes; or '\.', which takes the folder as it is$"
    )
    with pytest.raises(ArgumentError, match=message) as caught:
        open_folder(tmp_path)
    assert caught.value.argument == "split"
    images = open_folder(tmp_path, ".")
    assert images.class_names == folders
    np.testing.assert_array_equal(images.load(np.arange(len(folders)))[0], PIXELS[: len(folders)])


def test_training_and_testing_are_splits(tmp_path):
    write(tmp_path / "Training", PIXELS[:2], "a.png", "b.png")
    write(tmp_path / "Testing", PIXELS[2:3], "a.png")
    with pytest.raises(ConfigError, match=r"^config\.data\.split='train': must be a sub-folder of"):
        DataSettings("folder", data_dir=str(tmp_path)).open()
    assert open_folder(tmp_path, "training").num_examples == 2
    assert open_folder(tmp_path, "testing").num_examples == 1
    # As a folder of classes and a split they are not.
    write(tmp_path / "cat", PIXELS[3:4], "a.png")
    with pytest.raises(
        ArgumentError, match=r"must be '\.' if 'Training' and 'cat' in .* are classes"
    ):
        open_folder(tmp_path, "training")


def test_loose_images_are_no_training_split_beside_another(tmp_path):
    write(tmp_path, PIXELS[:1], "a.png")
    write(tmp_path / "test", PIXELS[1:2], "a.png")
    with pytest.raises(ArgumentError, match="whose 'test' would be taken for classes"):
        open_folder(tmp_path)
    assert open_folder(tmp_path, "test").num_examples == 1


def test_images_beside_a_split_are_counted(tmp_path, capsys):
    write(tmp_path, PIXELS[:3], "a.png", "b.png", "c.BMP")
    (tmp_path / "d.nef").touch()
    (tmp_path / "README").touch()
    write(tmp_path / "train", PIXELS[3:5], "a.png", "b.png")
    assert open_folder(tmp_path).num_examples == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}: passed over 4 files (1 .bmp, 1 .nef, 2 .png), which lie beside the split "
        "'train'\n"
    )
    assert open_folder(tmp_path / "train").num_examples == 2
    assert capsys.readouterr().err == ""


def test_a_flat_folder_is_unlabelled_and_grey_stays_grey(tmp_path):
    write(tmp_path, PIXELS[:3, :, :, 0], "a.png", "b.png", "c.png")
    (tmp_path / ".hidden").touch()
    images = open_folder(tmp_path)
    assert (images.image_shape, images.num_classes) == ((5, 4, 1), 0)
    np.testing.assert_array_equal(images.load(np.arange(3))[0], PIXELS[:3, :, :, :1])


def test_another_file_is_another_fingerprint(tmp_path):
    write(tmp_path, PIXELS[:2], "a.png", "b.png")
    before = open_folder(tmp_path).fingerprint
    assert open_folder(tmp_path).fingerprint == before
    write(tmp_path, PIXELS[2:3], "c.png")
    assert open_folder(tmp_path).fingerprint != before


def test_the_same_names_and_sizes_with_other_pixels_are_another_fingerprint(tmp_path):
    write(tmp_path, PIXELS[:2], "a.bmp", "b.bmp")
    before, size = open_folder(tmp_path).fingerprint, (tmp_path / "a.bmp").stat().st_size
    write(tmp_path, PIXELS[2:3], "a.bmp")
    assert (tmp_path / "a.bmp").stat().st_size == size
    assert open_folder(tmp_path).fingerprint != before


def test_a_fingerprint_is_of_the_contents_and_of_how_they_are_decoded(tmp_path):
    write(tmp_path, PIXELS[:2], "a.png", "b.png")
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    expected = digest(files_digest(files, tmp_path), Decoding(channels=1).description)
    assert open_folder(tmp_path, channels=1).fingerprint == expected


@pytest.mark.parametrize("settled", [False, True], ids=["just written", "written long ago"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("changed", ["a.bmp", "b.bmp"])
def test_a_file_that_changes_while_it_is_read_is_not_kept(
    tmp_path, monkeypatch, settled, before, changed
):
    monkeypatch.setenv("JAXNOISE_CACHE", str(tmp_path / "cache"))
    if settled:
        later = fingerprints.time.time_ns() + 10**10
        monkeypatch.setattr(fingerprints.time, "time_ns", lambda: later)
    folder = tmp_path / "photos"
    write(folder, PIXELS[:2], "a.bmp", "b.bmp")
    original = (folder / changed).read_bytes()

    class Saved(Decoding):
        """As if an editor saved one of the files: of the same size, by the same time."""

        def __call__(self, file):
            pixels = None if before else super().__call__(file)
            if file.name == changed:
                times = file.stat().st_atime_ns, file.stat().st_mtime_ns
                write(folder, PIXELS[2:3], changed)
                os.utime(file, ns=times)
            return super().__call__(file) if before else pixels

    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "Decoding", Saved)
        with pytest.raises(
            ConfigError, match=rf"^{folder / changed}: changed while it was read; start again"
        ):
            open_folder(folder)
    assert list((tmp_path / "cache" / "images").iterdir()) == []
    (folder / changed).write_bytes(original)
    images = open_folder(folder)
    np.testing.assert_array_equal(images.load(np.arange(2))[0], PIXELS[:2])


def test_what_is_wrong_is_one_line_that_names_the_file(tmp_path):
    with pytest.raises(ArgumentError, match="data_dir=None: must be a folder"):
        open_folder(None)
    with pytest.raises(ConfigError, match="holds no image file"):
        open_folder(tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(ConfigError, match=r"holds no image file .*, but 1 file \(1 \.txt\)"):
        open_folder(tmp_path)
    write(tmp_path, PIXELS[:1], "a.png")
    with pytest.raises(ArgumentError, match="split=None: must be the name of a sub-folder"):
        open_images("folder", data_dir=tmp_path, split=None)
    with pytest.raises(ArgumentError, match="split='test': must be a sub-folder"):
        open_folder(tmp_path, "test")
    (tmp_path / "notes.txt").rename(tmp_path / "b.png")
    with pytest.raises(ConfigError, match=r"1 of 2 images cannot be used: b\.png is no image"):
        open_folder(tmp_path)
    write(tmp_path, [PIXELS[0, :3]], "b.png")
    with pytest.raises(
        ConfigError, match=r"a\.png is 4x5 and b\.png is 4x3 \(width x height\): set data\.size"
    ):
        open_folder(tmp_path)
    write(tmp_path, [PIXELS[0, :, :, 0]], "b.png")
    with pytest.raises(
        ConfigError, match=r"a\.png is in colour and b\.png is grey: set data\.channels to 1 or 3"
    ):
        open_folder(tmp_path)
    assert open_folder(tmp_path, channels=3).image_shape == (5, 4, 3)
    assert open_folder(tmp_path, channels=1).image_shape == (5, 4, 1)
    write(tmp_path / "cat", PIXELS[:1], "c.png")
    with pytest.raises(ConfigError, match="lies beside sub-folders"):
        open_folder(tmp_path)


@pytest.mark.parametrize("odd", ["image", "class"])
def test_a_name_that_is_not_utf_8_is_named(odd, tmp_path):
    write(tmp_path, PIXELS[:1], "a.png")
    where = os.fsencode(tmp_path)
    if odd == "class":
        os.mkdir(where + b"/caf\xe9")
        os.rename(where + b"/a.png", where + b"/caf\xe9/a.png")
    else:
        os.rename(where + b"/a.png", where + b"/caf\xe9.png")
    with pytest.raises(ConfigError, match=r"caf\\udce9.*: its name is not UTF-8; rename it"):
        open_folder(tmp_path)


def test_a_folder_whose_name_is_not_utf_8_opens(tmp_path):
    folder = tmp_path / os.fsdecode(b"M\xfcnchen")
    write(folder / "cat", PIXELS[:2], "a.png", "b.png")
    for data_dir, name in ((folder, "M\\udcfcnchen"), (folder / "cat", "cat")):
        images = open_folder(data_dir)
        assert images.name == name
        np.testing.assert_array_equal(images.load(np.arange(2))[0], PIXELS[:2])


@pytest.mark.parametrize("ending", image_folder.FOREIGN)
def test_photographs_that_pillow_does_not_read_are_named(tmp_path, ending):
    write(tmp_path, PIXELS[:1], "a.png")
    (tmp_path / f"b{ending.upper()}").write_bytes(b"x")
    with pytest.raises(ConfigError, match=rf"1 of 2 images cannot be used: b\{ending.upper()} is "):
        open_folder(tmp_path)


def test_the_makers_of_cameras_are_known():
    assert {".nef", ".heic", ".pef", ".srw", ".3fr", ".x3f", ".nrw", ".hif", ".heics"} <= set(
        image_folder.FOREIGN
    )


def test_what_is_no_image_is_passed_over_and_counted(tmp_path, capsys):
    for name in ("cat", "dog"):
        write(tmp_path / name, PIXELS[:2], "a.png", "b.PNG")
        for other in ("Thumbs.db", "desktop.ini", "labels.json"):
            (tmp_path / name / other).write_text("{}")
    (tmp_path / "README").write_text("of the set")
    (tmp_path / ".DS_Store").touch()
    images = open_folder(tmp_path)
    assert (images.num_examples, images.class_names) == (4, ("cat", "dog"))
    assert capsys.readouterr().err == (
        f"{tmp_path}: passed over 7 files (2 .db, 2 .ini, 2 .json, 1 without an ending), which are "
        "no images\n"
    )


def test_a_link_to_no_class_is_not_passed_over(tmp_path):
    write(tmp_path / "cat", PIXELS[:1], "a.png")
    (tmp_path / "dog").symlink_to("nowhere")
    with pytest.raises(ConfigError, match="dog: is a link to nowhere, where nothing is: restore"):
        open_folder(tmp_path)


def test_settings_are_told_by_their_keys(tmp_path):
    write(tmp_path, np.tile(PIXELS[:2], (1, 4, 4, 1)), "a.png", "b.png")
    for key, value, allowed in (
        ("size", 7, "at least 8, or None"),
        ("channels", 2, r"1 \(grey\), 3 \(RGB\) or None"),
        ("background", "whitish", "a colour's name such as 'white', or '#rrggbb'"),
        ("scale", -1.0, "a finite number > 0"),
    ):
        with pytest.raises(ArgumentError, match=f"{key}={value!r}: must be {allowed}"):
            DataSettings("folder", data_dir=str(tmp_path), **{key: value})
    for key, value in (("channels", 1), ("background", "red"), ("scale", 2.0)):
        with pytest.raises(ConfigError, match=rf"^config\.data\.{key}={value!r}: must be .*unless"):
            DataSettings("digits", **{key: value}).open()
    with pytest.raises(ConfigError, match=r"^config\.data\.scale=2\.0: must be None or 1 unless"):
        DataSettings("folder", data_dir=str(tmp_path), scale=2.0).open()
    images = DataSettings("folder", data_dir=str(tmp_path), size=8, channels=1, scale=1.0).open()
    assert images.image_shape == (8, 8, 1)
