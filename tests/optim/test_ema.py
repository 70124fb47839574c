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


def test_only_float_arrays_are_averaged_and_the_average_keeps_its_dtype():
    key, act = jax.random.key(3), jnp.tanh
    new = {"w": jnp.full(2, 3.0, jnp.bfloat16), "n": jnp.int32(7), "key": key, "act": act}
    held = {"w": jnp.ones(2), "n": jnp.int32(1), "key": key, "act": act}
    found = debiased_ema(new, held, 0.5, 2)
    assert (found["n"], found["act"], found["w"].dtype) == (7, act, jnp.float32)
    np.testing.assert_allclose(found["w"], 1 + (3 - 1) * 0.5 / 0.75, rtol=1e-6)
    half = debiased_ema(new, held | {"w": jnp.ones(2, jnp.bfloat16)}, 0.5, 2)
    assert half["w"].dtype == jnp.bfloat16


def test_pytrees_of_different_structure_are_refused():
    with pytest.raises(ArgumentError, match=r"^average=a pytree .*'v'.* must be a pytree .*'w'"):
        debiased_ema({"w": jnp.ones(1)}, {"v": jnp.ones(1)}, 0.5, 1)


def test_leaves_that_would_broadcast_are_refused():
    with pytest.raises(ArgumentError) as error:
        debiased_ema(
            {"b": jnp.ones(1), "w": jnp.ones(4)}, {"b": jnp.ones(1), "w": jnp.ones((4, 1))}, 0.9, 2
        )
    assert str(error.value) == "average=float32[4,1]: must be of shape (4,) at ['w'], as `new` is"
    with pytest.raises(ArgumentError, match=r"must be of shape \(2,\) given, as `new` is"):
        debiased_ema(jnp.ones(2), jnp.ones(()), 0.9, 2)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("rate", [0.9999, 0.99993])
def test_an_average_of_much_has_no_bias(rate):
    """`size` and `1 - size`, rounded to float32, sum to 1 only within 1e-4 of `size`."""
    random = np.random.RandomState(0)
    truth, noise = (jnp.asarray(random.standard_normal(64), jnp.float32) for _ in range(2))
    updates = int(12 / (1 - rate))

    def update(average, count):
        sign = (1 - 2 * (count % 2)).astype(jnp.float32)
        return debiased_ema(truth + 0.01 * sign * noise, average, rate, count), None

    average, _ = jax.lax.scan(update, jnp.zeros(64), jnp.arange(1, updates + 1))
    slope = float(jnp.vdot(average, truth) / jnp.vdot(truth, truth))
    # The noise that is left moves it by 2e-6.
    assert abs(slope - 1) < 1e-5


def test_without_a_memory_types_and_structures_still_hold():
    assert debiased_ema(jnp.bfloat16(1), jnp.float32(2), 0.0, 1).dtype == jnp.float32
    assert float(debiased_ema(jnp.float32(1), jnp.float32(2), 0.0, 3)) == 1
    with pytest.raises(ArgumentError, match="average"):
        debiased_ema({"a": jnp.ones(2)}, {"b": jnp.ones(3)}, 0.0, 1)
