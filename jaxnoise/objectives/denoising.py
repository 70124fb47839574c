"""Denoising (diffusion) training: the network predicts what lambda = log SNR has hidden."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.errors import (
    ArgumentError,
    Described,
    check_callable,
    check_numbers,
    check_shape,
    describe,
    is_traced,
    one_of,
)
from jaxnoise.noise.logsnr_law import LogSnrLaw, check_law
from jaxnoise.noise.pacing import NoPacing, Pacing
from jaxnoise.noise.parameters import log_of
from jaxnoise.noise.uniforms import SOURCES
from jaxnoise.objectives.drawn_range import LARGEST_STEP, drawn_range, ends_of
from jaxnoise.objectives.effective_sample_size import COMMON
from jaxnoise.objectives.levels import (
    LogSnrLevels,
    check_importance,
    drawn_levels,
    uncompensated,
)
from jaxnoise.objectives.objective import (
    Denoiser,
    check_images,
    check_pace,
    check_pacing,
    check_step,
)
from jaxnoise.objectives.parameterization import check_output, preconditioned, wide_dtype
from jaxnoise.objectives.prediction import Prediction
from jaxnoise.objectives.statistics import DENOISING, Seen
from jaxnoise.objectives.uncertainty import LearnedUncertainty
from jaxnoise.objectives.weight_checks import (
    LARGEST_LOG_WEIGHT,
    check_compensation,
    check_factors,
    check_overflow,
    levels_to_check,
)
from jaxnoise.objectives.weighting import SnrWeight


@dataclass(frozen=True)
class DenoisingObjective:
    """Denoising under a proposal p(lambda), a weight w(lambda) and, if wanted, compensation w/p.

      lambda_b = law.inverse_survival(pacing.warp(u_b)),   L_b = mean_pixels (F_b - target_b)^2
      "none"         loss_b = w(lambda_b) L_b              E = integral of p w L
      "importance"   loss_b = (w / p)(lambda_b) L_b        E = integral of w L, whatever p is

    For diffusion and flow models. The three are set apart: `law` says which noise is drawn,
    `weight` how much an error counts there, `compensation` whether the loss is rid of the influence
    of the law.

    The mean over pixels, not the sum, so that a loss is of order 1 at every image size. w is
    converted from the error that it was declared for to that of the network's target. The ratio w/p
    is clipped, and judged at construction, on the error of v (`compensation_ess`), so that neither
    depends on the target; what multiplies the target's own error is judged too (`weight_ess`). A
    pacing that draws from a window gives the integral over the window.

    With `uncertainty` the loss is `w L / e^u + u`, u(lambda) learned.

    Attributes:
      law: the proposal, over log SNR.
      weight: w, with the error it is declared for.
      prediction: what the network predicts: eps, x0 or v of the variance-preserving form, or EDM's.
      compensation: "none" or "importance".
      max_ratio: where w/p is clipped, > 0, or None; the loss is biased by what it cuts off.
      sampling: source of the uniforms for the whole global batch: "stratified", "iid",
        "antithetic" or "sorted".
      pacing: moves the law; by default not at all. `Adaptive` may follow any statistic. One that
        compensates multiplies each loss, so that E stays that of the law; "importance" needs none.
      uncertainty: u(lambda), or None. Not together with compensation, which it would absorb.
      total_steps: updates that it trains for, which tell how far a pacing gets; None for as many as
        it needs.

    Raises:
      ArgumentError: an unknown name, a setting that would have no effect, or a weight that
        overflows within the law.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import Cosine
      >>> from jaxnoise.objectives import DenoisingObjective, Prediction, min_snr_weight
      >>> objective = DenoisingObjective(Cosine(), min_snr_weight(), Prediction("v"))
      >>> key, step = jax.random.key(0), jnp.int32(0)
      >>> levels = objective.draw(key, key, step, count=4)
      >>> x0, eps = jnp.zeros((4, 2, 2, 1)), jnp.ones((4, 2, 2, 1))
      >>> objective.losses(lambda x, c: 0 * x, None, {}, x0, eps, levels).shape
      (4,)

    Reference:
      Ho et al. (arXiv 2006.11239), Salimans and Ho (arXiv 2202.00512), Karras et al. (arXiv
      2206.00364); Hang and Gu (arXiv 2407.03297) for the law over log SNR.
    """

    law: LogSnrLaw
    weight: SnrWeight
    prediction: Prediction = field(default_factory=Prediction)
    compensation: str = "none"
    max_ratio: float | None = None
    sampling: str = "stratified"
    pacing: Pacing = field(default_factory=NoPacing)
    uncertainty: LearnedUncertainty | None = None
    total_steps: int | None = None

    def __post_init__(self) -> None:
        check_law("law", self.law)
        for argument, kind in (("weight", SnrWeight), ("prediction", Prediction)):
            value = getattr(self, argument)
            if not isinstance(value, kind):
                raise ArgumentError(argument, describe(value), f"a {kind.__name__}")
        check_pacing(self.pacing, DENOISING)
        one_of("compensation", self.compensation, ("none", "importance"))
        one_of("sampling", self.sampling, SOURCES)
        if self.max_ratio is not None:
            check_numbers("max_ratio", self.max_ratio, lambda x: x > 0, "a number > 0, or None")
        if self.compensation == "none" and self.max_ratio is not None:
            raise ArgumentError("max_ratio", self.max_ratio, "None without compensation")
        if self.compensation != "none" and self.pacing.compensate:
            allowed = "False with compensation='importance', which divides by its density already"
            raise ArgumentError("pacing.compensate", True, allowed)
        if self.compensation != "none" and self.uncertainty is not None:
            raise ArgumentError(
                "compensation",
                self.compensation,
                "'none' with a learned uncertainty, which would absorb the ratio",
            )
        if not self._is_traced():
            object.__setattr__(self, "pacing", self.pacing.within(lambda: ends_of(self.law)))
            self._check_weight()

    def _is_traced(self) -> bool:
        """Whether the law, the weight or the target has numbers that are not known yet."""
        with jax.ensure_compile_time_eval():
            seen = self.weight.log_on(self.prediction, jnp.zeros(()))
        return is_traced((self.law, self.max_ratio, seen))

    @property
    def has_teacher(self) -> bool:
        """False: denoising has no teacher."""
        return False

    @property
    def trained_range(self) -> tuple[float, float]:
        """Lowest and highest lambda that training sees, if its pacing gets as far as it can.

        At some step all but a millionth of what is drawn lies above the lowest, and at some step
        all but as much below the highest. Samplers must stay within; beyond, the network
        extrapolates.
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
        """There is no teacher, and so no rate.

        Args:
          step: of no effect.

        Raises:
          ValueError: always.
        """
        raise ValueError("denoising has no teacher")

    def init(self, key: jax.Array) -> dict[str, Any]:
        """The parameters of the learned uncertainty.

        Args:
          key: PRNG key.

        Returns:
          {"uncertainty": its parameters}, or {} without one.
        """
        return {} if self.uncertainty is None else {"uncertainty": self.uncertainty.init(key)}

    def draw(
        self, key: jax.Array, fixed_key: jax.Array, step: jax.Array, count: int, pace: Any = ()
    ) -> LogSnrLevels:
        """Draws the noise levels of one whole global batch.

        Args:
          key: PRNG key of this step.
          fixed_key: PRNG key that stays the same through training; of no effect.
          step: int32[], training step.
          count: the GLOBAL batch (static), since a stratified source sees the batch.
          pace: the pacing's state.

        Returns:
          LogSnrLevels of float[count].

        Raises:
          ArgumentError: `step` is no scalar, or `pace` no state of this pacing.
        """
        del fixed_key
        check_step(step)
        check_pace(self.pacing, pace)
        return drawn_levels(self.law, self.pacing, self.sampling, key, count, step, pace)

    def losses(
        self,
        student: Denoiser,
        teacher: Denoiser | None,
        own: Any,
        x0: jax.Array,
        eps: jax.Array,
        levels: LogSnrLevels,
    ) -> jax.Array:
        """The weighted loss of each image from a raw network `F(x, c_noise)`.

        Args:
          student: the network.
          teacher: of no effect.
          own: parameters from `init`.
          x0: float[B, ...], clean images in [-1, 1].
          eps: float[B, ...], standard normal.
          levels: from `draw`.

        Returns:
          float[B].

        Raises:
          ArgumentError: shapes that differ, or levels of another kind.
        """
        del teacher
        check_callable("student", student, "(x, c_noise) -> float[B, ...]")
        check_images(x0, eps)
        if not isinstance(levels, LogSnrLevels):
            kind = type(levels).__name__
            raise ArgumentError("levels", Described(kind), "LogSnrLevels, as `draw` gives them")
        held = isinstance(own, Mapping) and "uncertainty" in own
        if self.uncertainty is not None and not held:
            raise ArgumentError(
                "own", describe(own), "the parameters that the objective's `init` gave"
            )
        for argument, level in (("lam", levels.lam), ("log_prob", levels.log_prob)):
            check_shape(argument, level, x0.shape[:1], "one number for each image")
        check_importance(levels.importance, levels.lam)
        wide = wide_dtype(x0)
        levels = jax.tree.map(lambda x: x.astype(wide), levels)
        lam, clean, noise = levels.lam, x0.astype(wide), eps.astype(wide)
        seen = self.prediction.network_input(clean, noise, lam).astype(x0.dtype)
        raw = student(seen, self.prediction.c_noise(lam))
        check_output("student", raw, x0)
        raw = raw.astype(wide)
        error = (raw - self.prediction.wanted(clean, noise, lam)) ** 2
        error = jnp.mean(error, axis=tuple(range(1, error.ndim)))
        log_factor = self._log_factor(levels)
        u = self._uncertainty(own, lam)
        losses = jnp.exp(log_factor - u) * error + u
        return losses if levels.importance is None else levels.importance * losses

    def errors(self, losses: jax.Array, own: Any, levels: LogSnrLevels) -> jax.Array:
        """The weighted errors `w L` in `losses`, without a learned uncertainty.

        They say how well the network does, where `w L / e^u + u` may be negative and falls as u is
        learned. They are without what compensates a pacing, too.

        Args:
          losses: float[B], from `losses`.
          own: parameters from `init`.
          levels: from `draw`.

        Returns:
          float[B] >= 0. Under an uncertainty they are what is left of `losses - u`, so that errors
          below 1e-7 of `e^u |u|` are lost.
        """
        u = self._uncertainty(own, levels.lam)
        return jnp.maximum(uncompensated(losses, levels) - u, 0) * jnp.exp(u)

    def observe(
        self, losses: jax.Array, own: Any, levels: LogSnrLevels, weight: jax.Array | None = None
    ) -> Any:
        """What the pacing learns from a batch, by the errors of its levels.

        They are weighted as the law without a pacing weights them, whatever was drawn from.

        Args:
          losses: float[B], from `losses`.
          own: parameters from `init`.
          levels: from `draw`.
          weight: float[B], what a selection of noise weighs each loss by; None for 1.

        Returns:
          Sums for `pacing.update`; add them up over devices.
        """
        errors, lam = self.errors(losses, own, levels), levels.lam
        drawn = base = self._log_factor(levels)
        if self.compensation != "none":
            base = self._log_factor_at(lam)
        u = self._uncertainty(own, lam)
        # Where the weight is 0, or too small to divide by, neither the network nor the law learns.
        weighted = drawn > -LARGEST_LOG_WEIGHT
        seen = Seen(
            squared=jnp.where(weighted, errors * jnp.exp(-jnp.where(weighted, drawn, 0)), 0),
            weight=jnp.exp(base),
            trained=jnp.exp(base - u),
            to_eps=jnp.exp(self.prediction.log_x0_ratio(lam) + lam),
        )
        values = DENOISING[self.pacing.statistic](seen)
        return self.pacing.observe(lam, values if weight is None else weight * values)

    def denoiser(self, network: Denoiser) -> Denoiser:
        """`D(x, sigma)`, the estimate of x0 from `x = x0 + sigma eps`, of a raw network.

        For the variance-preserving form x is rescaled by `alpha = 1 / sqrt(1 + sigma^2)` and
        `lambda = -2 ln sigma`; the prediction of eps, x0 or v is turned into one of x0.

        Args:
          network: `F(x float[B, ...], c_noise float[B]) -> float[B, ...]`.

        Returns:
          `D(x float[B, ...], sigma float[B]) -> float[B, ...]`.
        """

        return preconditioned(network, self.prediction.preconditioning)

    def metrics(self, step: jax.Array, pace: Any = ()) -> dict[str, jax.Array]:
        """Where the pacing stands.

        Args:
          step: int32[], training step.
          pace: the pacing's state.

        Returns:
          The pacing's metrics.
        """
        return self.pacing.on(self.law.survival).metrics(pace, step)

    def _uncertainty(self, own: Any, lam: jax.Array) -> jax.Array:
        """u at each lambda; zeros where none is learned."""
        if self.uncertainty is None:
            return jnp.zeros_like(lam)
        return self.uncertainty(own["uncertainty"], lam)

    def _check_weight(self) -> None:
        law, prediction = self.law, self.prediction
        lam, drawn = levels_to_check(law, self.weight)
        check_overflow(law, self.weight, prediction, lam)
        if self.compensation != "none":
            sound = check_compensation(law, self.weight, self.max_ratio)
            drawn = drawn and sound and prediction.target != COMMON.target
        if drawn:
            with jax.ensure_compile_time_eval():
                factors = self._log_factor_at(lam)
            remedy = "" if self.compensation == "none" else "predict v"
            check_factors(law, factors, prediction, remedy)

    def _log_factor_at(self, lam: jax.Array) -> jax.Array:
        none = self.compensation == "none"
        log_prob = jnp.zeros_like(lam) if none else self.law.log_prob(lam)
        return self._log_factor(LogSnrLevels(lam, log_prob))

    def _log_factor(self, levels: LogSnrLevels) -> jax.Array:
        """ln of what multiplies the squared error of the network's target."""
        lam = levels.lam
        if self.compensation == "none":
            return self.weight.log_on(self.prediction, lam)
        log_ratio = self.weight.log_on(COMMON, lam) - levels.log_prob
        if self.max_ratio is not None:
            log_ratio = jnp.minimum(log_ratio, log_of(self.max_ratio))
        return log_ratio + (self.prediction.log_x0_ratio(lam) - COMMON.log_x0_ratio(lam))
