import subprocess
import sys

import command_line
import pytest

EVERY_MODULE = """
import pkgutil, sys
import jaxnoise
for module in pkgutil.walk_packages(jaxnoise.__path__, "jaxnoise."):
    __import__(module.name)
assert "tensorflow" not in sys.modules
"""


def test_importing_every_module_starts_no_device_and_no_tensorflow():
    # A platform that does not exist makes any use of a device an error.
    environment = command_line.environment(JAX_PLATFORMS="none_such")
    subprocess.run([sys.executable, "-c", EVERY_MODULE], check=True, env=environment)


def test_subpackages_load_when_first_used():
    code = (
        "import sys, jaxnoise; assert 'flax' not in sys.modules;"
        "jaxnoise.noise.karras_levels; assert 'jaxnoise.noise' in sys.modules;"
        "assert 'noise' in dir(jaxnoise)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=command_line.environment())


def test_unknown_attribute():
    import jaxnoise

    with pytest.raises(AttributeError, match="nosie"):
        jaxnoise.nosie  # noqa: B018
