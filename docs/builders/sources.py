"""Pages of files that lie outside of docs/, and links to them.

The written pages link as they lie in the repository, so that they can be read there too. In the
site a link to any file that is no page leads to a page that shows the file.
"""

import ast
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLACED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files of the repository that are pages as they are, and where they stand in the site."""

_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_LANGUAGES = {".py": "python", ".sh": "sh", ".yml": "yaml", ".toml": "toml"}
_SHOWN = (".md", ".png")


def written_pages() -> list[str]:
    """The files of docs/ and of the repository that are pages, as paths in the repository."""
    below = (ROOT / "docs").rglob("*.md")
    return [*PLACED, *sorted(path.relative_to(ROOT).as_posix() for path in below)]


def page_of(path: str) -> str:
    """Where a file of the repository stands in the site."""
    if path in PLACED:
        return PLACED[path]
    if path.startswith("docs/") and path.endswith(_SHOWN):
        return path.removeprefix("docs/")
    return f"source/{path}.md"


def linked_files(path: str) -> list[str]:
    """The files of the repository that a page links to.

    Args:
      path: of the page, in the repository.
    """
    targets = [match[1] for match in _LINK.finditer((ROOT / path).read_text())]
    return [found for target in targets if (found := _resolved(path, target))]


def linked(markdown: str, path: str) -> str:
    """A page with its links as they are in the site; a link to nothing stays as it is.

    Args:
      markdown: of the page.
      path: of the page, in the repository.
    """

    def replaced(match: re.Match[str]) -> str:
        found = _resolved(path, match[1])
        if not found:
            return match[0]
        start = posixpath.dirname(page_of(path)) or "."
        return f"]({posixpath.relpath(page_of(found), start)}{match[2] or ''})"

    return _LINK.sub(replaced, markdown)


def shown_files() -> list[str]:
    """The files that have a page of their source: configs, studies and all that is linked to."""
    claims = [
        str(path.relative_to(ROOT))
        for folder in ("configs", "studies")
        for path in sorted((ROOT / folder).glob("*.py"))
    ]
    linked_to = [file for page in written_pages() for file in linked_files(page)]
    return sorted({file for file in [*claims, *linked_to] if page_of(file).startswith("source/")})


def source_page(path: str) -> str:
    """The page of a file: its path and its text; a search finds other pages first."""
    text = (ROOT / path).read_text()
    language = _LANGUAGES.get(Path(path).suffix, "text")
    head = f"---\ntitle: {path}\nsearch:\n  boost: 0.2\n---\n\n# `{path}`\n\n"
    return f"{head}````{language}\n{text.rstrip()}\n````\n"


def claims_page(folder: str) -> str:
    """A table of the files of a folder, each with the first line of its docstring.

    Args:
      folder: "configs" or "studies".
    """
    rows = []
    for path in sorted((ROOT / folder).glob("*.py")):
        told = ast.get_docstring(ast.parse(path.read_text())) or ""
        uri = page_of(f"{folder}/{path.name}")
        rows.append(f"| [{path.stem}]({uri}) | {told.partition(chr(10))[0]} |")
    return "\n".join(
        [f"# {folder.capitalize()}", "", "| file | what it is |", "|---|---|", *rows, ""]
    )


def _resolved(path: str, target: str) -> str | None:
    found = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return found if not found.startswith("..") and (ROOT / found).is_file() else None
