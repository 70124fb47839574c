"""The tutorials run as they are printed, and print what they say."""

import re
import shlex

import command_line
import jax
import pytest

from jaxnoise import experiment
from jaxnoise.cli import main
from jaxnoise.config import files, overrides

DOCS = command_line.ROOT / "docs"
TUTORIALS = ("learning_a_rater", "reading_a_report", "which_law")
_NUMBER = re.compile(r"-?\d+(?:\.(\d+))?")


def blocks_of(page):
    """(language, text) of the blocks of code, in order."""
    text = (DOCS / f"{page}.md").read_text()
    return re.findall(r"```(sh|python|text)\n(.*?)```", text, re.DOTALL)


def assert_printed(printed, expected):
    """The same words, and numbers that differ by one in the last digit at most."""
    assert [_NUMBER.sub("#", line).split() for line in printed.splitlines()] == [
        _NUMBER.sub("#", line).split() for line in expected.splitlines()
    ], printed
    pairs = zip(_NUMBER.finditer(printed), _NUMBER.finditer(expected), strict=True)
    for found, wanted in pairs:
        last_digit = 10.0 ** -len(wanted[1] or "")
        # Whole numbers are counts.
        allowed = 1.01 * last_digit if wanted[1] else 0
        assert abs(float(found[0]) - float(wanted[0])) <= allowed, printed


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_prints_what_it_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(page)
    last = max(i for i, (language, _) in enumerate(blocks) if language == "python")
    names, printed = {"__name__": "__main__"}, ""
    for language, text in blocks[: last + 2]:
        if language == "sh":
            assert main(shlex.split(text.replace("\\\n", ""))[2:]) == 0
            capsys.readouterr()
        elif language == "python":
            assert not printed
            # As in a user's process; optax, too, mixes kinds of numbers.
            with (
                jax.numpy_dtype_promotion("standard"),
                jax.numpy_rank_promotion("allow"),
            ):
                exec(compile(text, f"{page}.md", "exec"), names)
            printed = capsys.readouterr().out
        else:
            assert_printed(printed, text)
            printed = ""
    assert not printed


def test_a_wrong_number_is_seen():
    assert_printed("a 1.23\n 4", "a 1.24\n 4")
    for printed in ("a 1.23", "b 1.24\n 4", "a 1.22\n 4", "a 1.24\n 5", "a -1.24\n 4"):
        with pytest.raises(AssertionError):
            assert_printed(printed, "a 1.24\n 4")


def commands():
    """Every command of the written pages that trains, draws or scores by a shipped config."""
    for page in (command_line.ROOT / "README.md", *sorted(DOCS.glob("*.md"))):
        text = re.sub(r"\\\n\s*", "", page.read_text())
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            for line in block.splitlines():
                match = re.match(r"(?:\w+=\S+ )*python run\.py (.*--config=.*)", line)
                if match and "my_config" not in line:
                    yield page.name, match[1]


@pytest.mark.parametrize("page, command", sorted(set(commands())))
def test_the_settings_of_a_command_are_accepted(page, command):
    del page
    words = shlex.split(command, comments=True)
    given, settings = overrides.split(words)
    (config,) = [word.removeprefix("--config=") for word in given if word.startswith("--config=")]
    experiment.read(overrides.apply(files.load(config), settings))
