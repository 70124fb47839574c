"""The difficulty curriculum as a pacing: noisy stages first, cleaner ones as the loss settles."""

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError, check_shape
from jaxnoise.noise.pacing import Windowed, check_at_least_one


class LossSums(NamedTuple):
    """Losses of examples, added up.

    Args:
      total: float32[], their sum.
      examples: float32[], how many they are.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import Difficulty
      >>> sums = Difficulty().observe(jnp.zeros(2), jnp.asarray([1.0, 3.0]))
      >>> float(sums.total), float(sums.examples)
      (4.0, 2.0)
    """

    total: jax.Array
    examples: jax.Array


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


_RAREST = 1e-6
"""A cluster of less than this holds no 17 numbers of float32 next to 1."""


@dataclass(frozen=True)
class Difficulty(Windowed):
    """Stages from easy (noisy) to hard (clean) that advance when the loss stops improving.

    The time t = P(Lambda > lambda) of the law is cut into n clusters; stage m draws from the union
    of the m noisiest, `u' ~ U(b_{n-m}, 1)`, with equal quantiles `u' ~ U(1 - m/n, 1)`. A stage ends
    when the mean loss has set no new best for `patience` consecutive steps; best and counter start
    afresh. A mean that is not finite says nothing, and changes nothing. Stage n is the last: all
    noise.

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
      ...     sums = pacing.observe(jnp.zeros(1), jnp.asarray([loss]))
      ...     state = pacing.update(state, sums)
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
        if not (np.diff(ends) >= 0).all() or 1 - ends[-2] < _RAREST:
            allowed = f"ascending, with a noisiest cluster of at least {_RAREST:g} of the law"
            raise ArgumentError("partition", self.partition, allowed)

    def init(self) -> DifficultyState:
        return DifficultyState(
            jnp.ones((), jnp.int32), jnp.full((), inf, jnp.float32), jnp.zeros((), jnp.int32)
        )

    def settled(self) -> DifficultyState:
        """The last stage: all noise."""
        return self.init()._replace(stage=jnp.full((), self.clusters, jnp.int32))

    def observe(self, lam: jax.Array, values: jax.Array) -> LossSums:
        check_shape("values", values, lam.shape, "one loss for each example")
        losses = jnp.asarray(values, jnp.float32)
        return LossSums(jnp.sum(losses), jnp.asarray(losses.size, jnp.float32))

    def update(self, state: DifficultyState, sums: LossSums) -> DifficultyState:
        loss = sums.total / sums.examples
        improved = loss < state.best
        best = jnp.where(improved, loss, state.best)
        bad = jnp.where(improved, 0, state.bad + 1)
        advance = (bad >= self.patience) & (state.stage < self.clusters)
        moved = DifficultyState(
            jnp.where(advance, state.stage + 1, state.stage),
            jnp.where(advance, inf, best),
            jnp.where(advance, 0, bad),
        )
        told = jnp.isfinite(loss)
        return jax.tree.map(lambda old, new: jnp.where(told, new, old), state, moved)

    def metrics(self, state: DifficultyState, step: ArrayLike) -> dict[str, jax.Array]:
        return {"stage": state.stage, **super().metrics(state, step)}

    def window(self, state: DifficultyState, step: ArrayLike) -> tuple[jax.Array, jax.Array]:
        del step
        n = self.clusters
        boundaries = [i / n for i in range(n + 1)] if self.partition is None else self.partition
        lo = jnp.asarray(boundaries, jnp.result_type(float))[n - state.stage]
        return lo, jnp.ones_like(lo)
