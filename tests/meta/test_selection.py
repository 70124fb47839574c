"""Which noise is selected, what that does to its law, and that the devices change nothing."""

from functools import partial
from itertools import pairwise

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from jaxnoise.errors import ArgumentError
from jaxnoise.meta.candidates import (
    Candidates,
    LossScore,
    NearestScore,
    RandomScore,
    RaterScore,
    ShuffledScore,
    draw_candidates,
)
from jaxnoise.meta.selection import (
    NoiseAssignment,
    NoiseSelection,
    noise_moments,
    optimal_assignment,
)
from jaxnoise.meta.strata import shuffle_within_levels, top_k_by_level

MANY, PIXELS = 4000, (2, 2, 1)
FEW = 16
V = np.asarray([0.6, 0.0, -0.8, 0.0], np.float32).reshape(PIXELS)
TABLE = np.asarray([[0, 2, 1], [3, 3, 1], [0, 1, 5], [7, 7, 7]], np.float32)


@partial(jax.jit, static_argnums=0)
def batch_of(count):
    """keys, x0 and log SNR of a batch, and the noise that is drawn without selection."""
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(jnp.arange(count))
    x0 = jax.random.uniform(jax.random.key(1), (count, *PIXELS), minval=-1.0, maxval=1.0)
    plain = jax.vmap(lambda key: jax.random.normal(key, PIXELS))(keys)
    return (keys, x0, jnp.linspace(10.0, -8.0, count)), plain


def linear(x0, eps, lam):
    """A rater that likes one direction of the noise, whatever the image and level."""
    del x0, lam
    return jnp.sum(eps * jnp.asarray(V)[None], axis=(1, 2, 3))


SELECTIONS = {
    "linear": NoiseSelection(RaterScore(linear), 4),
    "linear, half plain": NoiseSelection(RaterScore(linear), 4, plain_share=0.5),
    "level only": NoiseSelection(RaterScore(lambda x0, eps, lam: jnp.sin(lam)), 4),
    "random": NoiseSelection(RandomScore(), 4),
    "nearest": NoiseSelection(NearestScore(), 4),
    "shuffled": NoiseSelection(ShuffledScore(NearestScore(), bins=8), 4),
    "one": NoiseSelection(NearestScore(), 1),
    "annealed": NoiseSelection(NearestScore(), 4, anneal_steps=100),
}


@pytest.mark.takes_a_second
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_candidates_of_half_precision_are_those_of_float32(dtype):
    """Drawn in bfloat16 noise would have 128 values, none of them above 2.6."""
    keys = batch_of(FEW)[0][0]
    wide, narrow = (draw_candidates(keys, 3, (16, 16, 3), kind) for kind in (jnp.float32, dtype))
    assert narrow.dtype == dtype
    np.testing.assert_array_equal(narrow, wide.astype(dtype))


@pytest.mark.takes_a_second
def test_the_nearest_of_half_precision_is_the_nearest():
    keys = batch_of(200)[0][0]
    eps = draw_candidates(keys, 8, (16, 16, 3), jnp.bfloat16)
    x0 = jnp.full((200, 16, 16, 3), 0.25, jnp.bfloat16)
    scores = NearestScore()(Candidates(x0, eps, jnp.zeros(200), None, None))
    wide = (x0[:, None].astype(jnp.float32) - eps.astype(jnp.float32)).reshape(200, 8, -1)
    np.testing.assert_array_equal(scores.argmax(1), jnp.linalg.norm(wide, axis=2).argmin(1))
    assert scores.dtype == jnp.float32
    info = noise_moments(x0, eps[:, 0])
    assert {value.dtype for value in info.values()} == {jnp.dtype(jnp.float32)}
    assert float(info["noise_square"]) == pytest.approx(1, abs=0.02)


@pytest.fixture(scope="module")
def many():
    """One large batch: (keys, x0, lam), plain noise, candidates, {step: {selection: result}}."""
    batch, plain = batch_of(MANY)
    run = jax.jit(
        lambda batch, step: (
            draw_candidates(batch[0], 4, PIXELS, jnp.float32),
            {name: selection.select(*batch, step) for name, selection in SELECTIONS.items()},
        )
    )
    everyone, results = run(batch, 0)
    results = {0: results, 99: run(batch, 99)[1]}
    return batch, *jax.tree.map(np.asarray, (plain, everyone, results))


def losses(x0, eps):
    return jnp.sum((x0 - 0.5 * eps) ** 2, axis=(1, 2, 3)) + jnp.arange(FEW, dtype=x0.dtype)


@pytest.fixture(scope="module")
def few():
    """One small batch, and its selections as a function of the step that may trace once."""
    batch, plain = batch_of(FEW)
    nan = TABLE.copy()
    nan[2, 0] = np.nan
    selections = {
        "table": NoiseSelection(lambda c: jnp.asarray(np.tile(TABLE, (4, 1))), 3, anneal_steps=30),
        "nan": NoiseSelection(lambda c: jnp.asarray(np.tile(nan, (4, 1))), 3),
        "highest": NoiseSelection(LossScore("highest"), 3),
        "lowest": NoiseSelection(LossScore("lowest"), 3),
    }

    def run(step):
        everyone = draw_candidates(batch[0], 3, PIXELS, jnp.float32)
        more = draw_candidates(batch[0], 5, PIXELS, jnp.float32)
        return everyone, more, {n: s.select(*batch, step, losses) for n, s in selections.items()}

    return batch, plain, jax.jit(chex.assert_max_traces(run, 1))


@pytest.mark.takes_a_second
def test_first_candidate_is_the_plain_draw_and_all_are_independent_normals(many):
    _, plain, eps, _ = many
    assert eps.shape == (MANY, 4, *PIXELS)
    np.testing.assert_array_equal(eps[:, 0], plain)
    flat = eps.reshape(MANY, -1).astype(np.float64)
    assert all(stats.kstest(column, "norm").pvalue > 1e-3 for column in flat.T)
    correlation = np.corrcoef(flat.T)[np.triu_indices(16, 1)]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(MANY)


@pytest.mark.takes_a_second
def test_more_candidates_leave_the_first_ones_alone(few):
    _, plain, run = few
    three, five, _ = run(jnp.asarray(0))
    np.testing.assert_array_equal(five[:, :3], three)
    np.testing.assert_array_equal(three[:, 0], plain)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name,step", [("one", 0), ("level only", 0), ("annealed", 99)])
def test_nothing_to_select_is_bitwise_the_plain_noise(many, name, step):
    _, plain, _, results = many
    eps, _, info = results[step][name]
    np.testing.assert_array_equal(eps, plain)
    assert info["changed_share"] == 0
    np.testing.assert_allclose(info["score_margin"], 0, atol=1e-6)
    assert info["candidates_in_use"] == (4 if name == "level only" else 1)


@pytest.mark.takes_a_second
def test_best_of_four_along_a_direction(many):
    """The law of a maximum of four normals along v, and untouched normals across it."""
    *_, results = many
    eps, source, info = results[0]["linear"]
    assert source is None
    flat = eps.reshape(MANY, -1).astype(np.float64)
    along = flat @ V.ravel().astype(np.float64)
    assert stats.kstest(along, lambda z: stats.norm.cdf(z) ** 4).pvalue > 1e-3
    np.testing.assert_allclose(along.mean(), 1.0294, atol=4 * np.sqrt(0.4917 / MANY))
    np.testing.assert_allclose(along.var(), 0.4917, rtol=0.1)
    for across in ([0.8, 0, 0.6, 0], [0, 1, 0, 0], [0, 0, 0, 1]):
        assert stats.kstest(flat @ np.asarray(across), "norm").pvalue > 1e-3
    np.testing.assert_allclose(info["score_margin"], 1.0294, atol=0.05)
    np.testing.assert_allclose(info["changed_share"], 0.75, atol=0.03)
    # E ||eps||^2 = D - 1 + variance + mean^2 along v.
    np.testing.assert_allclose(info["noise_square"], (3 + 0.4917 + 1.0294**2) / 4, atol=0.04)


def test_plain_share_keeps_its_share(many):
    _, plain, _, results = many
    best, mixed = results[0]["linear"].eps, results[0]["linear, half plain"].eps
    kept = (mixed == plain).all(axis=(1, 2, 3))
    moved = (best != plain).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(mixed[~kept], best[~kept])
    assert stats.binomtest(int(kept[moved].sum()), int(moved.sum()), 0.5).pvalue > 1e-3
    share = results[0]["linear, half plain"].info["changed_share"]
    np.testing.assert_allclose(share, 1 - kept.mean(), rtol=1e-6)


def test_random_selection_leaves_the_law_alone(many):
    _, plain, _, results = many
    eps, _, info = results[0]["random"]
    assert all(stats.kstest(x, "norm").pvalue > 1e-3 for x in eps.reshape(MANY, -1).T)
    changed = (eps != plain).any(axis=(1, 2, 3))
    assert stats.binomtest(int(changed.sum()), MANY, 0.75).pvalue > 1e-3
    np.testing.assert_allclose(info["score_margin"], 4 / 5 - 1 / 2, atol=0.15)


def test_nearest_noise_is_nearer_and_shuffled_scores_are_not(many):
    (_, x0, _), plain, everyone, results = many
    x0 = np.asarray(x0)

    def distance(eps):
        return np.linalg.norm((x0 - eps).reshape(MANY, -1), axis=1)

    eps, _, info = results[0]["nearest"]
    assert (distance(eps) <= distance(plain) + 1e-6).all()
    gain = (distance(plain) - distance(eps)).mean()
    assert gain > 0.4
    assert info["noise_along_image"] > 0.2
    far = np.stack([distance(everyone[:, m]) for m in range(4)], axis=1)
    np.testing.assert_array_equal(eps, everyone[np.arange(MANY), far.argmin(axis=1)])
    np.testing.assert_allclose(info["score_margin"], (far.mean(1) - far.min(1)).mean(), rtol=1e-4)

    eps, _, info = results[0]["shuffled"]
    assert stats.ttest_rel(distance(eps), distance(plain)).pvalue > 1e-3
    np.testing.assert_allclose(info["changed_share"], 0.75, atol=0.03)
    assert abs(info["noise_along_image"]) < 4.5 / np.sqrt(MANY)


def test_moments_of_plain_noise(many):
    *_, results = many
    info = results[0]["one"].info
    pixels = MANY * 4
    assert abs(info["noise_mean"]) < 4 / np.sqrt(pixels)
    assert abs(info["noise_along_image"]) < 4 / np.sqrt(MANY)
    assert abs(info["noise_square"] - 1) < 4 * np.sqrt(2 / pixels)
    assert abs(info["noise_variance"] - 1) < 4 * np.sqrt(2 / (MANY * 3))


def test_moments_of_given_noise():
    x0 = jnp.asarray([[[0.0], [0.0], [0.0]], [[3.0], [0.0], [4.0]]])
    eps = jnp.asarray([[[1.0], [2.0], [3.0]], [[5.0], [0.0], [-5.0]]])
    info = noise_moments(x0, eps)
    np.testing.assert_allclose(info["noise_mean"], 1.0)
    np.testing.assert_allclose(info["noise_variance"], (1 + 25) / 2)
    np.testing.assert_allclose(info["noise_square"], (14 + 50) / 6)
    np.testing.assert_allclose(info["noise_along_image"], (0 - 5 / 5) / 2)


@pytest.mark.takes_a_second
def test_selection_is_the_argmax_and_the_first_of_equals(few):
    *_, run = few
    expected = {0: [1, 0, 2, 0], 9: [1, 0, 2, 0], 10: [1, 0, 1, 0], 19: [1, 0, 1, 0], 20: [0] * 4}
    margin = {0: [1, 2 / 3, 3, 0], 10: [1, 0, 0.5, 0], 20: [0] * 4}
    for step, index in expected.items():
        everyone, _, results = run(jnp.asarray(step))
        eps, _, info = results["table"]
        np.testing.assert_array_equal(eps, everyone[np.arange(FEW), index * 4])
        np.testing.assert_allclose(info["changed_share"], np.mean(np.asarray(index) > 0))
        if step in margin:
            np.testing.assert_allclose(info["score_margin"], np.mean(margin[step]), rtol=1e-6)


@pytest.mark.takes_a_second
def test_a_nan_score_is_not_hidden(few):
    *_, run = few
    assert np.isnan(run(jnp.asarray(0))[2]["nan"].info["score_margin"])


@pytest.mark.parametrize("order,pick", [("highest", np.argmax), ("lowest", np.argmin)])
def test_loss_ranked(few, order, pick):
    (keys, x0, lam), _, run = few
    everyone, _, results = run(jnp.asarray(0))
    table = np.stack([losses(x0, everyone[:, m]) for m in range(3)], axis=1)
    index = pick(table, axis=1)
    np.testing.assert_array_equal(results[order].eps, everyone[np.arange(FEW), index])
    margin = np.abs(table[np.arange(FEW), index] - table.mean(axis=1)).mean()
    np.testing.assert_allclose(results[order].info["score_margin"], margin, rtol=1e-5)
    with pytest.raises(ArgumentError, match="losses=None"):
        LossScore(order)(Candidates(x0, everyone, lam, keys, None))


@pytest.mark.parametrize("candidates,total", [(4, 100), (3, 10), (8, 5), (1, 3), (5, 400_000)])
def test_annealing_gives_every_number_its_share(candidates, total):
    selection = NoiseSelection(NearestScore(), candidates, anneal_steps=total)
    steps = np.unique(np.linspace(0, 2 * total, 401).astype(int))
    found = jax.vmap(selection.in_use)(jnp.asarray(steps, jnp.int32))
    expected = [max(1, candidates - candidates * int(k) // total) for k in steps]
    np.testing.assert_array_equal(found, expected)
    assert found[0] == candidates
    assert int(selection.in_use(total - 1)) == max(1, -(-candidates // total))
    assert int(NoiseSelection(NearestScore(), candidates).in_use(total)) == candidates


@pytest.mark.takes_a_second
def test_devices_change_nothing():
    """All examples at once, one by one, and split over two devices by pmap."""
    batch, _ = batch_of(FEW)
    names = ("linear, half plain", "random", "nearest")

    def select(*batch):
        return {name: SELECTIONS[name].select(*batch, 0) for name in names}

    whole = jax.jit(select)(*batch)
    single = jax.jit(jax.vmap(lambda *one: select(*(x[None] for x in one))))(*batch)
    halves = [x.reshape(2, FEW // 2, *x.shape[1:]) for x in batch]
    split = jax.pmap(
        lambda *half: {
            name: (found.eps, jax.lax.pmean(found.info, "data"))
            for name, found in select(*half).items()
        },
        axis_name="data",
        devices=jax.devices()[:2],
    )(*halves)
    for name in names:
        eps, _, info = whole[name]
        np.testing.assert_array_equal(single[name].eps[:, 0], eps)
        np.testing.assert_array_equal(np.concatenate(split[name][0]), eps)
        for key, value in info.items():
            np.testing.assert_allclose(np.mean(single[name].info[key]), value, atol=2e-6)
            np.testing.assert_allclose(split[name][1][key], np.full(2, value), atol=2e-6)


def test_rater_sees_image_noise_and_log_snr():
    rng = np.random.default_rng(0)
    x0, eps = (jnp.asarray(rng.normal(size=shape)) for shape in ((5, 2), (5, 3, 2)))
    # A heavy-tailed law reaches levels whose sigma no float32 holds.
    levels = jnp.asarray([300.0, 9.0, 0.0, -9.0, -300.0])
    score = RaterScore(lambda x0, eps, lam: lam + jnp.sum(x0 * eps, axis=1))
    expected = levels[:, None] + np.einsum("bd,bmd->bm", x0, eps)
    scores = score(Candidates(x0, eps, levels, jax.random.split(jax.random.key(0), 5), None))
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.takes_a_second
def test_no_gradient_flows_into_scores():
    batch, _ = batch_of(FEW)

    def outcome(weight):
        score = RaterScore(lambda x0, e, lam: weight * linear(x0, e, lam))
        eps, _, info = NoiseSelection(score, 2).select(*batch, 0)
        return jnp.sum(eps) + info["score_margin"]

    value, slope = jax.jit(jax.value_and_grad(outcome))(1.0)
    assert np.isfinite(value)
    assert slope == 0


@pytest.mark.takes_a_second
@pytest.mark.parametrize("count,bins", [(16, 1), (16, 8), (17, 5), (4, 2)])
def test_shuffling_keeps_the_scores_of_each_stratum(count, bins):
    keys = jax.random.split(jax.random.key(count), count)
    rng = np.random.default_rng(0)
    lam = jnp.asarray(rng.permutation(np.linspace(-400, 9, count)), jnp.float32)
    scores = jnp.asarray(rng.normal(size=(count, 3)), jnp.float32)
    shuffle = jax.jit(partial(shuffle_within_levels, bins=bins))
    shuffled = np.asarray(shuffle(scores, lam, keys))
    by_level = np.argsort(-lam)
    edges = [count * j // bins for j in range(bins + 1)]
    for low, high in pairwise(edges):
        members = by_level[low:high]
        rows = {tuple(row) for row in np.asarray(scores)[members]}
        assert {tuple(row) for row in shuffled[members]} == rows
    assert (shuffled != scores).all()
    np.testing.assert_array_equal(shuffle(scores, lam, keys), shuffled)
    if count // bins > 2:
        other = jax.random.split(jax.random.key(7), count)
        assert (shuffle(scores, lam, other) != shuffled).any()


@pytest.mark.takes_a_second
def test_shuffling_is_uniform_over_partners():
    """Each of the other members of a stratum is equally likely."""
    lam = jnp.asarray([5.0, 0.1, 6.0, 0.2, 7.0, 0.3, 8.0, 0.4])

    def partners(key):
        return shuffle_within_levels(jnp.arange(8), lam, jax.random.split(key, 8), 2)

    found = np.asarray(jax.jit(jax.vmap(partners))(jax.random.split(jax.random.key(3), 3000)))
    for b in range(8):
        others = [i for i in range(b % 2, 8, 2) if i != b]
        counts = [(found[:, b] == i).sum() for i in others]
        assert sum(counts) == 3000
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("count", [1, 7, 32])
def test_assignment_is_optimal(count):
    rng = np.random.default_rng(count)
    eps = rng.normal(size=(count, *PIXELS)).astype(np.float32)
    x0 = rng.uniform(-1, 1, size=eps.shape).astype(np.float32)
    permutation = np.asarray(jax.jit(optimal_assignment)(x0, eps))
    assert permutation.dtype == np.int32
    assert sorted(permutation) == list(range(count))
    flat = (x.astype(np.float64).reshape(count, -1) for x in (x0, eps))
    cost = cdist(*flat, "sqeuclidean")
    best = cost[linear_sum_assignment(cost)].sum()
    np.testing.assert_allclose(cost[np.arange(count), permutation].sum(), best, rtol=1e-6)
    if count == 32:
        assert best < 0.9 * np.trace(cost)


@pytest.mark.takes_a_second
def test_assigned_noise_is_the_plain_noise_handed_around():
    """On two devices each hands around its own half."""
    batch, plain = batch_of(FEW)
    halves = [x.reshape(2, FEW // 2, *x.shape[1:]) for x in batch]
    eps, source, info = jax.pmap(
        lambda *half: NoiseAssignment().select(*half, step=0), devices=jax.devices()[:2]
    )(*halves)
    assert source is None
    assign = jax.jit(optimal_assignment)
    for half, own in enumerate(plain.reshape(2, FEW // 2, *PIXELS)):
        x0 = halves[1][half]
        permutation = np.asarray(assign(x0, own))
        np.testing.assert_array_equal(eps[half], own[permutation])
        changed = np.mean(permutation != np.arange(FEW // 2))
        np.testing.assert_allclose(info["changed_share"][half], changed)
        assert changed > 0
        assert info["noise_along_image"][half] > noise_moments(x0, own)["noise_along_image"] + 0.1


@pytest.mark.parametrize("count,k,bins", [(64, 16, 4), (50, 12, 6), (9, 9, 3), (10, 4, 1)])
def test_top_k_takes_as_many_from_each_stratum(count, k, bins):
    rng = np.random.default_rng(count)
    lam = rng.permutation(np.linspace(-9, 9, count))
    # The score leans on the level: without strata the noisiest would win.
    scores = -lam / 2 + 0.5 * rng.normal(size=count)
    pick = jax.jit(partial(top_k_by_level, k=k, bins=bins))
    index = np.asarray(pick(jnp.asarray(scores), jnp.asarray(lam)))
    assert index.dtype == np.int32
    by_level = np.argsort(-lam)
    expected = []
    for j in range(bins):
        members = by_level[count * j // bins : count * (j + 1) // bins]
        expected += list(members[np.argsort(-scores[members])][: k // bins])
    np.testing.assert_array_equal(index, expected)


def test_top_k_puts_nan_last_and_lower_levels_first_among_equals():
    scores = jnp.asarray([np.nan, 1.0, 1.0, 0.0])
    lam = jnp.asarray([-1.0, -4, -3, -2])
    np.testing.assert_array_equal(top_k_by_level(scores, lam, 2, 1), [2, 1])
    np.testing.assert_array_equal(top_k_by_level(scores, lam, 4, 1), [2, 1, 3, 0])


def ones(count):
    return jnp.ones(count)


@pytest.mark.parametrize(
    "argument,call",
    [
        ("candidates", lambda: NoiseSelection(RandomScore(), 0)),
        ("plain_share", lambda: NoiseSelection(RandomScore(), 2, plain_share=1.1)),
        ("anneal_steps", lambda: NoiseSelection(RandomScore(), 2, anneal_steps=0)),
        ("order", lambda: LossScore("hardest")),
        ("bins", lambda: ShuffledScore(RandomScore(), bins=0)),
        (
            "bins",
            lambda: shuffle_within_levels(
                ones(5), ones(5), jax.random.split(jax.random.key(0), 5), 3
            ),
        ),
        ("k", lambda: top_k_by_level(ones(9), ones(9), k=4, bins=3)),
        ("k", lambda: top_k_by_level(ones(10), ones(10), k=12, bins=3)),
        ("k", lambda: top_k_by_level(ones(9), ones(9), k=0, bins=3)),
        ("bins", lambda: top_k_by_level(ones(9), ones(9), k=3, bins=0)),
    ],
)
def test_refuses(argument, call):
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        call()


KEYS = jax.random.split(jax.random.key(0), 3)
X0, LAM = jnp.ones((3, 2, 2, 1)), jnp.zeros(3)
SEEN = Candidates(X0, jnp.ones((3, 4, 2, 2, 1)), LAM, KEYS, lambda x0, eps: jnp.sum(eps))


def select(score=RandomScore(), keys=KEYS, x0=X0, lam=LAM, step=0, losses=None):  # noqa: B008
    return NoiseSelection(score, 4).select(keys, x0, lam, step, losses)


@pytest.mark.parametrize(
    "message,call",
    [
        (r"score=3: must be a function Candidates", lambda: NoiseSelection(3)),
        (r"candidates=2\.0: must be a Python integer", lambda: NoiseSelection(RandomScore(), 2.0)),
        (r"candidates='4'", lambda: NoiseSelection(RandomScore(), "4")),
        (r"plain_share='half'", lambda: NoiseSelection(RandomScore(), plain_share="half")),
        (r"anneal_steps=1\.5", lambda: NoiseSelection(RandomScore(), anneal_steps=1.5)),
        (r"step=0\.5: must be an integer", lambda: NoiseSelection(RandomScore()).in_use(0.5)),
        (r"step=int32\[2\]", lambda: NoiseSelection(RandomScore()).in_use(jnp.arange(2))),
        (r"keys=key<fry>\[\]: must be key\[B\]", lambda: select(keys=jax.random.key(0))),
        (r"keys=float32\[3\]", lambda: select(keys=LAM)),
        (r"keys=None", lambda: select(keys=None)),
        (r"x0=float32\[2,2,2,1\]: must be float\[3, \.\.\.\]", lambda: select(x0=X0[:2])),
        (r"x0=uint8\[3,2,2,1\]", lambda: select(x0=X0.astype(jnp.uint8))),
        (r"x0=float32\[3\]", lambda: select(x0=LAM, lam=X0)),
        (r"lam=float32\[2\]: must be of shape \[3\]", lambda: select(lam=LAM[:2])),
        (r"lam=0\.0: must be of shape \[3\]", lambda: select(lam=0.0)),
        (r"lam=int32\[3\]", lambda: select(lam=LAM.astype(int))),
        (r"lam=float32\[3\]: must be finite: log SNR", lambda: select(lam=LAM / 0.0)),
        (r"step=None", lambda: select(step=None)),
        (r"losses=float32\[3\]: must be a function \(x0, eps\)", lambda: select(losses=LAM)),
        (r"losses=a function to float32\[\]", lambda: LossScore()(SEEN)),
        (
            r"losses=a function to float32\[3,2,2,1\]: .* here float\[3\]",
            lambda: select(LossScore(), losses=lambda x0, eps: eps),
        ),
        (
            r"score=a function to float32\[3\]: .*Candidates -> float\[B, M\], here float\[3,4\]",
            lambda: select(lambda seen: seen.lam),
        ),
        (r"score=a function to NoneType", lambda: select(lambda seen: None)),
        (r"score=a function to int32\[3,4\]", lambda: select(lambda s: jnp.ones((3, 4), int))),
        (r"lam=float32\[2\]", lambda: NoiseAssignment().select(KEYS, X0, LAM[:2], 0)),
        (r"eps=float32\[2,2,2,1\]: must be of shape", lambda: noise_moments(X0, X0[:2])),
        (r"x0=\[1\.0\]", lambda: noise_moments([1.0], X0)),
        (r"eps=float32\[3,2\]: must be of shape", lambda: optimal_assignment(X0, X0[:, 0, :, 0])),
        (r"rate=None: must be a function \(x0, eps, lam\)", lambda: RaterScore(None)),
        (
            r"rate=a function to float32\[3,2,2,1\]: .* here float\[3\]",
            lambda: RaterScore(lambda x0, eps, lam: eps)(SEEN),
        ),
        (r"candidates=float32\[3\]: must be Candidates\(", lambda: NearestScore()(LAM)),
        (
            r"candidates=Candidates of x0 float32\[2,2,2,1\], .*: must be Candidates of x0",
            lambda: NearestScore()(SEEN._replace(x0=X0[:2])),
        ),
        (r"candidates=.*lam float32\[2\]", lambda: NearestScore()(SEEN._replace(lam=LAM[:2]))),
        (r"candidates=.*eps 1", lambda: NearestScore()(SEEN._replace(eps=1))),
        (r"candidates=Candidates of keys None", lambda: RandomScore()(SEEN._replace(keys=None))),
        (
            r"candidates=Candidates of keys key<fry>\[2\]",
            lambda: ShuffledScore(NearestScore(), 1)(SEEN._replace(keys=KEYS[:2])),
        ),
        (r"losses=3: must be a function", lambda: LossScore()(SEEN._replace(losses=3))),
        (r"score=None", lambda: ShuffledScore(None)),
        (r"score=a function to", lambda: ShuffledScore(lambda seen: LAM, 1)(SEEN)),
        (r"bins=2\.0", lambda: ShuffledScore(NearestScore(), bins=2.0)),
        (r"order=3", lambda: LossScore(3)),
        (r"keys=key<fry>\[\]", lambda: draw_candidates(KEYS[0], 2, (2,), jnp.float32)),
        (r"count=0: must be at least 1", lambda: draw_candidates(KEYS, 0, (2,), jnp.float32)),
        (r"count=2\.0", lambda: draw_candidates(KEYS, 2.0, (2,), jnp.float32)),
        (r"shape=2: must be a tuple", lambda: draw_candidates(KEYS, 2, 2, jnp.float32)),
        (r"shape=\(2\.0,\)", lambda: draw_candidates(KEYS, 2, (2.0,), jnp.float32)),
        (r"dtype=.*int32.*: must be a float", lambda: draw_candidates(KEYS, 2, (2,), jnp.int32)),
        (r"dtype='floaty'", lambda: draw_candidates(KEYS, 2, (2,), "floaty")),
        (r"scores=float32\[2\]", lambda: shuffle_within_levels(LAM[:2], LAM, KEYS, 1)),
        (r"lam=float32\[\]", lambda: shuffle_within_levels(LAM, LAM[0], KEYS, 1)),
        (r"keys=key<fry>\[2\]", lambda: shuffle_within_levels(LAM, LAM, KEYS[:2], 1)),
        (r"bins='1'", lambda: shuffle_within_levels(LAM, LAM, KEYS, "1")),
        (r"scores=float32\[3,2,2,1\]", lambda: top_k_by_level(X0, LAM, 1, 1)),
        (r"lam=float32\[2\]", lambda: top_k_by_level(LAM, LAM[:2], 1, 1)),
        (r"k=1\.0", lambda: top_k_by_level(LAM, LAM, 1.0, 1)),
    ],
)
def test_refuses_what_does_not_fit(message, call):
    with pytest.raises(ArgumentError, match=f"^{message}"):
        call()


def test_only_values_that_are_known_are_checked():
    """Shapes are refused under jit too; values there are not looked at."""
    run = jax.jit(lambda lam: select(lam=lam).info["score_margin"])
    assert np.isfinite(run(LAM / 0.0))
    with pytest.raises(ArgumentError, match=r"^lam=float32\[2\]"):
        run(LAM[:2])
    step = jax.jit(lambda k: NoiseSelection(NearestScore(), 4, anneal_steps=4).in_use(k))
    assert [int(step(k)) for k in (0, 3)] == [4, 1]


@pytest.mark.takes_a_second
def test_keys_as_rows_of_numbers_are_keys():
    raw = jax.vmap(jax.random.key_data)(KEYS)
    np.testing.assert_array_equal(select(keys=raw).eps, select(keys=KEYS).eps)
