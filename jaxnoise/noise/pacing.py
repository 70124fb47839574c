"""Pacing: which noise is trained on now, as a map of uniform draws.

Laws over lambda (`law.inverse_survival(u)`) and laws over the pair index (an inverse CDF at u) are
both drawn from one uniform u whose upper end is the noisy end. So every pacing is one map
`u -> u' = warp(u, state, step)`, put between the source of uniforms and the law, and it composes
with all of them. The density of what is drawn gains one factor:
`log p'(lambda) = log p(lambda) + log_prob(u', state, step)`.
"""

from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError, check_shape
from jaxnoise.noise.logsnr_law import within
from jaxnoise.noise.parameters import as_level


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
    `warp`, its inverse `cdf` and the density `log_prob`; and `init` and `update` if it has a state.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import Pacing
      >>> class NoisyHalf(Pacing):
      ...     def warp(self, u, state, step):
      ...         return 0.5 + jnp.asarray(u) / 2
      >>> float(NoisyHalf().warp(0.5, NoisyHalf().init(), step=0))
      0.75
    """

    def init(self) -> Any:
        """The state at step 0, a pytree that belongs into the train state."""
        return ()

    def update(self, state: Any, mean_loss: jax.Array) -> Any:
        """The state after one training step.

        Args:
          state: from `init` or `update`.
          mean_loss: scalar, the loss of the step as a mean over ALL devices.

        Returns:
          A state of the same structure, shapes and dtypes.
        """
        del mean_loss
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
          (`HighToLow`, `Difficulty`); `stage` (`Difficulty`); `gaussian_weight` (`CLTS`).
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
          float[...] in [0, 1).
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


class _Windowed(Pacing):
    """Uniform on a window of [0, 1]."""

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
class NoPacing(_Windowed):
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


@dataclass(frozen=True)
class HighToLow(_Windowed):
    """Annealing from high noise down: `u' ~ U(lo_k, 1)`, `lo_k = (1 - width) max(0, 1 - k/K)`.

    It starts at the noisiest `width` of the law and, from step K on, trains on all of it. That the
    window opens at a constant rate, and the default width, are our choices: no formula is published
    for this idea.

    For training that learns what images have in common first and their details later.

    Args:
      total_steps: K, steps until all noise is in.
      width: share of the law in the first window, in (0, 1].

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
        if not 0 < self.width <= 1:
            raise ArgumentError("width", self.width, "a number in (0, 1]")

    def window(self, state: Any, step: ArrayLike) -> tuple[jax.Array, jax.Array]:
        del state
        progress = progress_of(step, self.total_steps)
        return (1 - self.width) * (1 - progress), jnp.ones_like(progress)


class DifficultyState(NamedTuple):
    """Where a `Difficulty` curriculum stands; it belongs into the checkpoint.

    Args:
      stage: int32[], 1..clusters, how many of the noisiest clusters are trained on.
      best: float32[], lowest mean loss of this stage.
      bad: int32[], consecutive steps without a new best.

    Example:
      >>> from jaxnoise.noise import Difficulty
      >>> state = Difficulty(clusters=4).init()
      >>> int(state.stage), float(state.best), int(state.bad)
      (1, inf, 0)
    """

    stage: jax.Array
    best: jax.Array
    bad: jax.Array


@dataclass(frozen=True)
class Difficulty(_Windowed):
    """Stages from easy (noisy) to hard (clean) that advance when the loss stops improving.

    The time t = P(Lambda > lambda) of the law is cut into n clusters; stage m draws from the union
    of the m noisiest, `u' ~ U(b_{n-m}, 1)`, with equal quantiles `u' ~ U(1 - m/n, 1)`. A stage ends
    when the mean loss has set no new best for `patience` consecutive steps; best and counter start
    afresh. Stage n is the last: all noise.

    For training from easy to hard at its own speed, in denoising above all; where the loss never
    stops improving, later stages are not reached, so set `patience` by a first run.

    Args:
      clusters: n, at least 1.
      patience: steps without a new best that end a stage, at least 1.
      partition: the n + 1 cluster boundaries b in time, ascending from 0 to 1,
        as `jaxnoise.noise.partition` makes them; None for equal quantiles.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import Difficulty
      >>> pacing = Difficulty(clusters=4, patience=1)
      >>> state = pacing.init()
      >>> for loss in (1.0, 2.0):
      ...     state = pacing.update(state, jnp.asarray(loss))
      >>> int(state.stage), float(pacing.warp(0.0, state, step=2))
      (2, 0.5)

    Reference: denoising task difficulty-based curriculum (arXiv 2403.10348).
    """

    clusters: int = 20
    patience: int = 200
    partition: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_at_least_one("clusters", self.clusters)
        check_at_least_one("patience", self.patience)
        if self.partition is None:
            return
        ends = np.asarray(self.partition)
        if ends.shape != (self.clusters + 1,) or ends[0] != 0 or ends[-1] != 1:
            allowed = f"{self.clusters + 1} boundaries from 0 to 1"
            raise ArgumentError("partition", self.partition, allowed)
        if not (np.diff(ends) >= 0).all() or ends[-2] >= 1:
            allowed = "ascending, with a noisiest cluster that the law draws from"
            raise ArgumentError("partition", self.partition, allowed)

    def init(self) -> DifficultyState:
        return DifficultyState(
            jnp.ones((), jnp.int32), jnp.full((), inf, jnp.float32), jnp.zeros((), jnp.int32)
        )

    def settled(self) -> DifficultyState:
        """The last stage: all noise."""
        return self.init()._replace(stage=jnp.full((), self.clusters, jnp.int32))

    def update(self, state: DifficultyState, mean_loss: jax.Array) -> DifficultyState:
        check_shape("mean_loss", jnp.asarray(mean_loss), (), "a scalar, the mean over all devices")
        loss = jnp.asarray(mean_loss, jnp.float32)
        improved = loss < state.best
        best = jnp.where(improved, loss, state.best)
        bad = jnp.where(improved, 0, state.bad + 1)
        advance = (bad >= self.patience) & (state.stage < self.clusters)
        return DifficultyState(
            jnp.where(advance, state.stage + 1, state.stage),
            jnp.where(advance, inf, best),
            jnp.where(advance, 0, bad),
        )

    def metrics(self, state: DifficultyState, step: ArrayLike) -> dict[str, jax.Array]:
        return {"stage": state.stage, **super().metrics(state, step)}

    def window(self, state: DifficultyState, step: ArrayLike) -> tuple[jax.Array, jax.Array]:
        del step
        n = self.clusters
        boundaries = [i / n for i in range(n + 1)] if self.partition is None else self.partition
        lo = jnp.asarray(boundaries, jnp.result_type(float))[n - state.stage]
        return lo, jnp.ones_like(lo)


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
    return jnp.asarray(law.paced_probs(levels, num_levels, lambda t: pacing.cdf(t, state, step)))
