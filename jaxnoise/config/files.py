"""Loads a config file: a Python file with a function get_config."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from ml_collections.config_dict import ConfigDict, RequiredValueError

from jaxnoise.config.overrides import fill
from jaxnoise.config.sections import plain_config
from jaxnoise.errors import ConfigError
from jaxnoise.files import user_path

Made = TypeVar("Made")


def load(spec: str, settings: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    """Runs a config file.

    Args:
      spec: "path/to/file.py", or "path/to/file.py:argument" for a `get_config` that takes one; or
        the name of a shipped config, such as "digits_poly".
      settings: of the command line, dotted keys and the text of their values: what a ConfigDict
        requires may come from there, and its references follow them. To be applied all the same.

    Returns:
      What its `get_config` returns, as a nested dict.

    Raises:
      ConfigError: no such file, no `get_config` in it, no mapping from it, or one in which a value
        is required.
    """
    config = _made("--config", spec, "get_config", "configs")
    try:
        fill(config, settings or {})
        config = plain_config(config)
    except RequiredValueError as error:
        keys = ", ".join(f"config.{key}" for key in _required(config))
        where = "must be set, in the file or on the command line"
        raise ConfigError(f"--config={spec}: {keys}: {where}") from error
    except ConfigError as error:
        raise ConfigError(f"--config={spec}: {error}") from error
    except Exception as error:
        # What a reference computes, of a value that it does not fit.
        raise ConfigError(f"--config={spec}: {type(error).__name__}: {error}") from error
    if not isinstance(config, Mapping) or not _has_names(config):
        raise ConfigError(
            f"--config={spec}: get_config gave {type(config).__name__}, no mapping of names"
        )
    return config


def _required(config: Any, prefix: str = "") -> Iterator[str]:
    """The keys of a ConfigDict whose values are to come from elsewhere."""
    for key in config:
        try:
            value = config[key]
        except RequiredValueError:
            yield f"{prefix}{key}"
        else:
            if isinstance(value, Mapping | ConfigDict):
                yield from _required(value, f"{prefix}{key}.")


def _has_names(config: Mapping[Any, Any]) -> bool:
    """Whether every key is a string, in sections too."""
    return all(
        isinstance(key, str) and (not isinstance(value, Mapping) or _has_names(value))
        for key, value in config.items()
    )


def shipped_folder() -> Path:
    """What holds `configs/` and `studies/` as they come with jaxnoise, installed or checked out."""
    package = Path(__file__).parents[1]
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parent


def load_object(flag: str, path: str, function: str, kind: type[Made], folder: str) -> Made:
    """What a function of a Python file gives.

    Args:
      flag: that names the file, for messages.
      path: of the file, or the name of a shipped one.
      function: its name, called without arguments.
      kind: of what it gives.
      folder: of shipped files of this kind.

    Raises:
      ConfigError: no such file or function, or it gives something else.
    """
    made = _made(flag, path, function, folder)
    if not isinstance(made, kind):
        raise ConfigError(
            f"{flag}={path}: {function} gave {type(made).__name__}, no {kind.__name__}"
        )
    return made


def _path_of(name: str, folder: str) -> Path:
    """A file of the user's, or else the shipped one of this path or name."""
    path = user_path(name)
    if path.is_file() or path.is_absolute():
        return path
    shipped = shipped_folder()
    by_name = shipped / folder / f"{name}.py"
    if path.suffix == "" and (by_name.is_file() or len(path.parts) == 1):
        return by_name
    return shipped / path if (shipped / path).is_file() else path


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Shipped configs import what they share, wherever the command is given."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _made(flag: str, spec: str, function: str, folder: str) -> Any:
    """What a function of a file gives for the argument after the colon, if there is one."""
    name, _, argument = spec.partition(":")
    path = _path_of(name, folder)
    if path.suffix != ".py" or not path.is_file():
        raise ConfigError(f"{flag}={spec}: {name} is no Python file{_nearby(path)}")
    module_spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    shipped = shipped_folder()
    try:
        with _importable(shipped) if path.is_relative_to(shipped) else contextlib.nullcontext():
            module_spec.loader.exec_module(module)
            make = getattr(module, function, None)
            if make is None:
                raise ConfigError(f"{flag}={spec}: {name} has no function {function}")
            return make(argument) if argument else make()
    # The file is the user's own code, so anything can come out of it, and a script may end itself.
    except (Exception, SystemExit) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{flag}={spec}: {type(error).__name__}: {error}") from error


def _nearby(path: Path) -> str:
    found = sorted(p.stem for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
    near = get_close_matches(path.stem, found, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{hint}; {path.parent} holds {', '.join(found)}" if found else ""
