"""jaxnoise: which noise should a generative model train on, and when?

Subpackages load when they are first used, so `import jaxnoise` is quick and starts no device.

Example:
  >>> import jaxnoise
  >>> [round(float(s), 4) for s in jaxnoise.noise.karras_levels(3)]
  [0.002, 2.5152, 80.0]
"""

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_SUBPACKAGES = (
    "data",
    "evaluation",
    "export",
    "meta",
    "models",
    "noise",
    "objectives",
    "optim",
    "sampling",
    "training",
)


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBPACKAGES])
