"""Reads a run folder's plain files into plain data; what is missing or damaged is named."""

import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path, PurePath
from statistics import median
from typing import Any

from jaxnoise.report.formats import finite
from jaxnoise.training.records import RunFolder

PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"
_SEED_FOLDER = re.compile(r"(?:^|[_-])seed[_-]?\d+$")


def without_seed(path: str) -> str:
    """A path less what its folders' names say of a seed.

    Example:
      >>> without_seed("runs/rater/seed_1/rater.npz"), without_seed("runs/edm_seed2")
      ('runs/rater/rater.npz', 'runs/edm')
    """
    parts = [_SEED_FOLDER.sub("", part) for part in PurePath(path).parts]
    return str(PurePath(*parts)) if any(parts) else ""


@dataclass(frozen=True)
class Picture:
    """A whole PNG file."""

    png: bytes
    width: int
    height: int


@dataclass(frozen=True)
class Grid:
    """Samples at one point of training."""

    step: int
    images_seen: int | None
    picture: Picture


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
      name: the folder's name; with its parent's where it is called "seed_0" or the like.
      group: the name without the seed.
      config: the resolved config, or empty.
      rows: of metrics.jsonl.
      result: of result.json, or empty.
      grids: samples/step_*.png, in order of steps.
      noise: noise.png, if there is one.
      law: law.png of a law that learns itself, if there is one.
      scores: scores.png of a rater, if there is one.
      problems: files that are there and cannot be read, one sentence each.
    """

    name: str
    group: str
    config: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    result: dict[str, Any]
    grids: tuple[Grid, ...]
    noise: Picture | None
    law: Picture | None
    scores: Picture | None
    problems: tuple[str, ...]

    def setting(self, path: str) -> Any:
        """The config's value at "section.key", or None."""
        node: Any = self.config
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        return node

    def series(self, key: str) -> list[tuple[float, float]]:
        """(images seen, value) of each row that holds a number under `key`."""
        return [
            (row["images_seen"], row[key])
            for row in self.rows
            if finite(row.get(key)) and finite(row.get("images_seen"))
        ]

    @property
    def keys(self) -> list[str]:
        """The keys under which some row holds a number, in order of appearance."""
        found = dict.fromkeys(key for row in self.rows for key in row)
        return [key for key in found if self.series(key)]

    @property
    def images_per_step(self) -> int | None:
        """Images of one step, or of one meta-step of a rater, if that can be told."""
        batch = self.setting("train.batch")
        if not finite(batch) or batch <= 0:
            return None
        models, steps, outer = (
            self.setting(f"meta.{key}") for key in ("population", "inner_steps", "outer_batch")
        )
        if finite(models) and finite(steps) and finite(outer):
            return int(models * (steps * batch + outer))
        return int(batch)

    @property
    def steps_done(self) -> int:
        """The last step that a row, a grid or the score tells of."""
        steps = [int(row["step"]) for row in self.rows if finite(row["step"])]
        steps += [grid.step for grid in self.grids]
        batch = self.images_per_step
        if finite(self.result.get("images_seen")) and batch is not None:
            steps.append(int(self.result["images_seen"]) // batch)
        return max(steps, default=0)

    @property
    def images_seen(self) -> int | None:
        """Images seen at the last step, if that can be told."""
        if self.images_per_step is not None:
            return self.steps_done * self.images_per_step
        seen = [int(row["images_seen"]) for row in self.rows if finite(row.get("images_seen"))]
        return max(seen, default=None)

    @property
    def finished(self) -> bool:
        """Whether the last step of the config is done."""
        steps, further = self.setting("train.steps"), self.setting("train.further_steps")
        return finite(steps) and self.steps_done >= steps + (further if finite(further) else 0)

    @property
    def images_per_second(self) -> float | None:
        """The median rate; the first record is left out, since it holds the compilation."""
        rates = [rate for _, rate in self.series("images_per_second")]
        return median(rates[1:] or rates) if rates else None

    @property
    def seconds(self) -> float | None:
        """Training time by the recorded rates, if every record has one."""
        total, before = 0.0, 0.0
        series = self.series("images_per_second")
        for seen, rate in series:
            if rate <= 0:
                return None
            total, before = total + (seen - before) / rate, seen
        return total if series else None


def read_run(root: Path) -> Run:
    """Reads a run folder; a missing file leaves its part empty, a damaged one is named.

    Args:
      root: the run folder.
    """
    folder, problems = RunFolder(root), list[str]()
    config = _read_object(folder.config, problems)
    rows = tuple(folder.rows()) if folder.metrics.is_file() else ()
    if folder.metrics.is_file() and folder.is_damaged:
        problems.append(f"{folder.metrics.name} is damaged; lines that are no rows are left out.")
    grids = _read_grids(folder.samples, config, rows, problems)
    noise, law, scores = (
        _read_picture(path, problems) if path.is_file() else None
        for path in (folder.noise, folder.law, folder.score_histogram)
    )
    place = root.resolve()
    group = without_seed(place.name)
    name = place.name if group else f"{place.parent.name}/{place.name}"
    return Run(
        name=name,
        group=group or place.parent.name,
        config=config,
        rows=rows,
        result=_read_object(folder.result, problems),
        grids=grids,
        noise=noise,
        law=law,
        scores=scores,
        problems=tuple(problems),
    )


def _read_object(path: Path, problems: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_bytes())
    except ValueError:
        held = None
    if not isinstance(held, dict):
        problems.append(f"{path.name} is damaged and left out.")
        return {}
    return held


def _read_picture(path: Path, problems: list[str]) -> Picture | None:
    png = path.read_bytes()
    if not (png.startswith(PNG_START) and png.endswith(PNG_END) and len(png) > 45):
        problems.append(f"{path.name} is damaged and left out.")
        return None
    width, height = struct.unpack(">II", png[16:24])
    return Picture(png, width, height)


def _read_grids(
    folder: Path, config: dict[str, Any], rows: tuple[dict[str, Any], ...], problems: list[str]
) -> tuple[Grid, ...]:
    train = config.get("train")
    batch = train.get("batch") if isinstance(train, dict) else None
    seen = {row["step"]: row.get("images_seen") for row in rows}
    grids = []
    for path in folder.glob("step_*.png"):
        digits = path.stem.removeprefix("step_")
        if not digits.isascii() or not digits.isdigit():
            continue
        picture = _read_picture(path, problems)
        if picture is not None:
            step = int(digits)
            images = step * batch if finite(batch) else seen.get(step)
            grids.append(Grid(step, int(images) if finite(images) else None, picture))
    return tuple(sorted(grids, key=lambda grid: grid.step))
