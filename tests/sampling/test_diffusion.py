"""ODE samplers on a Gaussian: the optimal denoiser and the exact solution are known."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.sampling import ddim, euler, heun

SIGMA_DATA = 0.5
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


def karras(n: int) -> np.ndarray:
    """The Karras grid, ascending."""
    ramp = np.linspace(SIGMA_MIN ** (1 / 7), SIGMA_MAX ** (1 / 7), n)
    return ramp**7


def denoiser(x: jax.Array, sigma: jax.Array) -> jax.Array:
    return x * (SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2))[:, None, None, None]


def vp_denoiser(x: jax.Array, lam: jax.Array) -> jax.Array:
    alpha2, s2 = jax.nn.sigmoid(lam), jax.nn.sigmoid(-lam)
    gain = jnp.sqrt(alpha2) * SIGMA_DATA**2 / (alpha2 * SIGMA_DATA**2 + s2)
    return x * gain[:, None, None, None]


def exact(sigma_from: float, sigma_to: float) -> float:
    """x(sigma_to) / x(sigma_from): dx/dsigma = x sigma / (sigma_data^2 + sigma^2), solved."""
    return float(np.sqrt((SIGMA_DATA**2 + sigma_to**2) / (SIGMA_DATA**2 + sigma_from**2)))


def last_step(sigma: float) -> float:
    """What the final Euler step to noise level 0 multiplies by: the denoiser itself."""
    return SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2)


def error(sampler: Callable[..., jax.Array], levels: np.ndarray) -> float:
    with jax.enable_x64(True):
        noise = jnp.ones((1, 1, 1, 1), jnp.float64)
        x = sampler(denoiser, noise, levels).item()
    expected = levels[-1] * exact(levels[-1], levels[0]) * last_step(levels[0])
    return abs(x / expected - 1)


@pytest.mark.parametrize(
    "sampler, order, at_100", [(heun, 2, 2e-3), (euler, 1, 0.05)], ids=["heun", "euler"]
)
def test_error_falls_with_the_order_of_the_method(
    sampler: Callable[..., jax.Array], order: int, at_100: float
) -> None:
    coarse, middle, fine = (error(sampler, karras(n)) for n in (101, 201, 401))
    assert coarse < at_100
    assert np.log2(coarse / middle) == pytest.approx(order, abs=0.1)
    assert np.log2(middle / fine) == pytest.approx(order, abs=0.05)


@pytest.mark.takes_a_second
def test_float32_is_as_good_as_the_method() -> None:
    noise = jax.random.normal(jax.random.key(0), (4, 2, 2, 3))
    images = heun(denoiser, noise, karras(18))
    assert images.dtype == jnp.float32
    gain = np.asarray(images / noise)
    # The method's own error on this problem, the same in every pixel.
    assert abs(gain.mean() / SIGMA_DATA - 1) == pytest.approx(error(heun, karras(18)), abs=1e-4)
    np.testing.assert_allclose(gain, gain.mean(), rtol=1e-5)


def test_heun_beats_euler_at_the_same_number_of_evaluations() -> None:
    assert error(heun, karras(18)) < error(euler, karras(35))
    assert 5 * error(heun, karras(100)) < error(euler, karras(199))


@pytest.mark.parametrize("sampler, evaluations", [(heun, 35), (euler, 18)], ids=["heun", "euler"])
def test_number_of_evaluations(sampler: Callable[..., jax.Array], evaluations: int) -> None:
    seen: list[float] = []

    def counting(x: jax.Array, sigma: jax.Array) -> jax.Array:
        jax.debug.callback(lambda s: seen.append(float(s[0])), sigma, ordered=True)
        return denoiser(x, sigma)

    levels = karras(18)
    sampler(counting, jnp.ones((2, 1, 1, 1)), levels).block_until_ready()
    jax.effects_barrier()
    assert len(seen) == evaluations
    expected = [levels[17 - (i + 1) // 2] for i in range(35)] if sampler is heun else levels[::-1]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_one_level_is_one_evaluation() -> None:
    noise = jnp.full((1, 1, 1, 1), 2.0)
    expected = 2.0 * 3.0 * last_step(3.0)
    assert heun(denoiser, noise, [3.0]).item() == pytest.approx(expected, rel=1e-6)
    assert euler(denoiser, noise, [3.0]).item() == pytest.approx(expected, rel=1e-6)


def test_two_levels_by_hand() -> None:
    noise = jnp.ones((1, 1, 1, 1))
    x, sigma, tau = 2.0, 2.0, 1.0
    slope = (x - x * last_step(sigma)) / sigma
    predicted = x + (tau - sigma) * slope
    corrected = (predicted - predicted * last_step(tau)) / tau
    by_heun = (x + (tau - sigma) * (slope + corrected) / 2) * last_step(tau)
    assert heun(denoiser, noise, [tau, sigma]).item() == pytest.approx(by_heun, rel=1e-6)
    by_euler = predicted * last_step(tau)
    assert euler(denoiser, noise, [tau, sigma]).item() == pytest.approx(by_euler, rel=1e-6)


def ddim_error(n: int) -> float:
    lambdas = np.linspace(-12.0, 12.0, n)
    with jax.enable_x64(True):
        noise = jnp.ones((1, 1, 1, 1), jnp.float64)
        x = ddim(vp_denoiser, noise, lambdas, trained_range=(-12.0, 12.0)).item()
    high, low = np.exp(-lambdas[0] / 2), np.exp(-lambdas[-1] / 2)
    # In x / alpha the variance-preserving ODE is the variance-exploding one, sigma = e^(-lambda/2).
    start = np.sqrt(1 + high**2)
    return abs(x / (start * exact(high, low) * last_step(low)) - 1)


@pytest.mark.takes_a_second
def test_ddim_is_of_first_order() -> None:
    coarse, middle, fine = (ddim_error(n) for n in (101, 201, 401))
    assert coarse < 0.1
    assert np.log2(coarse / middle) == pytest.approx(1, abs=0.1)
    assert np.log2(middle / fine) == pytest.approx(1, abs=0.05)


@pytest.mark.takes_a_second
def test_ddim_is_euler_in_another_coordinate() -> None:
    lambdas = np.linspace(-8.0, 10.0, 23)
    sigmas = np.exp(-lambdas / 2)
    with jax.enable_x64(True):
        noise = jax.random.normal(jax.random.key(3), (3, 2, 2, 1), jnp.float64)
        by_ddim = ddim(vp_denoiser, noise, lambdas, trained_range=(-np.inf, np.inf))
        # Euler starts from sigma z, DDIM from z / alpha in the same coordinate.
        scaled = noise * np.sqrt(1 + sigmas[0] ** 2).item() / sigmas[0].item()
        by_euler = euler(denoiser, scaled, sigmas[::-1])
        np.testing.assert_allclose(by_ddim, by_euler, rtol=1e-12)


@pytest.mark.parametrize(
    "run",
    [
        lambda noise: heun(denoiser, noise, karras(6)),
        lambda noise: euler(denoiser, noise, karras(6)),
        lambda noise: ddim(
            vp_denoiser, noise, np.float32(np.linspace(-9.3, 9.3, 6)), trained_range=(-9.3, 9.3)
        ),
    ],
    ids=["heun", "euler", "ddim"],
)
def test_jit_and_batch_size_change_nothing(run: Callable[[jax.Array], jax.Array]) -> None:
    noise = jax.random.normal(jax.random.key(1), (4, 2, 2, 1))
    plain = np.asarray(run(noise))
    np.testing.assert_allclose(jax.jit(run)(noise), plain, rtol=1e-5)
    np.testing.assert_allclose(run(noise[1:2]), plain[1:2], rtol=1e-5)


def test_start_outside_the_trained_range_names_both() -> None:
    noise = jnp.ones((1, 1, 1, 1))
    with pytest.raises(ArgumentError, match=r"lambdas=-20\.0: .*\[-10\.0, 15\.0\]"):
        ddim(vp_denoiser, noise, [-20.0, 0.0], trained_range=(-10.0, 15.0))
    with pytest.raises(ArgumentError, match=r"lambdas=16\.0: .*\[-10\.0, 15\.0\]"):
        ddim(vp_denoiser, noise, [-10.0, 16.0], trained_range=(-10.0, 15.0))
    with pytest.raises(ArgumentError, match="trained_range"):
        ddim(vp_denoiser, noise, [0.0, 1.0], trained_range=(1.0, 1.0))


@pytest.mark.parametrize(
    "levels", [[0.1, 80.0, 0.002], [1.0, 1.0], [0.0, 1.0], [], [[1.0]], [np.nan]]
)
@pytest.mark.parametrize("sampler", [heun, euler])
def test_bad_grids_are_refused(sampler: Callable[..., jax.Array], levels: list) -> None:
    with pytest.raises(ArgumentError) as refused:
        sampler(denoiser, jnp.ones((1, 1, 1, 1)), levels)
    assert refused.value.argument == "levels"


def test_a_grid_may_ascend_or_descend() -> None:
    noise, grid = jax.random.normal(jax.random.key(0), (3, 2, 2, 1)), karras(6).tolist()
    for solver in (heun, euler):
        up, down = (solver(denoiser, noise, levels) for levels in (grid, grid[::-1]))
        np.testing.assert_array_equal(up, down)
    lambdas = [-4.0, 0.0, 1.0, 3.0]
    up, down = (
        ddim(vp_denoiser, noise, grid, trained_range=(-5.0, 5.0))
        for grid in (lambdas, lambdas[::-1])
    )
    np.testing.assert_array_equal(up, down)


def test_a_traced_grid_is_refused() -> None:
    with pytest.raises(ArgumentError, match="levels='a traced array': must be concrete"):
        jax.jit(lambda levels: heun(denoiser, jnp.ones((1, 1, 1, 1)), levels))(karras(6))


def test_levels_beyond_the_square_root_of_float32_are_drawn():
    grid = [-10.0, 0.0, 90.0, 130.0]
    noise = jnp.ones((1, 1, 1, 1))
    image = ddim(lambda x, lam: x / 2 + 1 / 4, noise, grid, trained_range=(-jnp.inf, jnp.inf))
    assert np.isfinite(image).all()
