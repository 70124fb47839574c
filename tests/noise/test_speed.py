"""The asymmetric law of time: its inverse CDF, density and draws, alone and under a law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import Cosine, Normal, UniformPairs, iid, karras_levels, paced_probs
from jaxnoise.noise.speed import Asymmetric

SHAPES = [(0.642, 5.0), (0.1, 20.0), (0.95, 1.0), (0.5, 2.0)]


def piecewise_cdf(t, boundary, suppression):
    """The CDF as integral of a density written out piece by piece."""
    height = 1 / (boundary + (1 - boundary) / suppression)
    return height * (np.minimum(t, boundary) + np.maximum(t - boundary, 0) / suppression)


@pytest.mark.parametrize("boundary,suppression", SHAPES)
def test_density_is_the_slope_of_the_cdf(boundary, suppression):
    pacing = Asymmetric(boundary, suppression)
    with jax.enable_x64(True):
        t = jnp.asarray(np.linspace(0.0005, 0.9995, 400))
        t = t[jnp.abs(t - boundary) > 1e-5]
        density = np.exp(pacing.log_prob(t, (), 0))
        cdf = np.asarray(pacing.cdf(t, (), 0))
        slope = (pacing.cdf(t + 1e-6, (), 0) - pacing.cdf(t - 1e-6, (), 0)) / 2e-6
        np.testing.assert_allclose(cdf, piecewise_cdf(np.asarray(t), boundary, suppression))
        np.testing.assert_allclose(density, slope, rtol=1e-8)
        np.testing.assert_allclose(pacing.warp(cdf, (), 0), t, rtol=1e-12)
        ratio = density[np.asarray(t) < boundary][0] / density[-1]
        np.testing.assert_allclose(ratio, suppression, rtol=1e-12)
        assert np.isneginf(pacing.log_prob(jnp.asarray([-0.01, 1.01]), (), 0)).all()
        np.testing.assert_array_equal(pacing.cdf(jnp.asarray([0.0, 1.0]), (), 0), [0, 1])


@pytest.mark.parametrize("boundary,suppression", SHAPES)
def test_warp_of_float32_ascends_and_stays_below_one(boundary, suppression):
    edge = boundary / (boundary + (1 - boundary) / suppression)
    u = np.sort(np.concatenate([np.linspace(0, 1, 1001)[:-1], edge + np.linspace(-1e-6, 1e-6, 9)]))
    u = np.append(u.clip(0, 1 - 2**-24), 1 - 2**-24).astype(np.float32)
    t = np.asarray(Asymmetric(boundary, suppression).warp(u, (), 0))
    assert t.dtype == np.float32
    assert (np.diff(t) >= -1e-7).all()
    assert t.min() == 0
    assert t.max() < 1


def test_draws():
    pacing = Asymmetric(boundary=0.642)
    draw = jax.jit(lambda key: pacing.warp(iid(key, 4000), (), 0))
    t = np.asarray(draw(jax.random.key(0)), np.float64)
    assert stats.kstest(t, lambda t: piecewise_cdf(t, 0.642, 5.0)).pvalue > 1e-3
    # A plain uniform draw fails the same test, so it can tell the two apart.
    assert stats.kstest(t, "uniform").pvalue < 1e-6


def test_share_of_the_released_weights():
    """The share below the boundary under weights 2.5 and .5 at steps 0..641 and 642..999."""
    share = Asymmetric(boundary=0.642).cdf(0.642, (), 0)
    np.testing.assert_allclose(share, 642 * 2.5 / (642 * 2.5 + 358 * 0.5), rtol=1e-6)


def test_boundary_of_the_linear_beta_schedule():
    """Step 642 and lambda -4.18, from the schedule itself."""
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    step = np.argmax(np.gradient(np.sqrt(1 - alpha_bar)) < 1e-4) + 1
    assert step == 642
    lam = np.log(alpha_bar[step] / (1 - alpha_bar[step]))
    np.testing.assert_allclose(lam, -4.18, atol=0.005)


@pytest.mark.parametrize("law", [Cosine(), Normal(2.4, 2.4)])
def test_it_suppresses_one_noise_level_under_any_law(law):
    boundary = float(law.survival(-4.18))
    pacing = Asymmetric(boundary=boundary)
    t = pacing.warp(iid(jax.random.key(1), 20_000), (), 0)
    noisy = float(jnp.mean(law.inverse_survival(t) < -4.18))
    expected = (1 - boundary) / (5 * boundary + 1 - boundary)
    assert stats.binomtest(round(noisy * 20_000), 20_000, expected).pvalue > 1e-3


@pytest.mark.takes_a_second
def test_it_reshapes_pair_laws():
    levels = karras_levels(11, 0.002, 80.0, 7.0)
    pacing = Asymmetric(boundary=0.5, suppression=3.0)
    paced = paced_probs(pacing, UniformPairs(), levels, 11, (), 0)
    np.testing.assert_allclose(paced, np.repeat([0.15, 0.05], 5), rtol=1e-5)


def test_nothing_moves():
    pacing = Asymmetric(boundary=0.3)
    assert pacing.init() == ()
    assert pacing.update((), pacing.observe(jnp.zeros(1), jnp.ones(1))) == ()
    assert pacing.metrics((), 7) == {}
    np.testing.assert_array_equal(pacing.warp(0.7, (), 0), pacing.warp(0.7, (), 10**6))


@pytest.mark.parametrize(
    "argument,value",
    [("boundary", 0.0), ("boundary", 1.0), ("suppression", 0.9), ("suppression", np.inf)],
)
def test_refuses(argument, value):
    with pytest.raises(ArgumentError, match=argument):
        Asymmetric(**{"boundary": 0.5, argument: value})
