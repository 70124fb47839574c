"""Which triples of image, level and noise are selected from a pool, and what that does to them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.meta.candidates import LossScore, NearestScore, RaterScore, draw_candidates
from jaxnoise.meta.pool import PoolSelection
from jaxnoise.meta.selection import NoiseSelection, noise_moments
from jaxnoise.noise import Cosine
from jaxnoise.objectives import DenoisingObjective, uniform_weight

COUNT, CANDIDATES, PIXELS = 4000, 4, (2, 2, 1)
V = np.asarray([0.6, 0.0, -0.8, 0.0], np.float32).reshape(PIXELS)


def linear(x0, eps, lam):
    """Likes one direction of the noise, whatever the image and level."""
    del x0, lam
    return jnp.sum(eps * jnp.asarray(V)[None], axis=(1, 2, 3))


def leaning(x0, eps, lam):
    """Likes high noise and one direction of the noise at every image."""
    return linear(x0, eps, lam) - lam + jnp.sum(x0, axis=(1, 2, 3))


def middling(x0, eps, lam):
    """A rater of the level alone."""
    del x0, eps
    return -jnp.abs(lam)


def losses(x0, eps):
    """Of everyone in the batch, by his place in it."""
    assert x0.shape == eps.shape == (COUNT, *PIXELS)
    place = jnp.arange(COUNT, dtype=x0.dtype)
    return jnp.sum((x0 - 0.5 * eps) ** 2, axis=(1, 2, 3)) + 1e-3 * place


SELECTIONS = {
    "leaning 1": PoolSelection(RaterScore(leaning), 4, bins=1),
    f"leaning {COUNT}": PoolSelection(RaterScore(leaning), 4, bins=COUNT),
    "middling 1": PoolSelection(RaterScore(middling), 4, bins=1),
    "middling 8": PoolSelection(RaterScore(middling), 4, bins=8),
    "linear 8": PoolSelection(RaterScore(linear), 4, bins=8),
    "loss 8": PoolSelection(LossScore("highest"), 4, bins=8),
    "one": PoolSelection(NearestScore(), 1, bins=8),
    "best of 4": NoiseSelection(RaterScore(leaning), 4),
}


@pytest.fixture(scope="module")
def pool():
    """x0, log SNR and candidates of a batch in no order of level, and {selection: result}."""
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(COUNT))
    x0 = jax.random.uniform(jax.random.key(1), (COUNT, *PIXELS), minval=-1.0, maxval=1.0)
    levels = np.random.default_rng(0).permutation(np.linspace(10.0, -8.0, COUNT))
    # Every level twice: ties must not tear the candidates of an example apart.
    lam = jnp.asarray(np.repeat(levels[::2], 2), jnp.float32)

    @jax.jit
    def run():
        eps = draw_candidates(keys, CANDIDATES, PIXELS, jnp.float32)
        return eps, {n: s.select(keys, x0, lam, 0, losses) for n, s in SELECTIONS.items()}

    return jax.tree.map(np.asarray, (x0, lam, *run()))


def scores_of(name, x0, eps, lam):
    """float64[B, M], by formulas of numpy."""
    along = (eps * V).sum(axis=(2, 3, 4), dtype=np.float64)
    if name == "leaning":
        return along - lam.astype(np.float64)[:, None] + x0.sum(axis=(1, 2, 3))[:, None]
    if name == "loss":
        loss = ((x0[:, None] - 0.5 * eps) ** 2).sum(axis=(2, 3, 4))
        return loss + 1e-3 * np.arange(COUNT)[:, None]
    return along


def best_of_each_stratum(scores, lam, bins):
    """int[B], ascending places in the pool."""
    size, picks = COUNT // bins, []
    for members in np.split(np.argsort(-lam, kind="stable"), bins):
        flat = (members[:, None] * CANDIDATES + np.arange(CANDIDATES)).ravel()
        picks += list(flat[np.argsort(-scores.ravel()[flat], kind="stable")][:size])
    return np.sort(picks)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name,bins", [("leaning", 1), ("linear", 8), ("loss", 8)])
def test_picks_are_the_best_of_each_stratum(pool, name, bins):
    x0, lam, everyone, results = pool
    scores = scores_of(name, x0, everyone, lam)
    picks = best_of_each_stratum(scores, lam, bins)
    eps, source, info = results[f"{name} {bins}"]
    assert source.dtype == np.int32
    np.testing.assert_array_equal(source, picks // CANDIDATES)
    np.testing.assert_array_equal(eps, everyone.reshape(-1, *PIXELS)[picks])

    stratum = np.empty(COUNT, int)
    stratum[np.argsort(-lam, kind="stable")] = np.arange(COUNT) * bins // COUNT
    np.testing.assert_array_equal(np.bincount(stratum[source]), np.full(bins, COUNT // bins))

    margin = scores.ravel()[picks].mean() - scores.mean()
    np.testing.assert_allclose(info["score_margin"], margin, rtol=1e-3)
    np.testing.assert_allclose(info["changed_share"], np.mean(picks % CANDIDATES > 0), rtol=1e-6)
    np.testing.assert_allclose(info["image_share"], len(np.unique(source)) / COUNT, rtol=1e-6)
    for key, value in noise_moments(jnp.asarray(x0[source]), jnp.asarray(eps)).items():
        np.testing.assert_allclose(info[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.takes_a_second
def test_one_candidate_is_bitwise_the_plain_batch(pool):
    _, _, everyone, results = pool
    eps, source, info = results["one"]
    assert source is None
    np.testing.assert_array_equal(eps, everyone[:, 0])
    assert (info["changed_share"], info["score_margin"], info["image_share"]) == (0, 0, 1)


@pytest.mark.takes_a_second
def test_a_stratum_for_each_example_is_the_best_of_its_own(pool):
    *_, results = pool
    eps, source, info = results[f"leaning {COUNT}"]
    np.testing.assert_array_equal(source, np.arange(COUNT))
    np.testing.assert_array_equal(eps, results["best of 4"].eps)
    expected = results["best of 4"].info
    for key in set(info) & set(expected):
        np.testing.assert_allclose(info[key], expected[key], rtol=1e-4, atol=1e-5)


def test_a_rater_of_the_level_moves_levels_as_far_as_strata_let_it(pool):
    """All candidates of an example tie, so whole examples win: a quarter of them, four times.

    A stratum for each example lets it move none: the test above.
    """
    _, lam, everyone, results = pool

    def nearest(members):
        return members[np.argsort(np.abs(lam)[members], kind="stable")][
            : len(members) // CANDIDATES
        ]

    by_level = np.argsort(-lam, kind="stable")
    for bins in (1, 8):
        eps, source, info = results[f"middling {bins}"]
        expected = np.sort(np.concatenate([nearest(part) for part in np.split(by_level, bins)]))
        np.testing.assert_array_equal(source, np.repeat(expected, CANDIDATES))
        np.testing.assert_array_equal(eps, everyone[expected].reshape(-1, *PIXELS))
        np.testing.assert_allclose(info["image_share"], 0.25, rtol=1e-6)
        np.testing.assert_allclose(info["changed_share"], 0.75, rtol=1e-6)
    # Log SNR is uniform on [-8, 10]: a quarter of that about 0 reaches to 2.25.
    far = np.abs(lam[results["middling 1"].source]).max()
    np.testing.assert_allclose(far, 9 / 4, atol=0.1)


@pytest.mark.takes_a_second
def test_a_part_of_a_stratified_batch_is_a_pool_like_the_whole():
    """A device that held a slice of ascending levels would select the cleanest of its slice."""
    selection = PoolSelection(RaterScore(lambda x0, eps, lam: lam), 4, bins=1)
    keys, x0 = jax.random.split(jax.random.key(0), 128), jnp.zeros((128, 2))

    @partial(jax.jit, static_argnums=(1, 2))
    def share_of_the_cleanest_quarter(key, devices, sampling):
        objective = DenoisingObjective(Cosine(), uniform_weight("v"), sampling=sampling)
        lam = objective.draw(key, key, jnp.int32(0), 128).lam
        parts = (x.reshape(devices, -1, *x.shape[1:]) for x in (keys, x0, lam))
        source = jax.vmap(lambda *part: selection.select(*part, 0).source)(*parts)
        selected = jnp.take_along_axis(lam.reshape(devices, -1), source, axis=1)
        return jnp.mean(Cosine().survival(selected) < 0.25)

    draws = jax.random.split(jax.random.key(1), 50)
    for devices in (1, 2, 4, 8):
        swept = share_of_the_cleanest_quarter(draws[0], devices, "sorted")
        np.testing.assert_allclose(swept, max(1 / devices, 0.25))
        share = np.mean([share_of_the_cleanest_quarter(k, devices, "stratified") for k in draws])
        # A part of n levels selects n / 4, of which at most those of the whole batch's quarter.
        n = 128 // devices
        held = np.arange(n + 1)
        expected = np.minimum(held, n // 4) @ stats.hypergeom(128, 32, n).pmf(held) / (n // 4)
        np.testing.assert_allclose(share, expected, atol=0.03)


def test_top_quarter_of_a_normal_pool(pool):
    """Along the score's direction a normal above its upper quartile, untouched across it."""
    _, _, _, results = pool
    eps, _, info = results["linear 8"]
    flat = eps.reshape(COUNT, -1).astype(np.float64)
    along = flat @ V.ravel().astype(np.float64)
    np.testing.assert_allclose(along.mean(), 1.2711, atol=0.03)
    np.testing.assert_allclose(along.var(), 0.2417, rtol=0.1)
    assert stats.kstest(flat @ np.asarray([0.8, 0, 0.6, 0]), "norm").pvalue > 1e-3
    np.testing.assert_allclose(info["score_margin"], 1.2711, atol=0.04)
    np.testing.assert_allclose(info["changed_share"], 0.75, atol=0.03)
    np.testing.assert_allclose(info["image_share"], 1 - 0.75**4, atol=0.03)


def small(count):
    keys = jax.random.split(jax.random.key(0), count)
    return keys, jnp.linspace(-1, 1, 2 * count).reshape(count, 2), jnp.linspace(0.1, 9, count)


@pytest.mark.takes_a_second
def test_nan_scores_are_selected_last_and_are_not_hidden():
    table = jnp.asarray([[1.0, np.nan, 3.0], [2.0, np.nan, np.nan]])
    selection = PoolSelection(lambda seen: table, 3, bins=1)
    _, source, info = jax.jit(lambda: selection.select(*small(2), 0))()
    np.testing.assert_array_equal(source, [0, 1])
    assert np.isnan(info["score_margin"])


def test_no_gradient_flows_into_scores():
    batch = small(4)

    def outcome(weight):
        score = RaterScore(lambda x0, eps, lam: weight * (eps[:, 0] + lam))
        eps, _, info = PoolSelection(score, 2, bins=2).select(*batch, 0)
        return jnp.sum(eps) + info["score_margin"]

    value, slope = jax.jit(jax.value_and_grad(outcome))(1.0)
    assert np.isfinite(value)
    assert slope == 0


@pytest.mark.parametrize(
    "argument,call",
    [
        ("candidates", lambda: PoolSelection(NearestScore(), 0)),
        ("bins", lambda: PoolSelection(NearestScore(), 2, bins=0)),
        ("bins", lambda: PoolSelection(NearestScore(), 2, bins=3).select(*small(8), 0)),
        ("bins", lambda: PoolSelection(NearestScore(), 1, bins=16).select(*small(8), 0)),
        ("losses", lambda: PoolSelection(LossScore(), 2, bins=1).select(*small(2), 0)),
        ("score", lambda: PoolSelection("nearest")),
        ("score", lambda: PoolSelection(lambda seen: seen.lam, 2, bins=1).select(*small(2), 0)),
        ("candidates", lambda: PoolSelection(NearestScore(), 2.0)),
        ("bins", lambda: PoolSelection(NearestScore(), 2, bins="all")),
        ("keys", lambda: PoolSelection(NearestScore(), 2, 1).select(None, *small(2)[1:], 0)),
        ("x0", lambda: PoolSelection(NearestScore(), 2, 1).select(small(2)[0], *small(3)[1:], 0)),
        ("lam", lambda: PoolSelection(NearestScore(), 2, 1).select(*small(2)[:2], 0.5, 0)),
        ("step", lambda: PoolSelection(NearestScore(), 2, 1).select(*small(2), 0.5)),
    ],
)
def test_refuses(argument, call):
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        jax.eval_shape(call)
