"""The pages of the public names: one for each room, an entry for each name of its `__all__`."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import jaxnoise


def rooms() -> list[str]:
    """The modules that have a page: what `jaxnoise` names and each package with an `__all__`."""
    named = set(jaxnoise.__all__)
    for module in pkgutil.iter_modules(jaxnoise.__path__):
        if module.ispkg and hasattr(_module(module.name), "__all__"):
            named.add(module.name)
    return sorted(named)


def public_names() -> list[str]:
    """All public names in full: `jaxnoise`, its rooms, and what each room's `__all__` holds."""
    names = ["jaxnoise"]
    for room in rooms():
        names.append(f"jaxnoise.{room}")
        names += [f"jaxnoise.{room}.{name}" for name in getattr(_module(room), "__all__", ())]
    return names


def api_pages() -> dict[str, str]:
    """Pages by their place in the site."""
    return {"api/index.md": _index(), **{f"api/{room}.md": room_page(room) for room in rooms()}}


def room_page(room: str) -> str:
    """A room's docstring, a table of its names, and an entry for each."""
    module = _module(room)
    names = sorted(getattr(module, "__all__", ()), key=str.lower)
    rows = [f"| [`{n}`][jaxnoise.{room}.{n}] | {_first_line(getattr(module, n))} |" for n in names]
    table = ["| name | what it is |", "|---|---|", *rows, ""] if rows else []
    entries = [f"::: jaxnoise.{room}.{name}\n" for name in names]
    return "\n".join([*_head(f"jaxnoise.{room}", room), *table, *entries])


def missing_names(documented: Iterable[str]) -> list[str]:
    """The public names that are not documented.

    Args:
      documented: names in full that a site has an anchor for.
    """
    found = set(documented)
    return [name for name in public_names() if name not in found]


def _index() -> str:
    rows = [f"| [{room}]({room}.md) | {_first_line(_module(room))} |" for room in rooms()]
    table = ["| room | what it holds |", "|---|---|", *rows, ""]
    return "\n".join([*_head("jaxnoise", "All rooms"), *table])


def _head(module: str, title: str) -> list[str]:
    """A page's title, and the name and docstring of its module but nothing of what that holds."""
    options = ("heading_level: 1", "show_root_full_path: true", "members: false")
    entry = [f"::: {module}", "    options:", *(f"      {option}" for option in options)]
    return ["---", f"title: {title}", "---", "", *entry, ""]


def _module(room: str) -> ModuleType:
    return importlib.import_module(f"jaxnoise.{room}")


def _first_line(found: Any) -> str:
    """The first sentence of a docstring as a table takes it; "" for a constant."""
    told = inspect.isclass(found) or inspect.isroutine(found) or inspect.ismodule(found)
    line = (inspect.getdoc(found) or "").partition("\n\n")[0] if told else ""
    return " ".join(line.split()).replace("|", "\\|")
