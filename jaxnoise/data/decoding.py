"""From an image file of any size and kind to pixels: turned, composed, converted, reduced."""

import os
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError

from jaxnoise.data.images import first_line
from jaxnoise.data.resized import resized
from jaxnoise.errors import ArgumentError

RULE = "decoded by rule 1"
"""Part of every fingerprint; another number where the same file would give other pixels."""

_GREY = ("1", "L", "LA", "La")


class UnusableError(ValueError):
    """An image that cannot be trained on; the message follows on its name."""


@dataclass(frozen=True)
class Decoding:
    """How a file becomes pixels.

    In this order: the orientation of its EXIF data is applied; 16-bit grey v becomes
    `round(v / 257)`; where it is transparent a pixel c of opacity a (0..255) becomes
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
            with Image.open(file) as image:
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
    if size is not None and size < 1:
        raise ArgumentError("size", size, "at least 1, or None")
    if channels not in (None, 1, 3):
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
    except ValueError:
        color = ()
    if len(color) != 3:
        allowed = "a colour's name such as 'white', or '#rrggbb'"
        raise ArgumentError("background", background, allowed)
    red, green, blue = color
    return red, green, blue


def _pixels(image: Image.Image, background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """uint8[height, width, 1 or 3] as a viewer shows them."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a photograph that carries others beside it
        raise UnusableError(f"holds {frames} frames or pages: save each as a file of its own")
    if image.mode in ("I", "F"):
        raise UnusableError(
            f"has 32-bit pixels (mode {image.mode}), whose range it does not tell: save it with 8 "
            "or 16 bits"
        )
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        if image.has_transparency_data:
            raise UnusableError("is 16-bit grey with a transparent value: save it without")
        deep = np.asarray(image).astype(np.uint32)
        # v / 257 is never halfway between integers.
        return ((deep + 128) // 257).astype(np.uint8)[..., None]
    grey = image.mode in _GREY
    if not image.has_transparency_data:
        pixels = np.asarray(image.convert("L" if grey else "RGB"))
        return pixels[..., None] if grey else pixels
    layers = np.asarray(image.convert("RGBA")).astype(np.uint32)
    color, opacity = layers[..., :3], layers[..., 3:]
    behind: NDArray[Any] = np.asarray(background, np.uint32)
    # Nor is any multiple of 1 / 255.
    over = ((opacity * color + (255 - opacity) * behind + 127) // 255).astype(np.uint8)
    return over[..., :1] if grey and len(set(background)) == 1 else over
