"""One image file of any kind, as pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxnoise.data.decoding import Decoding, UnusableError, color_of
from jaxnoise.errors import ArgumentError

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)


def stored(image, file_format="PNG", **keywords):
    file = io.BytesIO()
    image.save(file, file_format, **keywords)
    file.seek(0)
    return file


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_a_photograph_is_seen_as_a_viewer_shows_it(orientation, file_format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = stored(Image.fromarray(PIXELS), file_format, exif=exif)
    found = Decoding()(file)
    file.seek(0)
    np.testing.assert_array_equal(found, ImageOps.exif_transpose(Image.open(file)))
    assert found.shape == ((8, 6, 3) if orientation < 5 else (6, 8, 3))


def test_sixteen_bits_become_eight():
    ramp = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    for file_format in ("PNG", "TIFF"):
        found = Decoding()(stored(Image.fromarray(ramp), file_format))
        assert found.shape == (8, 8, 1)
        assert len(np.unique(found)) == 64
        np.testing.assert_array_equal(found[..., 0], np.rint(ramp / 257))
    all_values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = Decoding()(stored(Image.fromarray(all_values)))
    np.testing.assert_array_equal(found[..., 0], np.rint(all_values / 257))
    big = Image.frombytes("I;16B", (8, 8), ramp.astype(">u2").tobytes())
    np.testing.assert_array_equal(Decoding()(stored(big, "TIFF"))[..., 0], np.rint(ramp / 257))


@pytest.mark.parametrize("background", ["white", "black", "#336699"])
def test_what_is_transparent_shows_the_background(background):
    rng = np.random.default_rng(1)
    layers = rng.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    color, opacity = layers[..., :3].astype(float), layers[..., 3:] / 255
    expected = np.rint(opacity * color + (1 - opacity) * np.array(color_of(background)))
    decode = Decoding(background=background)
    np.testing.assert_array_equal(decode(stored(Image.fromarray(layers))), expected)
    # Grey with transparency is grey where the background is.
    grey = decode(stored(Image.fromarray(layers[..., [0, 3]])))
    expected = np.rint(opacity * color[..., :1] + (1 - opacity) * np.array(color_of(background)))
    assert grey.shape[2] == (3 if background == "#336699" else 1)
    np.testing.assert_array_equal(grey, expected[..., : grey.shape[2]])


def test_a_transparent_entry_of_a_palette_and_a_transparent_colour():
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    for file_format in ("PNG", "GIF"):
        file = stored(palette, file_format, transparency=1)
        found = Decoding(background="blue")(file)
        assert found.tolist() == [[[255, 0, 0], [0, 0, 255]]]
    plain = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    found = Decoding(background="red")(stored(plain, transparency=(4, 5, 6)))
    assert found.tolist() == [[[1, 2, 3], [255, 0, 0]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_grey_stays_grey_and_all_else_becomes_rgb(mode):
    image = Image.fromarray(PIXELS).convert(mode)
    found = Decoding()(stored(image, "JPEG" if mode == "YCbCr" else "TIFF"))
    assert found.shape == (8, 6, 1 if mode in ("1", "L") else 3)
    if mode in ("1", "L"):
        np.testing.assert_array_equal(found[..., 0], image.convert("L"))
    elif mode != "YCbCr":
        np.testing.assert_array_equal(found, image.convert("RGB"))


def test_channels_convert_all():
    colour, grey = stored(Image.fromarray(PIXELS)), stored(Image.fromarray(PIXELS[..., 0]))
    luma = PIXELS.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(Decoding(channels=1)(colour)[..., 0] - luma).max() < 1
    expected = np.repeat(PIXELS[..., :1], 3, axis=2)
    np.testing.assert_array_equal(Decoding(channels=3)(grey), expected)


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "AVIF", "WEBP", "BMP", "PPM", "TGA"])
def test_formats_are_read_as_pillow_reads_them(file_format):
    file = stored(Image.fromarray(PIXELS), file_format)
    expected = np.asarray(Image.open(file).convert("RGB"))
    file.seek(0)
    np.testing.assert_array_equal(Decoding()(file), expected)


def test_the_middle_square_is_reduced():
    decode = Decoding(size=2)
    for shape, middle in (((6, 9, 3), np.s_[:, 1:7]), ((9, 6, 3), np.s_[1:7])):
        pixels = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
        blocks = pixels[middle].reshape(2, 3, 2, 3, 3).mean(axis=(1, 3))
        np.testing.assert_array_equal(decode(stored(Image.fromarray(pixels))), np.rint(blocks))
    # Where it does not divide, a constant stays one and detail is averaged, not picked.
    constant = Image.new("RGB", (70, 50), (9, 8, 7))
    np.testing.assert_array_equal(Decoding(size=7)(stored(constant)), np.full((7, 7, 3), [9, 8, 7]))
    stripes = np.zeros((50, 50), np.uint8)
    stripes[:, ::2] = 200
    reduced = Decoding(size=7)(stored(Image.fromarray(stripes)))
    assert np.abs(reduced.astype(int) - 100).max() <= 10
    with pytest.raises(UnusableError, match=r"is 8x9 \(width x height\), smaller than size 9"):
        Decoding(size=9)(stored(Image.new("L", (8, 9))))


def frames(file_format):
    pictures = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 90, 200)]
    return stored(pictures[0], file_format, save_all=True, append_images=pictures[1:])


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_moving_pictures_are_refused(file_format):
    with pytest.raises(UnusableError, match=r"holds 3 frames or pages: save each"):
        Decoding()(frames(file_format))


def test_a_photograph_with_others_beside_it_is_the_first(tmp_path):
    pictures = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (40, 90)]
    file = stored(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    assert Image.open(file).n_frames == 2
    file.seek(0)
    assert np.abs(Decoding()(file).astype(int) - 40).max() <= 1


@pytest.mark.parametrize("kind, mode", [(np.int32, "I"), (np.float32, "F")])
def test_thirty_two_bits_are_refused(kind, mode):
    file = stored(Image.fromarray(np.zeros((8, 8), kind)), "TIFF")
    with pytest.raises(UnusableError, match=rf"has 32-bit pixels \(mode {mode}\).*8 or 16 bits"):
        Decoding()(file)


def huge():
    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    ends = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + ends


@pytest.mark.parametrize(
    "data, message",
    [
        (huge(), "has more than 178,956,970 pixels: make it smaller"),
        (b"no image", "is no image that Pillow can read: replace it"),
        (b"", "is no image that Pillow can read: replace it"),
        (stored(Image.fromarray(PIXELS)).getvalue()[:60], r"cannot be decoded \(.*\): replace it"),
        (
            stored(Image.fromarray(PIXELS), "JPEG").getvalue()[:-80],
            r"cannot be decoded \(.*\): replace it",
        ),
    ],
    ids=["huge", "text", "empty", "png", "jpeg"],
)
def test_files_of_no_use_are_told_in_one_line(data, message):
    with pytest.raises(UnusableError, match=message) as caught:
        Decoding()(io.BytesIO(data))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"size": 0}, "size=0: must be at least 1, or None"),
        ({"channels": 2}, r"channels=2: must be 1 \(grey\), 3 \(RGB\) or None"),
        ({"background": "whitee"}, "background='whitee': must be a colour's name"),
        ({"background": "#33669980"}, "background='#33669980': must be a colour's name"),
    ],
)
def test_settings_out_of_range(keywords, message):
    with pytest.raises(ArgumentError, match=message):
        Decoding(**keywords)


def test_settings_tell_fingerprints_apart():
    settings = [{}, {"size": 8}, {"channels": 1}, {"background": "black"}]
    assert len({Decoding(**one).description for one in settings}) == 4
    assert Decoding(background="#fff").description == Decoding().description
