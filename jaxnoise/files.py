"""Where files lie, and how they are written so that a kill leaves none of them half."""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from jaxnoise.errors import ConfigError

PART = ".part"
"""Ends the name of a file that is being written."""
_ABANDONED_SECONDS = 3600


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as a user writes it: `~` is the home folder.

    Example:
      >>> user_path("~/images").name, user_path("images").as_posix()
      ('images', 'images')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: names the home folder of a user that is not there") from error


def how_to_make(path: Path) -> str:
    """The end of a message on a path that is not there: the command that makes it, or nothing.

    A config's run lies in runs/NAME unless its user says otherwise.

    Example:
      >>> how_to_make(Path("runs/of_no_config"))
      ''
    """
    above, name, *_ = (*path.parts, "", "")
    config = Path("configs", f"{name}.py")
    made_here = above == "runs" and not path.exists() and config.is_file()
    return f"; python run.py --config={config.as_posix()} makes it" if made_here else ""


def check_folder(flag: str, folder: Path) -> None:
    """Raises ConfigError unless a folder can be written to, or made."""
    near = folder
    while not os.path.lexists(near) and near != near.parent:
        near = near.parent
    if not near.is_dir():
        raise ConfigError(f"{flag}={folder}: {near} is no folder")
    if not os.access(near, os.W_OK | os.X_OK):
        raise ConfigError(f"{flag}={folder}: {near} cannot be written to")


def cache_folder() -> Path:
    """What can be computed again is kept here: $JAXNOISE_CACHE, or ~/.cache/jaxnoise."""
    return user_path(os.environ.get("JAXNOISE_CACHE") or "~/.cache/jaxnoise")


def write_whole(path: Path, content: str | bytes | Callable[[BinaryIO], None]) -> None:
    """Writes a file so that a kill leaves the old one or the new one, never a part.

    Args:
      path: the file; its folder must exist. Two processes may write it at once: one of them wins.
      content: text (UTF-8), bytes, or a function that writes into the open file.
    """
    # Processes of several hosts or containers may have one number.
    part = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PART}")
    try:
        with part.open("xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def drop_abandoned(folder: Path) -> None:
    """Removes what killed processes have left of `write_whole`: parts untouched for an hour."""
    for part in folder.glob(f"*{PART}"):
        # Another process may remove it at the same time.
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
                part.unlink()


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keeps a folder for this process; a lock that dies with it, whatever kills it.

    Args:
      folder: must exist.

    Raises:
      ConfigError: another process has it.
    """
    try:
        import fcntl
    except ImportError:
        # Elsewhere than on Unix nobody is kept out.
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        # Some shared file systems have no locks.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                why = f"--workdir={folder}: another process is at work in it"
                raise ConfigError(why) from None
        yield
    finally:
        os.close(held)
