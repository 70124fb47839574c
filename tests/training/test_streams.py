import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.training.streams import example_keys, stream_key


def bits(key):
    return jax.random.key_data(key)


def test_name_and_step_give_different_streams():
    root = jax.random.key(0)
    keys = [bits(stream_key(root, name, step)) for name in ("noise", "flip") for step in (0, 1)]
    assert len({tuple(np.asarray(k).tolist()) for k in keys}) == 4


def test_stream_does_not_depend_on_the_process_hash_seed():
    # zlib.crc32 of the name is part of the contract: a resumed run must find the same stream.
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), 4255749673), 3)
    np.testing.assert_array_equal(bits(stream_key(jax.random.key(7), "noise", 3)), bits(expected))


def test_an_examples_key_depends_on_its_global_position_alone():
    key = jax.random.key(1)
    whole = bits(example_keys(key, jnp.arange(8)))
    np.testing.assert_array_equal(bits(example_keys(key, jnp.arange(4, 8))), whole[4:])
    assert len(np.unique(whole, axis=0)) == 8
