"""Pacing: which noise is trained on now, as a map of uniform draws.

Laws over lambda (`law.inverse_survival(u)`) and laws over the pair index (an inverse CDF at u) are
both drawn from one uniform u whose upper end is the noisy end. So every pacing is one map
`u -> u' = warp(u, state, step)`, put between the source of uniforms and the law, and it composes
with all of them. The density of what is drawn gains one factor:
`log p'(lambda) = log p(lambda) + log_prob(u', state, step)`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError
from jaxnoise.noise.logsnr_law import within
from jaxnoise.noise.parameters import as_level

Survival = Callable[[jax.Array], jax.Array]
"""`lam float[...] -> P(Lambda > lam) float[...]`, log SNR to the quantile that is its time."""


def check_at_least_one(argument: str, value: int) -> None:
    if not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(argument, value, "an integer >= 1")


def below_one(t: jax.Array) -> jax.Array:
    return jnp.clip(t, 0, 1 - float(jnp.finfo(t.dtype).epsneg))


def progress_of(step: ArrayLike, total_steps: int) -> jax.Array:
    return jnp.clip(jnp.asarray(step, jnp.result_type(float)) / total_steps, 0, 1)


def windowed_uniform(u: ArrayLike, lo: ArrayLike, hi: ArrayLike) -> jax.Array:
    """Moves u ~ U(0, 1) into a quantile window: `u' = lo + (hi - lo) u`.

    For a curriculum of one's own that trains on a part of the noise.

    Args:
      u: float[...] in [0, 1), where 1 is the noisy end.
      lo: scalar, clean end of the window, 0 <= lo < hi; may be traced.
      hi: scalar, noisy end of the window, <= 1; may be traced.

    Returns:
      float[...] in [lo, hi], never 1, so that an inverse CDF does not run past its last bin.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import windowed_uniform
      >>> print(windowed_uniform(jnp.asarray([0.0, 0.5]), 0.75, 1.0))
      [0.75  0.875]
    """
    u = as_level(u)
    lo, hi = jnp.asarray(lo, u.dtype), jnp.asarray(hi, u.dtype)
    return below_one(lo + (hi - lo) * u)


class Pacing:
    """A map of uniforms that follows the step and a state; all methods run under jit and scan.

    A pacing without a state keeps the empty tuple. For one of your own, subclass it and give
    `warp`, its inverse `cdf` and the density `log_prob`; and if it has a state `init`, `observe`
    (what it learns from examples, as sums that add over devices) and `update`. One that goes by the
    level of noise, and not by its quantile alone, gives `within` and `on` as well.

    Attributes:
      statistic: name of the number of each example that `observe` gets; the objective refuses one
        that it does not have.
      compensate: whether the loss of an example is multiplied by the density of the law alone over
        that of what is drawn, so that the expected loss stays that of the law alone.

    Example:
      >>> from jaxnoise.noise import Pacing, windowed_uniform
      >>> class NoisyHalf(Pacing):
      ...     def warp(self, u, state, step):
      ...         return windowed_uniform(u, 0.5, 1.0)  # 0.5 + u / 2 may round to 1
      >>> float(NoisyHalf().warp(0.5, NoisyHalf().init(), step=0))
      0.75
    """

    statistic: str = "loss"
    compensate: bool = False

    def init(self) -> Any:
        """The state at step 0, a pytree that belongs into the train state."""
        return ()

    def within(self, ends: Callable[[], tuple[float, float]]) -> "Pacing":
        """This pacing for noise of a range; an objective asks when it is made.

        Args:
          ends: gives the lowest and the highest log SNR of the law that is paced, infinite where
            it has no end.

        Returns:
          A pacing; itself where levels of noise are of no effect.
        """
        del ends
        return self

    def on(self, survival: Survival) -> "Pacing":
        """This pacing on a law that it is told, for one that goes by the level of noise.

        Args:
          survival: `t(lam) = P(Lambda > lam)` of the law alone, as it is at this step.

        Returns:
          The pacing that is drawn with: its `warp`, `cdf` and `log_prob` know where levels lie.
        """
        del survival
        return self

    def observe(self, lam: jax.Array, values: jax.Array) -> Any:
        """What the state learns from examples, as sums.

        Args:
          lam: float[B], log SNR of each example.
          values: float[B], the statistic of each, as the objective without a pacing counts it.

        Returns:
          A pytree of sums over these examples: added up over devices, it goes into `update`.
        """
        del lam, values
        return ()

    def update(self, state: Any, sums: Any) -> Any:
        """The state after one training step.

        Args:
          state: from `init` or `update`.
          sums: from `observe`, summed over ALL devices.

        Returns:
          A state of the same structure, shapes and dtypes.
        """
        del sums
        return state

    def settled(self) -> Any:
        """The state that training leads to, in which all noise that it ever draws is drawn."""
        return self.init()

    def metrics(self, state: Any, step: ArrayLike) -> dict[str, jax.Array]:
        """Where the pacing stands, as scalars for a record; {} if it does not move.

        Args:
          state: from `init` or `update`.
          step: training step k, an integer scalar; may be traced.

        Returns:
          Named scalars: `window_low`, the share of the law at its clean end that is left out now
          (`HighToLow`, `Difficulty`); `stage` (`Difficulty`); `gaussian_weight` (`CLTS`);
          `law/<lam>`, the density around a log SNR (`Adaptive`).
        """
        del state, step
        return {}

    def warp(self, u: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        """Where a uniform number goes now, u -> u'; ascending in u: an inverse CDF.

        Args:
          u: float[...] in [0, 1), from any source of uniforms.
          state: from `init` or `update`.
          step: training step k, an integer scalar; may be traced.

        Returns:
          float[...] in [0, 1): 1 is beyond the noisiest level, so nothing may round to it.
        """
        raise NotImplementedError

    def cdf(self, t: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        """`P(u' <= t)`, the inverse of `warp`.

        Args:
          t: float[...] in [0, 1].
          state: from `init` or `update`.
          step: training step k, an integer scalar; may be traced.

        Returns:
          float[...] in [0, 1].
        """
        raise NotImplementedError

    def log_prob(self, t: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        """Natural logarithm of the density of u' at t; -inf where nothing is drawn.

        Args:
          t: float[...] in [0, 1]. Pass the u' that was drawn: one recomputed from lambda may miss
            an end of the window by rounding.
          state: from `init` or `update`.
          step: training step k, an integer scalar; may be traced.

        Returns:
          float[...].
        """
        raise NotImplementedError


class Windowed(Pacing):
    """Uniform on a window of [0, 1], for the pacings that leave a part of the noise out."""

    def window(self, state: Any, step: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """The window that is drawn from now.

        Args:
          state: from `init` or `update`.
          step: training step k, an integer scalar; may be traced.

        Returns:
          `(lo, hi)`, its clean and its noisy end in [0, 1], two float scalars.
        """
        raise NotImplementedError

    def metrics(self, state: Any, step: ArrayLike) -> dict[str, jax.Array]:
        return {"window_low": self.window(state, step)[0]}

    def warp(self, u: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        return windowed_uniform(u, *self.window(state, step))

    def cdf(self, t: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        t = as_level(t)
        lo, hi = (edge.astype(t.dtype) for edge in self.window(state, step))
        return jnp.clip((t - lo) / (hi - lo), 0, 1)

    def log_prob(self, t: ArrayLike, state: Any, step: ArrayLike) -> jax.Array:
        t = as_level(t)
        lo, hi = (edge.astype(t.dtype) for edge in self.window(state, step))
        return jnp.where(within(t, lo, hi), -jnp.log(hi - lo), -jnp.inf)


@dataclass(frozen=True)
class NoPacing(Windowed):
    """All noise at every step: `warp(u) = u`.

    The default.

    Example:
      >>> from jaxnoise.noise import NoPacing
      >>> pacing = NoPacing()
      >>> float(pacing.warp(0.25, pacing.init(), step=0))
      0.25
    """

    def metrics(self, state: Any, step: ArrayLike) -> dict[str, jax.Array]:
        del state, step
        return {}  # nothing is ever left out

    def window(self, state: Any, step: ArrayLike) -> tuple[jax.Array, jax.Array]:
        del state, step
        return jnp.zeros((), jnp.result_type(float)), jnp.ones((), jnp.result_type(float))


_NARROWEST = 1e-6
"""A window of less holds no 17 numbers of float32 next to 1."""


@dataclass(frozen=True)
class HighToLow(Windowed):
    """Annealing from high noise down: `u' ~ U(lo_k, 1)`, `lo_k = (1 - width) max(0, 1 - k/K)`.

    It starts at the noisiest `width` of the law and, from step K on, trains on all of it. That the
    window opens at a constant rate, and the default width, are our choices: no formula is published
    for this idea.

    For training that learns what images have in common first and their details later.

    Args:
      total_steps: K, steps until all noise is in.
      width: share of the law in the first window, in [1e-6, 1].

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import HighToLow
      >>> pacing = HighToLow(total_steps=100, width=0.2)
      >>> [round(float(pacing.window((), step)[0]), 2) for step in (0, 50, 100)]
      [0.8, 0.4, 0.0]

    Reference: in the style of HNS (arXiv 2404.06353).
    """

    total_steps: int
    width: float = 0.1

    def __post_init__(self) -> None:
        check_at_least_one("total_steps", self.total_steps)
        if not _NARROWEST <= self.width <= 1:
            raise ArgumentError("width", self.width, f"a number in [{_NARROWEST:g}, 1]")

    def window(self, state: Any, step: ArrayLike) -> tuple[jax.Array, jax.Array]:
        del state
        progress = progress_of(step, self.total_steps)
        return (1 - self.width) * (1 - progress), jnp.ones_like(progress)


def pair_survival(levels: jax.Array, probs: jax.Array) -> Survival:
    """`P(Lambda > lam)` of pairs of levels, where `Lambda = -2 ln sigma_hi`.

    For a pacing that goes by the level of noise, on a law over pairs.

    Args:
      levels: float[n], ascending, padded at the end.
      probs: float[n-1], of the pairs, as the law has them without a pacing; they sum to 1.

    Returns:
      `lam float[...] -> float[...]` in [0, 1]; it steps where pairs lie.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import pair_survival
      >>> levels = jnp.exp(jnp.asarray([0.0, 1.0, 2.0]))
      >>> print(pair_survival(levels, jnp.asarray([0.25, 0.75]))(jnp.asarray([-3.0, -5.0])))
      [0.25 1.  ]
    """
    negative = 2 * jnp.log(jnp.asarray(levels)[1:])
    # A parallel cumulative sum may dip by one rounding.
    upper = jax.lax.cummax(jnp.cumsum(jnp.asarray(probs)))
    below = jnp.concatenate([jnp.zeros(1, upper.dtype), upper / upper[-1]])

    def survival(lam: jax.Array) -> jax.Array:
        lam = jnp.asarray(lam, negative.dtype)
        return below[jnp.searchsorted(negative, -lam, side="left", method="scan_unrolled")]

    return survival


def paced_probs(
    pacing: Pacing,
    law: Any,
    levels: jax.Array,
    num_levels: int | jax.Array,
    state: Any,
    step: ArrayLike,
) -> jax.Array:
    """The probabilities of pairs that a law draws while its uniforms are paced.

    For importance weights, and for tables and pictures of what is trained on.

    Args:
      pacing: any pacing.
      law: a law over pairs.
      levels: float[n], ascending, padded at the end.
      num_levels: N, from 2 to n; may be traced.
      state: from `pacing.init` or `pacing.update`.
      step: training step k, an integer scalar; may be traced.

    Returns:
      float[n-1], sums to 1, zero where the law never draws.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import HighToLow, UniformPairs, paced_probs
      >>> pacing, levels = HighToLow(total_steps=10, width=0.5), jnp.asarray([0.1, 1.0, 9.0])
      >>> print(paced_probs(pacing, UniformPairs(), levels, 3, (), step=0))
      [0. 1.]
    """
    now = pacing.on(pair_survival(levels, law.probs(levels, num_levels)))
    return jnp.asarray(law.paced_probs(levels, num_levels, lambda t: now.cdf(t, state, step)))
