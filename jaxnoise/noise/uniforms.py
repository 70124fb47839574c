"""Sources of uniform numbers: every law draws through its inverse CDF from one of these.

All return float numbers in [0, 1) (1 is never reached, so an inverse CDF never runs past its last
bin). The index along the output is the GLOBAL example index: draw for the whole global batch and
slice, so that the number of devices changes nothing.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError

Warp = Callable[[jax.Array], jax.Array]
"""A map of uniforms, as `jaxnoise.noise.pacing` makes them: it moves draws along the law."""
Source = Callable[[jax.Array, int], jax.Array]


def unpaced(u: jax.Array) -> jax.Array:
    """The warp that leaves a law as it is."""
    return u


def _below_one(u: jax.Array) -> jax.Array:
    return jnp.minimum(u, jnp.nextafter(jnp.ones((), u.dtype), jnp.zeros((), u.dtype)))


def _check_count(count: int) -> None:
    if count < 1:
        raise ArgumentError("count", count, "at least 1")


def iid(key: jax.Array, count: int) -> jax.Array:
    """Independent draws `u_i ~ U[0, 1)`.

    The plain choice: nothing is shared between the examples of a batch.

    Args:
      key: PRNG key.
      count: how many draws (static), at least 1.

    Returns:
      float[count] in [0, 1).

    Raises:
      ArgumentError: `count` is below 1.

    Example:
      >>> import jax
      >>> from jaxnoise.noise import iid
      >>> u = iid(jax.random.key(0), 1000)
      >>> u.shape, bool((u < 1).all())
      ((1000,), True)
    """
    _check_count(count)
    return jax.random.uniform(key, (count,))


def ascending(key: jax.Array, count: int) -> jax.Array:
    """One draw in each of `count` equal strata: `u_i = (i + U_i) / count`, `U_i ~ U[0, 1)`.

    Position i is always in stratum i: an example that keeps its place in the batch, or a class that
    a sorted batch keeps together, is trained at one noise level only, and a device that holds a
    part of the batch sees a part of the levels. For pictures and tables; `stratified` is for
    training.

    Args:
      key: PRNG key.
      count: how many draws (static), at least 1.

    Returns:
      float[count] in [0, 1), ascending.

    Raises:
      ArgumentError: `count` is below 1.

    Example:
      >>> import jax
      >>> from jaxnoise.noise import ascending
      >>> (4 * ascending(jax.random.key(0), 4)).astype(int).tolist()
      [0, 1, 2, 3]
    """
    _check_count(count)
    u = jax.random.uniform(key, (count,))
    return _below_one((jnp.arange(count, dtype=u.dtype) + u) / count)


def stratified(key: jax.Array, count: int) -> jax.Array:
    """One draw in each of `count` equal strata, in random order: `u_i = (p(i) + U_i) / count`.

    p is a random permutation, so every position is uniform on [0, 1) by itself, whatever lies
    there in the batch, while the batch as a whole has exactly one draw in each stratum.

    The choice for training: every batch covers the law evenly, so that gradients vary less.

    Args:
      key: PRNG key.
      count: how many draws (static), at least 1.

    Returns:
      float[count] in [0, 1).

    Raises:
      ArgumentError: `count` is below 1.

    Example:
      >>> import jax
      >>> from jaxnoise.noise import stratified
      >>> (4 * stratified(jax.random.key(0), 4)).astype(int).tolist()
      [0, 3, 1, 2]
    """
    key_u, key_order = jax.random.split(key)
    return jax.random.permutation(key_order, ascending(key_u, count))


def antithetic(key: jax.Array, count: int) -> jax.Array:
    """Mirrored pairs: `u_{2i+1} = 1 - u_{2i}`; with an odd `count` the last one has no partner.

    For code that is to match others' mirrored timesteps; strata cover the law more evenly.

    Args:
      key: PRNG key.
      count: how many draws (static), at least 1.

    Returns:
      float[count] in [0, 1); each entry is uniform, and the two of a pair sum to 1.

    Raises:
      ArgumentError: `count` is below 1.

    Example:
      >>> import jax
      >>> from jaxnoise.noise import antithetic
      >>> u = antithetic(jax.random.key(0), 4)
      >>> float(u[0] + u[1]), float(u[2] + u[3])
      (1.0, 1.0)
    """
    _check_count(count)
    u = jax.random.uniform(key, ((count + 1) // 2,))
    return jnp.stack([u, _below_one(1 - u)], axis=1).reshape(-1)[:count]


SOURCES: dict[str, Source] = {
    "iid": iid,
    "stratified": stratified,
    "antithetic": antithetic,
    "sorted": ascending,
}
