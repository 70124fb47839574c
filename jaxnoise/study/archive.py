"""A study's folder as one file, for machines that keep nothing between two pieces of work."""

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

from jaxnoise.errors import ConfigError
from jaxnoise.study.folder import StudyFolder
from jaxnoise.study.plan import PlannedRun


def unpack(archive: Path, folder: Path) -> None:
    """Fills a study's folder from an archive; one that holds runs already is left as it is.

    Args:
      archive: a file that `pack` wrote; where there is none, the study begins.
      folder: of the study.

    Raises:
      ConfigError: the file cannot be read.
    """
    if not archive.exists() or (folder / "plan.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ConfigError(f"--archive={archive}: cannot be read ({error})") from error


def pack(folder: StudyFolder, runs: Sequence[PlannedRun], archive: Path) -> None:
    """Writes a study's folder as one file; checkpoints of finished runs are left out.

    Args:
      folder: of the study.
      runs: the plan.
      archive: the file, .tar; it is replaced when the new one is whole.
    """
    done = {
        folder.run_folder(planned).checkpoints for planned in runs if folder.is_finished(planned)
    }

    def wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if folder.root / info.name in done else info

    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(f"{archive.name}.{os.getpid()}.part")
    try:
        with tarfile.open(part, "w") as tar:
            for path in sorted(folder.root.iterdir()):
                tar.add(path, path.name, filter=wanted)
        os.replace(part, archive)
    finally:
        part.unlink(missing_ok=True)
