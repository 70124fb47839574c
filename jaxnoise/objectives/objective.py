"""What the training step asks of any objective."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError, check_shape, describe
from jaxnoise.noise.pacing import Pacing

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]
"""`(x float[B, ...], level float[B]) -> float[B, ...]`: a raw network F(x, c_noise), or the
denoiser D(x, sigma) that preconditioning makes of it."""


class Levels(Protocol):
    """The noise levels of a batch: a pytree whose leaves have the leading axis [B]."""

    @property
    def sigma(self) -> jax.Array:
        """float[B], noise over signal, by which an example is reported; may overflow."""
        ...

    @property
    def lam(self) -> jax.Array:
        """float[B], log SNR, by which noise is rated and selected; finite."""
        ...


class Objective(Protocol):
    """A rule that draws noise levels and gives one loss per image."""

    @property
    def pacing(self) -> Pacing:
        """Which part of the noise is trained on when; its state lies in the train state."""
        ...

    @property
    def has_teacher(self) -> bool:
        """Whether a teacher keeps parameters of its own."""
        ...

    def init(self, key: jax.Array) -> Any:
        """Learned parameters of the objective's own, or {}."""
        ...

    def draw(
        self, key: jax.Array, fixed_key: jax.Array, step: jax.Array, count: int, pace: Any
    ) -> Any:
        """The levels of one whole GLOBAL batch, `Levels` of float[count].

        Args:
          key: PRNG key of this step.
          fixed_key: PRNG key that stays the same through training.
          step: int32[], training step.
          count: the global batch (static), since a stratified law sees the batch.
          pace: the pacing's state.
        """
        ...

    def losses(
        self,
        student: Denoiser,
        teacher: Denoiser,
        own: Any,
        x0: jax.Array,
        eps: jax.Array,
        levels: Any,
    ) -> jax.Array:
        """float[B], one loss per image, from raw networks.

        Args:
          student: the network with the parameters that are trained.
          teacher: the network with the teacher's parameters, same dropout mask.
          own: parameters from `init`.
          x0: float[B, ...], clean images in [-1, 1].
          eps: float[B, ...], standard normal.
          levels: from `draw`.
        """
        ...

    def errors(self, losses: jax.Array, own: Any, levels: Any) -> jax.Array:
        """float[B] >= 0, `losses` without what is learned to balance them: what a pacing follows.

        Args:
          losses: from `losses`.
          own: parameters from `init`.
          levels: from `draw`.
        """
        ...

    def teacher_rate(self, step: jax.Array) -> jax.Array:
        """The teacher's EMA rate at `step`; asked only if `has_teacher`."""
        ...

    def denoiser(self, network: Denoiser) -> Denoiser:
        """`(x, sigma) -> estimate of the clean image`, x = x0 + sigma eps."""
        ...

    def metrics(self, step: jax.Array, pace: Any) -> dict[str, jax.Array]:
        """What the record shows of the objective at `step`, beside losses."""
        ...


def seen_as(network: Denoiser, dtype: jnp.dtype) -> Denoiser:
    """A network that sees images of a dtype, whatever noise was added in."""

    def cast(x: jax.Array, level: jax.Array) -> jax.Array:
        return network(x.astype(dtype), level)

    return cast


def check_images(x0: jax.Array, eps: jax.Array) -> None:
    """Raises ArgumentError unless images and noise are floats of one shape."""
    if not hasattr(x0, "dtype") or not jnp.issubdtype(x0.dtype, jnp.floating):
        raise ArgumentError("x0", describe(x0), "a float array, images in [-1, 1]")
    check_shape("eps", eps, x0.shape, "the images'")


def check_pace(pacing: Pacing, pace: Any) -> None:
    """Raises ArgumentError unless `pace` is a state of the pacing."""
    wanted: Any = jax.tree.structure(jax.eval_shape(pacing.init))
    if wanted != jax.tree.structure(pace):
        allowed = f"the state of {pacing}, from its init() or update(...)"
        raise ArgumentError("pace", pace, allowed)
