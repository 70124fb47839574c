import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.objectives import LearnedUncertainty

LAM = jnp.arange(-20.0, 20.0)


def descend(uncertainty: LearnedUncertainty, loss: jax.Array, rate: float) -> jax.Array:
    """u after gradient descent on the mean of `L / e^u + u`, L given at LAM."""

    def objective(params):
        u = uncertainty(params, LAM)
        return jnp.mean(loss * jnp.exp(-u) + u)

    def step(params, _):
        gradient = jax.grad(objective)(params)
        return jax.tree.map(lambda p, g: p - rate * g, params, gradient), None

    start = uncertainty.init(jax.random.key(0))
    params = jax.jit(lambda p: jax.lax.scan(step, p, length=1000)[0])(start)
    return uncertainty(params, LAM)


@pytest.mark.parametrize("value", [0.03, 20.0])
def test_reaches_the_logarithm_of_a_constant_loss(value: float) -> None:
    u = descend(LearnedUncertainty(harmonics=4), jnp.full_like(LAM, value), 0.02)
    np.testing.assert_allclose(u, np.log(value), atol=1e-4)


def test_follows_a_loss_that_varies_with_lambda() -> None:
    log_loss = np.sin(2 * np.pi * np.asarray(LAM) / 20)
    u = descend(LearnedUncertainty(harmonics=4, period=40.0), jnp.exp(log_loss), 0.1)
    np.testing.assert_allclose(u, log_loss, atol=1e-4)


def test_starts_at_zero_in_float32() -> None:
    uncertainty = LearnedUncertainty(harmonics=3)
    params = uncertainty.init(jax.random.key(1))
    assert jax.tree.map(lambda p: (p.shape, p.dtype.name), params) == {
        "weight": ((6,), "float32"),
        "bias": ((), "float32"),
    }
    np.testing.assert_array_equal(uncertainty(params, LAM), np.zeros(40))


def test_is_the_fourier_series() -> None:
    uncertainty = LearnedUncertainty(harmonics=2, period=10.0)
    params = {"weight": jnp.array([1.0, 2.0, 3.0, 4.0]), "bias": jnp.float32(5.0)}
    phase = 2 * np.pi * np.asarray(LAM, np.float64) / 10
    expected = 5 + np.cos(phase) + 2 * np.cos(2 * phase) + 3 * np.sin(phase) + 4 * np.sin(2 * phase)
    np.testing.assert_allclose(uncertainty(params, LAM), expected, atol=2e-5)


@pytest.mark.parametrize("argument, value", [("harmonics", 0), ("period", 0.0)])
def test_errors_name_the_argument(argument: str, value: float) -> None:
    with pytest.raises(ArgumentError) as refused:
        LearnedUncertainty(**{argument: value})
    assert refused.value.argument == argument


def test_harmonics_are_counted_in_integers():
    with pytest.raises(ArgumentError, match=r"harmonics=2\.5: must be a Python integer"):
        LearnedUncertainty(harmonics=2.5)
