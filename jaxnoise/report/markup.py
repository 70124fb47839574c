"""The frame of every page: one HTML file that loads nothing."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from jaxnoise.figures.style import FAINT, GRID, INK, MAIN
from jaxnoise.files import write_whole
from jaxnoise.report.run_data import Picture

MOST_PICTURE_BYTES = 3_500_000
"""Of all grids of a page together, embedded."""
MOST_NOISE_BYTES = 800_000

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def document(title: str, body: str) -> str:
    """A whole page: style and script inline, nothing from anywhere else; ASCII only."""
    resources = files("jaxnoise.report")
    style = resources.joinpath("page.css").read_text(encoding="utf-8")
    script = resources.joinpath("page.js").read_text(encoding="utf-8")
    colors = f":root{{--ink:{INK};--faint:{FAINT};--grid:{GRID};--main:{MAIN}}}"
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n'
        f"<style>\n{colors}\n{style}</style>\n</head>\n<body>\n{body}\n"
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )
    # Whatever encoding the file is written with, the browser reads the same.
    return page.encode("ascii", "xmlcharrefreplace").decode("ascii")


def write_page(path: Path, title: str, body: str) -> Path:
    """Writes a page so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, document(title, body))
    return path


def image(picture: Picture, text: str, *, hidden: bool = False) -> str:
    """A picture as an element that holds all of it."""
    data = b64encode(picture.png).decode("ascii")
    return (
        f'<img src="data:image/png;base64,{data}" width="{picture.width}" '
        f'height="{picture.height}" alt="{escape(text)}"{" hidden" if hidden else ""}>'
    )


def embedded_bytes(picture: Picture) -> int:
    """What `image` takes of the page."""
    return 4 * -(-len(picture.png) // 3)


def evenly_kept(sizes: Sequence[int], most: int = MOST_PICTURE_BYTES) -> list[int]:
    """Positions of as many evenly spaced pictures as fit, always with the last one.

    Args:
      sizes: of the pictures.
      most: the sum that fits.

    Returns:
      Ascending positions; empty where not even the last one fits.

    Example:
      >>> evenly_kept([10, 10, 10, 10, 10], most=30), evenly_kept([10, 40], most=30)
      ([0, 2, 4], [])
    """
    for count in range(len(sizes), 0, -1):
        last = len(sizes) - 1
        kept = [round(i * last / (count - 1)) for i in range(count)] if count > 1 else [last]
        if sum(sizes[i] for i in kept) <= most:
            return kept
    return []


def section(title: str, body: str, name: str) -> str:
    """A section of a page; `name` is its anchor."""
    return f'<section id="{name}"><h2>{escape(title)}</h2>\n{body}</section>\n'


def absent(sentence: str) -> str:
    """What stands where there is nothing to show."""
    return f'<p class="absent">{escape(sentence)}</p>'
