"""The gap of easy consistency tuning, against the authors' formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import ShrinkingGap


def published(sigma, stage, q=2.0, k=8.0, b=1.0):
    """arXiv 2406.14548's code, in float64."""
    widened = 1 + k * expit(-b * sigma)
    return np.maximum(0, sigma * (1 - q ** -(stage + 1.0) * widened))


@pytest.mark.parametrize(
    ("sigma", "stage", "lower"),
    [
        # 80 (1 - 1/2): the sigmoid is 0 there.
        (80.0, 0, 40.0),
        # sigmoid(-1) = .268941, so 1 - 3.151531 / 8.
        (1.0, 2, 0.6060586),
        # sigmoid(-.1) = .475021, so .1 (1 - 4.800166 / 256).
        (0.1, 7, 0.09812494),
        # 4.020326 / 2 is over 1.
        (0.5, 0, 0.0),
    ],
)
def test_vectors(sigma, stage, lower):
    step = 100 * stage
    np.testing.assert_allclose(ShrinkingGap(total_steps=800)(sigma, step), lower, rtol=2e-6)
    np.testing.assert_allclose(published(sigma, stage), lower, rtol=2e-6)


@pytest.mark.parametrize(
    "settings",
    [{}, {"stages": 1, "q": 256.0}, {"stages": 4, "q": 4.0, "k": 0.0}, {"k": 3.0, "b": 0.5}],
)
def test_formula_at_every_stage(settings):
    gap = ShrinkingGap(total_steps=80, **settings)
    sigma = np.geomspace(1e-3, 1e3, 50)
    formula = {key: value for key, value in settings.items() if key != "stages"}
    with jax.enable_x64(True):
        for stage in range(gap.stages):
            found = gap(jnp.asarray(sigma), stage * 80 // gap.stages)
            np.testing.assert_allclose(found, published(sigma, stage, **formula), rtol=1e-12)


@pytest.mark.parametrize(("total_steps", "stages"), [(100, 8), (3, 8), (17, 5), (1, 1)])
def test_stages_are_equal_parts_of_training(total_steps, stages):
    gap = ShrinkingGap(total_steps=total_steps, stages=stages)
    steps = np.arange(2 * total_steps)
    expected = np.minimum(stages * steps // total_steps, stages - 1)
    np.testing.assert_array_equal(gap.stage(jnp.asarray(steps)), expected)
    # Later ones than an int32 holds do not wrap.
    assert int(gap.stage(np.uint32(2**32 - 1))) == stages - 1


def test_the_gap_is_open_and_shrinks():
    gap = ShrinkingGap(total_steps=80)
    sigma = jnp.geomspace(1e-6, 1e6, 100)
    below = np.stack([gap(sigma, 10 * stage) for stage in range(8)])
    assert (below < np.asarray(sigma)).all()
    assert (below >= 0).all()
    # Where it is not 0 yet, each stage is nearer than the one before.
    assert (np.diff(below, axis=0)[below[1:] > 0] > 0).all()
    assert (below[-1] > 0).all()


@pytest.mark.parametrize(
    ("argument", "settings"),
    [
        ("total_steps", {"total_steps": 0}),
        ("total_steps", {"total_steps": 2**31}),
        ("stages", {"stages": 0}),
        ("stages", {"stages": 17}),
        ("stages", {"stages": 3, "q": 256.0}),
        ("q", {"q": 1.0}),
        ("q", {"q": float("inf")}),
        ("k", {"k": -1.0}),
        ("b", {"b": 0.0}),
    ],
)
def test_bad_settings_are_named(argument, settings):
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        ShrinkingGap(**{"total_steps": 80} | settings)
