"""The pages that docs/builders make are complete; that they build is for `make docs` to show."""

import ast
import importlib
import re

import command_line
import pytest

from docs.builders import api, config_keys, evidence, gallery, sources
from docs.builders.markdown import as_markdown
from jaxnoise import experiment
from jaxnoise.config import noise as noise_choices
from jaxnoise.config.choices import Choices
from jaxnoise.config.overrides import replaced
from jaxnoise.config.sections import keys_of
from jaxnoise.errors import ConfigError

PACKAGE = command_line.ROOT / "jaxnoise"
NAV = (command_line.ROOT / "mkdocs.yml").read_text()
CONFIGS = sorted(path.stem for path in (command_line.ROOT / "configs").glob("*.py"))
CONFIGS.remove("common")


def declared():
    """What the files of packages say in `__all__`, read as text."""
    for path in sorted(PACKAGE.glob("*/__init__.py")):
        for statement in ast.parse(path.read_text()).body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                    for name in ast.literal_eval(value):
                        yield path.parent.name, name


def test_every_public_name_has_an_entry():
    pages = api.api_pages()
    names = list(declared())
    assert ("noise", "Laplace") in names
    for room, name in names:
        lines = pages[f"api/{room}.md"].splitlines()
        assert f"::: jaxnoise.{room}.{name}" in lines
        assert any(line.startswith(f"| [`{name}`][jaxnoise.{room}.{name}] |") for line in lines)


def test_a_name_without_an_anchor_is_found():
    names = api.public_names()
    assert {f"jaxnoise.{room}.{name}" for room, name in declared()} <= set(names)
    assert api.missing_names(names) == []
    assert api.missing_names(names[:7] + names[8:]) == [names[7]]


def test_every_page_is_in_the_nav():
    made = {"config_keys.md", "configs.md", "studies_shipped.md"}
    written = {sources.page_of(path) for path in sources.written_pages()}
    assert set(re.findall(r": (\S+\.md)$", NAV, re.MULTILINE)) == written | made


@pytest.mark.takes_a_second
@pytest.mark.parametrize("archive", evidence.archives(), ids=lambda path: path.stem)
def test_the_page_of_a_study_is_made_of_the_runs_that_are_kept(archive, tmp_path):
    """Runs of another config than the study's now are refused, and the page is made again then."""
    page, kept = archive.with_suffix(".md").read_text(), evidence.restored(archive, tmp_path)
    assert page.startswith(evidence.text_of(archive, *kept))
    answers = evidence.EVIDENCE.with_suffix(".md").read_text()
    assert answers.startswith(evidence.HEAD)
    assert evidence.summary_of(archive, *kept) in answers


def test_every_link_leads_somewhere():
    shown = sources.shown_files()
    for path in sources.written_pages():
        text = (command_line.ROOT / path).read_text()
        targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)
        assert len(sources.linked_files(path)) == len(targets), path
        for file in sources.linked_files(path):
            assert not sources.page_of(file).startswith("source/") or file in shown


def test_links_are_as_they_are_in_the_site():
    text = "[a](docs/runs.md) ![b](docs/digits_poly.png) [c](configs/digits_poly.py) [d](LICENSE#x)"
    there = sources.linked(f"{text} [e](https://x.org/docs/studies.md) [f](none.md)", "README.md")
    assert there == (
        "[a](runs.md) ![b](digits_poly.png) [c](source/configs/digits_poly.py.md) "
        "[d](source/LICENSE.md#x) [e](https://x.org/docs/studies.md) [f](none.md)"
    )
    back = sources.linked("[a](../README.md) [b](own_loop/nnx.py)", "docs/studies.md")
    assert back == "[a](index.md) [b](source/docs/own_loop/nnx.py.md)"


def flat(config, path=""):
    """Dotted sections, with the names of their keys."""
    own = {key: value for key, value in config.items() if not isinstance(value, dict)}
    yield path, own
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{path}.{key}".strip("."))


def on_the_page(path, name):
    """Keys that the page gives for a choice of a section, in any kind of training."""
    sections = [s for s in config_keys.SECTIONS if s.path == path and name in s.choices]
    return {key.name for section in sections for key in config_keys.keys(section, name)}


DEFAULTS = {section.path: section.default or "" for section in config_keys.SECTIONS}


def config_of(name):
    return importlib.import_module(f"configs.{name}").get_config().to_dict()


def assert_on_the_page(config):
    for path, held in flat(config):
        if path:
            choice = held.pop("name", DEFAULTS[path])
            assert set(held) <= on_the_page(path, choice), f"{path}.{choice}"


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_of_a_shipped_config_is_on_the_page(name):
    assert_on_the_page(config_of(name))


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "name, settings",
    [
        ("digits_poly", {"curriculum.name": "doubling", "grid": {"name": "karras"}}),
        ("digits_law_learned", {}),
        ("digits_noise_selected", {"pacing": {"name": "clts"}}),
        (
            "digits_cosine",
            {
                "law.mixed": {"name": "laplace", "share": 0.5},
                "objective.weight": {"name": "density", "law": {"name": "cosine"}},
                "objective.uncertainty": {"name": "fourier"},
                "sample.method": {"name": "ddim"},
                "evaluate.extractor": {"name": "inception"},
            },
        ),
    ],
)
def test_every_key_that_a_config_gets_is_on_the_page(name, settings):
    # With defaults filled in, so these are all keys that there are.
    assert_on_the_page(experiment.read(replaced(config_of(name), settings)).config)


def test_the_page_of_keys_holds_every_name_and_key_with_a_line():
    text = config_keys.page()
    parts = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert len(parts) == len(config_keys.SECTIONS)
    for section in config_keys.SECTIONS:
        part = parts[f"`{section.path}`{f' ({section.where})' if section.where else ''}"]
        for name in section.choices:
            assert not name or f"`{name}`" in part
            for key in [] if section.like else config_keys.keys(section, name):
                assert f"| `{key.name}` | {key.kind} |" in part
    row = "| `curve` | a number | `4.0` | degree of the sweep, > 0."
    assert text.count(row) == 1


def test_all_choices_of_configs_are_on_the_page():
    modules = ("extractors", "models", "noise", "objectives", "optimizers", "selection")
    found = [
        value
        for module in modules
        for value in vars(importlib.import_module(f"jaxnoise.config.{module}")).values()
        if isinstance(value, Choices)
    ]
    assert len(found) >= 10
    for choices in found:
        assert any(choices is section.choices for section in config_keys.SECTIONS)


def test_a_section_or_a_key_that_nobody_explains_stops_the_page(monkeypatch):
    def make(curve: float = 1.0, strange: int = 2) -> None:
        """A choice.

        Args:
          curve: explained.
        """

    section = config_keys.Section("law", {"own": make}, "")
    with pytest.raises(LookupError, match="strange of law with name='own'"):
        config_keys.keys(section, "own")
    monkeypatch.setattr(experiment, "COMMON", (*experiment.COMMON, "extra"))
    with pytest.raises(LookupError, match="no section extra"):
        config_keys.page()


@pytest.mark.takes_a_second
def test_every_noise_has_a_picture_with_all_keys_that_it_needs():
    tables = {
        "log_snr_laws": noise_choices.LOG_SNR_LAWS,
        "pair_laws": noise_choices.PAIR_LAWS,
        "curricula": noise_choices.CURRICULA,
        "grids": noise_choices.GRIDS,
        "pacings": noise_choices.PACINGS,
    }
    assert set(gallery.SHELVES) == set(tables)
    files = []
    for shelf, choices in tables.items():
        page = gallery.gallery_pages()[f"gallery/{shelf}.md"]
        pictures = gallery.pictures(shelf)
        assert {picture.settings["name"] for picture in pictures} == set(choices)
        for picture in pictures:
            given = set(picture.settings) - {"name"}
            make = choices[picture.settings["name"]]
            free = {"total_steps", "cells", "curriculum"}
            needed = {n for n, key in keys_of(make).items() if key.default is key.empty} - free
            assert needed <= given <= set(keys_of(make))
            assert f"]({picture.uri.removeprefix('gallery/')})" in page
            files.append(picture.uri)
    assert len(set(files)) == len(files)


def test_a_new_law_that_needs_values_stops_the_gallery(monkeypatch):
    monkeypatch.setattr(gallery, "EXAMPLES", {})
    with pytest.raises(ConfigError, match=r"config\.law\.lam: must be set"):
        gallery.read(gallery.Picture("log_snr_laws", {"name": "tabulated"}))


@pytest.mark.takes_a_second
def test_the_picture_of_a_law_that_learns_shows_what_it_learned():
    (picture,) = [p for p in gallery.pictures("pacings") if p.settings["name"] == "adaptive"]
    rows = gallery.learning_rows(gallery.read(picture).objective, steps=100)
    assert [row["step"] for row in rows] == list(range(5, 101, 5))
    last = {float(key.removeprefix("law/")): v for key, v in rows[-1].items() if key != "step"}
    # Under the cosine law's density times a bump at 2 the most is drawn near 1.5.
    assert 1 < max(last, key=last.get) < 2.5


def test_docstrings_become_markdown():
    docstring = (
        "A mean.\n\n  a = b * c\n\nOf two:\n\n  d   e\n    f\n\nArgs:\n  x: one,\n    two.\n\n"
        "  y: three.\n\nExample:\n  >>> 1\n  1"
    )
    assert as_markdown(docstring) == (
        "A mean.\n\n```text\na = b * c\n```\n\nOf two:\n\n```text\nd   e\n  f\n```\n\n"
        "Args:\n  x: one,\n    two.\n\n  y: three.\n\nExamples:\n  >>> 1\n  1"
    )
