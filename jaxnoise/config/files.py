"""Loads a config file: a Python file with a function get_config."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnoise.errors import ConfigError
from jaxnoise.files import user_path


def load(spec: str) -> Mapping[str, Any]:
    """Runs a config file.

    Args:
      spec: "path/to/file.py", or "path/to/file.py:argument" for a `get_config` that takes one.

    Returns:
      What its `get_config` returns: a ConfigDict or a dict.

    Raises:
      ConfigError: no such file, no `get_config` in it, or no mapping from it.
    """
    name, _, argument = spec.partition(":")
    path = user_path(name)
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"--config={spec}: {name} is no Python file{_nearby(path)}")
    module_spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        get_config = getattr(module, "get_config", None)
        if get_config is None:
            raise ConfigError(f"--config={spec}: {name} has no function get_config")
        config = get_config(argument) if argument else get_config()
    # The file is the user's own code, so anything can come out of it.
    except Exception as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"--config={spec}: {type(error).__name__}: {error}") from error
    if hasattr(config, "to_dict"):
        config = config.to_dict()
    if not isinstance(config, Mapping) or not all(isinstance(key, str) for key in config):
        raise ConfigError(
            f"--config={spec}: get_config gave {type(config).__name__}, no mapping of names"
        )
    return config


def _nearby(path: Path) -> str:
    found = sorted(p.stem for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
    return f"; {path.parent} holds {', '.join(found)}" if found else ""
