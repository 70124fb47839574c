"""Samplers on a Gaussian: the denoiser and the exact solution of the ODE are known."""

from collections.abc import Callable
from functools import partial
from math import exp, inf, log

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import Laplace, Normal, karras_levels
from jaxnoise.objectives import DenoisingObjective, min_snr_weight
from jaxnoise.sampling import (
    Sampler,
    consistency_samplers,
    ddim,
    ddim_sampler,
    euler,
    euler_sampler,
    heun,
    heun_sampler,
)

KEYS = jax.random.split(jax.random.key(0), 3)
NOISE = jax.random.normal(jax.random.key(1), (3, 2, 2, 1))
MAKERS = [heun_sampler, euler_sampler, ddim_sampler]


def denoiser(x: jax.Array, sigma: jax.Array) -> jax.Array:
    return x * (0.25 / (0.25 + sigma**2))[:, None, None, None]


def visited(sampler: Sampler) -> np.ndarray:
    """The levels at which the sampler evaluates the network."""
    seen: list[float] = []

    def watching(x: jax.Array, sigma: jax.Array) -> jax.Array:
        jax.debug.callback(lambda s: seen.append(float(s[0])), sigma, ordered=True)
        return denoiser(x, sigma)

    sampler.draw(watching, NOISE[:1], KEYS[:1]).block_until_ready()
    jax.effects_barrier()
    return np.array(seen)


def test_names_and_costs() -> None:
    samplers = [heun_sampler(18), euler_sampler(35), ddim_sampler(50)]
    assert [(s.name, s.nfe) for s in samplers] == [("heun18", 35), ("euler35", 35), ("ddim50", 50)]
    steps = consistency_samplers((0.8, 0.3), 0.002, 80.0)
    assert [(s.name, s.nfe) for s in steps] == [("1step", 1), ("3step", 3)]


@pytest.mark.parametrize("make", MAKERS)
def test_nfe_is_what_it_costs_from_the_start_to_the_end(make: Callable[..., Sampler]) -> None:
    sampler = make(5, sigma_min=0.01, sigma_max=20.0)
    levels = visited(sampler)
    assert len(levels) == sampler.nfe
    assert levels[[0, -1]] == pytest.approx([20.0, 0.01], rel=1e-5)
    assert (np.diff(levels) <= 0).all()


def test_levels_are_the_solvers_own() -> None:
    levels = np.asarray(karras_levels(6, 0.01, 20.0, 3.0))
    for make, solve in ((heun_sampler, heun), (euler_sampler, euler)):
        got = make(6, 0.01, 20.0, 3.0).draw(denoiser, NOISE, KEYS)
        np.testing.assert_array_equal(got, solve(denoiser, NOISE, levels))


def test_ddim_takes_equal_steps_of_lambda() -> None:
    levels = visited(ddim_sampler(7, 0.05, 20.0))
    steps = np.diff(-2 * np.log(levels))
    np.testing.assert_allclose(steps, 2 * log(20.0 / 0.05) / 6, rtol=1e-4)


def test_ddim_hands_a_variance_exploding_image_to_the_denoiser() -> None:
    # The same model in the variance-preserving form.
    def at_lambda(x: jax.Array, lam: jax.Array) -> jax.Array:
        alpha2, s2 = jax.nn.sigmoid(lam), jax.nn.sigmoid(-lam)
        return x * (jnp.sqrt(alpha2) * 0.25 / (alpha2 * 0.25 + s2))[:, None, None, None]

    got = ddim_sampler(9, 0.05, 20.0).draw(denoiser, NOISE, KEYS)
    grid = np.linspace(-2 * log(20.0), -2 * log(0.05), 9)
    expected = ddim(at_lambda, NOISE, grid, trained_range=(-inf, inf))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize(
    "sampler, error",
    [(heun_sampler(100), 0.002), (euler_sampler(200), 0.02), (ddim_sampler(400), 0.02)],
)
def test_draws_the_gaussian(sampler: Sampler, error: float) -> None:
    # dx/dsigma = x sigma / (sigma^2 + .25): noise of 80 z ends at .5 z / (1 + .25 / 80^2)^(1/2).
    gain = np.asarray(sampler.draw(denoiser, NOISE, KEYS) / NOISE)
    np.testing.assert_allclose(gain, 0.5, rtol=error)


@pytest.mark.parametrize("make", MAKERS)
def test_under_jit_with_the_sampler_static(make: Callable[..., Sampler]) -> None:
    sampler = make(4)
    jitted = jax.jit(partial(sampler.draw, denoiser))(NOISE, KEYS)
    np.testing.assert_allclose(jitted, sampler.draw(denoiser, NOISE, KEYS), rtol=1e-5)
    assert hash(sampler) == hash(sampler)


@pytest.mark.parametrize("make", MAKERS)
def test_a_sampler_may_be_made_inside_of_a_program(make: Callable[..., Sampler]) -> None:
    jitted = jax.jit(lambda noise: make(4).draw(denoiser, noise, KEYS))(NOISE)
    np.testing.assert_allclose(jitted, make(4).draw(denoiser, NOISE, KEYS), rtol=1e-5)


@pytest.mark.parametrize("sampler", [heun_sampler(64), euler_sampler(64), ddim_sampler(250)])
def test_noise_of_half_precision_is_solved_for_in_float32(sampler: Sampler) -> None:
    """The denoiser sees and gives half precision; its rounding does not add up over the steps."""
    keys = jax.random.split(jax.random.key(3), 200)
    noise = jax.random.normal(jax.random.key(2), (200, 4, 4, 1)).astype(jnp.bfloat16)
    dtypes = set()

    def narrow(x: jax.Array, sigma: jax.Array) -> jax.Array:
        dtypes.add((x.dtype, sigma.dtype))
        return denoiser(x.astype(jnp.float32), sigma).astype(x.dtype)

    found = sampler.draw(narrow, noise, keys)
    assert found.dtype == jnp.bfloat16
    assert dtypes == {(jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32))}
    expected = np.asarray(sampler.draw(denoiser, noise.astype(jnp.float32), keys))
    apart = np.asarray(found, np.float32) - expected
    assert np.sqrt(np.mean(apart**2)) < 0.005 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize("make", MAKERS)
def test_defaults_stay_within_what_was_trained(make: Callable[..., Sampler]) -> None:
    inside = make(4, trained_range=(-6.0, 8.0))
    assert visited(inside)[[0, -1]] == pytest.approx([exp(3.0), exp(-4.0)], rel=1e-4)
    edm = DenoisingObjective(Normal(2.4, 2.4), min_snr_weight())
    wide = make(4, trained_range=edm.trained_range)
    assert visited(wide)[[0, -1]] == pytest.approx([80.0, 0.002], rel=1e-4)


@pytest.mark.parametrize("make", MAKERS)
def test_a_start_outside_the_trained_range_names_both(make: Callable[..., Sampler]) -> None:
    message = r"sigma_max=80\.0: must be at most 20\.09, .*lambda=-8\.764 .* \[-6\.0, 6\.0\]"
    with pytest.raises(ArgumentError, match=message):
        make(8, sigma_max=80.0, trained_range=(-6.0, 6.0))
    with pytest.raises(ArgumentError, match=r"sigma_min=0\.002: must be at least 0\.04979, "):
        make(8, sigma_min=0.002, trained_range=(-6.0, 6.0))
    # The ends themselves are inside, however they were rounded.
    # A Cauchy law reaches noise that no double can hold as sigma; nothing is refused there.
    make(8, sigma_max=1e6, trained_range=(-1e5, 1e5))
    make(8, sigma_min=exp(-3.0), sigma_max=float(np.float32(exp(3.0))), trained_range=(-6.0, 6.0))


def test_a_narrow_law_refuses_the_usual_start() -> None:
    objective = DenoisingObjective(Laplace(0.0, 0.5), min_snr_weight())
    with pytest.raises(ArgumentError, match=r"sigma_max=80\.0: must be at most 26\.59"):
        heun_sampler(18, sigma_max=80.0, trained_range=objective.trained_range)


@pytest.mark.parametrize(
    "settings, argument",
    [
        ({"steps": 1}, "steps"),
        ({"sigma_min": 0.0}, "sigma_min"),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, "sigma_max"),
        ({"trained_range": (1.0, 1.0)}, "trained_range"),
    ],
)
@pytest.mark.parametrize("make", MAKERS)
def test_errors_name_the_argument(make, settings, argument: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        make(**{"steps": 4, **settings})
    assert refused.value.argument == argument


@pytest.mark.parametrize("make", [heun_sampler, euler_sampler])
def test_rho_is_checked(make: Callable[..., Sampler]) -> None:
    with pytest.raises(ArgumentError, match=r"rho=0\.0"):
        make(4, rho=0.0)
