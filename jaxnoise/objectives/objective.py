"""What the training step asks of any objective."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import (
    ArgumentError,
    Described,
    check_callable,
    check_shape,
    describe,
    one_of,
)
from jaxnoise.noise.pacing import Pacing

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]
"""`(x float[B, ...], level float[B]) -> float[B, ...]`: a raw network F(x, c_noise), or the
denoiser D(x, sigma) that preconditioning makes of it. A network that is told several numbers of
the noise takes c_noise float[B, n]."""


class Objective(Protocol):
    """A rule that draws noise levels and gives one loss per image.

    For an objective of one's own, which needs no base. `DenoisingObjective`,
    `ConsistencyObjective`, `ECTObjective`, `SCMObjective` and `MeanFlowObjective` are such.

    Attributes:
      pacing: which part of the noise is trained on when; its state lies in the train state.
      has_teacher: whether a teacher keeps parameters of its own.
    """

    @property
    def pacing(self) -> Pacing: ...

    @property
    def has_teacher(self) -> bool: ...

    def init(self, key: jax.Array) -> Any:
        """Learned parameters of the objective's own, at the start of training.

        Args:
          key: PRNG key.

        Returns:
          A pytree of arrays, or {}.
        """
        ...

    def draw(
        self, key: jax.Array, fixed_key: jax.Array, step: jax.Array, count: int, pace: Any
    ) -> Any:
        """Draws the levels of one whole GLOBAL batch.

        Args:
          key: PRNG key of this step.
          fixed_key: PRNG key that stays the same through training.
          step: int32[], training step.
          count: the global batch (static), since a stratified law sees the batch.
          pace: the pacing's state.

        Returns:
          `Levels` of float[count].
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
        """The loss of each image, from raw networks `F(x, c_noise)`.

        Args:
          student: the network with the parameters that are trained.
          teacher: the network with the teacher's parameters, same dropout mask.
          own: parameters from `init`.
          x0: float[B, ...], clean images in [-1, 1].
          eps: float[B, ...], standard normal.
          levels: from `draw`.

        Returns:
          float[B].
        """
        ...

    def observe(
        self, losses: jax.Array, own: Any, levels: Any, weight: jax.Array | None = None
    ) -> Any:
        """What the pacing learns from a batch: sums that add over examples and devices.

        Args:
          losses: float[B], from `losses`.
          own: parameters from `init`.
          levels: from `draw`.
          weight: float[B], what a selection of noise weighs each loss by; None for 1, and only
            given where a selection has weights.

        Returns:
          What `pacing.update` takes, once it is summed over all devices.
        """
        ...

    def teacher_rate(self, step: jax.Array) -> jax.Array:
        """The teacher's EMA rate; asked only if `has_teacher`.

        Args:
          step: int32[], training step.

        Returns:
          A scalar in [0, 1).
        """
        ...

    def denoiser(self, network: Denoiser) -> Denoiser:
        """The estimate of the clean image, from `x = x0 + sigma eps`.

        Args:
          network: raw network, `F(x float[B, ...], c_noise float[B]) -> float[B, ...]`.

        Returns:
          `D(x float[B, ...], sigma float[B]) -> float[B, ...]`.
        """
        ...

    def metrics(self, step: jax.Array, pace: Any) -> dict[str, jax.Array]:
        """What the record shows of the objective, beside losses.

        Args:
          step: int32[], training step.
          pace: the pacing's state.

        Returns:
          Named scalars.
        """
        ...


def seen_as(argument: str, network: Denoiser, dtype: jnp.dtype) -> Denoiser:
    """A network that sees images of a dtype, whatever noise was added in.

    Args:
      argument: the parameter that holds the network.
      network: `(x, level) -> float[B, ...]`.
      dtype: of the images.

    Raises:
      ArgumentError: it cannot be called.
    """
    check_callable(argument, network, "(x, c_noise) -> float[B, ...]")

    def cast(x: jax.Array, level: jax.Array) -> jax.Array:
        return network(x.astype(dtype), level)

    return cast


def check_images(x0: jax.Array, eps: jax.Array) -> None:
    """Raises ArgumentError unless images and noise are floats of one shape."""
    if not hasattr(x0, "dtype") or not jnp.issubdtype(x0.dtype, jnp.floating):
        raise ArgumentError("x0", describe(x0), "a float array, images in [-1, 1]")
    check_shape("eps", eps, x0.shape, "the images'")


def check_pacing(pacing: Any, offered: Iterable[str]) -> None:
    """Raises ArgumentError unless a pacing follows a statistic that the objective offers."""
    if not isinstance(pacing, Pacing):
        raise ArgumentError("pacing", describe(pacing), "a jaxnoise.noise.Pacing")
    one_of("pacing.statistic", pacing.statistic, offered)


def check_pace(pacing: Pacing, pace: Any) -> None:
    """Raises ArgumentError unless `pace` is a state of the pacing."""
    with jax.ensure_compile_time_eval():
        first = pacing.init()
    wanted, found = (
        (jax.tree.structure(tree), [jnp.shape(leaf) for leaf in jax.tree.leaves(tree)])
        for tree in (first, pace)
    )
    if wanted[1] and wanted != found:
        kind = type(first).__name__
        # Of any size, and so not shown.
        shown = Described(f"a {type(pace).__name__} of arrays {found[1]}") if found[1] else pace
        allowed = f"the state of {pacing}, a {kind} of {wanted[1]}, from its init() or update(...)"
        raise ArgumentError("pace", shown, allowed)


def check_step(step: Any) -> None:
    """Raises ArgumentError unless `step` is one number: a batch of them would pace each example."""
    if np.ndim(step):
        raise ArgumentError("step", describe(step), "one integer, the training step")
