"""Files that carry a profile of their colours are decoded to what a viewer shows."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from jaxnoise.data.decoding import Decoding

# Red, green and blue as XYZ under D50, as the makers' own profiles have them.
SRGB = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
P3 = ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407))
WHITE = (0.9642, 1.0, 0.8249)
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
LEVELS = np.arange(0, 256, 17, np.uint8)
COLOURS = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS), axis=-1).reshape(64, 64, 3)


def fixed(*values):
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def curve(*numbers):
    """A power alone, or sRGB's kind of curve."""
    return (
        b"para" + bytes(4) + struct.pack(">HH", 0 if len(numbers) == 1 else 3, 0) + fixed(*numbers)
    )


def text(what):
    head = struct.pack(">II2s2sII", 1, 12, b"en", b"US", 2 * len(what), 28)
    return b"mluc" + bytes(4) + head + what.encode("utf-16-be")


def profile(space, tags, *, kind=b"mntr", connection=b"XYZ ", version=b"\4\x30\0\0"):
    """The bytes of an ICC profile of these tags."""
    white = b"XYZ " + bytes(4) + fixed(*WHITE)
    tags = {b"desc": text("made up"), b"cprt": text("none"), b"wtpt": white} | tags
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I", 128 + len(table) + len(body)) + b"lcms" + version + kind + space
    head += connection + struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    return (head + fixed(*WHITE)).ljust(128, b"\0") + table + body


def rgb(primaries, *numbers):
    tags = {}
    for letter, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*primary)
        tags[letter + b"TRC"] = curve(*numbers)
    return profile(b"RGB ", tags)


def decoded(image, file_format="PNG", **keywords):
    file = io.BytesIO()
    image.save(file, file_format, **keywords)
    return Decoding()(file)


def to_xyz(*chromaticities):
    """Columns are red, green and blue, scaled so that their sum is the white of D65."""
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in chromaticities]).T
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    return columns * np.linalg.solve(columns, white)


def seen(p3):
    """What Display P3 looks like in sRGB, by its definition."""
    encoded = p3 / 255
    light = np.where(encoded > 0.04045, ((encoded + 0.055) / 1.055) ** 2.4, encoded / 12.92)
    wide = to_xyz((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
    narrow = to_xyz((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
    light = np.clip(light @ np.linalg.solve(narrow, wide).T, 0, 1)
    return 255 * np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_display_p3_is_seen_in_srgb(file_format):
    wide = rgb(P3, *SRGB_CURVE)
    patch = Image.new("RGB", (4, 4), (230, 60, 40))
    found = decoded(patch, file_format, icc_profile=wide)
    assert np.abs(found.astype(int) - [250, 31, 14]).max() <= 1
    found = decoded(Image.fromarray(COLOURS), file_format, icc_profile=wide)
    assert np.abs(found - seen(COLOURS)).max() <= 2
    assert np.abs(found.astype(int) - COLOURS).max() > 90


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_palettes_and_transparent_colours_are_converted_too(mode):
    layers = Image.new("RGBA", (2, 1), (230, 60, 40, 51))
    layers.putpixel((1, 0), (230, 60, 40, 255))
    palette = Image.new("P", (2, 1))
    palette.putpalette([230, 60, 40])
    image = layers if mode == "RGBA" else palette
    found = decoded(image, icc_profile=rgb(P3, *SRGB_CURVE))
    shown = seen(np.array([230, 60, 40]))
    over = np.stack([255 + 0.2 * (shown - 255) if mode == "RGBA" else shown, shown])
    assert np.abs(found[0] - over).max() <= 2


def test_what_is_said_to_be_srgb_stays_as_it_is():
    given = rgb(SRGB, *SRGB_CURVE)
    image = Image.fromarray(COLOURS)
    for data in (given, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        np.testing.assert_array_equal(decoded(image, icc_profile=data), COLOURS)
    # The rounding of that profile alone would have changed pixels.
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.buildTransform(io.BytesIO(given), srgb, "RGB", "RGB").apply(image)
    assert 1 <= np.abs(np.asarray(converted).astype(int) - COLOURS).max() <= 2
    # Its primaries with the power 2.2 are not sRGB: 15 is 7 then.
    grey = Image.new("RGB", (2, 2), (15, 15, 15))
    power = 255 * 12.92 * (15 / 255) ** 2.2
    assert np.abs(decoded(grey, icc_profile=rgb(SRGB, 2.2)) - power).max() <= 1


def test_grey_has_profiles_of_its_own():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    linear = profile(b"GRAY", {b"kTRC": curve(1.0)})
    light = ramp / 255
    shown = np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light) * 255
    found = decoded(Image.fromarray(ramp), icc_profile=linear)
    assert found.shape == (16, 16, 1)
    assert found[8, 0] == 188
    assert np.abs(found[..., 0] - shown).max() <= 1
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decoded(deep, icc_profile=linear), found)
    same = profile(b"GRAY", {b"kTRC": curve(*SRGB_CURVE)})
    np.testing.assert_array_equal(decoded(Image.fromarray(ramp), icc_profile=same)[..., 0], ramp)


def test_inks_are_seen_as_their_profile_says():
    """Here cyan alone prints a middle grey, L* = 128 / 2.55, and every ink over black is black."""
    same = bytes(range(256))
    nodes = np.full((2, 2, 2, 2, 3), (255, 128, 128), np.uint8)
    nodes[1, ..., 0], nodes[..., 1, 0] = 128, 0
    identity = fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table = (
        b"mft1" + bytes([0, 0, 0, 0, 4, 3, 2, 0]) + identity + 4 * same + nodes.tobytes() + 3 * same
    )
    inks = profile(
        b"CMYK", {b"A2B0": table}, kind=b"prtr", connection=b"Lab ", version=b"\2\x40\0\0"
    )
    image = Image.new("CMYK", (3, 1))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 255))
    assert decoded(image, "TIFF").tolist() == [[[255] * 3, [0, 255, 255], [0] * 3]]
    found = decoded(image, "TIFF", icc_profile=inks)
    light = ((128 / 2.55 + 16) / 116) ** 3
    grey = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(found[0].astype(int) - np.array([[255], [grey], [0]])).max() <= 2


@pytest.mark.parametrize(
    "data",
    [b"no profile", rgb(P3, *SRGB_CURVE)[:200], profile(b"GRAY", {b"kTRC": curve(1.0)})],
    ids=["text", "cut", "of grey"],
)
def test_a_profile_that_does_not_fit_is_ignored(data):
    found = decoded(Image.fromarray(COLOURS), icc_profile=data)
    np.testing.assert_array_equal(found, COLOURS)
    grey = decoded(Image.fromarray(COLOURS[..., 0]), icc_profile=rgb(P3, *SRGB_CURVE))
    np.testing.assert_array_equal(grey, COLOURS[..., :1])
