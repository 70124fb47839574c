"""Candidates of noise for one image at one level, and scores that say which to train on.

A score maps `Candidates` to float[B, M], higher is better. Scores are frozen dataclasses; all but
`ShuffledScore` treat every example by itself, so that the number of devices changes nothing.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import ArgumentError, one_of

Losses = Callable[[jax.Array, jax.Array], jax.Array]
"""`(x0 float[B, ...], eps float[B, ...]) -> float[B]`: what the student would lose now, its
parameters, levels, labels and dropout masks bound."""

Rate = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""`(x0 float[B, ...], eps float[B, ...], lam float[B]) -> float[B]`: a rater of noise with its
parameters bound, lam = log SNR."""


class Candidates(NamedTuple):
    """What a score sees."""

    x0: jax.Array
    """float[B, ...], clean images."""
    eps: jax.Array
    """float[B, M, ...], candidates of noise."""
    lam: jax.Array
    """float[B], log SNR."""
    keys: jax.Array
    """key[B], for scores that draw; the candidates are independent of them."""
    losses: Losses | None
    """The student's losses, or None where there is no student."""


Score = Callable[[Candidates], jax.Array]
"""`Candidates -> float[B, M]`."""


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
    come from keys of their own, so candidate m does not depend on how many there are.

    Args:
      keys: key[B].
      count: M, at least 1.
      shape: of one image.
      dtype: of the noise.

    Returns:
      float[B, M, *shape].

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> draw_candidates(keys, 4, (8, 8, 1), jnp.float32).shape
      (3, 4, 8, 8, 1)
    """

    def normal(key: jax.Array) -> jax.Array:
        return jax.random.normal(key, shape, dtype)

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

    Example:
      >>> score = RaterScore(lambda x0, eps, lam: jnp.sum(x0 * eps, axis=1))
      >>> eps = jnp.asarray([[[1.0, 0.0], [0.0, 3.0]]])
      >>> print(score(Candidates(jnp.ones((1, 2)), eps, jnp.ones(1), None, None)))
      [[1. 3.]]

    Reference: NoiseRater (https://arxiv.org/abs/2605.08144), second stage, known to us by its
    abstract.
    """

    rate: Rate

    def __call__(self, candidates: Candidates) -> jax.Array:
        x0, eps, lam = candidates.x0, candidates.eps, candidates.lam
        return jax.vmap(lambda e: self.rate(x0, e, lam), in_axes=1, out_axes=1)(eps)


@dataclass(frozen=True)
class RandomScore:
    """Control: random selection through the same path, `score_{b,m} ~ U[0, 1)`.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> candidates = Candidates(jnp.ones((3, 2)), jnp.ones((3, 4, 2)), jnp.ones(3), keys, None)
      >>> RandomScore()(candidates).shape
      (3, 4)
    """

    def __call__(self, candidates: Candidates) -> jax.Array:
        count = candidates.eps.shape[1]
        return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(candidates.keys)


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
      ArgumentError: an argument is outside its range.

    Reference: our choice of a control.
    """

    score: Score
    bins: int = 4

    def __post_init__(self) -> None:
        _check_bins(self.bins)

    def __call__(self, candidates: Candidates) -> jax.Array:
        scores = self.score(candidates)
        keys = named_keys(candidates.keys, "shuffle")
        return shuffle_within_levels(scores, candidates.lam, keys, self.bins)


@dataclass(frozen=True)
class LossScore:
    """Control: candidates ranked by the student's own loss, `score = +-loss(x0, eps)`.

    Costs M forward passes of the objective, with the dropout mask that training will use. It asks
    `select` for `losses`.

    Args:
      order: "highest" trains on the hardest candidate, "lowest" on the easiest.

    Raises:
      ArgumentError: `order` is neither, or there are no losses.

    Example:
      >>> eps = jnp.asarray([[[1.0, 0.0], [0.0, 3.0]]])
      >>> losses = lambda x0, eps: jnp.sum(eps, axis=1)
      >>> print(LossScore("lowest")(Candidates(jnp.ones((1, 2)), eps, jnp.ones(1), None, losses)))
      [[-1. -3.]]
    """

    order: str = "highest"

    def __post_init__(self) -> None:
        one_of("order", self.order, ("highest", "lowest"))

    def __call__(self, candidates: Candidates) -> jax.Array:
        losses = candidates.losses
        if losses is None:
            raise ArgumentError("losses", None, "the student's losses, which this score ranks by")
        sign = 1 if self.order == "highest" else -1
        x0 = candidates.x0
        return sign * jax.vmap(lambda e: losses(x0, e), in_axes=1, out_axes=1)(candidates.eps)


@dataclass(frozen=True)
class NearestScore:
    """Control: the noise nearest to the image, `score_{b,m} = -||x0_b - eps_{b,m}||`.

    Example:
      >>> eps = jnp.asarray([[[3.0, 4.0], [0.0, 1.0]]])
      >>> print(NearestScore()(Candidates(jnp.zeros((1, 2)), eps, jnp.ones(1), None, None)))
      [[-5. -1.]]

    Reference: noise selection by nearest neighbour, "Improved Immiscible Diffusion"
    (https://arxiv.org/abs/2505.18521), by its abstract.
    """

    def __call__(self, candidates: Candidates) -> jax.Array:
        difference = _flat(candidates.x0[:, None] - candidates.eps, 2)
        return -jnp.linalg.norm(difference, axis=2)


def _check_bins(bins: int) -> None:
    if bins < 1:
        raise ArgumentError("bins", bins, "at least 1")


def level_strata(lam: jax.Array, bins: int) -> tuple[jax.Array, np.ndarray]:
    """Cuts examples into `bins` strata of neighbouring levels, of equal size up to one example.

    Args:
      lam: float[N], log SNR; equal ones are told apart by their index.
      bins: number of strata.

    Returns:
      int[N], the examples by ascending noise, and the int[bins + 1] places in it where strata
      begin and end (static).
    """
    edges = np.arange(bins + 1) * lam.shape[0] // bins
    return jnp.argsort(-lam), edges


def shuffle_within_levels(
    scores: jax.Array, lam: jax.Array, keys: jax.Array, bins: int
) -> jax.Array:
    """Gives each example the scores of another one of its level stratum.

    A random cycle through each stratum: nobody keeps his own, every stratum keeps its scores.

    Args:
      scores: float[B, ...].
      lam: float[B], log SNR; strata are quantiles of it within this batch.
      keys: key[B], which decide the cycles.
      bins: number of strata, so that each has two examples at least.

    Returns:
      float[B, ...], a permutation of the rows of `scores`.

    Raises:
      ArgumentError: `bins` is below 1 or above B / 2.

    Example:
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> lam = jnp.asarray([5.0, -4.4, 3.2, -4.2])
      >>> print(shuffle_within_levels(jnp.arange(4.0), lam, keys, bins=2))
      [2. 3. 0. 1.]
    """
    chex.assert_equal_shape_prefix([scores, lam, keys], 1)
    _check_bins(bins)
    count = lam.shape[0]
    if 2 * bins > count:
        raise ArgumentError("bins", bins, f"at most half of the {count} examples")
    by_level, edges = level_strata(lam, bins)
    stratum = np.repeat(np.arange(bins), np.diff(edges))
    u = jax.vmap(lambda key: jax.random.uniform(key))(keys)
    order = by_level[jnp.lexsort((u[by_level], jnp.asarray(stratum)))]
    source = np.concatenate([np.roll(np.arange(low, high), 1) for low, high in pairwise(edges)])
    return jnp.zeros_like(scores).at[order].set(scores[order[source]])


def top_k_by_level(scores: jax.Array, lam: jax.Array, k: int, bins: int) -> jax.Array:
    """Picks the k best of a pool, `k / bins` in each stratum of the noise level.

    Without strata a score that leans on the level would choose levels, not noise.

    Args:
      scores: float[N], one for each pair of image and noise; higher is better.
      lam: float[N], their log SNR; strata are quantiles of the pool.
      k: how many to pick, a multiple of `bins`.
      bins: number of strata; none is smaller than k / bins.

    Returns:
      int32[k]: indices by ascending noise of their strata, best first within each; of equal scores
      the one with less noise comes first, and scores that are NaN come last.

    Raises:
      ArgumentError: `bins` is below 1, or `k` no multiple of it or too large.

    Example:
      >>> scores, lam = jnp.asarray([5.0, 6.0, 1.0, 2.0]), jnp.asarray([5.0, 3.2, -4.2, -4.4])
      >>> print(top_k_by_level(scores, lam, k=2, bins=2))
      [1 3]
    """
    chex.assert_rank([scores, lam], 1)
    chex.assert_equal_shape([scores, lam])
    _check_bins(bins)
    by_level, edges = level_strata(lam, bins)
    if k < 1 or k % bins or k // bins > np.diff(edges).min():
        allowed = f"a multiple of {bins} bins, at most {bins * np.diff(edges).min()}"
        raise ArgumentError("k", k, allowed)
    stratum = np.repeat(np.arange(bins), np.diff(edges))
    order = by_level[jnp.lexsort((-scores[by_level], jnp.asarray(stratum)))]
    picks = edges[:-1, None] + np.arange(k // bins)
    return order[picks.ravel()].astype(jnp.int32)
