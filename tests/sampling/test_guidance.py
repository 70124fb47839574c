import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.sampling import guided

X = jnp.arange(4.0).reshape(2, 2, 1, 1)
SIGMA = jnp.array([0.5, 2.0])


def conditional(x, sigma):
    return 2 * x + sigma[:, None, None, None]


def unconditional(x, sigma):
    return x - sigma[:, None, None, None]


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_extrapolates_from_the_unconditional_estimate(scale: float) -> None:
    sigma = np.asarray(SIGMA)[:, None, None, None]
    x = np.asarray(X)
    expected = (1 - scale) * (x - sigma) + scale * (2 * x + sigma)
    np.testing.assert_allclose(guided(conditional, unconditional, scale)(X, SIGMA), expected)


def test_guiding_x0_guides_eps_alike() -> None:
    def noise(denoiser):
        return np.asarray((X - denoiser(X, SIGMA)) / SIGMA[:, None, None, None])

    both = noise(guided(conditional, unconditional, 2.5))
    expected = noise(unconditional) + 2.5 * (noise(conditional) - noise(unconditional))
    np.testing.assert_allclose(both, expected, rtol=1e-6)


def test_a_scale_of_one_costs_one_evaluation() -> None:
    def never(x, sigma):
        raise AssertionError("evaluated")

    np.testing.assert_array_equal(guided(conditional, never, 1.0)(X, SIGMA), conditional(X, SIGMA))


def test_bad_scale() -> None:
    with pytest.raises(ArgumentError, match=r"scale=inf: must be a finite number"):
        guided(conditional, unconditional, float("inf"))
