"""MeanFlow: the network learns the mean velocity between two times, and jumps by it."""

from dataclasses import dataclass, field
from math import inf
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.errors import (
    ArgumentError,
    Described,
    check_callable,
    check_numbers,
    check_shape,
    is_traced,
    one_of,
)
from jaxnoise.noise.logsnr_law import LogSnrLaw, check_law
from jaxnoise.noise.pacing import NoPacing, Pacing
from jaxnoise.noise.parameters import as_level
from jaxnoise.noise.uniforms import SOURCES, iid
from jaxnoise.objectives.derivative import forward_derivative
from jaxnoise.objectives.drawn_range import (
    LARGEST_STEP,
    check_law_range,
    drawn_range,
    ends_of,
)
from jaxnoise.objectives.levels import Pairs, check_importance, drawn_levels, uncompensated
from jaxnoise.objectives.objective import (
    Denoiser,
    check_images,
    check_pace,
    check_pacing,
    check_step,
)
from jaxnoise.objectives.parameterization import (
    Preconditioning,
    check_output,
    check_sigma_data,
    over_pixels,
    preconditioned,
    wide_dtype,
)
from jaxnoise.objectives.statistics import CONSISTENCY

_CLEANEST, _NOISIEST = 60.0, -80.0
"""Log SNR between which float32 holds sigma, its square and its inverse."""


@dataclass(frozen=True)
class MeanFlowObjective:
    """MeanFlow: the mean velocity u between two times of the straight path, learned from scratch.

    On the path `z = (1 - t) x0 + t eps`, with velocity `v = eps - x0`, time is another name of
    noise over signal, `t = sigma / (1 + sigma)`, so that a law over log SNR draws it:

      lambda_t ~ law;   with probability `interval` lambda_r ~ lower, else r = t;   r <- min(r, t)
      u(z, r, t) = F(z / sqrt((1 - t)^2 sd^2 + t^2), (t, t - r)),   du/dt along (v, 0, 1)
      L_b = || u - sg( v - (t - r) du/dt ) ||^2,              loss_b = L_b / sg(L_b + c)^p

    Where r = t that is flow matching; elsewhere u is taught by its own derivative to be the mean of
    v from r to t, so that `x0 = z - t u(z, 0, t)` in one step. sg stops the gradient; at p = 1/2
    every example's gradient by u is as long, and above that large errors count less. The network is
    told two numbers, t and t - r.

    For models that sample in one or few steps, from nothing: no denoiser to begin with, no grid of
    levels and no gap. Its cost is a forward-mode derivative more in each step. The network must be
    smooth in what it is told of the noise, as for `SCMObjective`.

    Attributes:
      law: of lambda = -2 ln sigma at t; the authors' for CIFAR-10 is `Normal(mean=1.2, std=3.2)`,
        which is logit t ~ N(-.6, 1.6^2).
      lower: the same at r; theirs is `Normal(mean=8.0, std=3.2)`, logit r ~ N(-4, 1.6^2).
      interval: probability that r is drawn, in [0, 1]; 0 is flow matching.
      power: p in [0, 1], 0 for the squared error.
      offset: c > 0.
      sigma_data: standard deviation of the data (sd); it scales what the network sees, alone.
      sampling: source of the uniforms of t for the whole global batch: "stratified", "iid",
        "antithetic" or "sorted". r is drawn independently.
      pacing: moves the law of t; by default not at all. `Adaptive` may follow the statistics
        "loss", "second_moment" and "progress" of the loss.
      total_steps: updates that it trains for, which tell how far a pacing gets; None for as many as
        it needs.

    Raises:
      ArgumentError: an argument of the wrong kind or outside its range, a law whose tails leave
        what floats can hold, or a pacing by a statistic that there is not.

    Example:
      >>> import jax
      >>> from jaxnoise.noise import Normal
      >>> from jaxnoise.objectives import MeanFlowObjective
      >>> objective = MeanFlowObjective(Normal(mean=1.2, std=3.2), Normal(mean=8.0, std=3.2))
      >>> key = jax.random.key(0)
      >>> pairs = objective.draw(key, key, step=0, count=64)
      >>> bool((pairs.sigma_lo <= pairs.sigma_hi).all())
      True

    Reference:
      Geng et al., Mean Flows for One-step Generative Modeling (arXiv 2505.13447); its code for
      CIFAR-10, "v1", for the two laws; the paper itself sorts two draws of one law, which is not
      here, nor is its guidance within the target. That the network sees z at unit variance is ours.
    """

    law: LogSnrLaw
    lower: LogSnrLaw
    interval: float = 0.75
    power: float = 0.75
    offset: float = 1e-3
    sigma_data: float = 0.5
    sampling: str = "stratified"
    pacing: Pacing = field(default_factory=NoPacing)
    total_steps: int | None = None

    def __post_init__(self) -> None:
        for argument in ("law", "lower"):
            check_law(argument, getattr(self, argument))
        for argument in ("interval", "power"):
            value = getattr(self, argument)
            check_numbers(argument, value, lambda x: (x >= 0) & (x <= 1), "a number in [0, 1]")
        allowed = "a finite number > 0"
        check_numbers("offset", self.offset, lambda c: (c > 0) & (c < inf), allowed)
        check_sigma_data(self.sigma_data)
        one_of("sampling", self.sampling, SOURCES)
        check_pacing(self.pacing, CONSISTENCY)
        for argument in ("law", "lower"):
            law = getattr(self, argument)
            if not is_traced(law):
                check_law_range(law, _NOISIEST, _CLEANEST, argument)
        if not is_traced(self.law):
            object.__setattr__(self, "pacing", self.pacing.within(lambda: ends_of(self.law)))

    @property
    def has_teacher(self) -> bool:
        """False: the derivative is that of the network itself."""
        return False

    @property
    def trained_range(self) -> tuple[float, float]:
        """Lowest and highest lambda of t that training sees, if its pacing gets as far as it can.

        As `DenoisingObjective.trained_range`. Sampling must start within.
        """
        return self.range_under(self.pacing.settled())

    def range_under(self, pace: Any) -> tuple[float, float]:
        """`trained_range` of a training whose pacing got to a state.

        Args:
          pace: the pacing's state, where training ended.

        Returns:
          Lowest and highest lambda.
        """
        last = LARGEST_STEP if self.total_steps is None else self.total_steps - 1
        return drawn_range(self.law, self.pacing, pace, last)

    def teacher_rate(self, step: jax.Array) -> jax.Array:
        """There is no teacher with weights of its own, and so no rate.

        Args:
          step: of no effect.

        Raises:
          ValueError: always.
        """
        raise ValueError("this objective has no teacher")

    def init(self, key: jax.Array) -> dict[str, jax.Array]:
        """No learned parameters of its own.

        Args:
          key: of no effect.

        Returns:
          {}.
        """
        del key
        return {}

    def draw(
        self, key: jax.Array, fixed_key: jax.Array, step: jax.Array, count: int, pace: Any = ()
    ) -> Pairs:
        """Draws the times of one whole global batch.

        Args:
          key: PRNG key of this step.
          fixed_key: PRNG key that stays the same through training; of no effect.
          step: int32[], training step.
          count: the GLOBAL batch (static), since a stratified source sees the batch.
          pace: the pacing's state.

        Returns:
          Pairs of float[count], `t = sigma_hi / (1 + sigma_hi)` and r alike of sigma_lo, which is
          at most sigma_hi; `log_prob` is the density of t's lambda, pacing included.

        Raises:
          ArgumentError: `step` is no scalar, or `pace` no state of this pacing.
        """
        del fixed_key
        check_step(step)
        check_pace(self.pacing, pace)
        drawn = drawn_levels(self.law, self.pacing, self.sampling, key, count, step, pace)
        of_r, of_choice = (jax.random.fold_in(key, i) for i in (1, 2))
        lower = self.lower.inverse_survival(iid(of_r, count))
        jumps = iid(of_choice, count) < self.interval
        sigma_lo = jnp.where(jumps, jnp.minimum(jnp.exp(-lower / 2), drawn.sigma), drawn.sigma)
        return Pairs(sigma_lo, drawn.sigma, drawn.log_prob, drawn.importance)

    def denoiser(self, network: Denoiser) -> Denoiser:
        """The jump to time 0 of a raw network, `f = z - t u(z, 0, t)`, so that `f(x, 0) = x`.

        Args:
          network: `F(x float[B, ...], (t, t - r) float[B, 2]) -> float[B, ...]`.

        Returns:
          `f(x float[B, ...], sigma float[B]) -> float[B, ...]`, x = x0 + sigma eps, sigma > 0.
        """

        def coefficients(sigma: jax.Array) -> Preconditioning:
            sigma = as_level(sigma)
            t = time_of(sigma)
            return Preconditioning(
                # Not 1 - t, which has few digits left where it multiplies a large x.
                c_skip=1 / (1 + sigma),
                c_out=-t,
                c_in=1 / jnp.sqrt(sigma**2 + self.sigma_data**2),
                c_noise=jnp.stack([t, t], axis=-1),
            )

        return preconditioned(network, coefficients)

    def losses(
        self,
        student: Denoiser,
        teacher: Denoiser,
        own: Any,
        x0: jax.Array,
        eps: jax.Array,
        levels: Pairs,
    ) -> jax.Array:
        """The loss of each image from a raw network `F(x, (t, t - r))`.

        Args:
          student: the network with the parameters that are trained.
          teacher: the same network, of which the derivative is taken, as in `SCMObjective.losses`.
          own: of no effect.
          x0: float[B, ...], clean images in [-1, 1].
          eps: float[B, ...], standard normal.
          levels: from `draw`.

        Returns:
          float[B].

        Raises:
          ArgumentError: shapes that differ, levels of another kind, or a teacher that has no
            forward-mode derivative.
        """
        del own
        for argument, network in (("student", student), ("teacher", teacher)):
            check_callable(argument, network, "(x, c_noise) -> float[B, ...]")
        check_images(x0, eps)
        if not isinstance(levels, Pairs):
            kind = Described(type(levels).__name__)
            raise ArgumentError("levels", kind, "Pairs, as `draw` gives them")
        for argument, level in (("sigma_lo", levels.sigma_lo), ("sigma_hi", levels.sigma_hi)):
            check_shape(argument, level, x0.shape[:1], "one level for each image")
        check_importance(levels.importance, levels.sigma_hi)
        wide = wide_dtype(x0)
        levels = jax.tree.map(lambda x: x.astype(wide), levels)
        clean, noise = x0.astype(wide), eps.astype(wide)
        r, until = time_of(levels.sigma_lo), time_of(levels.sigma_hi)

        def seen(t: jax.Array) -> tuple[jax.Array, jax.Array]:
            """What the network is shown and told at a time of the path, r held."""
            of_x0, of_eps = over_pixels(1 - t, clean), over_pixels(t, clean)
            scale = jnp.sqrt((of_x0 * self.sigma_data) ** 2 + of_eps**2)
            return (of_x0 * clean + of_eps * noise) / scale, jnp.stack([t, t - r], axis=-1)

        shown, along = jax.jvp(seen, (until,), (jnp.ones_like(until),))
        raw = student(shown[0].astype(x0.dtype), shown[1])
        check_output("student", raw, x0)
        _, rise = forward_derivative(teacher, shown, along, x0)
        wanted = noise - clean - over_pixels(until - r, clean) * rise
        off = raw.astype(wide) - jax.lax.stop_gradient(wanted)
        error = jnp.sum(off**2, axis=tuple(range(1, off.ndim)))
        losses = error / jax.lax.stop_gradient(error + self.offset) ** self.power
        return losses if levels.importance is None else levels.importance * losses

    def observe(
        self, losses: jax.Array, own: Any, levels: Pairs, weight: jax.Array | None = None
    ) -> Any:
        """What the pacing learns from a batch, by the losses at its t, uncompensated.

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
        """Where the pacing stands.

        Args:
          step: int32[], training step.
          pace: the pacing's state.

        Returns:
          The pacing's metrics.
        """
        return self.pacing.on(self.law.survival).metrics(pace, step)


def time_of(sigma: jax.Array) -> jax.Array:
    """`t = sigma / (1 + sigma)` of noise over signal, the time on the straight path.

    Args:
      sigma: float[...] >= 0; infinity is 1.

    Returns:
      float[...] in [0, 1].

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.objectives.mean_flow import time_of
      >>> time_of(jnp.array([0.0, 1.0, jnp.inf])).tolist()
      [0.0, 0.5, 1.0]
    """
    return 1 / (1 + 1 / sigma)
