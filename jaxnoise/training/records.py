"""The run folder: plain files that are read without a service."""

import json
import math
import os
from pathlib import Path
from typing import Any

from jaxnoise.errors import ConfigError


class RunFolder:
    """Paths of one run, and its config.json and metrics.jsonl.

    Args:
      root: the run folder; made when first written to.
    """

    def __init__(self, root: Path):
        self.root = root
        self.config = root / "config.json"
        self.metrics = root / "metrics.jsonl"
        self.checkpoints = root / "checkpoints"
        self.samples = root / "samples"
        self.curves = root / "curves.png"
        self.noise = root / "noise.png"
        self.result = root / "result.json"

    def claim(self, config: dict[str, Any]) -> None:
        """Writes config.json, or checks that the folder holds a run of the same config.

        Raises:
          ConfigError: the folder holds a run of another config; the keys that differ are named.
        """
        if self.config.exists():
            self.check_same(config)
            return
        self.root.mkdir(parents=True, exist_ok=True)
        write_whole(self.config, json.dumps(config, indent=2, sort_keys=True) + "\n")

    def check_same(self, config: dict[str, Any]) -> None:
        """Raises ConfigError when config.json exists and differs from `config`."""
        if not self.config.exists():
            return
        try:
            held = flatten(json.loads(self.config.read_text()))
        except (json.JSONDecodeError, AttributeError) as error:
            raise ConfigError(
                f"--workdir={self.root}: config.json cannot be read: {error}"
            ) from error
        given = flatten(json.loads(json.dumps(config)))
        keys = sorted(k for k in held.keys() | given.keys() if held.get(k) != given.get(k))
        if keys:
            shown = ", ".join(
                f"{k} (there {_show(held, k)}, here {_show(given, k)})" for k in keys[:3]
            )
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise ConfigError(
                f"--workdir={self.root}: holds a run of another config: {shown}{more}; "
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
        """The lines of metrics.jsonl; a last line cut short by a kill is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def rewind(self, step: int) -> None:
        """Drops the rows after `step`: a resumed run writes the same ones again."""
        rows = self.rows()
        kept = [row for row in rows if row["step"] <= step]
        if self.metrics.exists():
            write_whole(self.metrics, "".join(json.dumps(row) + "\n" for row in kept))


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that a kill leaves the old one or the new one, never a part."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


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
