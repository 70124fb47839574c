"""A user's own code, named in a config as "module:attribute"."""

import importlib
from collections.abc import Callable
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
    # A user's module may raise anything while it is imported.
    except Exception as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ArgumentError(argument, path, f"'module:attribute' ({why})") from error
    if not callable(found):
        raise ArgumentError(argument, path, "'module:attribute', something that can be called")
    return found
