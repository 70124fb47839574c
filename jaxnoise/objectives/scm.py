"""Continuous-time consistency training: the pair of levels in the limit of no gap."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.errors import (
    ArgumentError,
    Described,
    check_callable,
    check_count,
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
from jaxnoise.objectives.derivative import forward_derivative
from jaxnoise.objectives.drawn_range import LARGEST_STEP, drawn_range, ends_of
from jaxnoise.objectives.levels import (
    TangentLevels,
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
from jaxnoise.objectives.parameterization import (
    check_output,
    check_sigma_data,
    over_pixels,
    preconditioned,
    wide_dtype,
)
from jaxnoise.objectives.prediction import Prediction
from jaxnoise.objectives.statistics import CONSISTENCY
from jaxnoise.objectives.uncertainty import LearnedUncertainty


@dataclass(frozen=True)
class SCMObjective:
    """Continuous-time consistency training (sCM), where the target is a derivative, not a level.

    With `t = atan(sigma / sd)`, the network's input `z = cos t x0 / sd + sin t eps` and EDM's
    target `y = -dz/dt = sin t x0 / sd - cos t eps`, the function is EDM's denoiser,

      f = sd (cos t z + sin t F(z, ln(sigma) / 4)),     ln sigma = -lambda / 2,  lambda ~ law

    consistent where df/dt = 0 along a trajectory. J = cos t sin t dF/dt is a forward-mode
    derivative of the network, r grows from 0 to 1 in `warmup_steps`, and over D numbers of an image

      g = sd ( -cos^2 t (F - y) + r (cos t sin t z - J) ),      at r = 1 it is -cos t df/dt
      g <- g / (||g|| / sqrt(D) + c)
      L_b = ||F - sg(F) - sg(g)||^2 / D,      loss_b = L_b / e^u(lambda) + u(lambda)

    sg stops the gradient, so that what is followed is -2 g / D by F. At r = 0 that is EDM's
    denoising, weighted by cos^2 t and clipped; at r = 1 it is the limit of `ECTObjective` as its
    gap goes to 0, without a gap's error. A network that denoises already is where this begins best
    (`train.init_from`).

    For models that sample in one or few steps, where ECT's gap should not limit them, at the cost
    of a forward-mode derivative more in each step. The network must be smooth in the noise that it
    is told: a Fourier embedding of scale 16 makes J large and training unstable.

    Attributes:
      law: of lambda = -2 ln sigma; the authors' for CIFAR-10 is `Normal(mean=2.0, std=2.8)`, which
        is ln sigma ~ N(-1, 1.4^2).
      warmup_steps: updates until r = 1; 0 for r = 1 from the start.
      normalization: c > 0, or None for g as it is.
      sigma_data: standard deviation of the data (sd), and of the weights that it begins with.
      sampling: source of the uniforms for the whole global batch: "stratified", "iid",
        "antithetic" or "sorted".
      pacing: moves the law; by default not at all. `Adaptive` may follow the statistics "loss",
        "second_moment" and "progress" of L, which normalised lies below 1.
      uncertainty: u(lambda), learned, the authors' weighting; None for u = 0.
      total_steps: updates that it trains for, which tell how far a pacing gets; None for as many as
        it needs.

    Raises:
      ArgumentError: an argument of the wrong kind or outside its range, or a pacing by a statistic
        that there is not.

    Example:
      >>> import jax
      >>> from jaxnoise.noise import Normal
      >>> from jaxnoise.objectives import SCMObjective
      >>> objective = SCMObjective(Normal(mean=2.0, std=2.8), warmup_steps=100)
      >>> key = jax.random.key(0)
      >>> levels = objective.draw(key, key, step=25, count=4)
      >>> levels.warmup.tolist()
      [0.25, 0.25, 0.25, 0.25]

    Reference:
      Lu and Song, Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models (arXiv
      2410.11081), consistency training. The norm over sqrt(D), which makes c mean the same at every
      size, is that of NVIDIA's FastGen.
    """

    law: LogSnrLaw
    warmup_steps: int = 10_000
    normalization: float | None = 0.1
    sigma_data: float = 0.5
    sampling: str = "stratified"
    pacing: Pacing = field(default_factory=NoPacing)
    uncertainty: LearnedUncertainty | None = None
    total_steps: int | None = None

    def __post_init__(self) -> None:
        check_law("law", self.law)
        check_count("warmup_steps", self.warmup_steps, lowest=0)
        if self.warmup_steps > LARGEST_STEP:
            raise ArgumentError("warmup_steps", self.warmup_steps, f"at most {LARGEST_STEP}")
        if self.normalization is not None:
            allowed = "a finite number > 0, or None"
            check_numbers(
                "normalization", self.normalization, lambda c: (c > 0) & (c < inf), allowed
            )
        check_sigma_data(self.sigma_data)
        one_of("sampling", self.sampling, SOURCES)
        check_pacing(self.pacing, CONSISTENCY)
        if self.uncertainty is not None and not isinstance(self.uncertainty, LearnedUncertainty):
            allowed = "a LearnedUncertainty, or None"
            raise ArgumentError("uncertainty", describe(self.uncertainty), allowed)
        if not is_traced(self.law):
            object.__setattr__(self, "pacing", self.pacing.within(lambda: ends_of(self.law)))

    @property
    def has_teacher(self) -> bool:
        """False: the derivative is that of the network itself."""
        return False

    @property
    def trained_range(self) -> tuple[float, float]:
        """Lowest and highest lambda that training sees, if its pacing gets as far as it can.

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
    ) -> TangentLevels:
        """Draws the noise levels of one whole global batch.

        Args:
          key: PRNG key of this step.
          fixed_key: PRNG key that stays the same through training; of no effect.
          step: int32[], training step.
          count: the GLOBAL batch (static), since a stratified source sees the batch.
          pace: the pacing's state.

        Returns:
          TangentLevels of float[count].

        Raises:
          ArgumentError: `step` is no scalar, or `pace` no state of this pacing.
        """
        del fixed_key
        check_step(step)
        check_pace(self.pacing, pace)
        drawn = drawn_levels(self.law, self.pacing, self.sampling, key, count, step, pace)
        warmup = jnp.broadcast_to(self._warmup(step).astype(drawn.lam.dtype), drawn.lam.shape)
        return TangentLevels(
            lam=drawn.lam, warmup=warmup, log_prob=drawn.log_prob, importance=drawn.importance
        )

    def denoiser(self, network: Denoiser) -> Denoiser:
        """The consistency function of a raw network, in EDM's form: `f(x, 0) = x`.

        Args:
          network: `F(x float[B, ...], c_noise float[B]) -> float[B, ...]`.

        Returns:
          `f(x float[B, ...], sigma float[B]) -> float[B, ...]`, x = x0 + sigma eps, sigma > 0.
        """
        return preconditioned(network, self._prediction.preconditioning)

    def losses(
        self,
        student: Denoiser,
        teacher: Denoiser,
        own: Any,
        x0: jax.Array,
        eps: jax.Array,
        levels: TangentLevels,
    ) -> jax.Array:
        """The loss of each image from a raw network `F(x, c_noise)`.

        Args:
          student: the network with the parameters that are trained.
          teacher: the same network, of which the derivative is taken; no gradient flows through it.
            Its rules of differentiation must allow forward mode: `UNet(fused=False)`, whose
            parameters and numbers are those of `UNet`. In float32, since J in half precision is
            mostly rounding; its products are, on every device.
          own: parameters from `init`.
          x0: float[B, ...], clean images in [-1, 1].
          eps: float[B, ...], standard normal.
          levels: from `draw`.

        Returns:
          float[B].

        Raises:
          ArgumentError: shapes that differ, levels of another kind, or a teacher that has no
            forward-mode derivative.
        """
        for argument, network in (("student", student), ("teacher", teacher)):
            check_callable(argument, network, "(x, c_noise) -> float[B, ...]")
        check_images(x0, eps)
        if not isinstance(levels, TangentLevels):
            kind = Described(type(levels).__name__)
            raise ArgumentError("levels", kind, "TangentLevels, as `draw` gives them")
        held = isinstance(own, Mapping) and "uncertainty" in own
        if self.uncertainty is not None and not held:
            raise ArgumentError(
                "own", describe(own), "the parameters that the objective's `init` gave"
            )
        for argument, level in (("lam", levels.lam), ("warmup", levels.warmup)):
            check_shape(argument, level, x0.shape[:1], "one number for each image")
        check_importance(levels.importance, levels.lam)
        wide = wide_dtype(x0)
        levels = jax.tree.map(lambda x: x.astype(wide), levels)
        clean, noise, lam = x0.astype(wide), eps.astype(wide), levels.lam
        seen, c_noise = (
            self._prediction.network_input(clean, noise, lam),
            self._prediction.c_noise(lam),
        )
        raw = student(seen.astype(x0.dtype), c_noise)
        check_output("student", raw, x0)
        wanted = self._prediction.wanted(clean, noise, lam)
        tangent = self._tangent(teacher, seen, wanted, levels, x0)
        raw = raw.astype(wide)
        off = raw - jax.lax.stop_gradient(raw) - jax.lax.stop_gradient(tangent)
        error = jnp.mean(off**2, axis=tuple(range(1, off.ndim)))
        u = self._uncertainty(own, lam)
        losses = jnp.exp(-u) * error + u
        return losses if levels.importance is None else levels.importance * losses

    def observe(
        self,
        losses: jax.Array,
        own: Any,
        levels: TangentLevels,
        weight: jax.Array | None = None,
    ) -> Any:
        """What the pacing learns from a batch, by L of its levels, without u and uncompensated.

        Args:
          losses: float[B], from `losses`.
          own: parameters from `init`.
          levels: from `draw`.
          weight: float[B], what a selection of noise weighs each loss by; None for 1.

        Returns:
          Sums for `pacing.update`; add them up over devices.
        """
        u = self._uncertainty(own, levels.lam)
        errors = jnp.maximum(uncompensated(losses, levels) - u, 0) * jnp.exp(u)
        values = CONSISTENCY[self.pacing.statistic](errors)
        return self.pacing.observe(levels.lam, values if weight is None else weight * values)

    def metrics(self, step: jax.Array, pace: Any = ()) -> dict[str, jax.Array]:
        """How much of the derivative counts, and where the pacing stands.

        Args:
          step: int32[], training step.
          pace: the pacing's state.

        Returns:
          `tangent_warmup`, r, and the pacing's metrics.
        """
        paced = self.pacing.on(self.law.survival).metrics(pace, step)
        return {"tangent_warmup": self._warmup(step), **paced}

    @property
    def _prediction(self) -> Prediction:
        return Prediction("edm", self.sigma_data)

    def _warmup(self, step: jax.Array) -> jax.Array:
        """r."""
        if not self.warmup_steps:
            return jnp.ones((), jnp.float32)
        done = jnp.minimum(jnp.asarray(step), self.warmup_steps)
        return done.astype(jnp.float32) / self.warmup_steps

    def _tangent(
        self,
        teacher: Denoiser,
        seen: jax.Array,
        wanted: jax.Array,
        levels: TangentLevels,
        x0: jax.Array,
    ) -> jax.Array:
        """g, normalised if it is asked for."""
        # cos^2 t = sd^2 / (sigma^2 + sd^2), from both ends without overflow.
        at = levels.lam + 2 * log_of(self.sigma_data)
        square = over_pixels(jax.nn.sigmoid(at), seen)
        both = over_pixels(jnp.sqrt(jax.nn.sigmoid(at) * jax.nn.sigmoid(-at)), seen)

        c_noise = self._prediction.c_noise(levels.lam)
        # cos t sin t d(ln(sigma) / 4)/dt = 1/4.
        along = -both * wanted, jnp.full_like(c_noise, 0.25)
        raw, rise = forward_derivative(teacher, (seen, c_noise), along, x0)
        rest = over_pixels(levels.warmup, seen) * (both * seen - rise)
        tangent = self.sigma_data * (rest - square * (raw - wanted))
        if self.normalization is None:
            return tangent
        axes = tuple(range(1, tangent.ndim))
        size = jnp.sqrt(jnp.mean(tangent**2, axis=axes, keepdims=True))
        return tangent / (size + self.normalization)

    def _uncertainty(self, own: Any, lam: jax.Array) -> jax.Array:
        """u at each lambda; zeros where none is learned."""
        if self.uncertainty is None:
            return jnp.zeros_like(lam)
        return self.uncertainty(own["uncertainty"], lam)
