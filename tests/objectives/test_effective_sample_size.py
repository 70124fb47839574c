from math import erf, exp, pi, sqrt

import jax
import numpy as np
import pytest
from scipy.integrate import quad

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import Cauchy, Cosine, Laplace, Normal, Tabulated, Uniform, mixture, window
from jaxnoise.objectives import (
    Prediction,
    SnrWeight,
    compensation_ess,
    density_weight,
    edm_weight,
    min_snr_weight,
    uniform_weight,
    weight_ess,
)

COSINE = density_weight(Cosine(), "v")


def normal_ess(mean_p: float, std_p: float, mean_w: float, std_w: float) -> float:
    """1 / int w^2 / p of two normal densities: a Gaussian integral, finite if 2 sp^2 > sw^2."""
    a = 2 / std_w**2 - 1 / std_p**2
    b = 2 * mean_w / std_w**2 - mean_p / std_p**2
    c = 2 * mean_w**2 / std_w**2 - mean_p**2 / std_p**2
    second = std_p / std_w**2 / sqrt(a) * exp((b * b / a - c) / 2)
    return 1 / second


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "p, w, rtol",
    [
        ((0.0, 1.0), (0.5, 0.8), 1e-9),
        ((2.4, 2.4), (0.0, 2.0), 1e-9),
        ((0.0, 1.0), (3.0, 0.5), 1e-9),
        ((0.0, 1.0), (0.0, 0.01), 1e-9),
        # Near the critical width sqrt(2) the tail beyond the last node decides.
        ((0.0, 1.0), (0.0, 1.4), 2e-3),
    ],
)
def test_normal_proposal_and_normal_weight(p, w, rtol) -> None:
    got = compensation_ess(Normal(*p), density_weight(Normal(*w), "v"))
    assert got == pytest.approx(normal_ess(*p, *w), rel=rtol)


@pytest.mark.parametrize("std_w", [sqrt(2), 1.6])
def test_normal_weight_that_is_too_wide(std_w: float) -> None:
    weight = density_weight(Normal(0.0, std_w), "v")
    assert compensation_ess(Normal(0.0, 1.0), weight) == 0.0


@pytest.mark.parametrize(
    "b, space", [(0.25, "v"), (0.5, "eps"), (0.75, "x0"), (0.9, "v"), (1.0, "eps"), (1.0, "x0")]
)
def test_infinite_variance_of_a_narrow_laplace_under_a_cosine_weight(b: float, space: str) -> None:
    assert compensation_ess(Laplace(0.0, b), density_weight(Cosine(), space)) == 0.0


@pytest.mark.parametrize("b", [1.01, 1.5, 4.0])
def test_wider_laplace_under_a_cosine_weight(b: float) -> None:
    # The integrand w^2 / p is sech^2(l/2) 2b e^(l/b) / (2 pi)^2 on either side.
    def integrand(lam: float) -> float:
        sech = 2 * exp(-lam / 2) / (1 + exp(-lam))
        return sech**2 * exp(lam / b) * b / pi**2

    far = 40.0
    second = quad(integrand, 0, far, limit=200)[0]
    second += 4 * exp((1 / b - 1) * far) / (1 - 1 / b) * b / pi**2
    assert compensation_ess(Laplace(0.0, b), COSINE) == pytest.approx(1 / second, rel=1e-6)


@pytest.mark.takes_a_second
def test_cures_of_infinite_variance() -> None:
    narrow = Laplace(0.0, 0.5)
    clipped = compensation_ess(narrow, COSINE, max_ratio=20.0)
    assert 0.05 < clipped < 0.5
    cut = compensation_ess(narrow.truncated(-5.0, 5.0), COSINE)
    mass = quad(lambda x: 1 / np.cosh(x / 2) / (2 * pi), -5, 5)[0]
    second = quad(lambda x: (1 / np.cosh(x / 2) / (2 * pi)) ** 2 * exp(2 * abs(x)), 0, 5)[0] * 2
    assert cut == pytest.approx(mass**2 / (second * (1 - exp(-10))), rel=1e-6)
    mixed = compensation_ess(mixture([narrow, Cosine()], [0.95, 0.05]), COSINE)
    # r <= 20, so E r^2 <= 20 E r.
    assert mixed > 1 / 20


@pytest.mark.takes_a_second
def test_the_laws_own_density_wastes_nothing() -> None:
    for law in (Cosine(), Normal(), Cauchy(0.0, 0.5), window(Cosine(), 0.1, 0.9)):
        assert compensation_ess(law, density_weight(law, "v")) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.takes_a_second
def test_clipping_at_a_known_ratio() -> None:
    # r = min(1 / p, m), p the triangle 1 - |x|: constant m where p < 1 / m, both ends included.
    law, m = Tabulated((-1.0, 0.0, 1.0), (0.0, 1.0, 0.0)), 4.0
    mean = 2 * (1 - 1 / m) + m * (1 / m) ** 2
    square = 2 * np.log(m) + m**2 * (1 / m) ** 2
    got = compensation_ess(law, uniform_weight("v"), max_ratio=m)
    assert got == pytest.approx(mean**2 / square, rel=1e-4)


def test_a_proposal_that_vanishes_at_its_end() -> None:
    # Near the end 1 / p is t^(-1/2): the mean is finite, the square is not.
    assert compensation_ess(Tabulated((-1.0, 0.0, 1.0), (0.0, 1.0, 0.0)), uniform_weight("v")) == 0


@pytest.mark.takes_a_second
def test_weights_that_no_law_can_carry_to_infinity() -> None:
    assert compensation_ess(Normal(), edm_weight()) == 0.0
    assert compensation_ess(Normal(), density_weight(Cauchy(0.0, 1.0), "v")) == 0.0
    inside = compensation_ess(Normal().truncated(-4.0, 9.0), edm_weight())
    assert 0.1 < inside < 1.0


@pytest.mark.takes_a_second
def test_agrees_with_draws() -> None:
    law, weight = Normal(0.0, 2.0), density_weight(Normal(1.0, 1.5), "v")
    lam = np.asarray(law.sample(jax.random.key(0), 200_000), np.float64)
    log_ratio = -(((lam - 1) / 1.5) ** 2) / 2 + (lam / 2) ** 2 / 2 + np.log(2 / 1.5)
    r = np.exp(log_ratio)
    # The standard error of the ratio of moments here is .0014.
    assert np.mean(r) ** 2 / np.mean(r**2) == pytest.approx(compensation_ess(law, weight), abs=5e-3)


@pytest.mark.takes_a_second
def test_normal_clip_by_hand() -> None:
    # w = p: r = 1, clipped or not, and a clip below 1 is only a scale.
    for clip in (0.5, 1.0, 7.0):
        got = compensation_ess(Normal(), density_weight(Normal(), "v"), max_ratio=clip)
        assert got == pytest.approx(1.0, abs=1e-9)
    # Half-normal share: w = 2 p on the clean side of 0 only, so half of the draws count.
    half = density_weight(window(Normal(0.0, 1.0), 0.0, 0.5), "v")
    assert compensation_ess(Normal(0.0, 1.0), half) == pytest.approx(0.5, abs=1e-6)
    third = erf(1 / sqrt(2))
    middle = density_weight(Normal(0.0, 1.0).truncated(-1.0, 1.0), "v")
    assert compensation_ess(Normal(0.0, 1.0), middle) == pytest.approx(third, abs=2e-3)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ArgumentError, match=r"max_ratio=0.0: must be a number > 0"):
        compensation_ess(Cosine(), COSINE, max_ratio=0.0)


# The weight alone, on what the network predicts


def ess(factors: np.ndarray) -> float:
    return np.mean(factors) ** 2 / np.mean(factors**2)


@pytest.mark.parametrize("std", [0.25, 0.5, 1.0])
def test_weight_of_eps_on_x0_is_lognormal_under_a_normal_law(std: float) -> None:
    # e^lambda: (E S)^2 / E S^2 = e^(-std^2); at std 1 3e-3 of E S^2 lies beyond the draws.
    got = weight_ess(Normal(0.3, std), uniform_weight("eps"), Prediction("x0"))
    assert got == pytest.approx(exp(-(std**2)), rel=5e-3 if std == 1 else 1e-3)


@pytest.mark.parametrize(("target", "sign"), [("eps", -1), ("x0", 1)])
def test_weight_of_v_is_one_and_the_snr_or_its_inverse(target: str, sign: int) -> None:
    b = 0.2
    got = weight_ess(Laplace(0.0, b), uniform_weight("v"), Prediction(target))
    mean = 1 + 1 / (1 - b**2)
    square = 1 + 2 / (1 - b**2) + 1 / (1 - 4 * b**2)
    assert got == pytest.approx(mean**2 / square, rel=1e-3)
    # Off its middle, which end is heavy shows.
    got = weight_ess(Laplace(2.0 * sign, b), uniform_weight("v"), Prediction(target))
    first, second = exp(2.0) / (1 - b**2), exp(4.0) / (1 - 4 * b**2)
    assert got == pytest.approx((1 + first) ** 2 / (1 + 2 * first + second), rel=1e-3)


def test_weight_of_v_between_two_ends() -> None:
    a = 10.0
    mean = 1 + (exp(a) - exp(-a)) / (2 * a)
    square = 2 * mean - 1 + (exp(2 * a) - exp(-2 * a)) / (4 * a)
    got = weight_ess(Uniform(-a, a), uniform_weight("v"), Prediction("eps"))
    assert got == pytest.approx(mean**2 / square, rel=1e-5)


def test_weight_ess_is_that_of_many_draws() -> None:
    law, weight = Cosine(), uniform_weight("v")
    lam = np.asarray(law.inverse_survival((np.arange(2**16, dtype=np.float32) + 0.5) / 2**16))
    for target, sign in (("eps", -1), ("x0", 1)):
        expected = ess(1 + np.exp(sign * lam.astype(np.float64)))
        got = weight_ess(law, weight, Prediction(target))
        assert got == pytest.approx(expected, rel=1e-4)
        # f is near (2 / (pi t))^2 in the tail: one draw and a half rule, whatever their number.
        assert got == pytest.approx(1.5 / 2**16, rel=1e-3)


def test_a_weight_that_does_not_vary_leaves_all_draws() -> None:
    for target, weight in (("v", uniform_weight("v")), ("edm", edm_weight())):
        got = weight_ess(Normal(2.4, 2.4), weight, Prediction(target))
        assert got == pytest.approx(1.0, abs=1e-6)


def test_min_snr_on_eps_against_quadrature() -> None:
    def moment(power: int) -> float:
        def integrand(lam: float) -> float:
            return min(1.0, 5 * exp(-lam)) ** power / (np.cosh(lam / 2) * 2 * pi)

        return quad(integrand, -60, 60, points=[np.log(5)], limit=200)[0]

    got = weight_ess(Cosine(), min_snr_weight(5.0), Prediction("eps"))
    assert got == pytest.approx(moment(1) ** 2 / moment(2), rel=1e-4)


def test_a_weight_of_nothing_leaves_nothing() -> None:
    assert weight_ess(Cosine(), SnrWeight("v", lambda lam: lam - np.inf), Prediction("v")) == 0.0
