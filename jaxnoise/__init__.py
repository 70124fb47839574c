"""jaxnoise: which noise should a generative model train on, and when?

Subpackages load when they are first used, so `import jaxnoise` is quick and starts no device.

Example:
  >>> import jaxnoise
  >>> [round(float(s), 4) for s in jaxnoise.noise.karras_levels(3)]
  [0.002, 2.5152, 80.0]
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxnoise import (
        data,
        errors,
        evaluation,
        export,
        meta,
        models,
        noise,
        objectives,
        optim,
        report,
        sampling,
        training,
    )

__all__ = [
    "data",
    "errors",
    "evaluation",
    "export",
    "meta",
    "models",
    "noise",
    "objectives",
    "optim",
    "report",
    "sampling",
    "training",
]

__version__ = "0.1.0"


# Type checkers see the imports above instead, so that a misspelt name is an error to them.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted([*(name for name in globals() if name.startswith("__")), *__all__])
