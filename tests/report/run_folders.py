"""Small run folders and a reader of the pages made from them."""

import io
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser

import numpy as np
from PIL import Image

from jaxnoise.training.records import RunFolder

SHA = "0123456789abcdef" * 4
CONFIG = {
    "seed": 0,
    "data": {"dataset": "digits", "split": "train"},
    "evaluate": {"n": 898, "seed": 1},
    "law": {"name": "laplace", "mu": 0.0, "b": 0.5, "low": None},
    "objective": {"name": "denoising", "target": "v", "weight": {"name": "uniform", "space": "v"}},
    "pacing": {"name": "none"},
    "model": {"name": "tiny", "model_channels": 8},
    "optimizer": {"name": "adam", "learning_rate": 0.001},
    "sample": {"count": 100, "seed": 0, "method": {"name": "heun", "sigmas": [0.8]}},
    "train": {"steps": 40, "batch": 10},
}
ROWS = [
    {
        "step": 10 * (i + 1),
        "images_seen": 100 * (i + 1),
        "images_per_second": 50.0 + 50.0 * i,
        "loss": 0.8 / (i + 1),
        "grad_norm": 2.0,
        "num_levels": 20 + i,
        "loss_band/<0.1": 0.5,
        "loss_band/>10": None,
        "frechet_heun18": 4.0 / (i + 1),
        "frechet_floor": 0.5,
    }
    for i in range(4)
]
RESULT = {
    "distance": "Fréchet, raw pixels in [-1, 1]",
    "frechet_heun18": 0.75,
    "frechet_floor": 0.5,
    "n": 898,
    "extractor": "raw pixels",
    "reference": "digits train, first half",
    "reference_count": 899,
    "reference_sha256": SHA,
    "nfe": {"heun18": 35},
    "weights": "ema",
    "images_seen": 400,
    "untrained_frechet_heun18": 48.0,
}


def png(value: int, side: int = 20) -> bytes:
    """A grey square."""
    file = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(file, format="PNG")
    return file.getvalue()


def make_run(root, config=None, rows=ROWS, result=RESULT, steps=(10, 20, 40), noise=True):
    """Writes a run folder; pass None, [] or () for what it lacks."""
    folder = RunFolder(root)
    folder.samples.mkdir(parents=True)
    folder.config.write_text(json.dumps(CONFIG if config is None else config))
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if result is not None:
        folder.result.write_text(json.dumps(result))
    for step in steps:
        (folder.samples / f"step_{step:07d}.png").write_bytes(png(step))
    if noise:
        folder.noise.write_bytes(png(200))
    return folder


@dataclass
class Element:
    """A start tag and the text up to the next tag, with that of its descendants behind it."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    path: list["Element"] = field(default_factory=list)

    def inside(self, name: str) -> bool:
        return any(e.attributes.get("class") == name for e in self.path)


class Page(HTMLParser):
    """Every element of a page, in order; fails on tags that are not closed in order."""

    EMPTY = ("meta", "link", "img", "input", "wbr")

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        element = Element(tag, {k: v or "" for k, v in attrs}, path=list(self._open))
        self.elements.append(element)
        if tag not in self.EMPTY:
            self._open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(Element(tag, dict(attrs), path=list(self._open)))

    def handle_endtag(self, tag):
        assert self._open.pop().tag == tag

    def handle_data(self, data):
        for element in self._open:
            element.text += data

    def all(self, tag: str, name: str | None = None) -> list[Element]:
        """The elements of a tag, and of a class if given."""
        return [
            e
            for e in self.elements
            if e.tag == tag and (name is None or name in e.attributes.get("class", "").split())
        ]

    def section(self, name: str) -> str:
        return next(e.text for e in self.all("section") if e.attributes["id"] == name)

    def charts(self) -> dict[str, dict]:
        """The charts' data by title."""
        scripts = [e for e in self.all("script") if e.inside("chart")]
        return {
            title.text: json.loads(script.text)
            for title, script in zip(
                (e for e in self.all("h3") if e.inside("chart")), scripts, strict=True
            )
        }


def read_page(path) -> Page:
    return Page(path.read_text(encoding="ascii"))
