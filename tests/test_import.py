import subprocess
import sys

import command_line
import pytest

import jaxnoise

EVERY_MODULE = """
import pkgutil, sys
import jaxnoise
for module in pkgutil.walk_packages(jaxnoise.__path__, "jaxnoise."):
    __import__(module.name)
assert "tensorflow" not in sys.modules
"""


@pytest.mark.takes_a_second
def test_importing_every_module_starts_no_device_and_no_tensorflow():
    # A platform that does not exist makes any use of a device an error.
    environment = command_line.environment(JAX_PLATFORMS="none_such")
    subprocess.run([sys.executable, "-c", EVERY_MODULE], check=True, env=environment)


@pytest.mark.takes_a_second
def test_subpackages_load_when_first_used():
    code = (
        "import sys, jaxnoise; assert 'flax' not in sys.modules;"
        "jaxnoise.noise.karras_levels; assert 'jaxnoise.noise' in sys.modules;"
        "assert jaxnoise.errors.ArgumentError and jaxnoise.report.write_report"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=command_line.environment())


def test_what_is_listed_is_public():
    listed = [name for name in dir(jaxnoise) if not name.startswith("__")]
    assert listed == sorted(jaxnoise.__all__)
    assert {"errors", "noise", "report"} <= set(listed)
    assert "__version__" in dir(jaxnoise)
    assert all(getattr(jaxnoise, name).__name__ == f"jaxnoise.{name}" for name in listed)


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="nosie"):
        jaxnoise.nosie  # noqa: B018
