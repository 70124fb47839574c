import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import Cosine
from jaxnoise.objectives import (
    Prediction,
    SnrWeight,
    density_weight,
    edm_weight,
    inverse_gap,
    min_snr_weight,
    p2_weight,
    soft_min_snr_weight,
    uniform,
    uniform_weight,
)

LAM = np.linspace(-15.0, 15.0, 61)
S = np.exp(LAM)
SIGMA2 = np.exp(-LAM)

# ||target - target^||^2 over ||eps - eps^||^2.
OVER_EPS = {
    "eps": np.ones_like(LAM),
    "x0": np.exp(-LAM),
    "v": 1 + np.exp(-LAM),
    "edm": np.exp(-LAM) * (SIGMA2 + 0.25) / (SIGMA2 * 0.25),
}


def on(weight: SnrWeight, target: str) -> np.ndarray:
    with jax.enable_x64(True):
        return np.exp(np.asarray(weight.log_on(Prediction(target), jnp.asarray(LAM))))


def test_pair_weights_in_numbers() -> None:
    lo, hi = jnp.array([0.5, 2.0]), jnp.array([0.75, 4.0])
    np.testing.assert_array_equal(inverse_gap(lo, hi), [4.0, 0.5])
    np.testing.assert_array_equal(uniform(lo, hi), [1.0, 1.0])


def test_min_snr_is_its_three_published_formulas() -> None:
    for gamma in (1.0, 5.0):
        weight = min_snr_weight(gamma)
        least = np.minimum(S, gamma)
        np.testing.assert_allclose(on(weight, "x0"), least, rtol=1e-10)
        np.testing.assert_allclose(on(weight, "eps"), least / S, rtol=1e-10)
        np.testing.assert_allclose(on(weight, "v"), least / (S + 1), rtol=1e-10)
    np.testing.assert_allclose(on(min_snr_weight(), "x0"), np.minimum(S, 5), rtol=1e-10)


@pytest.mark.parametrize(
    "weight, space, formula",
    [
        (soft_min_snr_weight(), "x0", 4 * S / (S + 4)),
        (soft_min_snr_weight(4.0), "x0", 1 / (SIGMA2 + 0.25)),
        (p2_weight(0.5), "eps", (1 + S) ** -0.5),
        (p2_weight(0.0), "eps", np.ones_like(S)),
        (edm_weight(0.5), "x0", (SIGMA2 + 0.25) / (np.sqrt(SIGMA2) * 0.5) ** 2),
        (edm_weight(0.5), "edm", np.ones_like(S)),
        (uniform_weight("eps"), "eps", np.ones_like(S)),
        (uniform_weight("v"), "v", np.ones_like(S)),
        (density_weight(Cosine(), "eps"), "eps", 1 / np.cosh(LAM / 2) / (2 * np.pi)),
    ],
)
def test_formula_in_its_own_space(weight: SnrWeight, space: str, formula: np.ndarray) -> None:
    np.testing.assert_allclose(on(weight, space), formula, rtol=1e-10)


@pytest.mark.parametrize("space", ["eps", "x0", "v"])
def test_conversion_undoes_the_ratio_of_the_errors(space: str) -> None:
    weight = SnrWeight(space, lambda lam: jnp.sin(lam))
    for target, ratio in OVER_EPS.items():
        expected = np.exp(np.sin(LAM)) * OVER_EPS[space] / ratio
        np.testing.assert_allclose(on(weight, target), expected, rtol=1e-10)


def test_soft_min_snr_stays_below_min_snr_and_meets_it_far_away() -> None:
    soft, hard = on(soft_min_snr_weight(5.0), "x0"), on(min_snr_weight(5.0), "x0")
    assert (soft < hard).all()
    np.testing.assert_allclose(soft[[0, -1]], hard[[0, -1]], rtol=1e-5)


def test_far_tails_stay_finite_in_float32() -> None:
    far = jnp.array([-1e4, -200.0, 200.0, 1e4])
    weights = [min_snr_weight(), soft_min_snr_weight(), p2_weight(), edm_weight(), uniform_weight()]
    for weight in weights:
        assert np.isfinite(weight.log_on(Prediction("v"), far)).all()


@pytest.mark.parametrize(
    "make, argument",
    [
        (lambda: min_snr_weight(0.0), "gamma"),
        (lambda: soft_min_snr_weight(-1.0), "gamma"),
        (lambda: p2_weight(-1.0), "gamma"),
        (lambda: edm_weight(0.0), "sigma_data"),
        (lambda: uniform_weight("epsilon"), "space"),
    ],
)
def test_errors_name_the_argument(make, argument: str) -> None:
    with pytest.raises(ArgumentError) as refused:
        make()
    assert refused.value.argument == argument
