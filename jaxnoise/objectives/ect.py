"""Easy consistency tuning: pairs of levels that are drawn, with a gap that shrinks."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import (
    ArgumentError,
    Described,
    check_callable,
    check_shape,
    is_traced,
    one_of,
)
from jaxnoise.noise.gaps import Gap
from jaxnoise.noise.logsnr_law import LogSnrLaw, check_law
from jaxnoise.noise.pacing import NoPacing, Pacing
from jaxnoise.noise.uniforms import SOURCES
from jaxnoise.objectives.consistency import Distance, PairWeight, consistency_losses
from jaxnoise.objectives.distances import l2
from jaxnoise.objectives.drawn_range import (
    LARGEST_STEP,
    check_law_range,
    drawn_range,
    ends_of,
)
from jaxnoise.objectives.levels import Pairs, drawn_levels, uncompensated
from jaxnoise.objectives.objective import (
    Denoiser,
    check_pace,
    check_pacing,
    check_step,
    seen_as,
)
from jaxnoise.objectives.parameterization import (
    check_sigma_data,
    edm_preconditioning,
    over_pixels,
    preconditioned,
)
from jaxnoise.objectives.statistics import CONSISTENCY
from jaxnoise.objectives.weighting import inverse_gap

_CLEANEST = 30.0
"""Log SNR. Beyond, a pair's images differ by less than float32 rounds them."""
_NOISIEST = -80.0
"""Log SNR whose sigma float32 can square."""
_SHOWN_AT = 10.0


@dataclass(frozen=True)
class ECTObjective:
    """Easy consistency tuning: the student's level is drawn from a law, the teacher's lies below.

      sigma = e^(-lambda / 2), lambda ~ law,   sigma_lo = gap(sigma, step)
      L_b = w(sigma_lo, sigma) d( f(x0 + sigma eps, sigma), sg f(x0 + sigma_lo eps, sigma_lo) )

    sg stops the gradient. f is EDM's denoiser form, `f(x, 0) = x`: where sigma_lo is 0 the target
    is the image itself, and what is trained is a denoiser. So a network that denoises already is
    where this begins best (`train.init_from`), and every law over log SNR, source of uniforms and
    pacing can say which levels it is tuned on.

    For models that sample in one or few steps, from a diffusion model that there is already, at a
    small part of what its training took. In float32: at high noise and late in training a network
    in half precision rounds its outputs by more than those of a pair differ.

    Attributes:
      law: of lambda = -2 ln sigma, the student's level; the authors' is
        `Normal(mean=2.2, std=4.0)`, which is ln sigma ~ N(-1.1, 2^2).
      gap: `(sigma float[B], step) -> sigma_lo float[B]`, below sigma, or 0.
      distance: `(a, b) -> float[B]`; the norm of the difference by default.
      weight: `(sigma_lo, sigma) -> float[B]`; 1 / (sigma - sigma_lo) by default.
      sigma_data: standard deviation of the data, and of the weights that it begins with.
      sampling: source of the uniforms for the whole global batch: "stratified", "iid",
        "antithetic" or "sorted".
      pacing: moves the law; by default not at all. `Adaptive` may follow the statistics "loss",
        "second_moment" and "progress" of the loss.
      total_steps: updates that it trains for, which tell how far a pacing gets; None for as many as
        it needs.

    Raises:
      ArgumentError: an argument of the wrong kind or outside its range, a law whose tails leave
        what floats can hold, or a pacing by a statistic that there is not.

    Example:
      >>> import jax
      >>> from jaxnoise.noise import Normal, ShrinkingGap
      >>> from jaxnoise.objectives import ECTObjective
      >>> objective = ECTObjective(Normal(mean=2.2, std=4.0), ShrinkingGap(total_steps=800))
      >>> key = jax.random.key(0)
      >>> pairs = objective.draw(key, key, step=799, count=64)
      >>> pairs.sigma_hi.shape, bool((pairs.sigma_lo < pairs.sigma_hi).all())
      ((64,), True)

    Reference:
      Geng et al., Consistency Models Made Easy (arXiv 2406.14548).
    """

    law: LogSnrLaw
    gap: Gap
    distance: Distance = l2
    weight: PairWeight = inverse_gap
    sigma_data: float = 0.5
    sampling: str = "stratified"
    pacing: Pacing = field(default_factory=NoPacing)
    total_steps: int | None = None

    def __post_init__(self) -> None:
        check_law("law", self.law)
        check_callable("distance", self.distance, "(a, b) -> float[B]")
        check_callable("weight", self.weight, "(sigma_lo, sigma_hi) -> float[B]")
        check_callable("gap", self.gap, "(sigma float[B], step) -> sigma_lo float[B]")
        check_sigma_data(self.sigma_data)
        one_of("sampling", self.sampling, SOURCES)
        check_pacing(self.pacing, CONSISTENCY)
        if is_traced(self.law):
            return
        object.__setattr__(self, "pacing", self.pacing.within(lambda: ends_of(self.law)))
        low, high = check_law_range(self.law, _NOISIEST, _CLEANEST)
        self._check_gap(np.exp(-np.linspace(low, high, 33) / 2))

    def _check_gap(self, sigma: np.ndarray) -> None:
        """Raises ArgumentError unless the gap gives levels below these all through training."""
        last = LARGEST_STEP if self.total_steps is None else self.total_steps - 1
        with jax.ensure_compile_time_eval():
            levels = jnp.asarray(sigma, jnp.result_type(float))
            for step in sorted({0, last // 2, last}):
                try:
                    below = self.gap(levels, jnp.int32(step))
                # Code of one's own may fail: whoever calls it next says in which line.
                except Exception as error:
                    if isinstance(error, ArgumentError):
                        raise
                    return
                if is_traced(below):
                    return
                check_shape("gap", below, levels.shape, "one level for each sigma")
                wrong = ~((np.asarray(below) >= 0) & (np.asarray(below) < np.asarray(levels)))
                if wrong.any():
                    at, found = float(levels[wrong][0]), float(below[wrong][0])
                    shown = f"a function that gives {found:g} at sigma={at:g}, step={step}"
                    allowed = "one to sigma_lo, 0 <= sigma_lo < sigma"
                    raise ArgumentError("gap", Described(shown), allowed)

    @property
    def has_teacher(self) -> bool:
        """False: the teacher has the student's own weights."""
        return False

    @property
    def trained_range(self) -> tuple[float, float]:
        """Lowest and highest lambda of the student's levels, if its pacing gets as far as it can.

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
        """The teacher has the student's own weights, and so no rate.

        Args:
          step: of no effect.

        Raises:
          ValueError: always.
        """
        raise ValueError("this objective's teacher has the student's own weights")

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
        """Draws the pairs of one whole global batch.

        Args:
          key: PRNG key of this step.
          fixed_key: PRNG key that stays the same through training; of no effect.
          step: int32[], training step.
          count: the GLOBAL batch (static), since a stratified source sees the batch.
          pace: the pacing's state.

        Returns:
          Pairs of float[count]; `log_prob` is the density of lambda, pacing included.

        Raises:
          ArgumentError: `step` is no scalar, or `pace` no state of this pacing.
        """
        del fixed_key
        check_step(step)
        check_pace(self.pacing, pace)
        drawn = drawn_levels(self.law, self.pacing, self.sampling, key, count, step, pace)
        sigma_lo = self.gap(drawn.sigma, step)
        return Pairs(sigma_lo, drawn.sigma, drawn.log_prob, drawn.importance)

    def denoiser(self, network: Denoiser) -> Denoiser:
        """The consistency function of a raw network, in EDM's form: `f(x, 0) = x`.

        Args:
          network: `F(x float[B, ...], c_noise float[B]) -> float[B, ...]`.

        Returns:
          `f(x float[B, ...], sigma float[B]) -> float[B, ...]`, x = x0 + sigma eps, sigma > 0.
        """
        return preconditioned(network, lambda s: edm_preconditioning(s, self.sigma_data))

    def losses(
        self,
        student: Denoiser,
        teacher: Denoiser,
        own: Any,
        x0: jax.Array,
        eps: jax.Array,
        levels: Pairs,
    ) -> jax.Array:
        """`consistency_losses` of two raw networks `F(x, c_noise)`; at sigma_lo = 0 against x0.

        Args:
          student: the network with the parameters that are trained.
          teacher: the same; no gradient flows through it.
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
        below = self.denoiser(seen_as("teacher", teacher, x0.dtype))

        def target(x: jax.Array, sigma: jax.Array) -> jax.Array:
            # c_noise of no noise is the logarithm of 0: the network is asked at another level.
            noisy = sigma > 0
            found = below(x, jnp.where(noisy, sigma, 1))
            return jnp.where(over_pixels(noisy, x), found, x)

        return consistency_losses(
            self.denoiser(seen_as("student", student, x0.dtype)),
            target,
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
        """How near the levels of a pair are, and where the pacing stands.

        Args:
          step: int32[], training step.
          pace: the pacing's state.

        Returns:
          `relative_gap`, 1 - sigma_lo / sigma at sigma = 10, and the pacing's metrics.
        """
        gap = 1 - self.gap(jnp.full(1, _SHOWN_AT), step) / _SHOWN_AT
        return {"relative_gap": gap[0], **self.pacing.on(self.law.survival).metrics(pace, step)}
