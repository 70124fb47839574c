"""Consistency training: the student at one level agrees with the teacher one level below."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import (
    ArgumentError,
    Described,
    check_callable,
    check_shape,
    describe,
    is_traced,
)
from jaxnoise.noise.discretization import Curriculum
from jaxnoise.noise.levels import Grid, KarrasGrid, PredefinedGrid
from jaxnoise.noise.logsnr_law import LogSnrLaw
from jaxnoise.noise.pacing import NoPacing, Pacing, pair_survival
from jaxnoise.noise.pairs import PairLaw
from jaxnoise.objectives.levels import Pairs, check_importance, uncompensated
from jaxnoise.objectives.objective import (
    Denoiser,
    check_images,
    check_pace,
    check_pacing,
    check_step,
    seen_as,
)
from jaxnoise.objectives.pair_law import check_pair_law
from jaxnoise.objectives.parameterization import (
    check_sigma_data,
    karras_preconditioning,
    over_pixels,
    preconditioned,
    wide_dtype,
)
from jaxnoise.objectives.statistics import CONSISTENCY

Distance = Callable[[jax.Array, jax.Array], jax.Array]
"""`d(a float[B, ...], b float[B, ...]) -> float[B]`."""
PairWeight = Callable[[jax.Array, jax.Array], jax.Array]
"""`w(sigma_lo float[B], sigma_hi float[B]) -> float[B]`."""


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

    times `pairs.importance` where a pacing is compensated. For a training loop of one's own. Noisy
    images, levels and losses have the dtype of x0, and at least 32 bits.

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
      ArgumentError: shapes that differ, levels that do not ascend (where their values are known),
        or a `distance` or `weight` that gives anything but one number per image.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives import Pairs, consistency_losses, inverse_gap, squared_l2
      >>> x0, eps = jnp.zeros((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1))
      >>> pairs = Pairs(sigma_lo=jnp.array([1.0]), sigma_hi=jnp.array([1.5]))
      >>> identity = lambda x, sigma: x
      >>> float(consistency_losses(identity, identity, x0, eps, pairs, squared_l2, inverse_gap)[0])
      2.0

    Reference:
      Song et al. (arXiv 2303.01469), algorithm 3; Song and Dhariwal (arXiv 2310.14189).
    """
    for argument, function in (("student", student), ("teacher", teacher)):
        check_callable(argument, function, "(x float[B, ...], sigma float[B]) -> float[B, ...]")
    check_callable("distance", distance, "(a, b) -> float[B]")
    check_callable("weight", weight, "(sigma_lo, sigma_hi) -> float[B]")
    check_images(x0, eps)
    if not isinstance(pairs, Pairs):
        kind = Described(type(pairs).__name__)
        raise ArgumentError("pairs", kind, "Pairs, such as the objective's `draw` gives")
    for argument, level in (("sigma_lo", pairs.sigma_lo), ("sigma_hi", pairs.sigma_hi)):
        check_shape(argument, level, x0.shape[:1], "one level for each image")
    check_importance(pairs.importance, pairs.sigma_hi)
    # On the host: what is closed over has a value under jit, and an operation on it has none.
    if not is_traced(pairs) and not (np.asarray(pairs.sigma_lo) < np.asarray(pairs.sigma_hi)).all():
        raise ArgumentError("pairs", pairs, "levels with sigma_lo < sigma_hi")
    wide = wide_dtype(x0)
    x0, eps, lo, hi = (x.astype(wide) for x in (x0, eps, pairs.sigma_lo, pairs.sigma_hi))
    target = teacher(x0 + over_pixels(lo, x0) * eps, lo)
    estimate = student(x0 + over_pixels(hi, x0) * eps, hi)
    off = distance(estimate, jax.lax.stop_gradient(target))
    weights = weight(lo, hi)
    if jnp.shape(weights) == ():
        weights = jnp.full_like(lo, weights)
    losses = _one_each("weight", weights, "(sigma_lo, sigma_hi)", x0) * _one_each(
        "distance", off, "(a, b)", x0
    )
    return losses if pairs.importance is None else pairs.importance.astype(wide) * losses


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

    For models that sample in one or few steps: CM, iCT, HNS and what lies between them.

    Attributes:
      grid: `(num_levels, key) -> float[max_levels]`, the levels in use; its `sigma_min` is where
        the function is the identity, its `sigma_max` where sampling starts. One without a length
        (`KarrasGrid()`) gets room for the curriculum's most.
      law: which neighbouring pair each example trains on. One of your own is asked for its `probs`
        at every number of levels of the curriculum, when the objective is made.
      curriculum: step -> number of levels, never more than the grid has.
      distance: `(a, b) -> float[B]`.
      weight: `(sigma_lo, sigma_hi) -> float[B]`.
      sigma_data: standard deviation of the data.
      ema_teacher: `num_levels -> EMA rate` of the teacher (CM), or None: the teacher has the
        student's own weights (iCT).
      pacing: moves the law; by default not at all. `Adaptive` may follow the statistics "loss",
        "second_moment" and "progress" of the loss.

    Raises:
      ArgumentError: an argument of the wrong kind, a pacing by a statistic that there is not or
        with a range beyond the grid's, `sigma_data` outside its range, a grid with fewer levels
        than the curriculum asks for, or a law whose `probs` are not probabilities of its pairs.

    Example:
      >>> import jax
      >>> from jaxnoise.noise import KarrasGrid, PolynomialPairs, doubling
      >>> from jaxnoise.objectives import ConsistencyObjective, inverse_gap, pseudo_huber
      >>> curriculum = doubling(s0=10, s1=40, total_steps=300)
      >>> objective = ConsistencyObjective(
      ...     KarrasGrid(), PolynomialPairs(), curriculum, pseudo_huber, inverse_gap
      ... )
      >>> key = jax.random.key(0)
      >>> pairs = objective.draw(key, key, step=0, count=64)
      >>> objective.grid.max_levels, pairs.sigma_hi.shape, bool((pairs.log_prob < 0).all())
      (41, (64,), True)

    Reference:
      Song et al. (arXiv 2303.01469), Song and Dhariwal (arXiv 2310.14189).
    """

    grid: Grid
    law: PairLaw
    curriculum: Curriculum
    distance: Distance
    weight: PairWeight
    sigma_data: float = 0.5
    ema_teacher: Callable[[jax.Array], jax.Array] | None = None
    pacing: Pacing = field(default_factory=NoPacing)

    def __post_init__(self) -> None:
        if not isinstance(self.curriculum, Curriculum):
            allowed = (
                "a Curriculum, such as jaxnoise.noise.doubling(...) or curriculum(formula, ...)"
            )
            raise ArgumentError("curriculum", self.curriculum, allowed)
        if not callable(self.grid) or not hasattr(self.grid, "sigma_min"):
            allowed = "a grid of levels, such as jaxnoise.noise.KarrasGrid()"
            raise ArgumentError("grid", describe(self.grid), allowed)
        if isinstance(self.law, LogSnrLaw) or not hasattr(self.law, "probs"):
            allowed = "a law over pairs of levels, such as jaxnoise.noise.PolynomialPairs()"
            raise ArgumentError("law", describe(self.law), allowed)
        check_callable("distance", self.distance, "(a, b) -> float[B]")
        check_callable("weight", self.weight, "(sigma_lo, sigma_hi) -> float[B]")
        check_sigma_data(self.sigma_data)
        if self.ema_teacher is not None:
            check_callable("ema_teacher", self.ema_teacher, "of the number of levels, or None")
        check_pacing(self.pacing, CONSISTENCY)
        if not isinstance(self.pacing, NoPacing) and not hasattr(self.law, "paced_probs"):
            raise ArgumentError("law", self.law, "a law with `paced_probs`, for a pacing")
        self._fit_grid()
        check_pair_law(self.law, self.grid, self.curriculum.counts)
        ends = (-2 * log(self.grid.sigma_max), -2 * log(self.grid.sigma_min))
        object.__setattr__(self, "pacing", self.pacing.within(lambda: ends))

    def _fit_grid(self) -> None:
        """Gives the grid room for the curriculum's most levels, or refuses one that has less."""
        most = self.curriculum.max_levels
        if isinstance(self.grid, KarrasGrid | PredefinedGrid):
            object.__setattr__(self, "grid", self.grid.with_room(most))
            return
        with jax.ensure_compile_time_eval():
            room = jax.eval_shape(self.grid, jnp.int32(most), jax.random.key(0)).shape[0]
        if room < most:
            raise ArgumentError("grid", self.grid, f"of at least {most} levels, not {room}")

    @property
    def sigma_min(self) -> float:
        """The level at which the function is the identity: the grid's lowest."""
        return self.grid.sigma_min

    @property
    def sigma_max(self) -> float:
        """The highest level, where sampling starts."""
        return self.grid.sigma_max

    @property
    def has_teacher(self) -> bool:
        """Whether the teacher keeps parameters of its own."""
        return self.ema_teacher is not None

    def teacher_rate(self, step: jax.Array) -> jax.Array:
        """The teacher's EMA rate.

        Args:
          step: int32[], training step.

        Returns:
          A scalar in [0, 1).

        Raises:
          ValueError: the teacher has the student's own weights.
        """
        if self.ema_teacher is None:
            raise ValueError("this objective's teacher has the student's own weights")
        return self.ema_teacher(self.curriculum(step))

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """No learned parameters of its own.

        Args:
          key: of no effect.

        Returns:
          {}.
        """
        del key
        return {}

    def levels(self, key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The levels in use at a step.

        Args:
          key: PRNG key that stays the same through training (random grids fold in the plateau).
          step: int32[], training step.

        Returns:
          The padded levels, float[max_levels], and how many of them are in use, int32[].
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

        Raises:
          ArgumentError: `step` is no scalar, or `pace` no state of this pacing.
        """
        check_step(step)
        check_pace(self.pacing, pace)
        levels, num_levels = self.levels(fixed_key, step)

        probs = self.law.probs(levels, num_levels)
        pacing = self.pacing.on(pair_survival(levels, probs))
        index = self.law.sample(
            key, levels, num_levels, count, lambda u: pacing.warp(u, pace, step)
        )
        # A law that learned its way to NaN draws pair 0 for ever: its levels say so in the loss.
        levels, importance = jnp.where(jnp.isfinite(jnp.sum(probs)), levels, jnp.nan), None
        if not isinstance(pacing, NoPacing):
            plain = jnp.asarray(probs)[index]
            probs = self.law.paced_probs(levels, num_levels, lambda t: pacing.cdf(t, pace, step))
            if pacing.compensate:
                drawn = jnp.asarray(probs)[index]
                # What is too rare for this dtype under either law is drawn by its rounding alone.
                # The law learns from losses divided by this: never 0.
                both = (drawn > 0) & (plain > 0)
                importance = jnp.where(both, plain / jnp.where(both, drawn, 1), 1)
        return Pairs(
            levels[index], levels[index + 1], jnp.log(jnp.asarray(probs)[index]), importance
        )

    def denoiser(self, network: Denoiser) -> Denoiser:
        """The consistency function of a raw network, `f(x, sigma_min) = x`.

        Args:
          network: `F(x float[B, ...], c_noise float[B]) -> float[B, ...]`.

        Returns:
          `f(x float[B, ...], sigma float[B]) -> float[B, ...]`, x = x0 + sigma eps.
        """
        return preconditioned(
            network, lambda s: karras_preconditioning(s, self.sigma_data, self.sigma_min)
        )

    def losses(
        self,
        student: Denoiser,
        teacher: Denoiser,
        own: Any,
        x0: jax.Array,
        eps: jax.Array,
        levels: Pairs,
    ) -> jax.Array:
        """`consistency_losses` of two raw networks `F(x, c_noise)`.

        Args:
          student: the network with the parameters that are trained.
          teacher: the network with the teacher's parameters; no gradient flows through it.
          own: of no effect.
          x0: float[B, ...], clean images in [-1, 1].
          eps: float[B, ...], standard normal.
          levels: from `draw`.

        Returns:
          float[B], one loss per image.

        Raises:
          ArgumentError: shapes that differ, or levels that do not ascend.
        """
        del own
        return consistency_losses(
            self.denoiser(seen_as("student", student, x0.dtype)),
            self.denoiser(seen_as("teacher", teacher, x0.dtype)),
            x0,
            eps,
            levels,
            self.distance,
            self.weight,
        )

    def observe(
        self, losses: jax.Array, own: Any, levels: Pairs, weight: jax.Array | None = None
    ) -> Any:
        """What the pacing learns from a batch, by the losses of its pairs, uncompensated.

        Args:
          losses: float[B], from `losses`.
          own: of no effect.
          levels: from `draw`.
          weight: float[B], what a selection of noise weighs each loss by; None for 1.

        Returns:
          Sums for `pacing.update`; add them up over devices.
        """
        del own
        values = CONSISTENCY[self.pacing.statistic](uncompensated(losses, levels))
        return self.pacing.observe(levels.lam, values if weight is None else weight * values)

    def metrics(self, step: jax.Array, pace: Any = ()) -> dict[str, jax.Array]:
        """The number of levels and where the pacing stands.

        Args:
          step: int32[], training step.
          pace: the pacing's state.

        Returns:
          `num_levels`, and the pacing's metrics.
        """
        # A grid that is drawn is shown as one drawn like it: the record has no key.
        levels, num_levels = self.levels(jax.random.key(0), step)
        pacing = self.pacing.on(pair_survival(levels, self.law.probs(levels, num_levels)))
        return {"num_levels": jnp.asarray(num_levels), **pacing.metrics(pace, step)}
