"""From an image file of any size and kind to pixels: turned, composed, converted, reduced."""

import io
import os
import re
import struct
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageColor, UnidentifiedImageError

from jaxnoise.data.images import first_line
from jaxnoise.data.resized import resized
from jaxnoise.errors import ArgumentError, describe

RULE = "decoded by rule 2"
"""Part of every fingerprint; another number where the same file would give other pixels."""

_GREY = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112  # the tag of EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF
_WHITE_IS_ZERO = 0
# A sector, the least that an interrupted copy leaves; lossy pixels end in 5 zero bytes at most.
_ZEROS = bytes(512)
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # the end, and all with a length
_STRIP = 1 << 18  # pixels converted at once: what they take meanwhile is 9 MiB
# Profiles of sRGB differ by 1, for they round its numbers; one of its primaries and the power 2.2
# differs by 9.
_SRGB_LEVELS = 2


class UnusableError(ValueError):
    """An image that cannot be trained on; the message follows on its name."""


@dataclass(frozen=True)
class Decoding:
    """How a file becomes pixels.

    In this order: the orientation of its EXIF data is applied; grey v of n = 12 or 16 bits becomes
    `round(255 v / (2^n - 1))`, inverted where the file says that 0 is white; colours are
    converted to sRGB by the ICC profile that the file carries (perceptual intent), unless that is
    sRGB within 2 levels or damaged; where it is transparent a pixel c of opacity a (0..255) becomes
    `round((a c + (255 - a) b) / 255)` over the background b; grey stays grey and all else becomes
    RGB, unless `channels` says otherwise; with a `size` the middle square is cut out,
    `side = min(height, width)` from row `(height - side) // 2` and column `(width - side) // 2` on,
    and reduced as `ResizedImages` does it: means of blocks where `size` divides `side`, else
    Pillow's bicubic filter, which averages where it reduces.

    Args:
      size: side of the square images in pixels, at least 1; None leaves sides as they are.
      channels: 1 makes colours grey (luma of ITU-R 601: .299 R + .587 G + .114 B), 3 makes grey
        RGB; None leaves them.
      background: what shows through transparent pixels: a colour's name or "#rrggbb".

    Raises:
      ArgumentError: a field out of its range.

    Example:
      >>> import io
      >>> from PIL import Image
      >>> from jaxnoise.data.decoding import Decoding
      >>> file = io.BytesIO()
      >>> Image.new("RGBA", (9, 6), (200, 0, 0, 51)).save(file, "PNG")
      >>> Decoding(size=2, background="black")(file).tolist()  # a fifth of 200
      [[[40, 0, 0], [40, 0, 0]], [[40, 0, 0], [40, 0, 0]]]
    """

    size: int | None = None
    channels: int | None = None
    background: str = "white"

    def __post_init__(self) -> None:
        check_decoding(self.size, self.channels, self.background)

    @property
    def description(self) -> str:
        """What of it may change pixels, for a fingerprint."""
        color = color_of(self.background)
        return f"{RULE}, size {self.size}, channels {self.channels}, background {color}"

    def __call__(self, file: str | os.PathLike[str] | BinaryIO) -> NDArray[np.uint8]:
        """The pixels of a file.

        Args:
          file: a path or an open file of any format that Pillow reads.

        Returns:
          uint8[height, width, channels] with 1 or 3 channels.

        Raises:
          UnusableError: a file that is damaged, no image, or of a kind that is not taken.
        """
        try:
            with _opened(file) as stream, Image.open(stream) as image:
                _check_whole(image, stream)
                pixels = _pixels(image, color_of(self.background))
        except UnusableError:
            raise
        except Image.DecompressionBombError as error:
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            raise UnusableError(f"has more than {most:,} pixels: make it smaller") from error
        except UnidentifiedImageError as error:
            raise UnusableError("is no image that Pillow can read: replace it") from error
        except Exception as error:  # damaged files raise whatever their format's reader runs into
            raise UnusableError(f"cannot be decoded ({first_line(error)}): replace it") from error
        return self.fitted(pixels)

    def fitted(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pixels with the channels and the size asked for.

        Args:
          pixels: uint8[height, width, channels].

        Raises:
          UnusableError: an image smaller than `size`.
        """
        if self.channels == 1 and pixels.shape[2] == 3:
            pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
        if self.channels == 3 and pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        if self.size is None:
            return pixels
        height, width, _ = pixels.shape
        side = min(height, width)
        if side < self.size:
            raise UnusableError(
                f"is {width}x{height} (width x height), smaller than size {self.size}"
            )
        top, left = (height - side) // 2, (width - side) // 2
        square = pixels[top : top + side, left : left + side]
        return resized(square[None], self.size)[0]


def check_decoding(size: int | None, channels: int | None, background: str) -> None:
    """Raises ArgumentError unless these are what `Decoding` takes."""
    whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
    if size is not None and not (whole and size >= 1):
        raise ArgumentError("size", describe(size), "an integer of at least 1, or None")
    if channels not in (None, 1, 3) or isinstance(channels, bool):
        raise ArgumentError("channels", channels, "1 (grey), 3 (RGB) or None")
    color_of(background)


def color_of(background: str) -> tuple[int, int, int]:
    """Red, green and blue, 0..255, of a colour's name or "#rrggbb".

    Raises:
      ArgumentError: no colour that Pillow knows, or one that is transparent itself.

    Example:
      >>> from jaxnoise.data.decoding import color_of
      >>> color_of("#336699"), color_of("orange")
      ((51, 102, 153), (255, 165, 0))
    """
    try:
        color: tuple[int, ...] = ImageColor.getrgb(background)
    except (ValueError, TypeError, AttributeError):  # no colour, and no string
        color = ()
    if len(color) != 3:
        allowed = "a colour's name such as 'white', or '#rrggbb'"
        raise ArgumentError("background", background, allowed)
    red, green, blue = color
    return red, green, blue


def _opened(file: str | os.PathLike[str] | BinaryIO) -> AbstractContextManager[BinaryIO]:
    if isinstance(file, str | os.PathLike):
        return open(file, "rb")
    return nullcontext(file if file.seekable() else io.BytesIO(file.read()))


def _check_whole(image: Image.Image, file: BinaryIO) -> None:
    """Raises where there are several images, or where damage would be decoded without an error."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a photograph that carries others beside it
        raise UnusableError(f"holds {frames} frames or pages: save each as a file of its own")
    if image.format == "PNG":
        with Image.open(file) as again:
            again.verify()  # all checksums: decoding passes over the last of the pixels
    if _stops_early(image, file):
        raise UnusableError(
            f"ends in {len(_ZEROS)} or more zero bytes, as an interrupted copy does: replace it"
        )


def _stops_early(image: Image.Image, file: BinaryIO) -> bool:
    """Whether pixels of a lossy image are among zeros at the end."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - len(_ZEROS)))
    if file.read() != _ZEROS:
        return False
    file.seek(0)
    data = file.read()
    match image.format:
        case "AVIF":  # metadata may lie behind the pixels, filled up with zeros
            metadata = [(image.info.get(name) or b"").rstrip(b"\0") for name in ("exif", "xmp")]
            written = data.rstrip(b"\0")
            return not any(part and written.endswith(part) for part in metadata)
        case "JPEG" | "MPO":  # zeros may follow the image
            return not _has_an_end(data)
        case "WEBP":
            return _lossy_pixels(data).endswith(_ZEROS[:16])
    return False


def _has_an_end(jpeg: bytes) -> bool:
    """Whether its first image, behind the thumbnail in its header, is closed."""
    start = 2
    while found := _JPEG_MARKER.search(jpeg, start):
        if found[0] == b"\xff\xd9":
            return True
        start = found.end() + int.from_bytes(jpeg[found.end() : found.end() + 2])
    return False


def _lossy_pixels(webp: bytes) -> bytes:
    """The chunk of the pixels; of a lossless image, which may well end in zeros, nothing."""
    start = 12
    while start + 8 <= len(webp):
        name, size = struct.unpack_from("<4sI", webp, start)
        if name == b"VP8 ":
            return webp[start + 8 : start + 8 + size]
        start += 8 + size + size % 2
    return b""


def _pixels(image: Image.Image, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """uint8[height, width, 1 or 3] as a viewer shows them."""
    # Pillow reads 16-bit greymaps as mode I, stretched to all 16 bits.
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if image.mode in ("I", "F") and not deep:
        raise UnusableError(
            f"has 32-bit pixels (mode {image.mode}), whose range it does not tell: save it with 8 "
            "or 16 bits"
        )
    stored = {tile[3] for tile in getattr(image, "tile", ()) if isinstance(tile[3], str)}
    if "transparency" in image.info and (deep or "RGB;16B" in stored):
        kind = "grey" if deep else "RGB"
        raise UnusableError(f"is 16-bit {kind} with a transparent value: save it without")
    for few_bits, step in (("L;2", 85), ("L;4", 17)):
        # Pillow scales the pixels, and not the value that is transparent.
        if few_bits in stored and isinstance(image.info.get("transparency"), int):
            image.info["transparency"] *= step
    tags = getattr(image, "tag_v2", {}) if deep else {}  # of TIFF, lost when turned
    bits, inverted = tags.get(_BITS, (16,))[0], tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    # Pillow reads 16-bit grey with opacity as RGBA.
    grey = deep or image.mode in _GREY or "LA;16B" in stored
    kind = "L" if grey else "CMYK" if image.mode == "CMYK" else "RGB"
    to_srgb = None if image.mode == "LAB" else _to_srgb(image.info.get("icc_profile"), kind)
    image = _turned(image)
    one = grey and not (image.has_transparency_data and len(set(background)) > 1)
    pixels = np.empty((image.height, image.width, 1 if one else 3), np.uint8)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        part = pixels[top : top + rows]
        strip = image.crop((0, top, image.width, top + len(part)))
        strip = _eight_bits(strip, bits, inverted) if deep else strip
        part[:] = _composed(strip, kind, to_srgb, background)[..., : part.shape[2]]
    return pixels


def _turned(image: Image.Image) -> Image.Image:
    """Upright, by its orientation alone: other tags may be of types that cannot be written back."""
    image.load()  # some formats hold their EXIF data behind the pixels, and some turn by themselves
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF data raise as many errors as damaged pixels, and do not matter
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bits(strip: Image.Image, bits: int, inverted: bool) -> Image.Image:
    """Grey of more bits, as grey of eight."""
    most = 2**bits - 1
    values = np.asarray(strip).astype(np.uint32)
    values = most - values if inverted else values
    # 255 v / most is never halfway between integers, for most is odd.
    return Image.fromarray(((values * 510 + most) // (2 * most)).astype(np.uint8))


def _composed(
    strip: Image.Image,
    kind: str,
    to_srgb: ImageCms.ImageCmsTransform | None,
    background: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """uint8[height, width, 1 or 3] in sRGB, over the background where it is transparent."""
    if not strip.has_transparency_data:
        return _in_srgb(strip.convert(kind), to_srgb)
    layers = strip.convert("RGBA")
    color = _in_srgb(layers.convert(kind), to_srgb)
    opacity = np.asarray(layers.getchannel("A")).astype(np.uint32)[..., None]
    behind = np.asarray(background, np.uint32)
    # No multiple of 1 / 255 is halfway between integers.
    return ((opacity * color + (255 - opacity) * behind + 127) // 255).astype(np.uint8)


def _in_srgb(image: Image.Image, to_srgb: ImageCms.ImageCmsTransform | None) -> NDArray[np.uint8]:
    """uint8[height, width, 1 or 3] of an image in L, RGB or CMYK."""
    grey = image.mode == "L"
    if to_srgb is not None:
        image = to_srgb.apply(image)
    elif image.mode == "CMYK":
        image = image.convert("RGB")
    pixels = np.asarray(image)
    # Of three equal channels the one in the middle.
    return pixels[..., None] if pixels.ndim == 2 else pixels[..., 1:2] if grey else pixels


@lru_cache(maxsize=16)  # photographs of one camera share theirs, and building takes milliseconds
def _to_srgb(profile: bytes | None, kind: str) -> ImageCms.ImageCmsTransform | None:
    """What converts L, RGB or CMYK; None where nothing does, or where it is sRGB already.

    A profile that is damaged, or of another kind of pixels, is ignored as viewers do.
    """
    if not profile:
        return None
    srgb = ImageCms.createProfile("sRGB")
    # The usual number of points makes dark grey wrong by up to 10 levels.
    flags = ImageCms.Flags.GRIDPOINTS(255) if kind == "L" else ImageCms.Flags.NONE
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(given, srgb, kind, "RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError, TypeError):
        return None
    if kind == "CMYK":
        return transform
    levels = np.arange(256) if kind == "L" else np.arange(0, 256, 15)
    bands = np.meshgrid(*[levels] * len(kind))
    probe = np.stack(bands, axis=-1).reshape(1, -1, len(kind)).astype(np.uint8)
    shown = _in_srgb(Image.fromarray(probe.squeeze(2) if kind == "L" else probe), transform)
    if np.abs(shown.astype(int) - probe).max() <= _SRGB_LEVELS:
        return None
    return transform
