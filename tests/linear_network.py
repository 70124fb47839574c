"""A network, and random numbers, so simple that what maps them over devices compiles in no time."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl


def init(key):
    """Parameters as the train state holds them."""
    network = {"w": 0.3 * jax.random.normal(key, (2, 2)), "b": jnp.zeros(2)}
    return {"network": network, "objective": {}}


def apply(params, x, c_noise, labels=None, dropout_keys=None):
    told = c_noise.reshape(len(c_noise), -1).sum(axis=1).reshape(-1, 1, 1, 1)
    y = x @ params["w"] + params["b"].reshape(1, 1, 1, 2) * told
    if labels is not None:
        y = y + labels.reshape(-1, 1, 1, 1).astype(y.dtype)
    if dropout_keys is None:
        return y
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 0.5, y.shape[1:]))(dropout_keys)
    return jnp.where(keep, 2 * y, 0.0)


def _mix(x):
    """Scatters the bits of uint32s."""
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def _bits(key, width, shape):
    assert width <= 32
    count = jnp.arange(np.prod(shape, dtype=int), dtype=jnp.uint32).reshape(shape)
    bits = _mix(count * np.uint32(0x9E3779B9) + key.reshape((1,) * len(shape)))
    return bits.astype(f"uint{width}")


_QUICK = define_prng_impl(
    key_shape=(1,),
    seed=lambda seed: _mix(seed.astype(jnp.uint32).reshape(1)),
    split=lambda key, shape: _bits(key, 32, (*shape, 1)),
    random_bits=_bits,
    fold_in=lambda key, data: _mix(key * np.uint32(0x85EBCA6B) + data.reshape(1)),
    name="quick",
    tag="quick",
)


def quick_key(seed):
    """A PRNG key whose draws compile in a fraction of the time of threefry's."""
    return jax.random.key(seed, impl=_QUICK)
