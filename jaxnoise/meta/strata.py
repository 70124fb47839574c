"""Strata of neighbouring noise levels: a control shuffles within them, a pool picks from each."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import ArgumentError, check_count, check_keys, check_shape, describe


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
      ArgumentError: `bins` is below 1 or above B / 2, or arrays of another kind or size.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import shuffle_within_levels
      >>> keys = jax.random.split(jax.random.key(0), 4)
      >>> lam = jnp.asarray([5.0, -4.4, 3.2, -4.2])
      >>> print(shuffle_within_levels(jnp.arange(4.0), lam, keys, bins=2))
      [2. 3. 0. 1.]
    """
    check_shape("lam", lam, (None,), "the log SNR of each example")
    if getattr(scores, "shape", ())[:1] != lam.shape:
        raise ArgumentError("scores", describe(scores), f"of shape [{lam.shape[0]}, ...], as lam")
    check_keys("keys", keys, lam.shape[0])
    check_count("bins", bins)
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
      ArgumentError: `bins` is below 1, `k` no multiple of it or too large, or arrays of another
        shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import top_k_by_level
      >>> scores, lam = jnp.asarray([5.0, 6.0, 1.0, 2.0]), jnp.asarray([5.0, 3.2, -4.2, -4.4])
      >>> print(top_k_by_level(scores, lam, k=2, bins=2))
      [1 3]
    """
    check_shape("scores", scores, (None,), "one for each pair of image and noise")
    check_shape("lam", lam, scores.shape, "the log SNR of each pair")
    check_count("bins", bins)
    check_count("k", k)
    by_level, edges = level_strata(lam, bins)
    if k % bins or k // bins > np.diff(edges).min():
        allowed = f"a multiple of {bins} bins, at most {bins * np.diff(edges).min()}"
        raise ArgumentError("k", k, allowed)
    stratum = np.repeat(np.arange(bins), np.diff(edges))
    order = by_level[jnp.lexsort((-scores[by_level], jnp.asarray(stratum)))]
    picks = edges[:-1, None] + np.arange(k // bins)
    return order[picks.ravel()].astype(jnp.int32)
