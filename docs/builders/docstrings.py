"""An extension of griffe, which reads the code for the API pages."""

import re
from typing import Any

import griffe

from docs.builders.markdown import as_markdown


class Docstrings(griffe.Extension):
    """Makes Markdown of docstrings, fields of arguments without a signature, and bases public."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        self.on_object(obj=pkg, **kwargs)

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        del kwargs
        cls.bases = _public(cls.bases, cls.module)
        if cls.docstring is not None and not len(cls.parameters):
            # Named tuples and flax modules: their fields tell the types.
            text = cls.docstring.value
            cls.docstring.value = re.sub("^Args:$", "Attributes:", text, flags=re.MULTILINE)


def _public(bases: list[Any], module: griffe.Module) -> list[Any]:
    """Bases, with the bases of a private one in its place."""
    found = []
    for base in bases:
        name = str(base)
        own = module.members.get(name) if name.startswith("_") else None
        found += _public(own.bases, module) if isinstance(own, griffe.Class) else [base]
    return found
