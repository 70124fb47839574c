import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.objectives import Prediction, vp_coefficients

TARGETS = ("eps", "x0", "v", "edm")
RANDOM = np.random.RandomState(0)
X0, EPS, ESTIMATE = RANDOM.randn(3, 4, 2, 2, 1)


def squared_errors(lam: float, sigma_data: float = 0.5) -> dict[str, np.ndarray]:
    """Squared errors of one estimate of x0, read as estimates of every target at the same x.

    From the definitions alone: eps^ = (x - alpha x0^) / s, v^ = alpha eps^ - s x0^, and EDM's
    target (x0 - c_skip x) / c_out.
    """
    alpha, s = np.sqrt(1 / (1 + np.exp(-lam))), np.sqrt(1 / (1 + np.exp(lam)))
    x, sigma = alpha * X0 + s * EPS, s / alpha
    noise = (x - alpha * ESTIMATE) / s
    of = {
        "eps": EPS - noise,
        "x0": X0 - ESTIMATE,
        "v": (alpha * EPS - s * X0) - (alpha * noise - s * ESTIMATE),
        "edm": (X0 - ESTIMATE) * np.sqrt(sigma**2 + sigma_data**2) / (sigma * sigma_data),
    }
    return {target: np.sum(error**2, axis=(1, 2, 3)) for target, error in of.items()}


@hypothesis.given(lam=st.floats(-9.0, 9.0))
@hypothesis.settings(deadline=None, max_examples=25, derandomize=True)
def test_loss_identities(lam: float) -> None:
    error = squared_errors(lam)
    np.testing.assert_allclose(error["v"], (1 + np.exp(-lam)) * error["eps"], rtol=1e-10)
    np.testing.assert_allclose(error["x0"], np.exp(-lam) * error["eps"], rtol=1e-10)
    with jax.enable_x64(True):
        for target in TARGETS:
            ratio = np.exp(float(Prediction(target).log_x0_ratio(jnp.asarray(lam))))
            np.testing.assert_allclose(error["x0"], ratio * error[target], rtol=1e-10)


@pytest.mark.parametrize("lam", [-9.0, -1.0, 0.0, 2.5, 9.0])
@pytest.mark.parametrize("target", TARGETS)
def test_the_wanted_value_denoises_exactly(target: str, lam: float) -> None:
    with jax.enable_x64(True):
        prediction = Prediction(target, 0.7)
        level = jnp.full(4, lam)
        wanted = np.asarray(prediction.wanted(jnp.asarray(X0), jnp.asarray(EPS), level))
        sigma = np.exp(-lam / 2)
        c = [float(value[0]) for value in prediction.preconditioning(jnp.full(4, sigma))]
        x = X0 + sigma * EPS
        np.testing.assert_allclose(c[0] * x + c[1] * wanted, X0, rtol=1e-10, atol=1e-10)
        seen = prediction.network_input(jnp.asarray(X0), jnp.asarray(EPS), level)
        np.testing.assert_allclose(seen, c[2] * x, rtol=1e-10)
        assert float(prediction.c_noise(level)[0]) == pytest.approx(c[3], abs=1e-12)


def test_targets_by_their_definitions() -> None:
    lam = np.array([-3.0, 0.0, 1.0, 4.0])
    alpha, s = np.sqrt(1 / (1 + np.exp(-lam))), np.sqrt(1 / (1 + np.exp(lam)))
    sigma, over = np.exp(-lam / 2), (slice(None), None, None, None)
    x = X0 + sigma[over] * EPS
    skip, out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / np.sqrt(sigma**2 + 0.25)
    expected = {
        "eps": EPS,
        "x0": X0,
        "v": alpha[over] * EPS - s[over] * X0,
        "edm": (X0 - skip[over] * x) / out[over],
    }
    for target, value in expected.items():
        got = Prediction(target).wanted(
            jnp.asarray(X0, jnp.float32), jnp.asarray(EPS, jnp.float32), jnp.float32(lam)
        )
        np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-5)


def test_the_network_is_told_lambda() -> None:
    lam = jnp.array([-8.0, 0.0, 2.0])
    for target in ("eps", "x0", "v"):
        np.testing.assert_array_equal(Prediction(target).c_noise(lam), [2.0, 0.0, -0.5])
    # EDM's ln(sigma) / 4 with sigma = exp(-lambda / 2).
    np.testing.assert_array_equal(Prediction("edm").c_noise(lam), [1.0, 0.0, -0.25])


def test_input_and_edm_target_have_unit_variance() -> None:
    x0 = 0.5 * jax.random.normal(jax.random.key(0), (3, 60_000))
    eps = jax.random.normal(jax.random.key(1), (3, 60_000))
    lam = jnp.array([-6.0, 1.4, 6.0])
    edm = Prediction("edm")
    # The standard error of a variance over 6e4 normal draws is .0058.
    np.testing.assert_allclose(jnp.var(edm.network_input(x0, eps, lam), axis=1), 1, atol=0.024)
    np.testing.assert_allclose(jnp.var(edm.wanted(x0, eps, lam), axis=1), 1, atol=0.024)


def test_v_is_edm_at_unit_variance_with_the_sign_turned() -> None:
    lam = jnp.array([-3.0, 0.0, 1.0, 4.0])
    x0, eps = jnp.asarray(X0, jnp.float32), jnp.asarray(EPS, jnp.float32)
    v, edm = Prediction("v", 1.0), Prediction("edm", 1.0)
    np.testing.assert_allclose(v.wanted(x0, eps, lam), -edm.wanted(x0, eps, lam), atol=1e-6)
    np.testing.assert_allclose(v.log_x0_ratio(lam), edm.log_x0_ratio(lam), atol=1e-6)
    # With sigma_data 1 the input is the plain variance-preserving image.
    alpha, s = vp_coefficients(lam)
    plain = alpha[:, None, None, None] * x0 + s[:, None, None, None] * eps
    np.testing.assert_allclose(v.network_input(x0, eps, lam), plain, atol=1e-6)


def test_far_tails_stay_finite_in_float32() -> None:
    lam = jnp.array([-1e4, -150.0, 150.0, 1e4])
    x0, eps = jnp.asarray(X0, jnp.float32), jnp.asarray(EPS, jnp.float32)
    for target in TARGETS:
        prediction = Prediction(target)
        assert np.isfinite(prediction.network_input(x0, eps, lam)).all()
        assert np.isfinite(prediction.wanted(x0, eps, lam)).all()
        assert np.isfinite(prediction.log_x0_ratio(lam)).all()


def test_errors_name_the_argument() -> None:
    with pytest.raises(ArgumentError, match=r"target='epsilon': must be one of eps, x0, v, edm"):
        Prediction("epsilon")
    with pytest.raises(ArgumentError, match=r"sigma_data=0.0: must be a number > 0"):
        Prediction("v", 0.0)
