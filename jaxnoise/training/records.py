"""The run folder: plain files that are read without a service."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxnoise.errors import ConfigError
from jaxnoise.files import write_whole

VIEWING = (
    "sample.",
    "evaluate.",
    "data.data_dir",
    "data.archive",
    "data.allow_changed",
    "selection.file",
    "meta.probe_",
    "train.further_steps",
    "train.init_from",
    "train.keep_checkpoints",
    "train.sample_every",
    "train.checkpoint_every",
    "train.mapping",
    "train.tensorboard",
)
"""Settings that do not change training: a run goes on, or is looked at, under other ones.

A checkpoint knows its rater and its first weights by digests; their files may lie elsewhere."""


Config = dict[str, Any]


class RunFolder:
    """Paths of one run, and its config.json, data.json and metrics.jsonl.

    Args:
      root: the run folder; made when first written to.
      complete: adds to a config that was kept the keys that it does not have yet.
    """

    def __init__(self, root: Path, complete: Callable[[Config], Config] = lambda held: held):
        self.root = root
        self._complete = complete
        self.config = root / "config.json"
        self.data = root / "data.json"
        self.metrics = root / "metrics.jsonl"
        self.checkpoints = root / "checkpoints"
        self.samples = root / "samples"
        self.curves = root / "curves.png"
        self.noise = root / "noise.png"
        self.law = root / "law.png"
        self.report = root / "report.html"
        self.result = root / "result.json"
        self.cost = root / "cost.json"
        self.rater = root / "rater.npz"
        self.scores = root / "scores"
        self.score_histogram = root / "scores.png"

    def further(self, name: str) -> Path:
        """Where a score under other settings lies."""
        return self.root / f"result_{name}.json"

    def claim(self, config: dict[str, Any]) -> bool:
        """Writes config.json, once it is checked that the folder holds no run of another config.

        A run that goes on under other viewing settings is told by those that it has now.

        Returns:
          Whether the folder held no run.

        Raises:
          ConfigError: the folder holds a run of another config; the keys that differ are named.
        """
        self.check_same(config)
        is_new = not self.config.exists()
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        if is_new or self.config.read_text() != text:
            self.root.mkdir(parents=True, exist_ok=True)
            write_whole(self.config, text)
        return is_new

    def describe_data(self, description: dict[str, Any]) -> None:
        """Writes data.json: which images, and which class each label stands for."""
        text = json.dumps(description, indent=2, sort_keys=True, ensure_ascii=False)
        write_whole(self.data, text + "\n")

    def check_same(self, config: dict[str, Any]) -> None:
        """Raises ConfigError when config.json exists and differs from `config`."""
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"--workdir={self.root}: is no folder")
        if not self.config.exists():
            return
        try:
            held = json.loads(self.config.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"--workdir={self.root}: config.json is damaged: {error}") from error
        if not isinstance(held, dict):
            raise ConfigError(f"--workdir={self.root}: config.json holds no config")
        difference = differences(self._complete(held), config)
        if difference:
            raise ConfigError(
                f"--workdir={self.root}: holds a run of another config: {difference}; "
                "give another --workdir"
            )

    def append(self, row: dict[str, Any]) -> None:
        """Adds one line to metrics.jsonl; non-finite numbers are written as null."""
        finite = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
        }
        with self.metrics.open("a") as file:
            file.write(json.dumps(finite) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; what is no row (a line cut short by a kill) is left out."""
        return self._parse()[0]

    @property
    def is_damaged(self) -> bool:
        """Whether metrics.jsonl has lines that are no rows, other than a last one cut by a kill."""
        return self._parse()[1]

    def _parse(self) -> tuple[list[dict[str, Any]], bool]:
        """The rows, and whether a line other than the last is no row."""
        if not self.metrics.exists():
            return [], False
        rows, bad = [], []
        lines = self.metrics.read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            try:
                row = json.loads(line)
                row["step"] + 0
                rows.append(row)
            except (json.JSONDecodeError, TypeError, KeyError):
                bad.append(number)
        return rows, bool(bad) and bad != [len(lines) - 1]

    def rewind(self, step: int) -> Path | None:
        """Drops the rows after `step`: a resumed run makes those steps again, bit for bit.

        Its rows are those of a run that was not stopped, but for their times and for a row that a
        stop or an error cut: that one is two, each the means of its own steps.

        Args:
          step: that the run goes on from.

        Returns:
          Where the record was copied to, if it was: metrics.jsonl.damaged if it is damaged, and
          metrics.jsonl.before if all of its rows go, since no checkpoint is left, and they are more
          than that file has already.
        """
        rows, damaged = self._parse()
        copy = None
        if damaged or (rows and step == 0):
            ending = "damaged" if damaged else "before"
            place = self.metrics.with_name(f"{self.metrics.name}.{ending}")
            longer = not place.exists() or place.stat().st_size < self.metrics.stat().st_size
            if damaged or longer:
                copy = Path(shutil.copy(self.metrics, place))
        kept = [row for row in rows if row["step"] <= step]
        if self.metrics.exists():
            write_whole(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))
        return copy


def differences(
    held: dict[str, Any], config: dict[str, Any], free: tuple[str, ...] = VIEWING
) -> str:
    """Names the settings of two configs that differ and change training, or "" for none.

    Args:
      held: a resolved config as read from JSON.
      config: a resolved config.
      free: what keys may begin with that are not compared.
    """
    # A tuple is a list in JSON.
    there, here = (flatten(json.loads(json.dumps(each))) for each in (held, config))
    viewing = tuple(key for key in free if key not in _keys_of_own_code(here))
    keys = sorted(
        key
        for key in there.keys() | here.keys()
        if there.get(key) != here.get(key) and not key.startswith(viewing)
    )
    shown = ", ".join(f"{k} (there {_show(there, k)}, here {_show(here, k)})" for k in keys[:3])
    return shown + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _keys_of_own_code(flat: dict[str, Any]) -> list[str]:
    """Keys of which only a user's own code knows what they change."""
    own = ":" in flat.get("selection.name", "")
    return ["selection.file"] if own else []


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dict -> {"a.b.c": value}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _show(flat: dict[str, Any], key: str) -> str:
    return repr(flat[key]) if key in flat else "not set"
