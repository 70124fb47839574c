"""An extension of griffe, which reads docstrings for the API pages: they become Markdown."""

from typing import Any

import griffe

from docs.builders.markdown import as_markdown


class Docstrings(griffe.Extension):
    """Replaces every docstring by its Markdown."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        del kwargs
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
