"""What the README and the docs show must run and exist."""

import re

import command_line
import pytest

README = (command_line.ROOT / "README.md").read_text()
DOCS = [README, *(p.read_text() for p in (command_line.ROOT / "docs").glob("*.md"))]


@pytest.mark.takes_a_second
def test_the_import_example_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    # The three lowest of 225 levels hold little over a sixth of the law each or less, descending.
    shares = [float(x) for x in re.findall(r"0\.\d+", capsys.readouterr().out)]
    assert len(shares) == 3
    assert 1 > shares[0] > shares[1] > shares[2] > 0


def test_every_file_that_is_named_exists():
    for text in DOCS:
        for name in re.findall(r"\b(?:configs|docs|benchmarks|tests|jaxnoise)/[\w/.]*\w", text):
            path = command_line.ROOT / name
            assert path.exists() or (not path.suffix and path.with_suffix(".py").exists()), name


def test_the_readme_stays_short():
    assert len(README.splitlines()) < 150
