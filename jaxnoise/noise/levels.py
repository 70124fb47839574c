"""Grids of noise levels: Karras levels, and subsets of one fixed Karras table.

A grid of `n` levels is ascending, and levels `i` and `i + 1` form pair `i`. `n` may be traced: the
result then has a static length and its tail is padded with `sigma_max`, so that a curriculum that
changes `n` never recompiles. Only a traced `n` cannot be checked; it must be from 2 to the length.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import ArgumentError, check_positive, one_of
from jaxnoise.noise.counts import check_range, known_count

RULES = ("nested", "even", "random")

# (table_size - 1)^2 must fit into an int32 for the exact rounding of the rule "even".
_LARGEST_TABLE = 46341


def _check_sigmas(sigma_min: float, sigma_max: float, rho: float) -> None:
    check_positive("sigma_min", sigma_min)
    if not sigma_min < sigma_max < inf:
        raise ArgumentError("sigma_max", sigma_max, f"a finite number > sigma_min={sigma_min}")
    check_positive("rho", rho)


def _karras_table(n: int, sigma_min: float, sigma_max: float, rho: float) -> np.ndarray:
    # Dividing by sigma_max first keeps the powers below 1, whatever rho is.
    root = (sigma_min / sigma_max) ** (1 / rho)
    table = sigma_max * (root + np.arange(n) / (n - 1) * (1 - root)) ** rho
    table[0], table[-1] = sigma_min, sigma_max  # rounding may miss them by one unit
    return table


def karras_levels(
    n: int | jax.Array,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    *,
    length: int | None = None,
) -> jax.Array:
    """Karras noise levels, ascending.

    `S_j = (sigma_min^(1/rho) + j/(n-1) (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho`, j = 0..n-1.

    A Python or NumPy integer `n` is evaluated in float64 and rounded once; an array in the default
    float, traced or not, so that compiled programs have the levels that are seen outside of them.
    The first and the last level are exactly `sigma_min` and `sigma_max` in both.

    For grids of consistency training and for the steps of samplers.

    Args:
      n: number of levels, at least 2; an integer or an array of one, traced or not.
      sigma_min: lowest noise level, > 0, in units of the data.
      sigma_max: highest noise level, > sigma_min.
      rho: > 0; 1 spaces the levels evenly, larger values put more of them at low noise.
      length: static length of the result, at least `n`; required when `n` is traced.

    Returns:
      float[length] (float[n] without `length`), padded with `sigma_max` after level n-1.

    Raises:
      ArgumentError: an argument is outside its range, or `n` is traced without `length`.

    Example:
      >>> from jaxnoise.noise import karras_levels
      >>> print(karras_levels(5))
      [2.0000001e-03 1.6975276e-01 2.5152190e+00 1.7527832e+01 8.0000000e+01]

    Reference: Karras et al. 2022 (arXiv 2206.00364), equation 5, in ascending order.
    """
    _check_sigmas(sigma_min, sigma_max, rho)
    dtype = jnp.result_type(float)
    known = known_count("n", n)
    if known is not None:
        check_range("n", known, 2)
        length = known if length is None else length
        check_range("length", length, known)
        if isinstance(n, int | np.integer):
            table = _karras_table(known, sigma_min, sigma_max, rho)
            return jnp.asarray(np.pad(table, (0, length - known), mode="edge").astype(dtype))
    if length is None:
        raise ArgumentError("length", length, "given when n is traced")
    check_range("length", length, 2)
    index = jnp.arange(length, dtype=jnp.int32)
    last = jnp.asarray(n, jnp.int32) - 1
    root = (sigma_min / sigma_max) ** (1 / rho)
    fraction = jnp.minimum(index, last).astype(dtype) / last.astype(dtype)
    levels = sigma_max * (root + fraction * (1 - root)) ** rho
    levels = jnp.clip(levels, sigma_min, sigma_max)
    return jnp.where(index == 0, sigma_min, jnp.where(index >= last, sigma_max, levels))


def _interior_order(table_size: int) -> np.ndarray:
    """The table's interior indices in van der Corput order: the middle, the quarters, ...

    The k-th term of the base-2 van der Corput sequence, scaled to the table and rounded; an index
    that has come before is skipped. Integers throughout.
    """
    bits = (table_size - 2).bit_length()  # so that 2^bits >= table_size - 1: no index is missed
    k = np.arange(1, 2**bits)
    reverse = np.zeros_like(k)
    for bit in range(bits):
        reverse |= ((k >> bit) & 1) << (bits - 1 - bit)
    index = (2 * reverse * (table_size - 1) + 2**bits) >> (bits + 1)
    _, first = np.unique(index, return_index=True)
    return index[np.sort(first)]


def _even_indices(n: jax.Array, table_size: int, length: int) -> jax.Array:
    """`round(j (table_size-1) / (n-1))`, halves to even, in exact integers."""
    j = jnp.minimum(jnp.arange(length, dtype=jnp.int32), n - 1)
    quotient, remainder = jnp.divmod(j * (table_size - 1), n - 1)
    twice = 2 * remainder
    up = (twice > n - 1) | ((twice == n - 1) & (quotient % 2 == 1))
    return quotient + up.astype(jnp.int32)


def _ranked_indices(n: jax.Array, interior_rank: jax.Array, length: int) -> jax.Array:
    """Both ends and the interior indices whose rank is below n - 2, sorted, padded with the end."""
    end = jnp.full((1,), -1, jnp.int32)
    rank = jnp.concatenate([end, interior_rank, end])
    size = rank.shape[0]
    index = jnp.where(rank < n - 2, jnp.arange(size, dtype=jnp.int32), size - 1)
    return jnp.pad(jnp.sort(index)[:length], (0, max(length - size, 0)), mode="edge")


def predefined_levels(
    n: int | jax.Array,
    table_size: int,
    rule: str = "nested",
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
    key: jax.Array | None = None,
    length: int | None = None,
) -> jax.Array:
    """A subset of `n` levels of one fixed table of `table_size` Karras levels.

    Every value is an entry of the table, bit for bit, at every `n`, so that a change of `n` adds
    no levels which the table does not have. Both ends are always in the subset. The idea of one
    predefined vector is the paper's; how the subset is chosen is our choice:

    * "nested": the first n-2 of a fixed order of the interior, so that a larger `n` only adds
      levels and a smaller one only removes some. The order is van der Corput's (the middle, the
      quarters, the eighths, ...): every prefix is well spread.
    * "even": entry `round(j (table_size-1) / (n-1))`, halves to even.
    * "random": a random subset of the interior, drawn anew for every `n` from `key`.

    Args:
      n: number of levels, from 2 to `table_size`; an integer or an array of one, traced or not.
      table_size: number of levels in the table, from 2 to 46341.
      rule: "nested", "even" or "random".
      sigma_min: lowest noise level, > 0.
      sigma_max: highest noise level, > sigma_min.
      rho: exponent of the Karras table, > 0.
      key: PRNG key; required by the rule "random", not used by the others.
      length: static length of the result; by default `n`, or `table_size` when `n` is traced.

    Returns:
      float[length], ascending, padded with `sigma_max` after level n-1.

    Raises:
      ArgumentError: an argument is outside its range, or "random" is without a key.

    Example:
      >>> from jaxnoise.noise import predefined_levels
      >>> print(predefined_levels(3, 5))
      [2.000000e-03 2.515219e+00 8.000000e+01]

    Reference: HNS (arXiv 2404.06353), predefined Karras noise.
    """
    _check_sigmas(sigma_min, sigma_max, rho)
    check_range("table_size", table_size, 2, _LARGEST_TABLE)
    one_of("rule", rule, RULES)
    if rule == "random" and key is None:
        raise ArgumentError("key", key, "a PRNG key when rule is 'random'")
    known = known_count("n", n)
    if known is not None:
        check_range("n", known, 2, table_size)
        length = known if length is None else length
        check_range("length", length, known)
    else:
        length = table_size if length is None else length
        check_range("length", length, 2)

    n = jnp.asarray(n, jnp.int32)
    if rule == "even":
        indices = _even_indices(n, table_size, length)
    else:
        if key is not None and rule == "random":
            draw = jax.random.fold_in(key, n)
            rank = jax.random.permutation(draw, table_size - 2).astype(jnp.int32)
        else:
            rank = jnp.asarray(np.argsort(_interior_order(table_size)).astype(np.int32))
        indices = _ranked_indices(n, rank, length)
    table = _karras_table(table_size, sigma_min, sigma_max, rho)
    return jnp.asarray(table.astype(jnp.result_type(float)))[indices]


class Grid(Protocol):
    """The noise levels in use: `num_levels` of them, ascending, padded to a fixed length.

    Beside the ends of its range a grid may have anything; a class of one's own needs no base.
    """

    @property
    def sigma_min(self) -> float:
        """The lowest level."""

    @property
    def sigma_max(self) -> float:
        """The highest level."""

    def __call__(self, num_levels: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The levels in use.

        Args:
          num_levels: N, int[] from 2 to max_levels, how many; may be traced.
          key: PRNG key, for grids that draw their levels.

        Returns:
          float[max_levels], ascending, padded with `sigma_max` after level N-1.
        """


def _check_room(argument: str, room: int, num_levels: int) -> None:
    if room < num_levels:
        raise ArgumentError(argument, room, f"at least {num_levels}, the curriculum's most levels")


@dataclass(frozen=True)
class KarrasGrid:
    """Karras levels as a function of a traced number of levels: `karras_levels(num_levels)`.

    For iCT and its kin, in which all levels move when their number changes.

    Args:
      max_levels: length of the result, at least every `num_levels` that will come; at least 2. None
        where a `ConsistencyObjective` fills in its curriculum's most, or the number is static.
      sigma_min: lowest noise level, > 0.
      sigma_max: highest noise level, > sigma_min.
      rho: exponent, > 0.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import KarrasGrid
      >>> print(KarrasGrid(max_levels=5)(3))
      [2.000000e-03 2.515219e+00 8.000000e+01 8.000000e+01 8.000000e+01]

    Reference: Karras et al. 2022 (arXiv 2206.00364), equation 5.
    """

    max_levels: int | None = None
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if self.max_levels is not None:
            check_range("max_levels", self.max_levels, 2)
        _check_sigmas(self.sigma_min, self.sigma_max, self.rho)

    def with_room(self, num_levels: int) -> "KarrasGrid":
        """This grid, of the length `num_levels` where it had none.

        Args:
          num_levels: the most levels that will be in use; ArgumentError if its length is shorter.
        """
        if self.max_levels is None:
            return replace(self, max_levels=num_levels)
        _check_room("max_levels", self.max_levels, num_levels)
        return self

    def __call__(self, num_levels: int | jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The levels in use.

        Args:
          num_levels: N, from 2 to `max_levels`; may be traced if that is given.
          key: of no effect.

        Returns:
          float[max_levels], ascending, padded with `sigma_max` after level N-1.

        Raises:
          ArgumentError: `num_levels` is outside its range, or traced without `max_levels`.
        """
        del key
        known = known_count("num_levels", num_levels)
        if known is not None:
            check_range("num_levels", known, 2, self.max_levels)
        elif self.max_levels is None:
            raise ArgumentError("max_levels", None, "given where num_levels is traced")
        return karras_levels(
            num_levels, self.sigma_min, self.sigma_max, self.rho, length=self.max_levels
        )


@dataclass(frozen=True)
class PredefinedGrid:
    """Levels of one fixed Karras table as a function of a traced number of levels.

    For high noise scheduling, in which a change of the number of levels brings none that the table
    does not have.

    Args:
      table_size: number of levels in the table, at least every `num_levels` that will come; None
        where a `ConsistencyObjective` fills in its curriculum's most.
      rule: how the subset is chosen: "nested", "even" or "random"; see `predefined_levels`.
      sigma_min: lowest noise level, > 0.
      sigma_max: highest noise level, > sigma_min.
      rho: exponent of the table, > 0.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import PredefinedGrid
      >>> print(PredefinedGrid(table_size=5)(3))
      [2.000000e-03 2.515219e+00 8.000000e+01 8.000000e+01 8.000000e+01]

    Reference: HNS (arXiv 2404.06353), predefined Karras noise; the subset rules are ours.
    """

    table_size: int | None = None
    rule: str = "nested"
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if self.table_size is not None:
            check_range("table_size", self.table_size, 2, _LARGEST_TABLE)
        one_of("rule", self.rule, RULES)
        _check_sigmas(self.sigma_min, self.sigma_max, self.rho)

    @property
    def max_levels(self) -> int | None:
        """Length of the result: the whole table."""
        return self.table_size

    def with_room(self, num_levels: int) -> "PredefinedGrid":
        """This grid, whose table has `num_levels` levels where it had no size.

        Args:
          num_levels: the most levels that will be in use; ArgumentError if its table is smaller.
        """
        if self.table_size is None:
            return replace(self, table_size=num_levels)
        _check_room("table_size", self.table_size, num_levels)
        return self

    def __call__(self, num_levels: int | jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The levels in use.

        Args:
          num_levels: N, from 2 to `table_size`; may be traced.
          key: PRNG key of the rule "random", which draws its subset from `key` and N: keep it fixed
            over a run, and the subset changes only where N does. Of no effect on other rules.

        Returns:
          float[table_size], ascending, padded with `sigma_max` after level N-1.

        Raises:
          ArgumentError: `num_levels` is outside its range, or there is no `table_size`.
        """
        if self.table_size is None:
            raise ArgumentError("table_size", None, "an integer: how many levels the table has")
        known = known_count("num_levels", num_levels)
        if known is not None:
            check_range("num_levels", known, 2, self.table_size)
        return predefined_levels(
            num_levels,
            self.table_size,
            self.rule,
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            rho=self.rho,
            key=key,
            length=self.table_size,
        )
