"""Candidates of noise for one image at one level, and scores that say which to train on.

A score maps `Candidates` to float[B, M], higher is better. Scores are frozen dataclasses; all but
`ShuffledScore` treat every example by itself, so that the number of devices changes nothing.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnoise.errors import (
    ArgumentError,
    Described,
    are_keys,
    check_callable,
    check_count,
    check_keys,
    describe,
    one_of,
)
from jaxnoise.meta.checks import LOSSES, check_result
from jaxnoise.meta.strata import shuffle_within_levels
from jaxnoise.models.fused import at_least_float32

Losses = Callable[[jax.Array, jax.Array], jax.Array]
"""`(x0 float[B, ...], eps float[B, ...]) -> float[B]`: what the student would lose now, its
parameters, levels, labels and dropout masks bound."""

Rate = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(x0 float[B, ...], eps float[B, ...], lam float[B]) -> float[B]`: a rater of noise with its
parameters bound, lam = log SNR."""


class Candidates(NamedTuple):
    """What a score sees.

    Attributes:
      x0: float[B, ...], clean images.
      eps: float[B, M, ...], candidates of noise.
      lam: float[B], log SNR.
      keys: key[B], for scores that draw; the candidates are independent of them. None for others.
      losses: the student's losses, `(x0 float[B, ...], eps float[B, ...]) -> float[B]`, or None
        where there is no student.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import Candidates, NearestScore
      >>> eps = jnp.asarray([[[3.0, 4.0], [0.0, 1.0]]])
      >>> seen = Candidates(x0=jnp.zeros((1, 2)), eps=eps, lam=jnp.ones(1), keys=None, losses=None)
      >>> print(NearestScore()(seen))
      [[-5. -1.]]
    """

    x0: jax.Array
    eps: jax.Array
    lam: jax.Array
    keys: jax.Array | None
    losses: Losses | None


Score = Callable[[Candidates], jax.Array]
"""`Candidates -> float[B, M]`."""

SCORE = "Candidates -> float[B, M]"
_RATE = "(x0, eps, lam) -> float[B]"


def _check_candidates(candidates: Candidates) -> None:
    """Raises ArgumentError unless candidates are of one batch; compares shapes, no values."""
    if not isinstance(candidates, Candidates):
        allowed = "Candidates(x0, eps, lam, keys, losses)"
        raise ArgumentError("candidates", describe(candidates), allowed)
    shapes: list[tuple[int, ...]] = [getattr(x, "shape", ()) for x in candidates[:3]]
    x0, eps, lam = shapes
    if not x0 or len(eps) < 2 or (eps[0], *eps[2:]) != x0 or lam != x0[:1]:
        shown = ", ".join(f"{n} {describe(getattr(candidates, n))}" for n in ("x0", "eps", "lam"))
        allowed = "Candidates of x0 float[B, ...], eps float[B, M, ...] and lam float[B]"
        raise ArgumentError("candidates", Described(f"Candidates of {shown}"), allowed)


def _keys_of(candidates: Candidates) -> jax.Array:
    """The keys of checked candidates, for scores that draw."""
    keys, count = candidates.keys, candidates.x0.shape[0]
    if keys is None or not are_keys(keys, count):
        shown = Described(f"Candidates of keys {describe(keys)}")
        allowed = f"Candidates of keys key[{count}], which this score draws from"
        raise ArgumentError("candidates", shown, allowed)
    return keys


def named_keys(keys: jax.Array, name: str) -> jax.Array:
    """Keys of a named stream of each example, key[B] from key[B].

    The name enters as a number near 2^32: a draw from the example's own key has used its counters
    0, 1, ... only.
    """
    return jax.vmap(lambda key: jax.random.fold_in(key, zlib.crc32(name.encode())))(keys)


def draw_candidates(
    keys: jax.Array, count: int, shape: tuple[int, ...], dtype: jnp.dtype
) -> jax.Array:
    """Draws noise for each example, `eps_{b,m} ~ N(0, I)`, from its own key.

    Candidate 1 is `normal(key_b)`, bit for bit what training without selection draws; the others
    come from keys of their own, so candidate m does not depend on how many there are. Noise of half
    precision is rounded from float32: drawn in bfloat16 it has 128 values, none above 2.6.

    Args:
      keys: key[B].
      count: M, at least 1; static.
      shape: of one image, a tuple of integers.
      dtype: of the noise, a float.

    Returns:
      float[B, M, *shape].

    Raises:
      ArgumentError: an argument of another kind, or `count` below 1.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import draw_candidates
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> draw_candidates(keys, 4, (8, 8, 1), jnp.float32).shape
      (3, 4, 8, 8, 1)
    """
    check_keys("keys", keys)
    check_count("count", count)
    sizes = isinstance(shape, tuple | list) and not any(isinstance(n, float | str) for n in shape)
    if not sizes:
        raise ArgumentError("shape", describe(shape), "a tuple of integers, one image's")
    try:
        is_float = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        is_float = False
    if not is_float:
        raise ArgumentError("dtype", dtype, "a float, such as jnp.float32")

    wide = at_least_float32(jnp.dtype(dtype))

    def normal(key: jax.Array) -> jax.Array:
        return jax.random.normal(key, shape, wide).astype(dtype)

    first = jax.vmap(normal)(keys)[:, None]
    if count == 1:
        return first

    def further(key: jax.Array) -> jax.Array:
        return jax.vmap(lambda m: normal(jax.random.fold_in(key, m)))(jnp.arange(1, count))

    return jnp.concatenate([first, jax.vmap(further)(named_keys(keys, "candidates"))], axis=1)


def _flat(x: jax.Array, axis: int) -> jax.Array:
    """Makes one axis of all from `axis` on."""
    return x.reshape(*x.shape[:axis], -1)


@dataclass(frozen=True)
class RaterScore:
    """What a frozen rater says of each candidate: `score_{b,m} = r(x0_b, eps_{b,m}, lambda_b)`.

    With a rater of the level alone all candidates of an example tie, and `NoiseSelection` takes the
    first: that control is training without selection, at the rater's cost. `PoolSelection` chooses
    levels by it.

    The candidates go through the rater together, as a batch of B M.

    Args:
      rate: the rater with its parameters bound, `(x0, eps, lam) -> float[B]`, lam = log SNR.

    Raises:
      ArgumentError: `rate` is no function; when called, it gives another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import Candidates, RaterScore
      >>> score = RaterScore(lambda x0, eps, lam: jnp.sum(x0 * eps, axis=1))
      >>> eps = jnp.asarray([[[1.0, 0.0], [0.0, 3.0]]])
      >>> print(score(Candidates(jnp.ones((1, 2)), eps, jnp.ones(1), None, None)))
      [[1. 3.]]

    Reference: NoiseRater (https://arxiv.org/abs/2605.08144), second stage, known to us by its
    abstract.
    """

    rate: Rate

    def __post_init__(self) -> None:
        check_callable("rate", self.rate, _RATE)

    def __call__(self, candidates: Candidates) -> jax.Array:
        """Scores candidates.

        Args:
          candidates: what is scored; its keys and losses may be None.

        Returns:
          float[B, M], higher is better.

        Raises:
          ArgumentError: shapes that differ, or a rater that gives another shape.
        """
        _check_candidates(candidates)
        x0, eps, lam = candidates.x0, candidates.eps, candidates.lam

        def rate(e: jax.Array) -> jax.Array:
            rated = self.rate(x0, e, lam)
            check_result("rate", rated, lam.shape, _RATE)
            return rated

        return jax.vmap(rate, in_axes=1, out_axes=1)(eps)


@dataclass(frozen=True)
class RandomScore:
    """Control: random selection through the same path, `score_{b,m} ~ U[0, 1)`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import Candidates, RandomScore
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> candidates = Candidates(jnp.ones((3, 2)), jnp.ones((3, 4, 2)), jnp.ones(3), keys, None)
      >>> RandomScore()(candidates).shape
      (3, 4)
    """

    def __call__(self, candidates: Candidates) -> jax.Array:
        """Scores candidates.

        Args:
          candidates: what is scored; it draws from their keys.

        Returns:
          float[B, M], higher is better.

        Raises:
          ArgumentError: shapes that differ, or no keys.
        """
        _check_candidates(candidates)
        count = candidates.eps.shape[1]
        return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(_keys_of(candidates))


@dataclass(frozen=True)
class ShuffledScore:
    """Control: the scores of another example of about the same level.

    An example gets all M scores of another one of its level stratum, by `shuffle_within_levels`.
    What is left of the score is its distribution at each level; its link to image and noise is cut,
    so the choice among candidates is as good as random.

    It sees the batch: strata and partners are those of the device's part of the batch, and another
    number of devices gives other partners.

    Args:
      score: the score to shuffle.
      bins: number of level strata, at least 1; each needs two examples at least.

    Raises:
      ArgumentError: an argument of another kind or outside its range; when called, as
        `shuffle_within_levels`, or a score that gives another shape.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import Candidates, NearestScore, ShuffledScore
      >>> keys, eps = jax.random.split(jax.random.key(0), 2), jnp.asarray([[[3.0], [4.0]]] * 2)
      >>> candidates = Candidates(jnp.asarray([[0.0], [1.0]]), eps, jnp.zeros(2), keys, None)
      >>> print(*ShuffledScore(NearestScore(), bins=1)(candidates))
      [-2. -3.] [-3. -4.]

    Reference: our choice of a control.
    """

    score: Score
    bins: int = 4

    def __post_init__(self) -> None:
        check_callable("score", self.score, SCORE)
        check_count("bins", self.bins)

    def __call__(self, candidates: Candidates) -> jax.Array:
        """Scores candidates.

        Args:
          candidates: what is scored; it draws from their keys.

        Returns:
          float[B, M], higher is better.

        Raises:
          ArgumentError: shapes that differ, no keys, or too many `bins`.
        """
        _check_candidates(candidates)
        keys = named_keys(_keys_of(candidates), "shuffle")
        scores = self.score(candidates)
        check_result("score", scores, candidates.eps.shape[:2], SCORE)
        return shuffle_within_levels(scores, candidates.lam, keys, self.bins)


@dataclass(frozen=True)
class LossScore:
    """Control: candidates ranked by the student's own loss, `score = +-loss(x0, eps)`.

    Costs M forward passes of the objective, with the dropout mask that training will use. It asks
    `select` for `losses`.

    Args:
      order: "highest" trains on the hardest candidate, "lowest" on the easiest.

    Raises:
      ArgumentError: `order` is neither; when called, there are no losses or of another shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import Candidates, LossScore
      >>> eps = jnp.asarray([[[1.0, 0.0], [0.0, 3.0]]])
      >>> losses = lambda x0, eps: jnp.sum(eps, axis=1)
      >>> print(LossScore("lowest")(Candidates(jnp.ones((1, 2)), eps, jnp.ones(1), None, losses)))
      [[-1. -3.]]
    """

    order: str = "highest"

    def __post_init__(self) -> None:
        one_of("order", self.order, ("highest", "lowest"))

    def __call__(self, candidates: Candidates) -> jax.Array:
        """Scores candidates.

        Args:
          candidates: what is scored by their losses; their keys may be None.

        Returns:
          float[B, M], higher is better.

        Raises:
          ArgumentError: shapes that differ, or no losses.
        """
        _check_candidates(candidates)
        losses = candidates.losses
        if losses is None:
            raise ArgumentError("losses", None, "the student's losses, which this score ranks by")
        sign = 1 if self.order == "highest" else -1
        check_callable("losses", losses, LOSSES)
        x0 = candidates.x0

        def loss(e: jax.Array) -> jax.Array:
            found = losses(x0, e)
            check_result("losses", found, x0.shape[:1], LOSSES)
            return found

        return sign * jax.vmap(loss, in_axes=1, out_axes=1)(candidates.eps)


@dataclass(frozen=True)
class NearestScore:
    """Control: the noise nearest to the image, `score_{b,m} = -||x0_b - eps_{b,m}||`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import Candidates, NearestScore
      >>> eps = jnp.asarray([[[3.0, 4.0], [0.0, 1.0]]])
      >>> print(NearestScore()(Candidates(jnp.zeros((1, 2)), eps, jnp.ones(1), None, None)))
      [[-5. -1.]]

    Reference: noise selection by nearest neighbour, "Improved Immiscible Diffusion"
    (https://arxiv.org/abs/2505.18521), by its abstract.
    """

    def __call__(self, candidates: Candidates) -> jax.Array:
        """Scores candidates.

        Args:
          candidates: what is scored; its keys and losses may be None.

        Returns:
          float[B, M], higher is better.

        Raises:
          ArgumentError: shapes that differ.
        """
        _check_candidates(candidates)
        # Sums of half precision tie.
        x0, eps = (x.astype(at_least_float32(x.dtype)) for x in (candidates.x0, candidates.eps))
        return -jnp.linalg.norm(_flat(x0[:, None] - eps, 2), axis=2)
