"""Images that are decoded once and kept."""

import shutil
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image

from jaxnoise.data import cached_images, open_images
from jaxnoise.data.cached_images import Undecoded, decoded_once
from jaxnoise.data.decoding import Decoding, UnusableError
from jaxnoise.data.image_folder import open_folder
from jaxnoise.errors import ConfigError

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 12, 12, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("JAXNOISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


@pytest.fixture
def pictures(tmp_path):
    """Thirty PNGs of mixed sizes, 12 pixels at least."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, pixels in enumerate(PIXELS):
        size = (12 + i % 5, 12 + i % 3)
        Image.fromarray(pixels).resize(size).save(folder / f"{i:02d}.png")
    return folder


def decoded(monkeypatch):
    """Which files are decoded from here on."""
    seen, decode = [], Decoding.__call__

    def counting(self, file):
        seen.append(file.name)
        return decode(self, file)

    monkeypatch.setattr(Decoding, "__call__", counting)
    return seen


def test_the_second_opening_reads_the_cache(pictures, cache, monkeypatch):
    seen = decoded(monkeypatch)
    first = open_folder(pictures, size=8)
    assert sorted(seen) == [f"{i:02d}.png" for i in range(30)]
    again = open_folder(pictures, size=8)
    assert len(seen) == 30
    assert (again.fingerprint, again.image_shape) == (first.fingerprint, (8, 8, 3))
    order = np.array([29, 3, 3, 0])
    images, labels = again.load(order)
    for image, i in zip(images, order, strict=True):
        np.testing.assert_array_equal(image, Decoding(8)(pictures / f"{i:02d}.png"))
    assert labels.tolist() == [0, 0, 0, 0]
    assert type(again.pixels) is np.memmap
    images[:] = 0  # the caller's own copy
    np.testing.assert_array_equal(again.load(order)[0], first.load(order)[0])
    folders = list(cache.iterdir())
    assert [folder.name for folder in folders] == [first.fingerprint]
    kept = {"digest", "labels.npy", "pixels.npy"}
    assert {path.name for path in folders[0].iterdir()} == kept


def test_another_file_or_setting_is_another_cache(pictures, cache, monkeypatch):
    settings = [{"size": 8}, {"size": 4}, {"size": 8, "channels": 1}]
    settings.append({"size": 8, "background": "black"})
    prints = {open_folder(pictures, **one).fingerprint for one in settings}
    Image.fromarray(255 - PIXELS[4]).save(pictures / "04.png")
    seen = decoded(monkeypatch)
    changed = open_folder(pictures, size=8)
    assert len(seen) == 30
    np.testing.assert_array_equal(changed.load([4])[0][0], Decoding(8)(pictures / "04.png"))
    prints.add(changed.fingerprint)
    assert {folder.name for folder in cache.iterdir()} == prints
    assert len(prints) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: (d / "pixels.npy").write_bytes((d / "pixels.npy").read_bytes()[:-7]),
        lambda d: (d / "pixels.npy").write_bytes((d / "pixels.npy").read_bytes()[:-1] + b"\0"),
        lambda d: (d / "pixels.npy").unlink(),
        lambda d: (d / "labels.npy").write_bytes(b"none"),
        lambda d: (d / "digest").unlink(),
        lambda d: (d / "digest").write_bytes(b"\xff\xfe"),
    ],
    ids=["cut off", "a byte", "missing", "labels", "unfinished", "digest"],
)
def test_a_damaged_cache_is_made_anew(pictures, cache, monkeypatch, damage):
    first = open_folder(pictures, size=8)
    expected = np.array(first.pixels)
    del first
    damage(next(cache.iterdir()))
    seen = decoded(monkeypatch)
    np.testing.assert_array_equal(open_folder(pictures, size=8).pixels, expected)
    assert len(seen) == 30
    open_folder(pictures, size=8)
    assert len(seen) == 30


@pytest.mark.slow
def test_two_processes_at_once_do_no_harm(pictures):
    program = (
        "import sys, numpy as np; from jaxnoise.data import open_images\n"
        "images = open_images('folder', data_dir=sys.argv[1], size=8)\n"
        "print(images.load(np.arange(30))[0].sum())"
    )
    command = [sys.executable, "-c", program, str(pictures)]
    several = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    sums = {process.communicate()[0] for process in several}
    images = open_images("folder", data_dir=pictures, size=8)
    assert sums == {f"{images.load(np.arange(30))[0].sum()}\n"}


def test_no_room_is_said_before_anything_is_written(pictures, cache, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, 30 * 8 * 8 * 3 - 1))
    message = r"images/\w+: 5,760 bytes are needed .*, but 5,759 are free; set \$JAXNOISE_CACHE"
    with pytest.raises(ConfigError, match=message):
        open_folder(pictures, size=8)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_said(pictures, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ConfigError, match=r"cannot be written .*set \$JAXNOISE_CACHE to a folder"):
        open_folder(pictures, size=8)


def test_one_broken_file_among_thirty_is_named(pictures, cache):
    data = (pictures / "17.png").read_bytes()
    (pictures / "17.png").write_bytes(data[: len(data) // 2])
    message = r"1 of 30 images cannot be used: 17\.png cannot be decoded \(.+\): replace it$"
    with pytest.raises(ConfigError, match=message):
        open_folder(pictures, size=8)
    assert list(cache.iterdir()) == []
    (pictures / "17.png").write_bytes(data)
    assert open_folder(pictures, size=8).num_examples == 30


def test_all_that_cannot_be_used_is_told_together(pictures):
    for i in (3, 5, 8, 9, 11, 20, 28):
        (pictures / f"{i:02d}.png").write_bytes(b"none")
    (pictures / "03.png").unlink()
    (pictures / "03.png").symlink_to("nowhere.png")
    (pictures / "05.png").rename(pictures / "05.heic")
    Image.new("RGB", (20, 7)).save(pictures / "08.png")
    with pytest.raises(ConfigError) as caught:
        open_folder(pictures, size=8)
    assert str(caught.value) == (
        f"{pictures}: 7 of 30 images cannot be used: "
        "03.png is a link to nowhere.png, where nothing is: restore that or remove it; "
        "05.heic is .heic, which Pillow does not read: convert it to JPEG or PNG; "
        "08.png is 20x7 (width x height), smaller than size 8; "
        "09.png is no image that Pillow can read: replace it; "
        "11.png is no image that Pillow can read: replace it; and 2 more"
    )


def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, capsys):
    source = Undecoded("made up", 3, lambda i: (np.zeros((2, 2, 1), np.uint8), 0), str)
    monkeypatch.setattr(cached_images, "_SECONDS_BETWEEN_LINES", 0)
    decoded_once(source, "a" * 16)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"decoding 3 images of made up once: {n} done" for n in (1, 2, 3)]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    decoded_once(source, "b" * 16)
    assert "decoding 3 images of made up once: " in capsys.readouterr().err


def test_an_example_that_fails_stops_nothing_but_is_told():
    def decode(index):
        if index == 1:
            raise UnusableError("is odd")
        return np.zeros((2, 2, 1), np.uint8), 0

    with pytest.raises(ConfigError, match="made up: 1 of 4 images cannot be used: number 1 is odd"):
        decoded_once(Undecoded("made up", 4, decode, "number {}".format), "c" * 16)
