"""Randomness as a pure function of (seed, stream name, step, global example index)."""

import zlib

import jax


def stream_key(root: jax.Array, name: str, step: jax.Array | int = 0) -> jax.Array:
    """The key of one named stream at one step.

    Args:
      root: PRNG key of the run.
      name: the stream's name.
      step: int, training step.

    Returns:
      A PRNG key.
    """
    return jax.random.fold_in(jax.random.fold_in(root, zlib.crc32(name.encode())), step)


def example_keys(key: jax.Array, positions: jax.Array) -> jax.Array:
    """One key for each example.

    Args:
      key: PRNG key of a stream at a step.
      positions: int[B], GLOBAL example indices within the batch.

    Returns:
      key[B]: entry b depends on `positions[b]` only, not on the batch around it.
    """
    return jax.vmap(lambda position: jax.random.fold_in(key, position))(positions)
