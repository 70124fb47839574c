"""Laws that learn themselves: how often a level is drawn follows what its losses say, online.

Statistics are kept in equal bins of log SNR, since a level means the same under every law and every
number of levels, and read at the quantiles that the law of the moment gives the bins: so one
pacing serves laws over log SNR and laws over pairs, and outlives a change of N(k).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxnoise.errors import (
    ArgumentError,
    check_numbers,
    check_shape,
    describe,
    is_traced,
    one_of,
)
from jaxnoise.noise.pacing import Pacing, Survival, below_one, check_at_least_one
from jaxnoise.noise.parameters import as_level

# How many numbers of the law a row of the record holds.
_SHOWN = 25
# The long average of `progress` looks back so many times as far as the short one.
_LONGER = 10
# Log SNR of the outermost bins: e^-20 and e^20 in sigma.
_FARTHEST = 40.0
_RAREST = 1e-6
"""Of a law's draws; float32 has few quantiles in a bin of less, and all would be one level."""


class LevelSums(NamedTuple):
    """A statistic of examples, added up by their level.

    Args:
      total: float32[bins], its sum over the examples of each bin, cleanest first.
      examples: float32[bins], how many they are.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import Adaptive
      >>> pacing = Adaptive(range=(-2.0, 2.0), bins=2)
      >>> print(pacing.observe(jnp.asarray([1.0, -1.0, -9.0]), jnp.asarray([5.0, 1.0, 2.0])).total)
      [5. 3.]
    """

    total: jax.Array
    examples: jax.Array

    def average(self) -> jax.Array:
        """float32[bins], the mean of each bin; 0 where nothing was seen."""
        return self.total / jnp.where(self.examples > 0, self.examples, 1)

    def moved(self, sums: "LevelSums", rate: float) -> "LevelSums":
        """Moving averages after one step; a bin without examples keeps both, and so its mean.

        So does a bin whose sum is no finite number, of which an average would never get rid. Both
        start at 0 and decay alike, so that their ratio needs no bias correction.

        Args:
          sums: of the step, over all devices.
          rate: in [0, 1), what is kept.
        """
        hit = (sums.examples > 0) & jnp.isfinite(sums.total)
        return jax.tree.map(
            lambda old, new: jnp.where(hit, rate * old + (1 - rate) * new, old), self, sums
        )


class AdaptiveState(NamedTuple):
    """What an `Adaptive` pacing has learned; it belongs into the checkpoint.

    Args:
      recent: moving averages of the statistic by level.
      longer: those that look back further, of `statistic="progress"`; else None.

    Example:
      >>> from jaxnoise.noise import Adaptive
      >>> state = Adaptive(bins=3).init()
      >>> state.recent.examples.tolist(), state.longer
      ([0.0, 0.0, 0.0], None)
    """

    recent: LevelSums
    longer: LevelSums | None


@dataclass(frozen=True)
class _Statistic:
    """How the averages of a statistic become g.

    Attributes:
      g: `(mean, longer mean) -> float[bins]` >= 0.
      of_example: whether g is that of an example, as often as the law draws it; else of a level.
    """

    g: Callable[[jax.Array, jax.Array], jax.Array]
    of_example: bool = True


STATISTICS = {
    "loss": _Statistic(lambda mean, longer: mean),
    "second_moment": _Statistic(lambda mean, longer: jnp.sqrt(mean)),
    "gradient": _Statistic(lambda mean, longer: jnp.sqrt(mean)),
    "entropy_rate": _Statistic(lambda mean, longer: mean, of_example=False),
    "progress": _Statistic(lambda mean, longer: jnp.maximum(longer - mean, 0)),
}


@dataclass(frozen=True)
class Adaptive(Pacing):
    """A law that learns from its losses which levels to draw, while it trains.

      p_b = (1 - floor) m_b g_b / sum m g + floor m_b        g_b / sum g with "entropy_rate"
      importance = m_b / p_b <= 1 / floor

    with m_b the mass of bin b under the law that is paced, and within a bin the form of that law.
    g_b is made of moving averages over the examples that fell into the bin, of all devices; l is
    the loss of an example as the law alone counts it, so `m g` has the density of the whole weight:

      loss            E l
      second_moment   sqrt E l^2
      gradient        sqrt E ||dl/dF||^2     F the network's output; of squared losses alone
      entropy_rate    E ||eps - eps^||^2     dI/dlam is half of it, summed over pixels
      progress        max(0, longer average of l - average of l)

    The bins are equal in log SNR; the two outermost reach to the ends of the law. An empty bin
    keeps its value, as one does whose sum over the batch is not finite; one that was never hit has
    that of the average. Until `warmup_steps` the law is the law alone.

    "second_moment" makes the estimate of the loss vary least, "gradient" nearly that of the
    gradient, both with compensation; "loss" makes all levels contribute alike. For training that
    should find its noise levels by itself, at a cost that is not seen beside the network's.

    Our choice: "progress"; and that "entropy_rate" takes nothing off. For continuous data the rate
    does not fall as lam grows, so restrict the range, or truncate the law.

    Args:
      statistic: one of the five above; the objective refuses one that it does not have.
      bins: how many, at least 1.
      rate: of the moving averages, in [0, 1), for each step that hits a bin; "progress" compares
        with one that looks back 10 times as far.
      warmup_steps: steps that draw from the law alone, at least 1.
      floor: share of the law alone in what is drawn, in [0, 1); > 0 with compensation.
      compensate: whether losses are multiplied by `importance`, so that the expected loss and
        gradient stay those of the law alone. Without, what is drawn is what is trained for.
      range: lowest and highest log SNR of the bins, in [-40, 40]; None for the ends of the law, if
        it has some.

    Raises:
      ArgumentError: an argument is outside its range; the range is not within the law's, which an
        objective checks.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import Adaptive, Uniform
      >>> law = Uniform(-2.0, 2.0)
      >>> pacing = Adaptive(range=(-2.0, 2.0), bins=2, warmup_steps=1, floor=0.2)
      >>> sums = pacing.observe(jnp.asarray([1.0, -1.0]), jnp.asarray([3.0, 1.0]))
      >>> state = pacing.update(pacing.init(), sums)  # clean levels have three times the loss
      >>> now = pacing.on(law.survival)
      >>> lam = law.inverse_survival(now.warp(jnp.asarray([0.35, 0.7, 0.85]), state, step=1))
      >>> [round(float(x), 3) + 0.0 for x in lam], round(float(now.cdf(0.5, state, step=1)), 3)
      ([1.0, 0.0, -1.0], 0.7)

    Reference:
      "loss": VDM++ (arXiv 2303.00848); "second_moment": improved DDPM (arXiv 2102.09672);
      "gradient": Katharopoulos and Fleuret (arXiv 1803.00942); "entropy_rate": in the style of
      InfoNoise (arXiv 2602.18647).
    """

    statistic: str = "loss"
    bins: int = 100
    rate: float = 0.99
    warmup_steps: int = 1_000
    floor: float = 0.2
    compensate: bool = True
    range: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        one_of("statistic", self.statistic, STATISTICS)
        check_at_least_one("bins", self.bins)
        check_at_least_one("warmup_steps", self.warmup_steps)
        for argument in ("rate", "floor"):
            value, allowed = getattr(self, argument), "a number in [0, 1)"
            if is_traced(value) or np.ndim(value):
                raise ArgumentError(argument, describe(value), allowed)
            check_numbers(argument, value, lambda x: (x >= 0) & (x < 1), allowed)
        if self.compensate and self.floor == 0:
            raise ArgumentError("floor", self.floor, "above 0 with compensation: 1/floor bounds it")
        if self.range is not None:
            allowed = "two ascending log SNRs (-2 log sigma, not sigma) in [-40, 40]"
            check_numbers("range", self.range, _ascending, allowed)
            object.__setattr__(self, "range", tuple(map(float, self.range)))

    def init(self) -> AdaptiveState:
        def empty() -> LevelSums:
            return LevelSums(*(jnp.zeros(self.bins, jnp.float32) for _ in LevelSums._fields))

        return AdaptiveState(empty(), empty() if self.statistic == "progress" else None)

    def within(self, ends: Callable[[], tuple[float, float]]) -> "Adaptive":
        """This pacing with bins between the ends of a law, where it has no range of its own.

        Ends beyond 40 are those, in which nearly nothing is drawn.

        Args:
          ends: gives the law's lowest and highest log SNR, infinite where it has no end.

        Raises:
          ArgumentError: the range is not within the ends, or there is none and the law has no end.
        """
        low, high = ends()
        if self.range is None:
            if not (isfinite(low) and isfinite(high)):
                raise ArgumentError(
                    "pacing.range", None, "given under a law without ends, such as (-10.0, 10.0)"
                )
            return replace(self, range=(max(low, -_FARTHEST), min(high, _FARTHEST)))
        slack = 1e-6 * (1 + max(map(abs, self.range)))
        if not (low - slack <= self.range[0] and self.range[1] <= high + slack):
            allowed = f"within the log SNR of the law, {low:g} to {high:g}"
            raise ArgumentError("pacing.range", self.range, allowed)
        return self

    def on(self, survival: Survival) -> Pacing:
        inner = jnp.asarray(self.edges[1:-1], jnp.result_type(float))
        t = jnp.clip(survival(inner), 0, 1)
        ends = jnp.zeros(1, t.dtype), jnp.ones(1, t.dtype)
        # A law that is a table may dip by one rounding.
        return _OnLaw(self, jax.lax.cummax(jnp.concatenate([ends[0], t, ends[1]])))

    @property
    def edges(self) -> np.ndarray:
        """float64[bins + 1], the log SNR between bins, descending.

        Raises:
          ArgumentError: there is no range, neither of its own nor from `within`.
        """
        if self.range is None:
            raise ArgumentError("range", None, "given where no objective tells the law's ends")
        low, high = self.range
        return np.linspace(high, low, self.bins + 1)

    def observe(self, lam: jax.Array, values: jax.Array) -> LevelSums:
        lam, values = as_level(lam), as_level(values)
        check_shape("lam", lam, (None,), "the log SNR of each example")
        check_shape("values", values, lam.shape, "one number for each example")
        inner = jnp.asarray(-self.edges[1:-1], lam.dtype)
        place = jnp.searchsorted(inner, -lam, side="right", method="scan_unrolled")
        # Sums, and no scatter, whose order of summation some devices leave open.
        here = place[None, :] == jnp.arange(self.bins)[:, None]
        total = jnp.sum(jnp.where(here, values[None, :], 0), axis=1)
        return LevelSums(total.astype(jnp.float32), jnp.sum(here, axis=1).astype(jnp.float32))

    def update(self, state: AdaptiveState, sums: LevelSums) -> AdaptiveState:
        longer = state.longer
        if longer is not None:
            longer = longer.moved(sums, 1 - (1 - self.rate) / _LONGER)
        return AdaptiveState(state.recent.moved(sums, self.rate), longer)

    def warp(self, u: ArrayLike, state: AdaptiveState, step: ArrayLike) -> jax.Array:
        return self._alone.warp(u, state, step)

    def cdf(self, t: ArrayLike, state: AdaptiveState, step: ArrayLike) -> jax.Array:
        return self._alone.cdf(t, state, step)

    def log_prob(self, t: ArrayLike, state: AdaptiveState, step: ArrayLike) -> jax.Array:
        return self._alone.log_prob(t, state, step)

    @property
    def _alone(self) -> "_OnLaw":
        """Without a law to lie on, as on a uniform one: bins are equal in quantiles."""
        return _OnLaw(self, jnp.linspace(0, 1, self.bins + 1))


@dataclass(frozen=True)
class _OnLaw(Pacing):
    """An adaptive pacing whose bins have their place: t float[bins + 1], from 0 to 1."""

    pacing: Adaptive
    edges: jax.Array

    @property
    def compensate(self) -> bool:  # type: ignore[override]
        return self.pacing.compensate

    def _density(
        self, state: AdaptiveState, step: ArrayLike, dtype: Any
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """Whether the law moves yet; edges t [bins+1], their CDF [bins+1], density [bins]."""
        edges, kind = self.edges.astype(dtype), STATISTICS[self.pacing.statistic]
        mass = jnp.diff(edges)
        recent = state.recent.average()
        longer = recent if state.longer is None else state.longer.average()
        seen = state.recent.examples > 0
        common = mass if kind.of_example else (mass > _RAREST).astype(dtype)
        # A mean below 0 is an estimate's rounding, and its root would stop the law for good.
        least = kind.g(jnp.maximum(recent, 0), jnp.maximum(longer, 0))
        g = jnp.where(seen, least, 0).astype(dtype)
        known = jnp.sum(jnp.where(seen, common, 0))
        usual = jnp.sum(common * g) / jnp.where(known > 0, known, 1)
        wanted = common * jnp.where(seen, g, usual)
        total = jnp.sum(wanted)
        moves = (jnp.asarray(step) >= self.pacing.warmup_steps) & (total > 0)
        learned = wanted / jnp.where(total > 0, total, 1) / jnp.where(mass > 0, mass, 1)
        floor = self.pacing.floor
        density = jnp.where(moves & (mass > 0), (1 - floor) * learned + floor, 1)
        upper = jnp.cumsum(density * mass)
        cdf = jnp.concatenate([jnp.zeros(1, dtype), jax.lax.cummax(upper / upper[-1])])
        return moves, edges, cdf, density / upper[-1]

    def warp(self, u: ArrayLike, state: AdaptiveState, step: ArrayLike) -> jax.Array:
        u = as_level(u)
        moves, edges, cdf, density = self._density(state, step, u.dtype)
        k = _place(cdf, u)
        slope = jnp.where(density > 0, density, 1)[k]
        t = jnp.clip(edges[k] + (u - cdf[k]) / slope, edges[k], edges[k + 1])
        return below_one(jnp.where(moves, t, u))

    def cdf(self, t: ArrayLike, state: AdaptiveState, step: ArrayLike) -> jax.Array:
        t = as_level(t)
        moves, edges, cdf, density = self._density(state, step, t.dtype)
        k = _place(edges, t)
        inside = jnp.clip(cdf[k] + (t - edges[k]) * density[k], cdf[k], cdf[k + 1])
        return jnp.clip(jnp.where(moves, inside, t), 0, 1)

    def log_prob(self, t: ArrayLike, state: AdaptiveState, step: ArrayLike) -> jax.Array:
        t = as_level(t)
        moves, edges, _, density = self._density(state, step, t.dtype)
        inside = jnp.where(moves, jnp.log(density)[_place(edges, t)], 0)
        return jnp.where((t >= 0) & (t <= 1), inside, -jnp.inf)

    def metrics(self, state: AdaptiveState, step: ArrayLike) -> dict[str, jax.Array]:
        """The density over log SNR of what is drawn, in up to 25 parts: `law/<middle of a part>`.

        What the outermost bins draw beyond the range is counted to them.
        """
        cdf = self._density(state, step, self.edges.dtype)[2]
        bins, edges = self.pacing.bins, self.pacing.edges
        cuts = np.unique(np.linspace(0, bins, min(bins, _SHOWN) + 1).round().astype(int))
        middles = (edges[cuts[:-1]] + edges[cuts[1:]]) / 2
        widths = jnp.asarray(-np.diff(edges[cuts]), cdf.dtype)
        density = jnp.diff(cdf[cuts]) / widths
        return {f"law/{lam:.4g}": value for lam, value in zip(middles, density, strict=True)}


def _ascending(ends: np.ndarray) -> bool:
    return bool(ends.shape == (2,) and -_FARTHEST <= ends[0] < ends[1] <= _FARTHEST)


def _place(edges: jax.Array, x: jax.Array) -> jax.Array:
    """The index of the bin that holds x, of two or more edges; beyond the ends the outermost."""
    return jnp.searchsorted(edges[1:-1], x, side="right", method="scan_unrolled")
