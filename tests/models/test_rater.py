"""Raters of noise: zero at the start, differentiable in every order, features of known moments."""

import functools
import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.models.noise_features import noise_features
from jaxnoise.models.rater import (
    ConvRater,
    FeatureRater,
    LevelRater,
)

NARROW = {
    "conv": ConvRater(width=4, depth=2),
    "level": LevelRater(width=4),
    "feature": FeatureRater(width=4),
}
NAMES = tuple(NARROW)
"""Raters of draws of noise; those of less are in test_neutral_raters."""


def examples(count=4, shape=(8, 8, 1), seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    x0 = rng.uniform(-1, 1, (count, *shape)).astype(dtype)
    eps = rng.normal(size=(count, *shape)).astype(dtype)
    lam = np.linspace(-6, 8, count).astype(dtype)
    return jnp.asarray(x0), jnp.asarray(eps), jnp.asarray(lam)


def perturbed(params, scale=0.3):
    """Parameters moved by random steps (in numpy, which has nothing to compile)."""
    rng = np.random.default_rng(1)

    def moved(leaf):
        step = scale * rng.normal(size=leaf.shape)
        return (np.asarray(leaf) + step).astype(leaf.dtype)

    return jax.tree.map(moved, params)


class Case:
    """A rater with its initial parameters, others without zeros, and compiled functions."""

    def __init__(self, rater):
        self.rater = rater
        self.data = examples()
        self.start, self.params = jax.jit(rater.init_with_output)(jax.random.key(0), *self.data)
        self.moved = perturbed(self.params)
        self.scores = jax.jit(rater.apply)
        self.gradient = jax.jit(jax.grad(self.loss))

    def loss(self, params, x0, eps, lam):
        weights = jax.nn.softmax(self.rater.apply(params, x0, eps, lam))
        return jnp.sum(weights * jnp.arange(1.0, len(lam) + 1) ** 2)


@pytest.fixture(scope="module")
def cases():
    return {name: Case(rater) for name, rater in NARROW.items()}


def count(rater, channels=3):
    image, lam = jnp.zeros((1, 8, 8, channels)), jnp.zeros(1)
    leaves = jax.tree.leaves(jax.eval_shape(rater.init, jax.random.key(0), image, image, lam))
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    return sum(math.prod(leaf.shape) for leaf in leaves)


def test_parameters_counted_by_hand():
    def dense(inputs, outputs):
        return inputs * outputs + outputs

    assert count(LevelRater()) == 2 * dense(32, 32) + 32
    hidden = dense(9, 32) + dense(32, 32)
    assert count(FeatureRater()) == 2 * dense(32, 32) + dense(32, 64) + hidden + 32 == 5632
    block = 2 * (dense(64, 64) + dense(9 * 32, 32))
    ends = dense(9 * 9, 32) + dense(2 * 96 + 64, 64) + 64
    assert count(ConvRater()) == 2 * dense(64, 64) + 2 * block + ends == 81_088


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", NAMES)
def test_scores_start_at_exactly_zero(cases, name):
    start = cases[name].start
    assert start.shape == (4,)
    assert start.dtype == jnp.float32
    np.testing.assert_array_equal(start, 0)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", NAMES)
def test_only_the_head_learns_at_first_and_then_everything(cases, name):
    case = cases[name]
    first = case.gradient(case.params, *case.data)["params"]
    assert jnp.abs(first.pop("head")["kernel"]).min() > 1e-6
    chex.assert_trees_all_equal(first, jax.tree.map(jnp.zeros_like, first))
    moved = case.params
    moved = {"params": {**moved["params"], "head": perturbed(moved["params"]["head"])}}
    for path, leaf in jax.tree.leaves_with_path(case.gradient(moved, *case.data)):
        assert jnp.abs(leaf).max() > 1e-9, path
        assert jnp.isfinite(leaf).all(), path


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", NAMES)
def test_what_each_rater_sees(cases, name):
    case = cases[name]
    x0, eps, lam = case.data
    base = case.scores(case.moved, x0, eps, lam)
    others = [(-x0, eps, lam), (x0, eps[:, ::-1] * 1.5, lam), (x0, eps, lam + 1.0)]
    seen = [jnp.abs(case.scores(case.moved, *other) - base).max() > 1e-4 for other in others]
    assert seen == ([False, False, True] if name == "level" else [True, True, True])
    if name == "level":
        for other in others[:2]:
            np.testing.assert_array_equal(case.scores(case.moved, *other), base)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", NAMES)
def test_scores_depend_on_their_own_example_alone(cases, name):
    case = cases[name]
    others = examples(seed=5)
    mixed = [
        jnp.concatenate([own[:2], other[:2] + 1])
        for own, other in zip(case.data, others, strict=True)
    ]
    base, got = (case.scores(case.moved, *data) for data in (case.data, mixed))
    np.testing.assert_allclose(got[:2], base[:2], rtol=1e-5, atol=1e-6)
    assert jnp.abs(got[2:] - base[2:]).min() > 1e-4


@pytest.mark.takes_a_second
def test_scores_are_smooth_and_bounded_in_extreme_levels(cases):
    case = cases["conv"]
    x0, eps, _ = case.data
    lam = jnp.array([-200.0, -30.0, 30.0, 200.0])
    scores = case.scores(case.moved, x0, eps, lam)
    assert jnp.isfinite(scores).all()
    gradient = case.gradient(case.moved, x0, eps, lam)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", ["conv", "feature"])
def test_second_derivatives_agree_between_modes_and_with_differences(name):
    with jax.enable_x64(True):
        shallow = {"conv": ConvRater(4, depth=1), "feature": FeatureRater(4, bands=2)}
        rater = shallow[name].clone(dtype=jnp.float64)
        data = examples(2, (4, 4, 1), dtype=np.float64)
        params = jax.jit(rater.init)(jax.random.key(0), *data)
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        at = (perturbed(params), np.asarray(data[1]))
        along = perturbed(jax.tree.map(np.zeros_like, at), 1.0)

        def loss(params, eps):
            weights = jax.nn.softmax(rater.apply(params, data[0], eps, data[2]))
            return weights @ jnp.array([1.0, 3.0])

        gradient = jax.grad(loss, argnums=(0, 1))

        def dot(a, b):
            return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b)))

        @jax.jit
        def derivatives(at):
            slope = jax.jvp(loss, at, along)[1]
            forward = jax.jvp(lambda *at: gradient(*at), at, along)[1]
            reverse = jax.grad(lambda at: dot(gradient(*at), along))(at)
            return slope, gradient(*at), forward, reverse

        slope, reverse_slope, forward, reverse = derivatives(at)
        np.testing.assert_allclose(slope, dot(reverse_slope, along), rtol=1e-9)
        chex.assert_trees_all_close(forward, reverse, rtol=1e-8, atol=1e-12)
        step = 1e-6
        ahead, behind = (
            derivatives(jax.tree.map(lambda leaf, way, h=h: leaf + h * way, at, along))[1]
            for h in (step, -step)
        )
        difference = jax.tree.map(lambda a, b: np.subtract(a, b) / (2 * step), ahead, behind)
        chex.assert_trees_all_close(forward, difference, rtol=1e-4, atol=1e-7)
        assert jax.eval_shape(rater.apply, params, *data).dtype == jnp.float64


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_computes_near_float32_and_scores_in_it(cases, name):
    case = cases[name]
    rater = case.rater.clone(dtype=jnp.bfloat16)
    scores = jax.jit(rater.apply)(case.moved, *case.data)
    assert scores.dtype == jnp.float32
    want = case.scores(case.moved, *case.data)
    np.testing.assert_allclose(scores, want, atol=0.05 * jnp.abs(want).max())
    assert name == "level" or jnp.abs(scores - want).max() > 1e-5


features_of = jax.jit(noise_features, static_argnums=2)


def bands_by_cosines(eps, bands):
    """Standardised band energies of one [H, W, C] from explicit cosines and masks."""
    height, width, channels = eps.shape

    def basis(side):
        waves = np.cos(np.pi * np.outer(np.arange(side), 2 * np.arange(side) + 1) / (2 * side))
        return waves * np.sqrt(np.where(np.arange(side) == 0, 1, 2) / side)[:, None]

    rows, columns = basis(height), basis(width)
    power = sum((rows @ eps[:, :, c] @ columns.T) ** 2 for c in range(channels))
    r = np.maximum(np.arange(height)[:, None] / height, np.arange(width)[None, :] / width)
    edges = [0, *(2.0 ** (b + 1 - bands) for b in range(bands))]
    features = []
    for low, high in itertools.pairwise(edges):
        inside = (r >= low) & (r < high)
        n = channels * inside.sum()
        features.append((power[inside].sum() - n) / np.sqrt(2 * n))
    return features


@pytest.mark.parametrize("shape, bands", [((8, 6, 2), 3), ((9, 12, 1), 4), ((2, 3, 3), 1)])
def test_features_are_their_formulas(shape, bands):
    x0, eps, _ = examples(3, shape)
    got = np.asarray(features_of(x0, eps, bands))
    assert got.shape == (3, 5 + bands)
    d = math.prod(shape)
    for x, e, row in zip(np.asarray(x0, float), np.asarray(eps, float), got, strict=True):
        squared, size = np.sum(e**2), np.sum(x**2)
        across = [e[i, j, c] * e[i, j - 1, c] for i, j, c in np.ndindex(shape) if j]
        down = [e[i, j, c] * e[i - 1, j, c] for i, j, c in np.ndindex(shape) if i]
        want = [
            (squared / d - 1) / np.sqrt(2 / d),
            np.sum(x * e) / np.sqrt(size),
            (np.sum((x - e) ** 2) - size - d) / np.sqrt(4 * size + 2 * d),
            np.sum(across) / np.sqrt(len(across)),
            np.sum(down) / np.sqrt(len(down)),
            *bands_by_cosines(e, bands),
        ]
        np.testing.assert_allclose(row, want, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def drawn_features():
    """Features of 20,000 draws of noise, the image a different one for each half."""
    n, shape = 20_000, (4, 6, 2)
    x0 = jnp.repeat(examples(2, shape)[0] * jnp.array([0.1, 3.0])[:, None, None, None], n // 2, 0)
    eps = jax.random.normal(jax.random.key(3), (n, *shape))
    return np.asarray(features_of(x0, eps, 3), float)


@pytest.mark.takes_a_second
def test_features_of_gaussian_noise_have_mean_zero_and_variance_one(drawn_features):
    for f in drawn_features.reshape(2, 10_000, 8):
        error = np.sqrt(len(f))
        assert (np.abs(f.mean(0)) < 4 * f.std(0) / error).all()
        assert (np.abs((f**2).mean(0) - 1) < 4 * (f**2).std(0) / error).all()


@pytest.mark.takes_a_second
def test_features_of_gaussian_noise_have_their_laws(drawn_features):
    assert stats.kstest(drawn_features[:, 1], "norm").pvalue > 1e-3
    # Sides 4 and 6: bands r < 1/4, < 1/2 and < 1 hold 1x2, 2x3 and 4x6 coefficients of 2 channels.
    for column, n in ((0, 48), (5, 4), (6, 8), (7, 36)):
        energy = drawn_features[:, column] * np.sqrt(2 * n) + n
        assert stats.kstest(energy, stats.chi2(n).cdf).pvalue > 1e-3


@pytest.mark.takes_a_second
def test_an_image_of_zeros_has_finite_features_and_slopes():
    zeros = jnp.zeros((1, 8, 8, 1))
    eps = examples(1)[1]
    features, pull = jax.vjp(lambda x0: features_of(x0, eps, 4), zeros)
    slope = pull(jnp.ones_like(features))[0]
    assert features[0, 1] == 0
    assert jnp.isfinite(features).all()
    assert jnp.isfinite(slope).all()


def low_band_amplified(eps, factor):
    """Noise [B, 8, 8, 1] whose means of 2x2 pixels are multiplied."""
    batch = len(eps)
    means = eps.reshape(batch, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    wide = jnp.repeat(jnp.repeat(means, 2, axis=1), 2, axis=2)
    return eps + (factor - 1) * wide


@pytest.mark.takes_a_second
def test_a_rater_learns_to_tell_noise_with_an_amplified_band():
    rater, optimizer = ConvRater(width=8, depth=1), optax.adam(1e-2)

    @functools.partial(jax.jit, static_argnums=1)
    def pairs(key, count):
        keys = jax.random.split(key, 4)
        x0 = jax.random.uniform(keys[0], (count, 8, 8, 1), minval=-1.0)
        clean, other = (jax.random.normal(k, x0.shape) for k in keys[1:3])
        lam = jax.random.uniform(keys[3], (count,), minval=-6.0, maxval=6.0)
        return x0, jnp.stack([clean, low_band_amplified(other, 1.7)], axis=1), lam

    def rate(params, x0, eps, lam):
        return jax.vmap(lambda e: rater.apply(params, x0, e, lam), in_axes=1, out_axes=1)(eps)

    def loss(params, x0, eps, lam):
        clean, corrupted = rate(params, x0, eps, lam).T
        return jax.nn.softplus(corrupted[None, :] - clean[:, None]).mean()

    @jax.jit
    def step(params, state, key):
        gradient = jax.grad(loss)(params, *pairs(key, 32))
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    x0, eps, lam = pairs(jax.random.key(9), 256)
    params = jax.jit(rater.init)(jax.random.key(0), x0, eps[:, 0], lam)
    state = optimizer.init(params)
    for key in jax.random.split(jax.random.key(1), 100):
        params, state = step(params, state, key)
    clean, corrupted = np.asarray(jax.jit(rate)(params, x0, eps, lam)).T
    area = stats.mannwhitneyu(clean, corrupted).statistic / (256 * 256)
    assert area > 0.9


@pytest.mark.parametrize(
    "rater, fields, argument",
    [
        (ConvRater, {"width": 9}, "width"),
        (ConvRater, {"width": 0}, "width"),
        (ConvRater, {"width": 132}, "width"),
        (ConvRater, {"depth": 0}, "depth"),
        (LevelRater, {"width": 5}, "width"),
        (FeatureRater, {"width": 2}, "width"),
        (FeatureRater, {"bands": 0}, "bands"),
        *(
            (rater, {"dtype": jnp.int32}, "dtype")
            for rater in (ConvRater, LevelRater, FeatureRater)
        ),
    ],
)
def test_bad_fields_are_refused(rater, fields, argument):
    with pytest.raises(ArgumentError, match=f"{argument}="):
        rater(**fields)


@pytest.mark.parametrize("shape, bands", [((8, 8, 1), 5), ((8, 1, 1), 1), ((8, 8, 1), 0)])
def test_bands_must_fit_the_image(shape, bands):
    x0, eps, _ = examples(1, shape)
    with pytest.raises(ArgumentError, match="bands="):
        noise_features(x0, eps, bands)


def test_shapes_are_checked():
    x0, eps, lam = examples()
    for name in NAMES:
        for data in ((x0, eps[:, 1:], lam), (x0, eps, lam[:1]), (x0[0], eps[0], lam)):
            with pytest.raises(ArgumentError, match=r"^(x0|eps|lam)=float32"):
                jax.eval_shape(NARROW[name].init, jax.random.key(0), *data)
