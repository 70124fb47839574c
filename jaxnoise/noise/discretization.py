"""Discretisation curricula N(k): the number of noise levels at training step k.

Each formula is evaluated once, in float64, for all steps, and kept as exact integer plateaus: the
lookup is the same number on every device and in every process, and takes a traced step.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log, log2
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import ArgumentError, describe, is_traced, result_of

_LARGEST_STEP = 2**31 - 1
_CHUNK = 1_000_000


def _integer(argument: str, value: Any, least: int, most: int = _LARGEST_STEP) -> int:
    """A Python or NumPy integer, or an array of one, as an int that is within its range."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise ArgumentError(argument, describe(value), f"an integer >= {least}")
    if not least <= number <= most:
        limit = f" and <= {most}" if number > most else ""
        raise ArgumentError(argument, number, f"an integer >= {least}{limit}")
    return number


def _integers(argument: str, value: Any, least: int) -> np.ndarray | None:
    """Integers of any shape, each at least `least`; None where they are traced."""
    found = value if is_traced(value) else np.asarray(value)
    if not jnp.issubdtype(found.dtype, jnp.integer):
        raise ArgumentError(argument, describe(value), "an integer, or an array of them")
    if is_traced(value):
        return None
    lowest = int(np.min(found, initial=least))
    if lowest < least:
        raise ArgumentError(argument, lowest, f"an integer >= {least}")
    return np.asarray(found)


def _scales(s0: int, s1: int, total_steps: int, least: int) -> tuple[int, int, int]:
    s0 = _integer("s0", s0, least)
    return s0, _integer("s1", s1, s0), _integer("total_steps", total_steps, 1)


@dataclass(frozen=True)
class Curriculum:
    """A step function from the training step to the number of noise levels.

    `curriculum(k) = counts[j]` for the last plateau j with `starts[j] <= k`. Steps from
    `total_steps` on keep the last plateau.

    For plateaus of one's own; `curriculum` makes one from a formula, `doubling` and others make
    the published ones.

    Args:
      starts: first step of every plateau, strictly ascending from 0.
      counts: number of levels on every plateau, each at least 2.
      total_steps: length of the run it was made for, or None.

    Raises:
      ArgumentError: the plateaus are not in order, or one has fewer than 2 levels.

    Example:
      >>> from jaxnoise.noise import Curriculum
      >>> curriculum = Curriculum(starts=(0, 100), counts=(11, 21), total_steps=200)
      >>> int(curriculum(99)), int(curriculum(100)), curriculum.max_levels
      (11, 21, 21)
    """

    starts: tuple[int, ...]
    counts: tuple[int, ...]
    total_steps: int | None = None

    def __post_init__(self) -> None:
        for argument, least in (("starts", 0), ("counts", 2)):
            whole = tuple(_integer(argument, value, least) for value in getattr(self, argument))
            object.__setattr__(self, argument, whole)
        ascending = all(a < b for a, b in zip(self.starts, self.starts[1:], strict=False))
        if not self.starts or self.starts[0] != 0 or not ascending:
            raise ArgumentError("starts", self.starts, "strictly ascending steps from 0")
        if len(self.counts) != len(self.starts):
            raise ArgumentError("counts", self.counts, "one integer >= 2 for each of starts")
        if self.total_steps is not None:
            object.__setattr__(self, "total_steps", _integer("total_steps", self.total_steps, 1))

    @property
    def max_levels(self) -> int:
        """The largest number of levels on any plateau."""
        return max(self.counts)

    @property
    def plateaus(self) -> tuple[tuple[int, int], ...]:
        """Pairs (first step, number of levels)."""
        return tuple(zip(self.starts, self.counts, strict=True))

    def plateau(self, step: int | jax.Array) -> jax.Array:
        """Index of the plateau of each step.

        Args:
          step: integer >= 0 or an integer array of any shape, traced or not.

        Returns:
          int32, shaped as `step`.

        Raises:
          ArgumentError: a `step` that is known and below 0, or one that is no integer.
        """
        known = _integers("step", step, 0)
        # Beyond the last step of an int32, where a cast would wrap, the last plateau goes on.
        if known is not None:
            step = jnp.asarray(np.minimum(known.astype(np.uint64), _LARGEST_STEP).astype(np.int32))
        else:
            step = jnp.asarray(step)
            if jnp.iinfo(step.dtype).max > _LARGEST_STEP:
                step = jnp.clip(step, 0, _LARGEST_STEP)
        edges = jnp.asarray(np.asarray(self.starts[1:], np.int32))
        found = jnp.searchsorted(edges, step.astype(jnp.int32), side="right", method="compare_all")
        return found.astype(jnp.int32)

    def __call__(self, step: int | jax.Array) -> jax.Array:
        """Number of noise levels N(k).

        Args:
          step: k, an integer >= 0 or an integer array of any shape, traced or not.

        Returns:
          int32, shaped as `step`.

        Raises:
          ArgumentError: a `step` that is known and below 0, or one that is no integer.
        """
        return jnp.asarray(np.asarray(self.counts, np.int32))[self.plateau(step)]


def curriculum(formula: Callable[[np.ndarray], np.ndarray], *, total_steps: int) -> Curriculum:
    """A curriculum of one's own, from a formula for the number of levels.

    Args:
      formula: `k float64[n] -> N(k)`, numbers of levels at steps k, each at least 2, or one for
        all of them; fractions are cut off.
      total_steps: K; the formula is asked for k = 0..K-1, and equal neighbours become plateaus.

    Returns:
      The curriculum.

    Raises:
      ArgumentError: an argument is outside its range, the formula gives other than a number for
        each step, or a number of levels below 2.

    Example:
      >>> from jaxnoise.noise import curriculum
      >>> curriculum(lambda k: 10 + 10 * (k >= 50), total_steps=100).plateaus
      ((0, 10), (50, 20))
    """
    total_steps = _integer("total_steps", total_steps, 1)
    starts: list[int] = []
    counts: list[int] = []
    for first in range(0, total_steps, _CHUNK):
        steps = np.arange(first, min(first + _CHUNK, total_steps), dtype=np.float64)
        found = np.asarray(formula(steps))
        if found.shape not in ((), steps.shape) or not _are_finite(found):
            allowed = f"one to a finite number for each of the {len(steps)} steps, or to one number"
            raise ArgumentError("formula", result_of(found), allowed)
        values = np.broadcast_to(found, steps.shape).astype(np.int64)
        changes = np.flatnonzero(np.diff(values, prepend=counts[-1] if counts else -1))
        starts += (changes + first).tolist()
        counts += values[changes].tolist()
    return Curriculum(tuple(starts), tuple(counts), total_steps)


def _are_finite(found: np.ndarray) -> bool:
    return np.issubdtype(found.dtype, np.number) and bool(np.isfinite(found).all())


def constant(*, s0: int = 20, s1: int | None = None, total_steps: int | None = None) -> Curriculum:
    """The same number of levels at every step: `N(k) = s0`.

    A control: what a curriculum adds is seen beside it.

    Args:
      s0: number of levels, at least 2.
      s1: not reached; accepted, and checked to be at least `s0`, so that the curricula are
        interchangeable.
      total_steps: length of the run, at least 1, or None.

    Returns:
      A curriculum of one plateau.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import constant
      >>> constant(s0=20).plateaus
      ((0, 20),)

    Reference: the constant arm of HNS (arXiv 2404.06353).
    """
    s0 = _integer("s0", s0, 2)
    if s1 is not None:
        _integer("s1", s1, s0)
    return Curriculum((0,), (s0,), total_steps)


def square_root(*, s0: int = 2, s1: int = 150, total_steps: int) -> Curriculum:
    """Rises as the square root of the step; `s0` counts LEVELS, `s1` PAIRS: to s1 + 1 levels.

    `N(k) = ceil(sqrt(k/K ((s1+1)^2 - s0^2) + s0^2) - 1) + 1`, K = `total_steps`.

    For consistency training as first published, together with `square_root_ema_rate`.

    Args:
      s0: number of levels at step 0, at least 2.
      s1: number of pairs at the end, at least `s0`.
      total_steps: K, at least 1.

    Returns:
      The curriculum.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import square_root
      >>> square_root(s0=2, s1=3, total_steps=12).plateaus
      ((0, 2), (1, 3), (6, 4))

    Reference: consistency models (arXiv 2303.01469), appendix C.
    """
    s0, s1, total_steps = _scales(s0, s1, total_steps, least=2)
    span = (s1 + 1) ** 2 - s0**2
    return curriculum(
        lambda k: np.ceil(np.sqrt(k / total_steps * span + s0**2) - 1) + 1, total_steps=total_steps
    )


def square_root_ema_rate(num_levels: int | jax.Array, mu0: float = 0.9, s0: int = 2) -> jax.Array:
    """The teacher's EMA rate that goes with `square_root`.

    `mu = exp(s0 ln(mu0) / (N-1))`, N = `num_levels`.

    For a teacher that is a moving average of the student; iCT and later methods have none.

    Args:
      num_levels: number of levels N >= 2; traced or not.
      mu0: rate at N - 1 = s0, in (0, 1).
      s0: the curriculum's `s0`, at least 1.

    Returns:
      float scalar (or shaped as `num_levels`) in (0, 1).

    Raises:
      ArgumentError: `mu0`, `s0` or a `num_levels` that is known is outside its range.

    Example:
      >>> from jaxnoise.noise import square_root_ema_rate
      >>> print(square_root_ema_rate(3))
      0.9

    Reference: consistency models (arXiv 2303.01469), appendix C.
    """
    if not 0 < mu0 < 1:
        raise ArgumentError("mu0", mu0, "a number in (0, 1)")
    s0 = _integer("s0", s0, 1)
    _integers("num_levels", num_levels, 2)
    pairs = (jnp.asarray(num_levels) - 1).astype(jnp.result_type(float))
    return jnp.exp(s0 * log(mu0) / pairs)


def doubling(*, s0: int = 10, s1: int = 1280, total_steps: int) -> Curriculum:
    """Doubles at equal intervals; `s0` and `s1` count PAIRS: from s0 + 1 to s1 + 1 levels.

    `N(k) = min(s0 2^floor(k/K'), s1) + 1`, `K' = floor(K / (log2(floor(s1/s0)) + 1))`,
    K = `total_steps`. K' is at least 1: a run shorter than its doublings ends before `s1`.

    For iCT.

    Args:
      s0: number of pairs at step 0, at least 1.
      s1: largest number of pairs, at least `s0`.
      total_steps: K, at least 1.

    Returns:
      The curriculum.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import doubling
      >>> doubling(s0=10, s1=40, total_steps=300).plateaus
      ((0, 11), (100, 21), (200, 41))

    Reference: iCT (arXiv 2310.14189), section 3.4.
    """
    s0, s1, total_steps = _scales(s0, s1, total_steps, least=1)
    interval = max(int(total_steps / (log2(s1 // s0) + 1)), 1)
    return curriculum(
        lambda k: np.minimum(s0 * 2 ** (k // interval), s1) + 1, total_steps=total_steps
    )


def sinusoidal(*, s0: int = 20, s1: int = 250, total_steps: int, rho: float = 7.0) -> Curriculum:
    """Rises and falls along half a period of a sine; `s0` and `s1` count LEVELS.

    `N(k) = ceil|(s1 - s0) sin(x) + s0|`, `x = floor(10 pi (k/K)^((rho-1)/4)) / 10`,
    K = `total_steps`: at most 32 plateaus.

    For high noise scheduling.

    Args:
      s0: number of levels at step 0, at least 2.
      s1: number of levels at the top of the sine, at least `s0`.
      total_steps: K, at least 1.
      rho: > 1; larger values move the top to later steps. 7 is the authors' value.

    Returns:
      The curriculum.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import sinusoidal
      >>> sinusoidal(s0=20, s1=250, total_steps=100_000).plateaus[:3]
      ((0, 20), (10044, 43), (15944, 66))

    Reference: HNS (arXiv 2404.06353), as in the authors' code.
    """
    s0, s1, total_steps = _scales(s0, s1, total_steps, least=2)
    if not 1 < rho < inf:
        raise ArgumentError("rho", rho, "a finite number > 1")

    def formula(k: np.ndarray) -> np.ndarray:
        x = np.floor(10 * np.pi * (k / total_steps) ** ((rho - 1) / 4)) / 10
        return np.ceil(np.abs((s1 - s0) * np.sin(x) + s0))

    return curriculum(formula, total_steps=total_steps)


def sinusoidal_rising(*, s0: int = 20, s1: int = 250, total_steps: int) -> Curriculum:
    """Rises along a quarter of a sine; `s0` and `s1` count PAIRS: from s0 + 1 to s1 + 1 levels.

    `N(k) = min(ceil|s1 sin(x/2) + s0| + 1, s1 + 1)`, `x = floor(3 pi k/K) / 3`,
    K = `total_steps`.

    For HN-iCT.

    Args:
      s0: number of pairs at step 0, at least 1.
      s1: largest number of pairs, at least `s0`.
      total_steps: K, at least 1.

    Returns:
      The curriculum.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import sinusoidal_rising
      >>> [count for _, count in sinusoidal_rising(total_steps=1000).plateaus]
      [21, 63, 103, 141, 176, 207, 232, 251]

    Reference: HN-iCT (arXiv 2411.12181), as in the authors' code.
    """
    s0, s1, total_steps = _scales(s0, s1, total_steps, least=1)

    def formula(k: np.ndarray) -> np.ndarray:
        x = np.floor(3 * np.pi * k / total_steps) / 3
        return np.minimum(np.ceil(np.abs(s1 * np.sin(x / 2) + s0)) + 1, s1 + 1)

    return curriculum(formula, total_steps=total_steps)
