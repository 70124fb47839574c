"""One image file of any kind, as pixels."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxnoise.data import decoding
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


def odd_exif(orientation, *tags):
    """EXIF data of an orientation and of tags (number, type, count, bytes) in the order given."""
    tags = [*tags, (0x0112, 3, 1, struct.pack("<H", orientation))]
    table, rest = struct.pack("<IH", 8, len(tags)), b""
    for number, kind, count, data in sorted(tags):
        table += struct.pack("<HHI", number, kind, count)
        if len(data) > 4:
            rest, data = rest + data, struct.pack("<I", 14 + 12 * len(tags) + len(rest))
        table += data.ljust(4, b"\0")
    return b"Exif\0\0II*\0" + table + bytes(4) + rest


@pytest.mark.parametrize(
    "tag",
    [
        (305, 5, 1, struct.pack("<II", 1, 2)),
        (296, 5, 1, struct.pack("<II", 2, 1)),
        (282, 2, 3, b"72\0"),
        (531, 2, 2, b"1\0"),
        (256, 2, 5, b"4000\0"),
        (256, 9, 1, struct.pack("<i", -1)),
    ],
    ids=["software", "unit", "resolution", "positioning", "width", "negative width"],
)
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_tags_of_another_type_do_not_matter(tag, file_format):
    image = Image.fromarray(PIXELS)
    found = Decoding()(stored(image, file_format, exif=odd_exif(6, tag)))
    plain = Decoding()(stored(image, file_format, exif=odd_exif(6)))
    assert found.shape == (6, 8, 3)
    np.testing.assert_array_equal(found, plain)
    unturned = Decoding()(stored(image, file_format))
    np.testing.assert_array_equal(plain, np.rot90(unturned, -1))


def test_damaged_exif_data_turn_nothing():
    file = stored(Image.fromarray(PIXELS), exif=b"Exif\0\0no tags at all")
    np.testing.assert_array_equal(Decoding()(file), PIXELS)


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


def grey_tiff(bits, photometric, data, side=4):
    """A TIFF file of grey pixels, as no option of Pillow writes it."""
    sizes = {256: side, 257: side, 258: bits, 259: 1, 262: photometric}
    tags = sizes | {273: 8 + 2 + 12 * 9 + 4, 277: 1, 278: side, 279: len(data)}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return io.BytesIO(struct.pack("<2sHIH", b"II", 42, 8, 9) + table + bytes(4) + data)


def test_white_may_be_zero():
    for value, black_is_zero, white_is_zero in ((60000, 233, 22), (0, 0, 255), (65535, 255, 0)):
        data = np.full(16, value, "<u2").tobytes()
        assert set(Decoding()(grey_tiff(16, 1, data)).ravel()) == {black_is_zero}
        assert set(Decoding()(grey_tiff(16, 0, data)).ravel()) == {white_is_zero}


def test_twelve_bits_become_eight():
    values = np.arange(4096).reshape(64, 64)
    pairs = values.reshape(-1, 2)
    left, right = pairs[:, 0], pairs[:, 1]
    packed = np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], axis=1)
    found = Decoding()(grey_tiff(12, 1, packed.astype(np.uint8).tobytes(), side=64))[..., 0]
    assert (found[0, 0], found[-1, -1]) == (0, 255)
    np.testing.assert_array_equal(found, np.rint(values * 255 / 4095))


@pytest.mark.parametrize("most", [65535, 1023])
def test_a_greymap_of_more_than_eight_bits(most):
    values = np.linspace(0, most, 64).round().astype(">u2").reshape(8, 8)
    file = io.BytesIO(b"P5\n8 8\n%d\n" % most + values.tobytes())
    found = Decoding()(file)
    assert found.shape == (8, 8, 1)
    np.testing.assert_array_equal(found[..., 0], np.rint(values * (255 / most)))
    if most == 65535:
        data = np.full(64, 40000, ">u2").tobytes()
        assert set(Decoding()(io.BytesIO(b"P5 8 8 65535\n" + data)).ravel()) == {156}


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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_images_are_converted_in_strips(mode, monkeypatch):
    if mode == "I;16":
        image = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    else:
        layers = np.concatenate([PIXELS, PIXELS[::-1, :, :1]], axis=2)
        image = Image.fromarray(layers).convert(mode)
    file = stored(image, "TIFF" if mode == "CMYK" else "PNG")
    for background in ("white", "blue"):
        monkeypatch.setattr(decoding, "_STRIP", 1 << 18)
        whole = Decoding(background=background)(file)
        for pixels in (1, 18, 47):  # 1, 3 and 7 of 8 rows
            monkeypatch.setattr(decoding, "_STRIP", pixels)
            np.testing.assert_array_equal(Decoding(background=background)(file), whole)


def test_what_converting_takes_does_not_grow_with_the_image():
    file = stored(Image.new("RGBA", (2048, 1024), (10, 20, 30, 128)))
    tracemalloc.start()  # Pillow's own 8 MiB are not seen
    found = Decoding()(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[0, 0].tolist() == [132, 137, 142]
    assert peak < found.nbytes + (16 << 20)  # at once it took 16 times the pixels


def test_a_file_that_cannot_be_read_twice():
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def seek(self, *_):
            raise io.UnsupportedOperation

    for file_format in ("PNG", "WEBP"):
        file = stored(Image.fromarray(PIXELS), file_format, lossless=True)
        np.testing.assert_array_equal(Decoding()(Pipe(file.getvalue())), PIXELS)


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


def png(width, height, bits, kind, pixels, transparent=None):
    """As Pillow writes none: `pixels` are rows with a filter's byte before each."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    extra = b"" if transparent is None else chunk(b"tRNS", transparent)
    ends = chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + extra + ends


@pytest.mark.parametrize(
    "bits, row, level, expected",
    [
        (4, b"\x05\xaf", b"\0\x0f", [0, 85, 170, 0]),
        (4, b"\x05\xaf", b"\0\x05", [0, 0, 170, 255]),
        (2, b"\x1b", b"\0\x01", [0, 0, 170, 255]),
        (2, b"\x1b", b"\0\x03", [0, 85, 170, 0]),
        (8, b"\x00\x55\xaa\xff", b"\0\xaa", [0, 85, 0, 255]),
    ],
)
def test_a_transparent_grey_of_few_bits_shows_the_background(bits, row, level, expected):
    file = io.BytesIO(png(4, 1, bits, 0, b"\0" + row, level))
    assert Decoding(background="black")(file)[0, :, 0].tolist() == expected


def test_sixteen_bit_grey_with_opacity_is_grey():
    pairs = np.array([[0, 65535], [257, 65535], [514, 0], [65535, 65535]], ">u2")
    pixels = Decoding()(io.BytesIO(png(4, 1, 16, 4, b"\0" + pairs.tobytes())))
    assert pixels[0].tolist() == [[0], [1], [255], [255]]


@pytest.mark.parametrize("kind, name", [(0, "grey"), (2, "RGB")])
def test_sixteen_bits_with_a_transparent_value_are_refused(kind, name):
    values = 1 if kind == 0 else 3
    data = png(1, 1, 16, kind, b"\0" + b"\x12\x34" * values, b"\x12\x34" * values)
    with pytest.raises(UnusableError, match=f"is 16-bit {name} with a transparent value"):
        Decoding()(io.BytesIO(data))


def huge():
    return png(20000, 20000, 8, 2, b"")


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


def noise(side, bands=3):
    return np.random.default_rng(3).integers(0, 256, (side, side, bands), dtype=np.uint8)


PADDED = b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, 271, 2, 3) + b"me\0\0" + bytes(2000)


@pytest.mark.parametrize(
    "file_format, bands, keywords",
    [
        ("PNG", 3, {}),
        ("PNG", 4, {"compress_level": 0}),
        ("JPEG", 3, {}),
        ("JPEG", 3, {"progressive": True, "exif": odd_exif(1, (271, 2, 4, b"\xff\xd9\xff\xd9"))}),
        ("WEBP", 3, {}),
        ("WEBP", 4, {}),
        ("AVIF", 3, {}),
        ("AVIF", 4, {"exif": PADDED}),
        ("GIF", 3, {}),
    ],
)
def test_a_file_that_ends_in_zeros_is_refused(file_format, bands, keywords):
    data = stored(Image.fromarray(noise(128, bands)), file_format, **keywords).getvalue()
    assert len(data) > 9_000
    Decoding()(io.BytesIO(data))
    messages = []
    for part in np.linspace(0.1, 0.94, 29):
        whole = int(part * len(data))
        with pytest.raises(UnusableError, match=r"replace it$") as caught:
            Decoding()(io.BytesIO(data[:whole] + bytes(len(data) - whole)))
        messages.append(str(caught.value))
    found = any(one.startswith("ends in 512 or more zero bytes, as an") for one in messages)
    assert found == (file_format in ("AVIF", "JPEG", "WEBP"))


def test_a_png_whose_last_pixels_are_damaged_is_refused():
    data = bytearray(stored(Image.fromarray(noise(128)), compress_level=0).getvalue())
    data[-17] ^= 1  # the last byte of the pixels' own checksum
    with pytest.raises(UnusableError, match=r"cannot be decoded \(.*checksum"):
        Decoding()(io.BytesIO(data))


def lossless_webp():
    """A WEBP file of 512x32 pixels, of which each but the first is one bit 0."""
    header = [(0x2F, 8), (511, 14), (31, 14), (0, 1), (0, 3), (0, 3)]  # no transform, no cache
    green = [(0b111, 3), (0, 8), (200, 8)]  # two symbols: 0 and 200
    others = [part for value in (7, 9, 255) for part in ((0b101, 3), (value, 8))]
    fields = [*header, *green, *others, (0b0001, 4), (1, 1), (0, 512 * 32 - 1)]
    stream = width = 0
    for value, bits in fields:
        stream, width = stream | value << width, width + bits
    data = stream.to_bytes((width + 15) // 16 * 2, "little")
    chunk = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return io.BytesIO(b"RIFF" + struct.pack("<I", len(chunk)) + chunk)


@pytest.mark.takes_a_second
def test_zeros_that_belong_to_a_file_are_taken():
    file = lossless_webp()
    assert file.getvalue().endswith(bytes(2000))
    found = Decoding()(file)
    assert found[0, 0].tolist() == [7, 200, 9]
    assert (found.reshape(-1, 3)[1:] == [7, 0, 9]).all()
    # Some programs leave room in the EXIF data, which lie last in WEBP, and may in AVIF.
    file = stored(Image.fromarray(noise(64)), "WEBP", exif=PADDED)
    assert file.getvalue().endswith(bytes(512))
    assert Decoding()(file).shape == (64, 64, 3)
    data = stored(Image.fromarray(noise(64)), "AVIF", exif=PADDED).getvalue()
    start, size = data.index(PADDED) - 4, len(PADDED) + 4  # after where in it the tags start
    place = struct.pack(">II", start, size)
    assert data.count(place) == 1
    behind = data.replace(place, struct.pack(">II", len(data) + 8, size))
    behind += struct.pack(">I4s", size + 8, b"free") + data[start : start + size]
    assert Image.open(io.BytesIO(behind)).getexif()[271] == "me"
    np.testing.assert_array_equal(Decoding()(io.BytesIO(behind)), Decoding()(io.BytesIO(data)))
    # Some cameras fill up what follows the image.
    for file_format in ("JPEG", "MPO"):
        exif = odd_exif(1, (271, 2, 4, b"\xff\xd9\xff\xd9"))
        file = stored(Image.fromarray(noise(64)), file_format, exif=exif)
        padded = Decoding()(io.BytesIO(file.getvalue() + bytes(4096)))
        np.testing.assert_array_equal(padded, Decoding()(file))
    for file_format in ("WEBP", "AVIF"):
        for value in (0, 255):
            plain = stored(Image.new("RGB", (2000, 1000), (value,) * 3), file_format)
            assert abs(int(Decoding()(plain)[-1, -1, 0]) - value) <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("file_format", ["BMP", "PPM", "TGA", "TIFF"])
def test_pixels_that_are_cut_off_are_refused(file_format, mode, tmp_path):
    data = stored(Image.fromarray(noise(33)).convert(mode), file_format).getvalue()
    for missing in (32, len(data) // 10, len(data) // 2):
        (tmp_path / "cut").write_bytes(data[:-missing])
        for file in (io.BytesIO(data[:-missing]), tmp_path / "cut"):
            with pytest.raises(UnusableError, match=r"cannot be decoded \(.*truncated"):
                Decoding()(file)


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"size": 0}, "size=0: must be an integer of at least 1, or None"),
        ({"size": 4.0}, r"size=4.0: must be an integer"),
        ({"size": True}, r"size=True: must be an integer"),
        ({"size": "4"}, r"size='4': must be an integer"),
        ({"channels": True}, r"channels=True: must be 1 \(grey\), 3 \(RGB\) or None"),
        ({"background": None}, "background=None: must be a colour's name"),
        ({"background": (1, 2, 3)}, r"background=\(1, 2, 3\): must be a colour's name"),
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
