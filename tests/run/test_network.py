"""In which form a teacher is asked whose derivative is taken."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.models import DiT, UNet, preset
from jaxnoise.run.network import applied, derivable


class Own(nn.Module):
    """A user's network, whose field of the same name means something else."""

    out_channels: int
    num_classes: int = 0
    dtype: str = "narrow"

    @nn.compact
    def __call__(self, x, c_noise, labels, dropout_keys):
        return nn.Dense(self.out_channels)(x)


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "network",
    [
        UNet(**preset("tiny", out_channels=1) | {"model_channels": 8}, dtype=jnp.bfloat16),
        DiT(out_channels=1, hidden_size=16, depth=1, num_heads=2, dtype=jnp.bfloat16),
    ],
)
def test_ours_is_derived_in_float32(network):
    x, c_noise = jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jnp.array([0.1, -0.5])
    params = network.init(jax.random.key(0), x, c_noise)
    params = jax.tree.map(lambda p: p + 0.1, params)

    def asked(x, c_noise):
        return applied(derivable(network), params, x, c_noise)

    along = jnp.ones_like(x), jnp.ones_like(c_noise)
    value, rise = jax.jvp(asked, (x, c_noise), along)
    assert value.dtype == rise.dtype == jnp.float32
    wide = network.clone(dtype=jnp.float32).apply(params, x, c_noise)
    np.testing.assert_allclose(value, wide, rtol=1e-5, atol=1e-5)
    up, down = (asked(x + h, c_noise + h) for h in (2e-4, -2e-4))
    np.testing.assert_allclose(rise, (up - down) / 4e-4, atol=0.02 * float(jnp.abs(rise).max()))


def test_a_users_own_stays_as_it_is():
    assert derivable(Own(out_channels=1)) == Own(out_channels=1)
