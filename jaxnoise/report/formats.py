"""Numbers and settings as a page shows them."""

import math
from collections.abc import Mapping
from typing import Any, TypeGuard


def quantity(value: float) -> str:
    """A large count with a unit: 76800 is "76.8k", 12800000 is "12.8M".

    Example:
      >>> quantity(0), quantity(400), quantity(76800), quantity(12_800_000)
      ('0', '400', '76.8k', '12.8M')
    """
    # Rounded first: 999,960 is 1M, not 1000k.
    value = float(f"{value:.4g}")
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def number(value: float) -> str:
    """Four significant digits; thousands are separated instead of shortened.

    Example:
      >>> number(0.38372307), number(45.335792), number(12345.6)
      ('0.3837', '45.34', '12,346')
    """
    return f"{value:,.0f}" if 9999.5 <= abs(value) < 1e9 else f"{value:.4g}"


def with_deviation(mean: float, deviation: float) -> str:
    """A mean to the second digit of its standard deviation.

    Example:
      >>> with_deviation(0.389934, 0.02198), with_deviation(12.3, 0.0)
      ('0.390 ± 0.022', '12.3 ± 0')
    """
    if deviation <= 0:
        return f"{number(mean)} ± 0"
    digits = max(0, 1 - math.floor(math.log10(deviation)))
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def duration(seconds: float) -> str:
    """A time in its two largest units.

    Example:
      >>> duration(42.4), duration(200), duration(7500)
      ('42 s', '3 min 20 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def setting(value: object) -> str:
    """A value of a config as a command line takes it.

    Example:
      >>> setting(None), setting([1, 2]), setting([16]), setting("cosine"), setting(1e-3)
      ('None', '(1, 2)', '(16,)', 'cosine', '0.001')
    """
    if isinstance(value, str):
        return value
    return repr(tuple(value)) if isinstance(value, list) else repr(value)


def described(section: Mapping[str, Any], keys: tuple[str, ...] | None = None) -> str:
    """The settings of a section but its name in one line; those that are None are left out.

    Args:
      section: key to value; a nested section is shown as its name with its settings in brackets.
      keys: which to show; all by default.

    Example:
      >>> described({"name": "laplace", "mu": 0.0, "b": 0.5, "low": None})
      'mu 0.0, b 0.5'
    """
    parts = []
    for key, value in section.items():
        if key == "name" or value is None or (keys is not None and key not in keys):
            continue
        if isinstance(value, Mapping):
            inner = described(value)
            shown = setting(value.get("name", "")) + (f" ({inner})" if inner else "")
            parts.append(f"{key} {shown}".rstrip())
        else:
            parts.append(f"{key} {setting(value)}")
    return ", ".join(parts)


def finite(value: object) -> TypeGuard[float]:
    """Whether a value out of a JSON file is a number that can be drawn."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
