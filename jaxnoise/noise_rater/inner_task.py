"""What the inner models of a meta-step train on, and what they are judged by."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError
from jaxnoise.meta.candidates import draw_candidates
from jaxnoise.objectives.objective import Objective
from jaxnoise.training.drawing import Drawing, Examples, Network, example_losses
from jaxnoise.training.state import Params
from jaxnoise.training.streams import stream_key


@dataclass(frozen=True)
class InnerTask:
    """What inner models train on, drawn as the training step draws it.

    Args:
      network: the raw network `F`.
      objective: what to train on, without a teacher and a pacing that have a state of their own.
      global_batch: images per inner step over all devices.
      num_classes: labels that the network sees are below it; 0 for an unconditional network.
      dropout: whether the network has dropout, in inner steps; the outer loss goes without.
      flip: whether to mirror the images of inner steps at random.
      candidates: M, how much noise is drawn for one image, or None for one draw.
      judged_by: the objective of the outer loss, with a law of its own; None for `objective`. Its
        learned parameters are those of `objective`.
      teacher_network: as in `jaxnoise.training.step.make_step`.
    """

    network: Network
    objective: Objective
    global_batch: int
    num_classes: int
    dropout: bool
    flip: bool
    candidates: int | None
    judged_by: Objective | None = None
    teacher_network: Network | None = None

    def __post_init__(self) -> None:
        for name in ("objective", "judged_by"):
            given = getattr(self, name)
            if given and (given.has_teacher or jax.tree.leaves(given.pacing.init())):
                allowed = "an objective whose teacher and pacing keep no state of their own"
                raise ArgumentError(name, type(given).__name__, allowed)
        if self.candidates is not None and self.candidates < 2:
            raise ArgumentError("candidates", self.candidates, "at least 2, or None")

    def draw(
        self,
        key: jax.Array,
        grid_key: jax.Array,
        step: jax.Array,
        images: jax.Array,
        labels: jax.Array,
    ) -> Examples:
        """The examples of one inner step, M side by side for each image if there are candidates.

        Args:
          key: PRNG key of one life of one inner model.
          grid_key: PRNG key of this model's levels.
          step: int32[], how many steps this model has made.
          images: uint8 or float32[b, H, W, C], this device's.
          labels: int32[b].
        """
        count = self.candidates or 1
        drawing = self._drawing(self.objective, self.dropout, self.flip)
        examples, eps = self._draw(drawing, key, grid_key, step, images, labels, count)
        if count > 1:
            examples = jax.tree.map(lambda x: jnp.repeat(x, count, axis=0), examples)
        return examples.replace(eps=eps.reshape(examples.x0.shape))

    def draw_outer(
        self,
        key: jax.Array,
        grid_key: jax.Array,
        step: jax.Array,
        images: jax.Array,
        labels: jax.Array,
    ) -> Examples:
        """The examples of R outer batches, with noise of their own: leaves of [R b, ...].

        Args:
          key: PRNG key of one life of one inner model.
          grid_key: PRNG key of this model's levels, so that it is judged at those it trains on
            (unless it is judged by a law of its own).
          step: int32[], how many steps this model has made.
          images: uint8 or float32[R, b, H, W, C].
          labels: int32[R, b].
        """
        outer = stream_key(key, "outer", step)
        drawing = self._drawing(self._outer_objective, dropout=False, flip=False)

        def one(r: jax.Array, images: jax.Array, labels: jax.Array) -> Examples:
            own = jax.random.fold_in(outer, r)
            examples, eps = self._draw(drawing, own, grid_key, step, images, labels, 1)
            return examples.replace(eps=eps[:, 0])

        drawn = jax.vmap(one)(jnp.arange(images.shape[0]), images, labels)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), drawn)

    @property
    def _outer_objective(self) -> Objective:
        return self.objective if self.judged_by is None else self.judged_by

    def _drawing(self, objective: Objective, dropout: bool, flip: bool) -> Drawing:
        return Drawing(objective, self.global_batch, self.num_classes, dropout, flip)

    def _draw(
        self,
        drawing: Drawing,
        key: jax.Array,
        grid_key: jax.Array,
        step: jax.Array,
        images: jax.Array,
        labels: jax.Array,
        count: int,
    ) -> tuple[Examples, jax.Array]:
        """Examples without noise, and float[b, count, H, W, C] draws of it."""
        pace = drawing.objective.pacing.init()
        examples, keys = drawing.draw(key, grid_key, step, pace, images, labels)
        x0 = examples.x0
        return examples, draw_candidates(keys, count, x0.shape[1:], x0.dtype)

    def losses(self, theta: Params, examples: Examples) -> jax.Array:
        """The unweighted loss of each example; to derivatives, a teacher is a constant."""
        return self._losses(self.objective, theta, examples)

    def outer_loss(self, theta: Params, examples: Examples) -> jax.Array:
        """The unweighted loss, as a mean over this device's outer examples."""
        return jnp.mean(self._losses(self._outer_objective, theta, examples))

    def _losses(self, objective: Objective, theta: Params, examples: Examples) -> jax.Array:
        return example_losses(self.network, objective, theta, theta, examples, self.teacher_network)
