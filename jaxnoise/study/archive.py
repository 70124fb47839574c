"""A study in one file, for machines that keep nothing between two pieces of work.

A .tar holds the folder, and with it the checkpoints of runs under way. A .jsonl holds what the
tables and curves of finished runs are made of, a line for each run: small, and readable anywhere.
"""

import contextlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnoise.errors import ConfigError
from jaxnoise.experiment import RaterRun
from jaxnoise.files import check_folder, exclusive, write_whole
from jaxnoise.study.folder import StudyFolder, without_folder
from jaxnoise.study.plan import PlannedRun

SUFFIXES = (".tar", ".jsonl")


def check_archive(archive: Path, folder: StudyFolder) -> None:
    """Raises ConfigError unless the file's name says which of the two kinds it is.

    Nor may it be a folder, lie where nothing can be written, or in the study's own folder.
    """
    if archive.suffix not in SUFFIXES:
        raise ConfigError(f"--archive={archive}: its name must end in {' or '.join(SUFFIXES)}")
    if archive.is_dir():
        raise ConfigError(f"--archive={archive}: is a folder")
    if archive.resolve().is_relative_to(folder.root.resolve()):
        raise ConfigError(f"--archive={archive}: must lie outside of --workdir={folder.root}")
    check_folder("--archive", archive.parent)


def unpack(archive: Path, folder: StudyFolder, runs: Sequence[PlannedRun]) -> None:
    """Fills a study's folder from an archive.

    Args:
      archive: a file that `pack` wrote; where there is none, the study begins.
      folder: of the study; a .tar leaves one that holds runs already as it is, a .jsonl adds the
        runs that are not finished in it, but none whose files another one is still to read.
      runs: the plan.

    Raises:
      ConfigError: the file cannot be read, is of another study, holds a run of the plan with
        another config, or, a .tar beside a folder that holds runs already, a score or a later
        checkpoint that the folder lacks; nothing is written then.
    """
    if not archive.exists():
        return
    if archive.suffix == ".jsonl":
        held = _read(archive)
        _check(archive, {run["run"]: run["files"]["config.json"] for run in held}, folder, runs)
        _restore(held, folder, runs)
        return
    try:
        with tarfile.open(archive) as tar:
            _take_up(archive, tar, folder, runs)
    except ConfigError:
        raise
    # A plan that is missing or no JSON is a KeyError or ValueError.
    except (tarfile.TarError, OSError, EOFError, KeyError, ValueError) as error:
        raise ConfigError(f"--archive={archive}: cannot be read ({error})") from error


def _check(
    archive: Path, held: Mapping[str, Any], folder: StudyFolder, runs: Sequence[PlannedRun]
) -> None:
    """Raises ConfigError unless an archive's runs, name -> config, are of this study."""
    if held and not held.keys() & {planned.name for planned in runs}:
        raise ConfigError(
            f"--archive={archive}: is of another study; it holds {next(iter(held))}, and this one "
            f"has {runs[0].name}"
        )
    folder.check(runs, held, f"--archive={archive}")


def _take_up(
    archive: Path, tar: tarfile.TarFile, folder: StudyFolder, runs: Sequence[PlannedRun]
) -> None:
    """Fills a folder without runs from a .tar, all of it or nothing."""
    # All of the file is read here, so that one that is cut off is found.
    names = set(tar.getnames())
    plan = tar.extractfile("plan.json")
    if plan is None:
        raise KeyError("plan.json is no file")
    held = json.load(plan)
    if not isinstance(held, dict) or not all(isinstance(run, dict) for run in held.values()):
        raise ValueError("plan.json is no plan")
    _check(archive, held, folder, runs)
    if folder.plan.exists():
        finished = [run for run in runs if f"{run.name}/result.json" in names]
        # A score of half-way has that name too.
        unlike = next((f"{r.name} finished" for r in finished if "" not in folder.results(r)), "")
        beyond = unlike or _beyond(names, folder.root)
        if beyond:
            raise ConfigError(
                f"--archive={archive}: holds {beyond}, and --workdir={folder.root} does not; give "
                "another --workdir"
            )
        return
    # Behind a link, if it is one.
    root = folder.root.resolve()
    root.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f"{root.name}.", dir=root.parent))
    try:
        whole = part / "study"
        whole.mkdir()
        tar.extractall(whole, filter="data")
        if not root.exists():
            # At once, whatever kills this.
            whole.replace(root)
            return
        there = [path.name for path in whole.iterdir() if (root / path.name).exists()]
        if there:
            raise ConfigError(
                f"--workdir={folder.root}: holds {there[0]!r} without a plan.json, as where taking "
                "up an archive was killed; give another --workdir"
            )
        # The plan last: with it the folder is whole.
        for path in sorted(whole.iterdir(), key=lambda path: path.name == folder.plan.name):
            path.replace(root / path.name)
    finally:
        shutil.rmtree(part)


def _beyond(names: Iterable[str], root: Path) -> str:
    """A score or checkpoint, of a run of any plan, that an archive has beyond a folder; "" if none.

    A folder drops its earlier checkpoints as it goes on.
    """
    for name in sorted(names):
        run, _, file = name.rpartition("/")
        if re.fullmatch(r"result(_.*)?\.json", file) and not (root / name).exists():
            return name
        if run.endswith("/checkpoints") and file.isdecimal():
            held = [int(path.name) for path in (root / run).glob("*") if path.name.isdecimal()]
            if max(held, default=-1) < int(file):
                return name
    return ""


def pack(folder: StudyFolder, runs: Sequence[PlannedRun], archive: Path) -> list[str]:
    """Writes a study in one file.

    Args:
      folder: of the study.
      runs: the plan.
      archive: replaced when the new one is whole. A .tar leaves out the checkpoints of finished
        runs that no other one is still to read; a .jsonl keeps what it held of runs that are not
        finished here, and leaves out a score taken under other settings by hand.

    Returns:
      A line on each finished run that is left out.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".jsonl":
        held = {run["run"]: run for run in _read(archive)} if archive.exists() else {}
        told = [planned for planned in runs if _is_numbers(folder, planned)]
        differences = {planned.name: folder.changed(planned) for planned in told}
        done = {p.name: _summary(folder, p) for p in told if not differences[p.name]}
        # By what raters the models of these numbers have selected.
        raters = {name for planned in runs if planned.name in done for name in planned.after}
        done |= {
            planned.name: _config_alone(folder, planned)
            for planned in runs
            if planned.name in raters and isinstance(planned.run, RaterRun)
        }
        kept = {name: run for name, run in held.items() if name not in done}
        lines = [f"{json.dumps(run)}\n" for run in (done | kept).values()]
        write_whole(archive, "".join(lines))
        return [
            f"{name} is not kept, since it went on under other settings than the plan's: {how}"
            for name, how in differences.items()
            if how
        ]
    # What others start from stays until they are finished too.
    named = {name for run in runs if not folder.is_finished(run) for name in run.after}
    done_checkpoints = {
        folder.run_folder(planned).checkpoints
        for planned in runs
        if folder.is_finished(planned) and planned.name not in named
    }

    def wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if folder.root / info.name in done_checkpoints else info

    part = archive.with_name(f"{archive.name}.{os.getpid()}.part")
    try:
        with tarfile.open(part, "w") as tar:
            for path in sorted(folder.root.iterdir()):
                tar.add(path, path.name, filter=wanted)
        os.replace(part, archive)
    finally:
        part.unlink(missing_ok=True)
    return []


def _read(archive: Path) -> list[dict[str, Any]]:
    """The runs of a .jsonl archive."""
    try:
        lines = archive.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--archive={archive}: cannot be read ({error})") from error
    runs = []
    for number, line in enumerate(lines, 1):
        try:
            runs.append(_checked(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"--archive={archive}: line {number} is no run of a study"
            raise ConfigError(message) from error
    return runs


def _checked(run: dict[str, Any]) -> dict[str, Any]:
    """A run of an archive that has all that it must, and names no folder but its own."""
    files = run["files"].keys()
    parts = [*run["run"].split("/"), *files]
    if "config.json" not in files or not isinstance(run["rows"], list):
        raise KeyError("files")
    if not all(isinstance(each, dict) and each for each in run["files"].values()):
        raise ValueError("a file that holds nothing")
    if not all(re.fullmatch(r"\w[\w.+=-]*", part) for part in parts):
        raise ValueError("a name that leads elsewhere")
    return run


def _is_numbers(folder: StudyFolder, planned: PlannedRun) -> bool:
    """Whether a run is finished and is told by its numbers: a rater is a file that others read."""
    return not folder.run_folder(planned).rater.exists() and folder.is_finished(planned)


def _summary(folder: StudyFolder, planned: PlannedRun) -> dict[str, Any]:
    """A finished run: its JSON files, and the rows of its record that hold scores."""
    run = folder.run_folder(planned)
    files = {path.name: json.loads(path.read_text()) for path in sorted(run.root.glob("*.json"))}
    # By hand it may have gone on under settings that are not the plan's.
    files[run.config.name] = without_folder(planned.run.config, folder.root)
    return {"run": planned.name, "files": files, "rows": thinned(run.rows())}


def _config_alone(folder: StudyFolder, planned: PlannedRun) -> dict[str, Any]:
    """A run of which nothing is told but how it was made."""
    config = without_folder(planned.run.config, folder.root)
    return {"run": planned.name, "files": {"config.json": config}, "rows": []}


def thinned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that hold scores and the last one, each with the mean speed since the one before.

    Args:
      rows: of a run's record.

    Example:
      >>> rows = [
      ...     {"step": 1, "images_seen": 60, "images_per_second": 10.0},
      ...     {"step": 2, "images_seen": 120, "images_per_second": 30.0},
      ...     {"step": 2, "images_seen": 120, "frechet_1step": 0.5},
      ... ]
      >>> thinned(rows)
      [{'step': 2, 'images_seen': 120, 'frechet_1step': 0.5, 'images_per_second': 15.0}]
    """
    kept, seconds, before, start = [], 0.0, 0, 0
    for number, row in enumerate(rows):
        if row.get("images_per_second"):
            seconds += (row["images_seen"] - before) / row["images_per_second"]
            before = row["images_seen"]
        scored = any(key.startswith("frechet_") for key in row)
        if scored or number == len(rows) - 1:
            row = {key: value for key, value in row.items() if key != "images_per_second"}
            if seconds:
                row["images_per_second"] = round((before - start) / seconds, 6)
            kept.append(row)
            seconds, start = 0.0, before
    return kept


def _restore(
    held: Sequence[dict[str, Any]], folder: StudyFolder, runs: Sequence[PlannedRun]
) -> None:
    """Writes the files of runs that are not finished in the folder; result.json last."""
    folder.add_to_plan({run["run"]: run["files"]["config.json"] for run in held})
    planned = {run.name: run for run in runs}
    scored = {run["run"]: run for run in held if "result.json" in run["files"]}
    # What is still to start from a model needs its weights.
    needed = {
        name
        for run in runs
        if run.name not in scored and not folder.is_finished(run)
        for name in run.after
    }
    for run in [run for name, run in scored.items() if name not in needed]:
        root = folder.root / run["run"]
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held_alone:
            try:
                held_alone.enter_context(exclusive(root))
            except ConfigError:
                # What another process is making is not written over.
                continue
            files = run["files"]
            if _is_there(root, run["run"], folder, planned):
                # Of the same run only further scores can be missing.
                if json.loads((root / "result.json").read_text()) != files["result.json"]:
                    continue
                files = {name: each for name, each in files.items() if not (root / name).exists()}
            else:
                rows = "".join(f"{json.dumps(row)}\n" for row in run["rows"])
                write_whole(root / "metrics.jsonl", rows)
            for name in sorted(files, key=lambda name: name == "result.json"):
                write_whole(root / name, json.dumps(files[name], indent=2) + "\n")


def _is_there(
    root: Path, name: str, folder: StudyFolder, planned: Mapping[str, PlannedRun]
) -> bool:
    """Whether a run of the folder has its own score."""
    if name in planned:
        return "" in folder.results(planned[name])
    return (root / "result.json").exists()
