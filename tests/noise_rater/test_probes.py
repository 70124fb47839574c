from dataclasses import replace

import jax
import jax.numpy as jnp
import linear_network
import numpy as np
import optax
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.meta import InnerState, meta_gradient
from jaxnoise.noise import Cosine
from jaxnoise.noise_rater.inner_task import InnerTask
from jaxnoise.noise_rater.inner_training import InnerTraining
from jaxnoise.noise_rater.population import Population
from jaxnoise.noise_rater.probes import (
    gradient_cosine,
    make_order_probe,
    make_signal_probe,
    score_autocorrelation,
    signal_test,
    signal_to_noise,
)
from jaxnoise.noise_rater.step import RaterState
from jaxnoise.objectives import DenoisingObjective, Prediction, min_snr_weight
from jaxnoise.training.drawing import AXIS, Batch

pytestmark = pytest.mark.slow

OBJECTIVE = DenoisingObjective(Cosine().truncated(-8.0, 8.0), min_snr_weight(), Prediction("v"))
DRAWS, REPEATS = 5, 4
PROBLEM = InnerTask(
    linear_network.apply,
    OBJECTIVE,
    global_batch=8,
    num_classes=0,
    dropout=True,
    flip=True,
    candidates=None,
)


def shared_error(mean, seed, repeats=6):
    """Slopes <G_bk, g_r> of 16 images: all share the gradient g_r of an outer batch."""
    generator = np.random.default_rng(seed)
    of_draws = generator.normal(size=(16, 8, 7))
    of_outer = mean + generator.normal(size=(repeats, 7))
    return jnp.asarray(np.einsum("bkd,rd->bkr", of_draws, of_outer), jnp.float32)


def test_without_signal_p_is_uniform_where_tables_of_f_are_not():
    found = jax.vmap(signal_test)(jnp.stack([shared_error(0.0, seed) for seed in range(600)]))
    p = np.asarray(found.p)
    assert p.min() >= 1 / 32
    for level in (1 / 32, 1 / 8, 1 / 2):
        rejected = np.mean(p <= level + 1e-6)
        assert abs(rejected - level) < 3 * np.sqrt(level * (1 - level) / 600)
    # 16 independent F(7, 35) would have a mean above this in one case of 20.
    by_table = np.random.default_rng(0).f(7, 35, (100_000, 16)).mean(axis=1)
    assert np.mean(np.asarray(found.f) > np.quantile(by_table, 0.95)) > 0.2
    np.testing.assert_allclose(found.f.mean(), found.without_signal.mean(), rtol=0.1)


def test_a_signal_has_the_smallest_p():
    found = jax.vmap(signal_test)(jnp.stack([shared_error(2.0, seed) for seed in range(50)]))
    np.testing.assert_allclose(found.p, 1 / 32)
    assert (found.f > 2 * found.without_signal).all()
    many = signal_test(shared_error(2.0, 0, repeats=12))
    np.testing.assert_allclose(many.p, 1 / 512)


def test_the_tested_f_is_that_of_signal_to_noise():
    slopes = shared_error(0.5, 3)
    np.testing.assert_allclose(signal_test(slopes).f, signal_to_noise(slopes).f.mean(), rtol=1e-4)


def simulated(spread, count=500):
    generator = np.random.default_rng(0)
    draw = spread * generator.normal(size=(count, DRAWS, 1))
    outer = 3 * generator.normal(size=(count, 1, REPEATS))
    rest = generator.normal(size=(count, DRAWS, REPEATS))
    return jnp.asarray(7 + draw + outer + rest, jnp.float32)


def test_with_errors_of_their_own_the_ratio_follows_the_f_law():
    f = signal_to_noise(simulated(0.0)).f
    law = stats.f(DRAWS - 1, (DRAWS - 1) * (REPEATS - 1))
    assert stats.kstest(np.asarray(f), law.cdf).pvalue > 1e-3


def test_signal_is_recovered():
    found = signal_to_noise(simulated(2.0))
    # E[f] = (1 + R ratio) d / (d - 2), d = (K - 1)(R - 1) = 12; here ratio = 4.
    expected = (1 + REPEATS * 4.0) * 12 / 10
    assert abs(found.f.mean() - expected) < 0.15 * expected
    np.testing.assert_allclose(found.ratio, (found.f - 1) / REPEATS, rtol=1e-5, atol=1e-6)


def test_cosine_and_correlation():
    a, b = {"u": jnp.array([1.0, 2.0]), "v": jnp.array(2.0)}, {"u": jnp.zeros(2), "v": jnp.ones(())}
    assert abs(gradient_cosine(a, b) - 2 / 3) < 1e-6
    x, y = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    found = score_autocorrelation(jnp.asarray(x), jnp.asarray(x + y))
    assert abs(found - np.corrcoef(x, x + y)[0, 1]) < 1e-5


@pytest.fixture(scope="module")
def probe():
    """Slopes of 8 images from 2 devices and from 1, and how large the inner step is."""
    optimizer = optax.sgd(0.1)
    measure = make_signal_probe(PROBLEM, optimizer, draws=DRAWS, repeats=REPEATS)
    params = linear_network.init(jax.random.key(0))
    inner = InnerState(params, optimizer.init(params))
    pixels = np.random.RandomState(0).normal(size=(8, 1, 1 + REPEATS, 4, 4, 2)) / 2

    def on(count):
        def one(images):
            labels = jnp.zeros(images.shape[:3], jnp.int32)
            batch = Batch(index=None, images=images, labels=labels)
            return measure(inner, jnp.int32(3), batch, *jax.random.split(jax.random.key(1)))

        pieces = jnp.asarray(pixels, jnp.float32).reshape(count, -1, *pixels.shape[1:])
        return jax.tree.map(lambda x: x[0], jax.jit(jax.vmap(one, axis_name=AXIS))(pieces))

    return on(2), on(1)


def test_probe_measures_each_draw_on_each_outer_batch(probe):
    (slopes, sigma), _ = probe
    assert slopes.shape == (8, DRAWS, REPEATS)
    assert sigma.shape == (8,)
    assert len(np.unique(np.asarray(slopes))) == slopes.size
    assert len(np.unique(np.asarray(sigma))) == 8
    # The same noise throughout: what draws have in common over outer batches is not chance.
    assert np.median(signal_to_noise(slopes).f) > stats.f(4, 12).ppf(0.999)


def test_probe_is_the_same_on_two_devices(probe):
    for two, one in zip(*probe, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)


def rater(eta, x0, eps, lam):
    features = (eps, eps**2, x0 * eps)
    return jnp.stack([jnp.mean(f, axis=(1, 2, 3)) for f in features] + [lam / 4], axis=1) @ eta


def test_order_probe_compares_first_order_with_exact():
    """Of the first inner model, on its own examples of the step to come, over two devices."""
    optimizer, population = optax.sgd(4.0), Population(2, 10)
    task = replace(PROBLEM, dropout=False, flip=False)
    training = InnerTraining(
        task,
        optimizer,
        rater,
        inner_steps=2,
        outer_batch=8,
        population=population,
        temperature=0.5,
        unroll=False,
    )
    params = jax.vmap(linear_network.init)(jax.random.split(jax.random.key(0)))
    inner = InnerState(params, jax.vmap(optimizer.init)(params))
    eta, step, key = jnp.array([0.5, -1.0, 0.7, 0.3]), jnp.int32(4), jax.random.key(1)
    state = RaterState(step, eta, (), inner, age=jnp.array([4, 1]))
    first = InnerState(*jax.tree.map(lambda x: x[0], (inner.params, inner.opt_state)))
    pixels = np.random.RandomState(0).normal(size=(8, 2, 3, 4, 4, 2)) / 2

    def one(images):
        labels = jnp.zeros(images.shape[:3], jnp.int32)
        batch = Batch(index=None, images=images, labels=labels)
        cosine = make_order_probe(training)(state, batch, key)
        own = population.key(key, jnp.int32(0), step)
        of_first = jnp.moveaxis(images[:, 0], 0, 1), labels[:, 0].T
        examples, outer = training.draw(own, jnp.int32(4), *of_first)
        gradients = [
            meta_gradient(
                task.losses,
                training.weights,
                task.outer_loss,
                optimizer,
                mode=mode,
                unroll=False,
                axis_name=AXIS,
            )(eta, first, examples, outer).gradient
            for mode in ("first_order", "mixed")
        ]
        return cosine, gradients

    pieces = jnp.asarray(pixels, jnp.float32).reshape(2, 4, *pixels.shape[1:])
    cosine, (cheap, exact) = jax.tree.map(
        np.asarray, jax.jit(jax.vmap(one, axis_name=AXIS))(pieces)
    )
    assert cosine[0] == cosine[1]
    expected = cheap[0] @ exact[0] / (np.linalg.norm(cheap[0]) * np.linalg.norm(exact[0]))
    np.testing.assert_allclose(cosine[0], expected, rtol=1e-4)
    assert -1 < expected < 0.99


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="slopes"):
        signal_to_noise(jnp.ones((3, 1)))
    with pytest.raises(ArgumentError, match="slopes"):
        signal_test(jnp.ones((2, 3, 1)))
    with pytest.raises(ArgumentError, match="repeats"):
        make_signal_probe(PROBLEM, optax.sgd(0.1), draws=2, repeats=1)
