"""What an inner model does in one meta-step: what it draws, and how a rater weighs it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnoise.errors import ArgumentError, one_of
from jaxnoise.meta.neutral import check_floor, floored_softmax
from jaxnoise.meta.unroll import InnerState, MetaResult, meta_gradient
from jaxnoise.models.rater_layers import DRAW, LEVEL, SEES
from jaxnoise.noise_rater.inner_task import InnerTask
from jaxnoise.noise_rater.population import Population, outer_columns
from jaxnoise.training.drawing import AXIS, Examples
from jaxnoise.training.shown import network_input
from jaxnoise.training.streams import stream_key

Rater = Callable[..., jax.Array]
"""`(eta, *what it sees) -> f32[B]`; `SEES` of `jaxnoise.models.rater_layers` names what it may see,
by default `(x0 float[B,H,W,C], eps float[B,H,W,C], lam f32[B])`, lam = log SNR."""


@dataclass(frozen=True)
class InnerTraining:
    """T weighted steps of an inner model, and the outer loss that judges them.

      g_k = grad_theta sum_i w_i l_i(theta_k),   k = 0..T-1
      candidates = None:   w_i = f / B + (1 - f) softmax(r / temperature)_i over the global batch
      candidates = M:      w_bm = (f / M + (1 - f) softmax(r_b / temperature)_m) / B over M draws of
                           noise for one image at one level
      outer loss: mean l(theta_T), unweighted, on held-out images with noise of their own and
      without dropout

    Args:
      task: what inner models train on.
      optimizer: of the inner models.
      rater: `(eta, *what it sees) -> scores`.
      inner_steps: T, at least 1.
      outer_batch: images of the outer loss over all devices, a multiple R B.
      population: how many inner models there are, and how long they live.
      temperature: of the softmax, > 0.
      unroll: whether models and inner steps are a Python loop; None for a loop on CPU.
      sees: what the rater sees, one of `SEES`. One of the noisy image, or of the level's density,
        is neutral: its weights do not move the best denoiser. Draws of noise for one image share
        x0, so that it must go without candidates.
      floor: f in [0, 1).
      record: eta -> scalars for the record, beside losses; None for none.

    Raises:
      ArgumentError: an argument out of range, or candidates for a neutral rater.

    Reference: NoiseRater (arXiv 2605.08144), abstract; the softmax over candidates is our choice.
    """

    task: InnerTask
    optimizer: optax.GradientTransformation
    rater: Rater
    inner_steps: int
    outer_batch: int
    population: Population
    temperature: float = 1.0
    unroll: bool | None = None
    sees: str = DRAW
    floor: float = 0.0
    record: Callable[[Any], dict[str, jax.Array]] | None = None

    def __post_init__(self) -> None:
        one_of("sees", self.sees, SEES)
        check_floor(self.floor)
        if self.sees != DRAW and self.task.candidates is not None:
            allowed = (
                f"None for a rater of the {self.sees}: draws for one image share what is hidden"
            )
            raise ArgumentError("candidates", self.task.candidates, allowed)
        if self.inner_steps < 1:
            raise ArgumentError("inner_steps", self.inner_steps, "at least 1")
        if not self.temperature > 0:
            raise ArgumentError("temperature", self.temperature, "a number > 0")
        outer_columns(self.task.global_batch, self.outer_batch)

    @property
    def columns(self) -> int:
        """T + R, batches of one model in a meta-step."""
        return self.inner_steps + outer_columns(self.task.global_batch, self.outer_batch)

    def by_member(self, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A meta-step's examples [b, P, T + R, ...] as [P, T + R, b, ...].

        Raises:
          ArgumentError: they are not laid out so.
        """
        if images.shape[1:3] != (self.population.size, self.columns):
            allowed = f"examples [b, {self.population.size}, {self.columns}, ...]"
            raise ArgumentError("batch", images.shape, allowed)
        return jnp.moveaxis(images, 0, 2), jnp.moveaxis(labels, 0, 2)

    def draw(
        self, key: jax.Array, age: jax.Array, images: jax.Array, labels: jax.Array
    ) -> tuple[Examples, Examples]:
        """Examples of the inner steps, leaves [T, b, ...], and of the outer loss, [R b, ...].

        Args:
          key: PRNG key of one life of one inner model.
          age: int32[], meta-steps since the model was begun.
          images: uint8 or float32[T + R, b, H, W, C], this device's.
          labels: int32[T + R, b].
        """
        steps, made = self.inner_steps, age * self.inner_steps
        grid_key = stream_key(key, "grid")

        def one(k: jax.Array, images: jax.Array, labels: jax.Array) -> Examples:
            return self.task.draw(key, grid_key, made + k, images, labels)

        inner = jax.vmap(one)(jnp.arange(steps), images[:steps], labels[:steps])
        outer = self.task.draw_outer(key, grid_key, made + steps, images[steps:], labels[steps:])
        return inner, outer

    def scores(self, eta: Any, examples: Examples) -> jax.Array:
        """The rater's scores of examples: float[b]."""
        return self.rater(eta, *self.seen(examples))

    def seen(self, examples: Examples) -> tuple[Any, ...]:
        """What the rater sees of examples, as `SEES` names it."""
        x0, eps, levels = examples.x0, examples.eps, examples.levels
        assert eps is not None
        if self.sees == LEVEL:
            return levels.lam, levels.log_prob  # type: ignore[attr-defined]
        if self.sees == DRAW:
            return x0, eps, levels.lam
        # The noisy image does not depend on parameters of the objective's own.
        own = self.task.objective.init(jax.random.key(0))
        x = network_input(self.task.objective, own, x0, eps, levels)
        return x, levels.lam, examples.labels

    def above_rivals(self, scores: jax.Array) -> jax.Array:
        """Scores float[..., b] less the mean of those that compete with each.

        A softmax cancels what its competitors share, so that nothing else is learned.
        """
        candidates = self.task.candidates
        if candidates is None:
            return scores - jax.lax.pmean(jnp.mean(scores, axis=-1, keepdims=True), AXIS)
        of_image = scores.reshape(-1, candidates)
        return (of_image - jnp.mean(of_image, axis=1, keepdims=True)).reshape(scores.shape)

    def weights(self, eta: Any, examples: Examples) -> jax.Array:
        """The weights of an inner step's examples: float[b], of sum 1 over all devices."""
        logits = self.scores(eta, examples) / self.temperature
        candidates = self.task.candidates
        batch = self.task.global_batch
        if candidates is None:
            return floored_softmax(logits, self.floor, AXIS) / batch
        of_image = jax.nn.softmax(logits.reshape(-1, candidates))
        floored = self.floor / candidates + (1 - self.floor) * of_image
        return floored.reshape(-1) / batch

    def solver(self, mode: str) -> Callable[[Any, InnerState, Examples, Examples], MetaResult]:
        """`(eta, inner, examples, outer) -> MetaResult` over the axis "data"."""
        return meta_gradient(
            self.task.losses,
            self.weights,
            self.task.outer_loss,
            self.optimizer,
            mode=mode,
            unroll=self.unroll,
            axis_name=AXIS,
        )
