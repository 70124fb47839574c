"""What mkdocs calls while it builds the site: adds the generated pages, and checks the result."""

import logging
import tempfile
import zlib
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.builders import api, config_keys, gallery, sources

_LOG = logging.getLogger("mkdocs.hooks.jaxnoise")
_GENERATED = "+"
"""In the nav of mkdocs.yml, for the pages of a heading that are made here."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fills in the headings of the nav whose pages are generated."""
    pages = {
        "Public names": list(api.api_pages()),
        "Gallery": list(gallery.gallery_pages()),
    }
    config.nav = [_filled(entry, pages) for entry in config.nav or []]
    return config


def _filled(entry: Any, pages: dict[str, list[str]]) -> Any:
    if isinstance(entry, dict):
        (heading, below) = next(iter(entry.items()))
        if below == _GENERATED:
            return {heading: pages[heading]}
        if isinstance(below, list):
            return {heading: [_filled(one, pages) for one in below]}
    return entry


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the generated pages and pictures."""
    texts = {
        **api.api_pages(),
        **gallery.gallery_pages(),
        "config_keys.md": config_keys.page(),
        "configs.md": sources.claims_page("configs"),
        "studies_shipped.md": sources.claims_page("studies"),
        **{sources.page_of(path): sources.source_page(path) for path in sources.shown_files()},
        **{uri: (sources.ROOT / path).read_text() for path, uri in sources.PLACED.items()},
    }
    for uri, text in texts.items():
        files.append(File.generated(config, uri, content=text))
    with tempfile.TemporaryDirectory() as folder:
        for shelf in gallery.SHELVES:
            for picture in gallery.pictures(shelf):
                _LOG.info("Drawing %s", picture.uri)
                path = Path(folder) / Path(picture.uri).name
                gallery.draw(picture, path)
                files.append(File.generated(config, picture.uri, content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Turns links to files of the repository into links to their pages."""
    uri = page.file.src_uri
    path = {uri: path for path, uri in sources.PLACED.items()}.get(uri, f"docs/{uri}")
    return sources.linked(markdown, path) if path in sources.written_pages() else markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Stops unless every public name has an anchor in the inventory of the site."""
    missing = api.missing_names(_inventory(Path(config.site_dir) / "objects.inv"))
    if missing:
        raise PluginError(f"no entry for {', '.join(missing)}")


def _inventory(path: Path) -> list[str]:
    """The names of a Sphinx inventory: four lines of text, then a compressed line for each."""
    packed = path.read_bytes().split(b"\n", 4)[4]
    return [line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()]
