"""Raters of what the denoiser sees: what moves their scores, and what starts where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.models.rater import RATERS, SEES, ConvRater, LawRater, NoisyRater, inputs_of
from jaxnoise.noise import Laplace

NETWORK = NoisyRater(width=4, depth=2, num_classes=3)


@pytest.fixture(scope="module")
def noisy():
    """Examples, scores at the start, parameters that were moved, and what scores them."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4, 8, 8, 1)).astype(np.float32)
    data = x, np.linspace(-6, 8, 4, dtype=np.float32), np.arange(4, dtype=np.int32)
    start, params = jax.jit(NETWORK.init_with_output)(jax.random.key(0), *data)
    moved = jax.tree.map(
        lambda leaf: leaf + 0.3 * generator.normal(size=leaf.shape).astype(np.float32), params
    )
    return data, start, moved, jax.jit(NETWORK.apply)


@pytest.mark.takes_a_second
def test_a_rater_of_the_noisy_image_starts_at_zero(noisy):
    np.testing.assert_array_equal(noisy[1], np.zeros(4, np.float32))


@pytest.mark.takes_a_second
def test_it_sees_image_level_and_label(noisy):
    (x, lam, labels), _, params, scores = noisy
    base = scores(params, x, lam, labels)
    for other in ((x[:, ::-1] * 1.5, lam, labels), (x, lam + 1, labels), (x, lam, 3 - labels)):
        found = scores(params, *other)
        assert jnp.abs(found - base).min() > 1e-5
    # The label 3 of 3 classes is "none of them", and is scored as any other.
    assert np.isfinite(base).all()


@pytest.mark.takes_a_second
def test_each_score_is_of_its_own_example(noisy):
    data, _, params, scores = noisy
    base, other = (scores(params, *d) for d in (data, tuple(x[::-1] for x in data)))
    np.testing.assert_allclose(other, base[::-1], rtol=1e-4, atol=1e-6)


@pytest.mark.takes_a_second
def test_without_classes_labels_have_no_effect():
    rater = NoisyRater(width=4, depth=1)
    x, lam, labels = inputs_of(NETWORK, (8, 8, 1), 2)
    params = jax.jit(rater.init)(jax.random.key(0), x, lam)
    assert "label" not in params["params"]
    assert rater.apply(params, x, lam, labels).shape == (2,)
    assert inputs_of(rater, (8, 8, 1))[2] is None


def test_layers_are_those_of_the_rater_of_draws():
    noisy, draws = (
        jax.eval_shape(rater.init, jax.random.key(0), *inputs_of(rater, (8, 8, 1)))["params"]
        for rater in (NoisyRater(8, 2), ConvRater(8, 2))
    )
    assert noisy.keys() == draws.keys()
    # One image in the place of three.
    kernels = noisy.pop("input")["kernel"].shape, draws.pop("input")["kernel"].shape
    assert kernels == ((3, 3, 1, 8), (3, 3, 3, 8))
    assert jax.tree.map(jnp.shape, noisy) == jax.tree.map(jnp.shape, draws)


def test_a_law_scores_by_its_density():
    rater, lam = LawRater(mu=3.0, b=0.5), jnp.linspace(-6, 8, 5)
    log_prob = jnp.sin(lam)
    params = rater.init(jax.random.key(0), lam, log_prob)
    assert jax.tree.map(jnp.shape, params) == {"params": {"mu": (), "log_b": ()}}
    wanted = Laplace(3.0, 0.5).log_prob(lam) - log_prob
    np.testing.assert_allclose(rater.apply(params, lam, log_prob), wanted, rtol=1e-6)
    law = rater.law(params)
    np.testing.assert_allclose((law.mu, law.b), (3, 0.5), rtol=1e-6)


@pytest.mark.parametrize("name", RATERS)
def test_every_rater_says_what_it_sees(name):
    assert RATERS[name].sees in SEES


@pytest.mark.parametrize(
    "argument, call",
    [
        ("width", lambda: NoisyRater(width=2)),
        ("depth", lambda: NoisyRater(depth=0)),
        ("num_classes", lambda: NoisyRater(num_classes=-1)),
        ("dtype", lambda: NoisyRater(dtype=jnp.int32)),
        ("labels", lambda: NETWORK.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)), jnp.zeros(1))),
        ("x", lambda: NETWORK.init(jax.random.key(0), jnp.ones((1, 8)), jnp.zeros(1))),
        ("lam", lambda: NETWORK.init(jax.random.key(0), jnp.ones((1, 8, 8, 1)), jnp.zeros(2))),
        ("mu", lambda: LawRater(mu=float("nan"))),
        ("b", lambda: LawRater(b=0.0)),
        ("dtype", lambda: LawRater(dtype=jnp.int32)),
        ("log_prob", lambda: LawRater().init(jax.random.key(0), jnp.ones(2), jnp.ones(3))),
    ],
)
def test_refuses(argument, call):
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        jax.eval_shape(call)
