"""Consistency training: the student at one level agrees with the teacher one level below."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxnoise.errors import ArgumentError, Described, check_positive, describe
from jaxnoise.noise.discretization import Curriculum
from jaxnoise.noise.pacing import NoPacing, Pacing
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.objectives.parameterization import (
    check_sigma_data,
    karras_preconditioning,
    over_pixels,
)

Distance = Callable[[jax.Array, jax.Array], jax.Array]
PairWeight = Callable[[jax.Array, jax.Array], jax.Array]


class PairLaw(Protocol):
    """A law over neighbouring pairs of levels; index i stands for (levels[i], levels[i + 1])."""

    def sample(
        self,
        key: jax.Array,
        levels: jax.Array,
        num_levels: jax.Array,
        count: int,
        warp: Callable[[jax.Array], jax.Array] = ...,
    ) -> jax.Array: ...

    def probs(self, levels: jax.Array, num_levels: jax.Array) -> jax.Array: ...

    def paced_probs(
        self,
        levels: jax.Array,
        num_levels: jax.Array,
        cdf: Callable[[jax.Array], jax.Array],
    ) -> jax.Array: ...


class Grid(Protocol):
    """The noise levels in use: `num_levels` of them, ascending, padded to a fixed length."""

    def __call__(self, num_levels: jax.Array, key: jax.Array | None = None) -> jax.Array: ...


@struct.dataclass
class Pairs:
    """Noise levels of a batch of training pairs."""

    sigma_lo: jax.Array
    """float[B], the teacher's level."""
    sigma_hi: jax.Array
    """float[B], the student's level."""

    @property
    def sigma(self) -> jax.Array:
        """float[B], the level by which an example is reported."""
        return self.sigma_hi

    @property
    def lam(self) -> jax.Array:
        """float[B], `-2 ln sigma_hi`, log SNR."""
        return -2 * jnp.log(self.sigma_hi)


def consistency_losses(
    student: Denoiser,
    teacher: Denoiser,
    x0: jax.Array,
    eps: jax.Array,
    pairs: Pairs,
    distance: Distance,
    weight: PairWeight,
) -> jax.Array:
    """Weighted distance of the student at `sigma_hi` to the teacher at `sigma_lo`, same noise.

      L_b = w(lo_b, hi_b) d( f(x0_b + hi_b eps_b, hi_b), stopgrad f'(x0_b + lo_b eps_b, lo_b) )

    Args:
      student: `f(x float[B, ...], sigma float[B]) -> float[B, ...]`.
      teacher: `f'`, same form; no gradient flows through it.
      x0: float[B, ...], clean images in [-1, 1].
      eps: float[B, ...], standard normal noise.
      pairs: the levels, float[B] each.
      distance: `d(a, b) -> float[B]`.
      weight: `w(sigma_lo, sigma_hi) -> float[B]`.

    Returns:
      float[B], one loss per image.

    Raises:
      ArgumentError: `distance` or `weight` gives anything but one number per image.

    Example:
      >>> from jaxnoise.objectives import inverse_gap, squared_l2
      >>> x0, eps = jnp.zeros((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1))
      >>> pairs = Pairs(sigma_lo=jnp.array([1.0]), sigma_hi=jnp.array([1.5]))
      >>> identity = lambda x, sigma: x
      >>> float(consistency_losses(identity, identity, x0, eps, pairs, squared_l2, inverse_gap)[0])
      2.0

    Reference:
      Song et al. (arXiv 2303.01469), algorithm 3; Song and Dhariwal (arXiv 2310.14189).
    """
    chex.assert_equal_shape([x0, eps])
    chex.assert_shape([pairs.sigma_lo, pairs.sigma_hi], (x0.shape[0],))
    target = teacher(x0 + over_pixels(pairs.sigma_lo, x0) * eps, pairs.sigma_lo)
    estimate = student(x0 + over_pixels(pairs.sigma_hi, x0) * eps, pairs.sigma_hi)
    return _one_each(
        "weight", weight(pairs.sigma_lo, pairs.sigma_hi), "(sigma_lo, sigma_hi)", x0
    ) * _one_each("distance", distance(estimate, jax.lax.stop_gradient(target)), "(a, b)", x0)


def _one_each(argument: str, found: Any, takes: str, x0: jax.Array) -> jax.Array:
    """What a function gave for a batch, if that is one number for each image."""
    if getattr(found, "shape", None) != x0.shape[:1]:
        given = Described(f"a function that gives {describe(found)!r:.80}")
        allowed = f"one, {takes} -> float[B], that gives a number for each of the {len(x0)} images"
        raise ArgumentError(argument, given, allowed)
    return jnp.asarray(found)


@dataclass(frozen=True)
class ConsistencyObjective:
    """Consistency training under a grid of levels, a law over its pairs and a curriculum N(k).

    Attributes:
      grid: `(num_levels, key) -> float[max_levels]`, the levels in use.
      law: which neighbouring pair each example trains on.
      curriculum: step -> number of levels.
      distance: `(a, b) -> float[B]`.
      weight: `(sigma_lo, sigma_hi) -> float[B]`.
      sigma_data: standard deviation of the data.
      sigma_min: the level at which the function is the identity.
      sigma_max: the highest level; sampling starts here.
      ema_teacher: `num_levels -> EMA rate` of the teacher (CM), or None: the teacher has the
        student's own weights (iCT).
      pacing: restricts the law to a part of the noise; by default to none of it.

    Raises:
      ArgumentError: `sigma_data`, `sigma_min` or `sigma_max` is outside its range.
    """

    grid: Grid
    law: PairLaw
    curriculum: Curriculum
    distance: Distance
    weight: PairWeight
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    ema_teacher: Callable[[jax.Array], jax.Array] | None = None
    pacing: Pacing = field(default_factory=NoPacing)

    def __post_init__(self) -> None:
        check_sigma_data(self.sigma_data)
        check_positive("sigma_min", self.sigma_min)
        if not self.sigma_min < self.sigma_max < inf:
            allowed = f"a finite number > sigma_min={self.sigma_min}"
            raise ArgumentError("sigma_max", self.sigma_max, allowed)

    @property
    def has_teacher(self) -> bool:
        """Whether the teacher keeps parameters of its own."""
        return self.ema_teacher is not None

    def teacher_rate(self, step: jax.Array) -> jax.Array:
        """The teacher's EMA rate at `step`."""
        if self.ema_teacher is None:
            raise ValueError("this objective's teacher has the student's own weights")
        return self.ema_teacher(self.curriculum(step))

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """No learned parameters of its own: {}."""
        del key
        return {}

    def levels(self, key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The padded levels float[max_levels] and how many of them are in use at `step`.

        Args:
          key: PRNG key that stays the same through training (random grids fold in the plateau).
          step: int32[], training step.
        """
        plateau_key = jax.random.fold_in(key, self.curriculum.plateau(step))
        num_levels = self.curriculum(step)
        return self.grid(num_levels, plateau_key), num_levels

    def draw(
        self, key: jax.Array, fixed_key: jax.Array, step: jax.Array, count: int, pace: Any = ()
    ) -> Pairs:
        """Draws the pairs of one whole global batch.

        Args:
          key: PRNG key of this step.
          fixed_key: PRNG key that stays the same through training.
          step: int32[], training step.
          count: the GLOBAL batch (static), since a stratified law sees the batch.
          pace: the pacing's state.

        Returns:
          Pairs of float[count].
        """
        levels, num_levels = self.levels(fixed_key, step)

        def warp(u: jax.Array) -> jax.Array:
            return self.pacing.warp(u, pace, step)

        index = self.law.sample(key, levels, num_levels, count, warp)
        return Pairs(sigma_lo=levels[index], sigma_hi=levels[index + 1])

    def denoiser(self, network: Denoiser) -> Denoiser:
        """The consistency function `f(x, sigma)` of a network `F(x, c_noise)`."""

        def f(x: jax.Array, sigma: jax.Array) -> jax.Array:
            c = karras_preconditioning(sigma, self.sigma_data, self.sigma_min)
            raw = network(over_pixels(c.c_in, x) * x, c.c_noise)
            return over_pixels(c.c_skip, x) * x + over_pixels(c.c_out, x) * raw

        return f

    def losses(
        self,
        student: Denoiser,
        teacher: Denoiser,
        own: Any,
        x0: jax.Array,
        eps: jax.Array,
        levels: Pairs,
    ) -> jax.Array:
        """`consistency_losses` of two raw networks `F(x, c_noise)`: float[B]."""
        del own
        return consistency_losses(
            self.denoiser(student),
            self.denoiser(teacher),
            x0,
            eps,
            levels,
            self.distance,
            self.weight,
        )

    def errors(self, losses: jax.Array, own: Any, levels: Pairs) -> jax.Array:
        """`losses`: nothing that is learned balances them."""
        del own, levels
        return losses

    def metrics(self, step: jax.Array, pace: Any = ()) -> dict[str, jax.Array]:
        """The number of levels and where the pacing stands at `step`."""
        num_levels = jnp.asarray(self.curriculum(step))
        return {"num_levels": num_levels, **self.pacing.metrics(pace, step)}
