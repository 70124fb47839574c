"""Settings given on the command line: --config.train.steps=500."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections.config_dict import (
    ConfigDict,
    FieldReference,
    FrozenConfigDict,
    RequiredValueError,
)

from jaxnoise.errors import ConfigError

PREFIX = "--config."


def split(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Takes the overrides out of a command line.

    Args:
      argv: the command line; an override is "--config.a.b=value" or "--config.a.b value".

    Returns:
      The rest of the command line, and {"a.b": "value"}; the last one of a key counts.

    Raises:
      ConfigError: an override without a value.

    Example:
      >>> split(["run.py", "--mode=plot", "--config.law.curve=3"])
      (['run.py', '--mode=plot'], {'law.curve': '3'})
    """
    rest, overrides = [], {}
    words = iter(argv)
    for word in words:
        if not word.startswith(PREFIX):
            rest.append(word)
            continue
        key, equals, text = word.removeprefix(PREFIX).partition("=")
        if not equals:
            following = next(words, None)
            if following is None or following.startswith("--"):
                raise ConfigError(f"config.{key}: give a value, as in {PREFIX}{key}=value")
            text = following
        overrides[key] = text
    return rest, overrides


def apply(config: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """A config with overrides in place.

    Values are Python literals (3, 1e-4, True, None, (0.8, 0.4)) or else plain strings. A key need
    not be in the config already; whether it means anything is for the reader of the config to say.

    Args:
      config: nested mapping.
      overrides: dotted keys and the text of their values.

    Returns:
      A new nested dict.

    Raises:
      ConfigError: a key that goes through a value that is no section.

    Example:
      >>> apply({"law": {"name": "beta"}}, {"law.a": "2", "law.name": "polynomial"})
      {'law': {'name': 'polynomial', 'a': 2}}
    """
    return replaced(config, {path: _value(text) for path, text in overrides.items()})


def fill(config: Any, overrides: Mapping[str, str]) -> None:
    """Sets values that a ConfigDict has, so that its references to them follow; changes it.

    Keys that are new, and whole sections, are left to `apply`.

    Args:
      config: a ConfigDict.
      overrides: dotted keys and the text of their values.
    """
    for path, text in overrides.items():
        *parents, last = path.split(".")
        node = config
        for parent in parents:
            node = _inside(node, parent)
        # Two sections may be one object, in which `apply` changes one alone.
        if isinstance(_inside(node, last), FieldReference):
            with node.ignore_type():
                node[last] = _value(text)


def _inside(node: Any, key: str) -> Any:
    """What a section holds, a reference as it is; None where there is no such key to be set."""
    if isinstance(node, FieldReference):
        try:
            node = node.get()
        except RequiredValueError:
            return None
    if isinstance(node, ConfigDict) and not isinstance(node, FrozenConfigDict):
        return dict(node.items(preserve_field_references=True)).get(key)
    return node.get(key) if isinstance(node, Mapping) else None


def replaced(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A config with values in place; a mapping takes the place of a whole section.

    Args:
      config: nested mapping.
      settings: dotted keys and their values.

    Returns:
      A new nested dict.

    Raises:
      ConfigError: a key that goes through a value that is no section.

    Example:
      >>> config = {"law": {"name": "beta", "a": 2.0}}
      >>> replaced(config, {"law": {"name": "uniform"}, "train.steps": 5})
      {'law': {'name': 'uniform'}, 'train': {'steps': 5}}
    """
    changed = _copied(config)
    for path, value in settings.items():
        *parents, last = path.split(".")
        node, above = changed, "config"
        for parent in parents:
            node, above = node.setdefault(parent, {}), f"{above}.{parent}"
            if not isinstance(node, dict):
                raise ConfigError(f"config.{path}: {above} is a value, not a section")
        node[last] = _copied(value) if isinstance(value, Mapping) else value
    return changed


def _copied(node: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in node.items()}


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return text
