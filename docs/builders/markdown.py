"""Markdown of docstrings."""

import re

_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Examples?):$")


def as_markdown(docstring: str) -> str:
    """A docstring whose examples and formulas are shown as they stand.

    Args:
      docstring: without the indentation of its code.

    Returns:
      The same with "Example:" as griffe knows it, and paragraphs that are set off by spaces, as
      formulas are, as blocks of code.
    """
    parts, section = [], False
    for part in re.split(r"\n{2,}", docstring):
        lines = part.split("\n")
        if not lines[0].startswith(" "):
            section = bool(_SECTION.match(lines[0]))
        elif not section:
            part = "\n".join(["```text", *(line.removeprefix("  ") for line in lines), "```"])
        parts.append(re.sub(r"^Example:$", "Examples:", part, flags=re.MULTILINE))
    return "\n\n".join(parts)
