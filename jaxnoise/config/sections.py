"""Reads one section of a config against the signature of what it builds.

The keyword parameters of a function or dataclass ARE the keys of its section: an unknown key, a
missing one and a value of the wrong type are errors, and no key can be accepted that nobody reads.
"""

import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from math import inf
from typing import Any

import jax
import numpy as np

from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.user_code import failure

GONE = {
    "objective.teacher_s0": "a teacher's EMA takes curriculum.s0",
    "objective.source": "it is objective.sampling now",
    "optimizer.b0": "it is optimizer.b1 now",
}
"""Keys of earlier versions, and what took their place."""

_FOR_OWN_CODE = ("total_steps", "curriculum")
_PLAIN = (bool, int, float, str, type(None))
_SMALLEST, _LARGEST = 2.0**-126, (2 - 2.0**-23) * 2.0**127


class Sections:
    """The sections of one config, each read once; `resolved` is what was read, with defaults.

    Args:
      config: nested mapping, as a config file returns it.
    """

    def __init__(self, config: Mapping[str, Any]):
        self._config = config
        self._read: set[str] = set()
        self.resolved: dict[str, Any] = {}
        self.total_steps_key = "train.steps"
        """Which key decides the `total_steps` that schedules are laid out for."""

    def check_names(self, names: list[str]) -> None:
        """Raises ConfigError for a top-level key that is not one of `names`."""
        for key in self._config:
            if key not in names:
                raise ConfigError(_unknown(key, names, ""))

    def value(self, key: str, kind: type, default: Any) -> Any:
        """Reads a top-level value."""
        value = _coerce(key, self._config.get(key, default), kind)
        self.resolved[key] = value
        return value

    def build(self, path: str, make: Callable[..., Any], **context: Any) -> Any:
        """Calls `make` with the section's keys and `context`, which no config can set.

        Args:
          path: the section's place, such as "law" or "objective.distance".
          make: a function or class; its keyword parameters are the section's keys.
          **context: arguments that come from elsewhere.

        Raises:
          ConfigError: one line that names the key, the value and what is allowed.
        """
        return self._build(path, dict(self._section(path)), make, {}, context)

    def has(self, path: str) -> bool:
        """Whether the config has a section at `path`.

        Args:
          path: of a section whose key `name` chooses.

        Raises:
          ConfigError: a value stands there.
        """
        return self._at(path, named=True) is not None

    def name(self, path: str, choices: Collection[str], default: str | None = None) -> str:
        """The section's key `name`, checked.

        Raises:
          ConfigError: it is not one of `choices`.
        """
        name = self._section(path, named=True).get("name", default)
        if not isinstance(name, str) or name not in choices:
            near = get_close_matches(str(name), list(choices), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            own = ", or 'module:attribute' of your own" if ":" in choices else ""
            raise ConfigError(
                f"config.{path}.name={name!r}: must be one of {', '.join(choices)}{own}{hint}"
            )
        return name

    def choose(
        self,
        path: str,
        choices: Mapping[str, Callable[..., Any]],
        default: str | None = None,
        **context: Any,
    ) -> Any:
        """`build` with the callable that the section's key `name` chooses.

        Args:
          path: the section's place.
          choices: what each name stands for.
          default: the name where the config gives none.
          **context: what the choices may take from elsewhere; each gets what it has a parameter
            for, a user's own code `total_steps` and `curriculum` alone.

        Raises:
          ConfigError: one line that names the key, the value and what is allowed.
        """
        name = self.name(path, choices, default)
        section = {k: v for k, v in self._section(path).items() if k != "name"}
        try:
            make = choices[name]
        except ArgumentError as error:
            raise ConfigError(f"config.{path}.{error}") from error
        if ":" in name:
            context = {key: context[key] for key in _FOR_OWN_CODE if key in context}
        taken = {k: v for k, v in context.items() if k in inspect.signature(make).parameters}
        return self._build(path, section, make, {"name": name}, taken)

    def check_all_read(self) -> None:
        """Raises ConfigError for a nested section that nothing has read."""

        def visit(node: Mapping[str, Any], prefix: str) -> None:
            for key, value in node.items():
                path = f"{prefix}{key}"
                if isinstance(value, Mapping):
                    if path not in self._read:
                        siblings = [p for p in self._read if p.startswith(prefix)]
                        raise ConfigError(_unknown(key, siblings, prefix))
                    visit(value, f"{path}.")

        visit(self._config, "")

    def _at(self, path: str, named: bool = False) -> Mapping[str, Any] | None:
        """The mapping at `path`, None where there is nothing; a value there is an error."""
        node: Any = self._config
        above = ""
        for part in path.split("."):
            if part not in node:
                return None
            node, above = node[part], f"{above}.{part}"
            if not isinstance(node, Mapping):
                shown = " ".join(repr(node).split())
                # What was meant is plain where the section has a key `name`.
                named = named and above == f".{path}" and isinstance(node, str)
                hint = f", as in --config.{path}.name={shown}" if named else ""
                raise ConfigError(
                    f"config{above}={shown}: must be a section (a mapping of keys){hint}"
                )
        found: Mapping[str, Any] = node
        return found

    def _section(self, path: str, named: bool = False) -> Mapping[str, Any]:
        node = self._at(path, named) or {}
        self._read.add(path)
        # A nested section is read by a call of its own.
        return {k: v for k, v in node.items() if not isinstance(v, Mapping)}

    def _build(
        self,
        path: str,
        section: dict[str, Any],
        make: Callable[..., Any],
        named: dict[str, Any],
        context: dict[str, Any],
    ) -> Any:
        parameters = {name: p for name, p in keys_of(make).items() if name not in context}
        for key in section:
            if f"{path}.{key}" in GONE:
                raise ConfigError(f"config.{path}.{key}: is no key; {GONE[f'{path}.{key}']}")
            if key not in parameters:
                message = _unknown(key, list(parameters), f"{path}.")
                if named and "did you mean" not in message:
                    whole = f'--config.{path}="{named}"'
                    message += f" (for {named['name']!r}; {whole} drops the other keys)"
                raise ConfigError(message)
        # A mapping where a value belongs is no nested section, which another call would read.
        nested = {k: v for k, v in (self._at(path) or {}).items() if isinstance(v, Mapping)}
        given = nested | section
        arguments = {}
        for key, parameter in parameters.items():
            if key in given:
                arguments[key] = _coerce(f"{path}.{key}", given[key], parameter.annotation)
            elif parameter.default is inspect.Parameter.empty:
                raise ConfigError(f"config.{path}.{key}: must be set")
            elif _has_nan(parameter.default):
                # A kept config that holds it is never equal to another: no such run goes on.
                raise ConfigError(f"config.{path}.{key}: must be set, since its default is nan")
            else:
                arguments[key] = parameter.default
        self._record(path, {**arguments, **named})
        try:
            return make(**arguments, **context)
        except ArgumentError as error:
            own = error.argument in arguments or (named and error.argument == "name")
            key = f"{path}.{error.argument}" if own else error.argument
            key = {"total_steps": self.total_steps_key}.get(key, key)
            value = " ".join(repr(error.value).split())
            raise ConfigError(f"config.{key}={value}: must be {error.allowed}") from error
        except ConfigError:
            raise
        except Exception as error:
            name = named.get("name", "")
            if ":" not in name:
                raise
            raise ConfigError(f"config.{path}.name={name!r}: {failure(name, error)}") from error

    def _record(self, path: str, arguments: dict[str, Any]) -> None:
        node = self.resolved
        for part in path.split("."):
            node = node.setdefault(part, {})
        node.update(arguments)


def with_keys(build: Callable[..., Any], keys: Iterable[inspect.Parameter]) -> Callable[..., Any]:
    """`build`, which takes any keyword arguments, with the keys that a section may set.

    Args:
      build: a function of keyword arguments; changed in place.
      keys: parameters with names, defaults and annotations.
    """
    kind = inspect.Parameter.KEYWORD_ONLY
    keys = [key.replace(kind=kind) for key in keys]
    build.__signature__ = inspect.Signature(keys)  # type: ignore[attr-defined]
    return build


def keys_of(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a function or class by name, annotations evaluated."""
    parameters = inspect.signature(make, eval_str=True).parameters
    return {
        name: key.replace(annotation=_settable(key.annotation)) for name, key in parameters.items()
    }


def _settable(annotation: Any) -> Any:
    """An annotation without arrays, which may be traced numbers and stand in no config."""
    if isinstance(annotation, types.UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not jax.Array]
        return functools.reduce(operator.or_, kinds)
    return annotation


def plain_config(config: Any) -> Any:
    """A config with dicts in the place of ConfigDicts, at every level.

    Args:
      config: a nested mapping; anything else comes back as it is.

    Raises:
      ConfigError: it holds itself, and so has no end.
    """

    def plain(node: Any) -> Any:
        node = node.to_dict() if hasattr(node, "to_dict") else node
        return {k: plain(v) for k, v in node.items()} if isinstance(node, Mapping) else node

    try:
        return plain(config)
    except RecursionError as error:
        raise ConfigError("config: must be sections of values; it holds itself") from error


def is_plain(value: Any) -> bool:
    """Whether a config can hold a value, and JSON can keep it."""
    if isinstance(value, (tuple, list)):
        return all(map(is_plain, value))
    return isinstance(value, _PLAIN)


def _has_nan(value: Any) -> bool:
    """Whether a value is not a number, or holds one that is not."""
    if isinstance(value, (tuple, list)):
        return any(map(_has_nan, value))
    return isinstance(value, float) and value != value


def _from_numpy(value: Any) -> Any:
    """A number of numpy's as Python's, which JSON can keep; in a tuple too."""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_from_numpy, value)) if type(value) in (tuple, list) else value
    return value.item() if isinstance(value, np.generic) else value


def _unknown(key: str, allowed: list[str], prefix: str) -> str:
    allowed = [name.removeprefix(prefix) for name in allowed]
    near = get_close_matches(key, allowed, n=1)
    hint = f"did you mean config.{prefix}{near[0]}? " if near else ""
    return (
        f"config.{prefix}{key}: unknown key; {hint}allowed: {', '.join(sorted(allowed)) or 'none'}"
    )


def _coerce(path: str, value: Any, kind: Any) -> Any:
    """`value` as `kind`: an int is taken for a float, a list for a tuple; nothing else changes."""
    value, wanted = _from_numpy(value), kind_in_words(kind)
    if kind in (inspect.Parameter.empty, Any):
        if is_plain(value) and not _has_nan(value):
            return value
        wanted = "a number, a string, True, False, None or a tuple of them"
    elif isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        if value is None and type(None) in typing.get_args(kind):
            return None
        for option in typing.get_args(kind):
            if option is not type(None):
                try:
                    return _coerce(path, value, option)
                except ConfigError:
                    continue
    elif typing.get_origin(kind) is tuple:
        if isinstance(value, (tuple, list)):
            item = typing.get_args(kind)[0]
            return tuple(_coerce(path, v, item) for v in value)
    elif kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
            # An integer may be too large even for a float.
            size = abs(value) if value else 1
            if _SMALLEST <= size <= _LARGEST or size == inf:
                return float(value)
            wanted = f"0 or of a size that float32 holds, {_SMALLEST:.3g} to {_LARGEST:.3g}"
    elif kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            if abs(value) < 2**32:
                return value
            wanted = "an integer below 2^32 in size"
    elif isinstance(value, kind) and value != "":
        return value
    if isinstance(value, str) and not value:
        wanted += ", and not empty"
    if _has_nan(value):
        wanted += ", and not nan"
    raise ConfigError(f"config.{path}={' '.join(repr(value).split())}: must be {wanted}")


def kind_in_words(kind: Any) -> str:
    """What values a key of this annotation takes, as messages and the page of all keys say it."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return " or ".join(kind_in_words(option) for option in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"a tuple, each entry {kind_in_words(typing.get_args(kind)[0])}"
    names = {
        float: "a number",
        int: "an integer",
        str: "a string",
        bool: "True or False",
    }
    return names.get(kind, "None" if kind is type(None) else str(kind))
