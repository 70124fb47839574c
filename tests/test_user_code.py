"""A user's own code, named in a config."""

import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.user_code import imported


@pytest.mark.parametrize("end", ["sys.exit()", "sys.exit(0)", "raise ValueError('no')"])
def test_a_module_that_ends_itself_does_not_end_the_command_in_silence(tmp_path, monkeypatch, end):
    """As a script does that has no `if __name__ == "__main__"`."""
    (tmp_path / "a_script.py").write_text(f"import sys\nBump = print\n{end}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    kind = "ValueError: no" if "raise" in end else "SystemExit"
    with pytest.raises(ArgumentError, match=rf"'a_script:Bump': must be .*\({kind}"):
        imported("name", "a_script:Bump")
