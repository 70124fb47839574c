import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnoise.training.state import create_state


@pytest.mark.takes_a_second
def test_leaves_that_share_an_array_are_trained():
    """The step donates its state, each buffer once."""
    shared = jnp.ones((2, 2))

    def init(key):
        del key
        return {"network": {"w": shared, "b": jnp.zeros(2)}, "objective": {}}

    def twice(optimizer):
        # A wrapper that keeps the parameters themselves, as lookahead does.
        return optax.GradientTransformation(
            lambda params: (params, optimizer.init(params)),
            lambda g, s, p: (optimizer.update(g, s[1], p)[0], s),
        )

    zero = jnp.zeros(3)
    pace = {"a": zero, "b": zero}
    state = create_state(init, twice(optax.sgd(0.1)), jax.random.key(0), True, pace)
    leaves = jax.tree.leaves(state)
    buffers = {leaf.unsafe_buffer_pointer() for leaf in leaves}
    assert len(buffers) == len(leaves)
    np.testing.assert_array_equal(state.ema["network"]["w"], shared)
    np.testing.assert_array_equal(state.teacher["network"]["w"], shared)
    moved = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(state)
    np.testing.assert_array_equal(moved.pace["b"], np.ones(3))
