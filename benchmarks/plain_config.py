"""Reads shipped configs where ml-collections is not installed, as on some accelerator images."""

import importlib
import importlib.util
import sys
import types
from collections.abc import Mapping
from typing import Any


class PlainConfig(dict[str, Any]):
    """As much of ml_collections.ConfigDict as the shipped configs use: keys as attributes."""

    def __init__(self, given: Mapping[str, Any] | None = None):
        super().__init__()
        self.update(given or {})

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = PlainConfig(value) if type(value) is dict else value

    def __delattr__(self, name: str) -> None:
        del self[name]

    def update(self, *given: Any, **named: Any) -> None:
        for name, value in dict(*given, **named).items():
            setattr(self, name, value)

    def to_dict(self) -> dict[str, Any]:
        return {n: v.to_dict() if isinstance(v, PlainConfig) else v for n, v in self.items()}


def shipped(name: str) -> dict[str, Any]:
    """A config of the folder configs/ by its name, as nested dicts."""
    if importlib.util.find_spec("ml_collections") is None:
        module: Any = types.ModuleType("ml_collections")
        module.ConfigDict = PlainConfig
        sys.modules["ml_collections"] = module
    config: dict[str, Any] = importlib.import_module(f"configs.{name}").get_config().to_dict()
    return config
