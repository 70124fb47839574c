"""The inner models of a meta-step: which images they see, and when they are begun afresh."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxnoise.data.order import batch_indices
from jaxnoise.errors import ArgumentError
from jaxnoise.training.streams import stream_key


@lru_cache(maxsize=4)
def _split(seed: int, num_examples: int) -> tuple[NDArray[np.int64], int, int]:
    """A fixed shuffle of all examples, and the seeds of the two orders within its parts."""
    words = np.random.SeedSequence(seed).generate_state(3, np.uint64)
    split, inner, outer = (int(word) for word in words)
    shuffled = batch_indices(split, num_examples, num_examples, 0)
    shuffled.flags.writeable = False
    return shuffled, inner, outer


def meta_indices(
    seed: int,
    num_examples: int,
    held_out: int,
    step: int,
    *,
    population: int,
    inner_steps: int,
    batch: int,
    outer_batch: int,
) -> NDArray[np.int64]:
    """Example indices of one meta-step, a pure function of (seed, step).

    A fixed shuffle sets `held_out` examples apart. The rest, in an order by epochs, is dealt out to
    the inner steps of all P models, so that two models share no image before an epoch ends; the
    held-out examples are dealt out to the outer batches in the same way.

    Args:
      seed: of split and order, at least 0.
      num_examples: n, at least 2.
      held_out: examples for the outer loss, 1..n-1.
      step: meta-step, at least 0.
      population: P, at least 1.
      inner_steps: T, at least 1.
      batch: GLOBAL inner batch B, at least 1.
      outer_batch: GLOBAL outer batch, a multiple R B.

    Returns:
      int64[B, P, T + R]: `[:, p, k]` is the batch of inner step k < T of model p, `[:, p, T:]` its
      outer batch. Examples come first, so that devices cut this axis.

    Raises:
      ArgumentError: an argument out of range.

    Example:
      >>> sizes = {"population": 2, "inner_steps": 1, "batch": 3, "outer_batch": 3}
      >>> index = meta_indices(0, 9, 3, step=0, **sizes)
      >>> index.shape, len(np.unique(index[:, :, 0])), len(np.unique(index[:, :, 1]))
      ((3, 2, 2), 6, 3)
    """
    if not 0 < held_out < num_examples:
        raise ArgumentError("held_out", held_out, f"in 1..{num_examples - 1}")
    columns = outer_columns(batch, outer_batch)
    shuffled, inner_seed, outer_seed = _split(int(seed), int(num_examples))
    parts = [
        (shuffled[held_out:], inner_seed, inner_steps),
        (shuffled[:held_out], outer_seed, columns),
    ]
    pieces = []
    for examples, order_seed, count in parts:
        chosen = batch_indices(order_seed, len(examples), population * count * batch, step)
        pieces.append(examples[chosen].reshape(population, count, batch))
    return np.moveaxis(np.concatenate(pieces, axis=1), 2, 0)


def outer_columns(batch: int, outer_batch: int) -> int:
    """R, how many times the inner batch goes into the outer one."""
    if outer_batch < 1 or outer_batch % batch:
        raise ArgumentError("outer_batch", outer_batch, f"a multiple of the inner batch {batch}")
    return outer_batch // batch


@dataclass(frozen=True)
class Population:
    """P inner models, each of which lives for `lifetime` meta-steps and is then begun afresh.

    Model p is renewed after every meta-step i with `(i + 1 + floor(p lifetime / P)) mod lifetime
    = 0`: one after the other, so that once each has been renewed, ages are spread evenly. Model 0
    is the only one with a whole first life.

    Args:
      size: P, at least 1.
      lifetime: in meta-steps, at least 1.
    """

    size: int
    lifetime: int

    def __post_init__(self) -> None:
        for name in ("size", "lifetime"):
            if getattr(self, name) < 1:
                raise ArgumentError(name, getattr(self, name), "at least 1")

    def life(self, member: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Which of its lives a model is in at a meta-step, and whether it begins there."""
        moved = step + member * self.lifetime // self.size
        return moved // self.lifetime, moved % self.lifetime == 0

    def key(self, root: jax.Array, member: jax.Array, step: jax.Array) -> jax.Array:
        """The key that stands for the run's own in one life of a model.

        Args:
          root: PRNG key of the run.
          member: int32[], p.
          step: int32[], meta-step.
        """
        life, _ = self.life(member, step)
        own = jax.random.fold_in(stream_key(root, "inner model"), member)
        return jax.random.fold_in(own, life)


def over_members(function: Callable[..., Any], arguments: Any, unroll: bool | None) -> Any:
    """`function(*arguments[p])` for every model p, stacked: in a Python loop, or by `lax.map`.

    Args:
      function: of one model.
      arguments: a tuple of pytrees, leaves with a leading axis [P].
      unroll: True for a loop; None for a loop on CPU, where convolutions inside `lax.map` are slow.
    """
    if not (jax.default_backend() == "cpu" if unroll is None else unroll):
        return jax.lax.map(lambda one: function(*one), arguments)
    size = jax.tree.leaves(arguments)[0].shape[0]
    results = [function(*jax.tree.map(lambda x, p=p: x[p], arguments)) for p in range(size)]
    return jax.tree.map(lambda *x: jnp.stack(x), *results)
