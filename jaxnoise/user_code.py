"""A user's own code, named in a config as "module:attribute"."""

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxnoise.errors import ArgumentError


def imported(argument: str, path: str) -> Callable[..., Any]:
    """What a path names.

    Args:
      argument: whose value the path is, for messages.
      path: "module:attribute", where the module can be imported; dots lead on into the attribute.

    Returns:
      Something that can be called.

    Raises:
      ArgumentError: no such module or attribute, or one that cannot be called.

    Example:
      >>> imported("name", "math:sqrt")(9)
      3.0
    """
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    # A user's module may raise anything while it is imported, and a script may end itself.
    except (Exception, SystemExit) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ArgumentError(argument, path, f"'module:attribute' ({why})") from error
    if not callable(found):
        raise ArgumentError(argument, path, "'module:attribute', something that can be called")
    return found


def line_of(path: str, error: BaseException) -> int | None:
    """The line of a user's module at which an error came up, or None if it came up elsewhere.

    Args:
      path: "module:attribute", as `imported` took it.
      error: as it was caught.
    """
    file = getattr(sys.modules.get(path.partition(":")[0]), "__file__", None)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return lines[-1] if lines else None


def failure(path: str, error: BaseException) -> str:
    """What a user's code raised and where, in one line.

    Args:
      path: "module:attribute", as `imported` took it.
      error: as it was caught.
    """
    line, what = line_of(path, error), " ".join(f"{type(error).__name__}: {error}".split())
    file = Path(getattr(sys.modules.get(path.partition(":")[0]), "__file__", None) or "").name
    return what if line is None else f"{what} ({file}, line {line})"
