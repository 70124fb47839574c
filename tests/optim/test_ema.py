import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.optim.ema import debiased_ema


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.9999])
def test_is_the_exact_weighted_mean_of_what_it_saw(rate):
    values = np.random.RandomState(0).randn(40, 3).astype(np.float32)
    average = {"w": jnp.full(3, 1e4)}
    for count, value in enumerate(values, start=1):
        average = debiased_ema({"w": jnp.asarray(value)}, average, rate, jnp.int32(count))
    weights = np.float64(rate) ** np.arange(len(values))[::-1]
    expected = (weights[:, None] * values).sum(0) / weights.sum()
    np.testing.assert_allclose(average["w"], expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rate_outside_its_range(rate):
    with pytest.raises(ArgumentError, match=r"in \[0, 1\)"):
        debiased_ema(jnp.ones(1), jnp.ones(1), rate, jnp.int32(1))


def test_the_first_update_is_number_one():
    """A count from 0 on would divide by zero: refused, or taken for 1 where it is traced."""
    with pytest.raises(ArgumentError, match="count=0: must be at least 1"):
        debiased_ema(jnp.ones(1), jnp.ones(1), 0.9, 0)
    found = jax.jit(lambda count: debiased_ema(jnp.full(1, 3.0), jnp.ones(1), 0.9, count))(0)
    assert float(found[0]) == 3.0
