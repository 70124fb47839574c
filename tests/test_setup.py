"""Which Python the set-up takes."""

import os
import subprocess
import sys
from pathlib import Path

import command_line
import pytest

SCRIPT = command_line.ROOT / ".ci" / "newest_python"
STUB = "#!/bin/sh\necho 'no such version is selected' >&2\nexit 127\n"
WITHOUT_PIP = f'#!/bin/sh\nexec {sys.executable} -c "$(echo "$2" | sed s/ensurepip/no_such/)"\n'


def pretended(version: tuple[int, int]) -> str:
    """A Python that says it is of another version."""
    return (
        f"#!/bin/sh\nexec {sys.executable} -c "
        f'"import sys; sys.version_info = {(*version, 0)}; $2"\n'
    )


@pytest.fixture
def found(tmp_path):
    """The Python that is taken of those in a folder."""
    (tmp_path / "bin").mkdir()

    def take(**pythons: str) -> str:
        for name, text in pythons.items():
            path = tmp_path / "bin" / name.replace("_", ".")
            path.write_text(text)
            path.chmod(0o755)
        environment = {
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "PYENV_ROOT": str(tmp_path / "pyenv"),
        }
        out = subprocess.run(["sh", SCRIPT], env=environment, capture_output=True, text=True)
        return out.stdout.strip()

    return take


def test_the_newest_that_can_make_an_environment_is_taken(found, tmp_path):
    first = str(tmp_path / "bin")
    assert found(python3_12=pretended((3, 12))) == f"{first}/python3.12"
    assert found(python3_13=STUB) == f"{first}/python3.12"
    assert found(python3_13=WITHOUT_PIP) == f"{first}/python3.12"
    # A name is not believed.
    assert found(python3_13=pretended((3, 12))) == f"{first}/python3.12"
    assert found(python3_13=pretended((3, 13))) == f"{first}/python3.13"


def test_versions_of_a_version_manager_are_found(found, tmp_path):
    path = tmp_path / "pyenv" / "versions" / "3.13.1" / "bin" / "python3"
    path.parent.mkdir(parents=True)
    path.write_text(pretended((3, 13)))
    path.chmod(0o755)
    assert found(python3_13=STUB, python3_12=pretended((3, 12))) == str(path)


def test_make_uses_the_python_that_is_named(tmp_path):
    command = ["make", "--dry-run", "run", f"VENV={tmp_path}", "PYTHON=some/python"]
    environment = {**os.environ, "MAKEFLAGS": ""}
    out = subprocess.run(
        command, cwd=command_line.ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert f"some/python -m venv {tmp_path}" in out.stdout
    assert Path(tmp_path).is_dir()
