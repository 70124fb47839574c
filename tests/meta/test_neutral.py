"""What selection does to the best denoiser: nothing by the noisy image, a known shift by best of 4.

Data are x0 = +-1 + .3 N(0, 1) at sigma = 1, so that E[x0 | x] is known. Training on what is
selected learns the mean of x0 given x among it; means of `x0 - E[x0 | x]` in narrow bins of x tell
how far that is from the best denoiser, with a standard error.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

from jaxnoise.errors import ArgumentError
from jaxnoise.meta import (
    InnerState,
    NeutralPool,
    NeutralWeights,
    NoiseSelection,
    Noisy,
    PoolSelection,
    RaterScore,
    SoftmaxDraws,
    Weighted,
    asks_what_is_shown,
    draw_candidates,
    floored_softmax,
    meta_gradient,
)

POOLS, SIZE, SPREAD = 4000, 64, 0.3
EDGES = np.linspace(-3, 3, 61)


def score(x):
    return jnp.sin(2 * x) + x


def rate(x, lam, labels):
    del lam, labels
    return score(x[:, 0])


def rate_draw(x0, eps, lam):
    del lam
    return score((x0 + eps)[:, 0])


def best(x):
    """E[x0 | x], in float64."""
    variance = 1 + SPREAD**2
    likely = [norm.pdf(x, m, np.sqrt(variance)) for m in (-1, 1)]
    means = [m + SPREAD**2 / variance * (x - m) for m in (-1, 1)]
    return sum(p * m for p, m in zip(likely, means, strict=True)) / sum(likely)


SELECTIONS = {
    "pool": NeutralPool(rate, share=0.25, bins=4),
    "floored pool": NeutralPool(rate, share=0.25, bins=4, floor=0.5),
    "weights": NeutralWeights(rate, floor=0.2),
    "best of 4": NoiseSelection(RaterScore(rate_draw), 4),
    "pool of 4 each": PoolSelection(RaterScore(rate_draw), 4, bins=8),
    "draws": SoftmaxDraws(RaterScore(rate_draw), 4, inverse_probability=False),
    "weighted draws": SoftmaxDraws(RaterScore(rate_draw), 4),
}


@pytest.fixture(scope="module")
def selected():
    """Of each selection x, x0 and weights, flat; the results, keys and images of every pool."""
    keys = jax.random.split(jax.random.key(0), (POOLS, SIZE))
    signs, spread = jax.random.split(jax.random.key(1))
    x0 = jnp.where(jax.random.bernoulli(signs, shape=(POOLS, SIZE, 1)), 1.0, -1.0)
    x0 = x0 + SPREAD * jax.random.normal(spread, x0.shape)
    lam = jnp.zeros((POOLS, SIZE))

    def one(keys, x0, lam):
        def select(selection):
            given = {"shown": lambda x0, eps: Noisy(x0 + eps, lam, None)}
            asked = given if asks_what_is_shown(selection) else {}
            return selection.select(keys, x0, lam, 0, **asked)

        return {name: select(selection) for name, selection in SELECTIONS.items()}

    results = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys, x0, lam))
    images, found = np.asarray(x0, np.float64), {}
    for name, result in results.items():
        source = np.arange(SIZE)[None] if result.source is None else result.source
        mine = np.take_along_axis(
            images, np.broadcast_to(source, result.eps.shape[:2])[..., None], 1
        )
        x = mine + result.eps
        weight = result.weight if isinstance(result, Weighted) else np.ones(x.shape[:2])
        found[name] = x.ravel(), mine.ravel(), weight.ravel().astype(np.float64)
    return found, results, keys, images


def shifts(x, x0, weight, edges):
    """In each bin of x the weighted mean of x0 less the best estimate, and its standard error."""
    place, rest = np.digitize(x, edges) - 1, x0 - best(x)
    means, errors = [], []
    for b in range(len(edges) - 1):
        w, r = weight[place == b], rest[place == b]
        if len(r) >= 300:
            mean = np.sum(w * r) / np.sum(w)
            means.append(mean)
            errors.append(np.sqrt(np.sum(w**2 * (r - mean) ** 2)) / np.sum(w))
    return np.array(means), np.array(errors)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", ["pool", "floored pool", "weights", "weighted draws"])
def test_the_best_denoiser_stays(selected, name):
    means, errors = shifts(*selected[0][name], EDGES)
    assert len(means) > 25
    z = means / errors
    # A chi-square of that many bins, and no bin alone.
    assert np.sum(z**2) < len(z) + 4 * np.sqrt(2 * len(z))
    assert np.abs(z).max() < 4.5
    # Over all bins there is no shift of .005 that hides in their errors.
    mean, error = shifts(*selected[0][name], np.array([-3.0, 3.0]))
    assert abs(mean[0]) < 4 * error[0] < 0.03


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", ["best of 4", "pool of 4 each", "draws"])
def test_the_best_denoiser_moves_where_rivals_share_the_image(selected, name):
    means, errors = shifts(*selected[0][name], EDGES)
    assert np.sum((means / errors) ** 2) > 4 * len(means)


def expected(candidates, low, high):
    """E[x0 | low < x < high] under the best of M: P(win | x0, x) = F_x0(r(x))^(M-1), quadrature."""
    x0, x = np.linspace(-3, 3, 601), np.linspace(-9, 9, 3601)
    prior = norm.pdf(x0, 1, SPREAD) + norm.pdf(x0, -1, SPREAD)
    density = norm.pdf(x[None] - x0[:, None]) * (x[1] - x[0])
    order = np.argsort(np.sin(2 * x) + x)
    below = np.empty_like(density)
    below[:, order] = np.cumsum(density[:, order], axis=1) - density[:, order] / 2
    mass = prior[:, None] * density * below ** (candidates - 1)
    mass = mass[:, (low < x) & (x < high)]
    return np.sum(mass * x0[:, None]) / np.sum(mass)


@pytest.mark.takes_a_second
def test_best_of_four_moves_it_by_the_closed_form(selected):
    assert (expected(1, -0.5, 0), expected(4, -0.5, 0)) == pytest.approx(
        (-0.2237, -1.0180), abs=1e-3
    )
    x, x0, _ = selected[0]["best of 4"]
    for low, high in ((-0.5, 0.0), (0.0, 0.5), (0.5, 1.5)):
        here = x0[(low < x) & (x < high)]
        error = here.std() / np.sqrt(len(here))
        assert error < 0.01
        assert abs(here.mean() - expected(4, low, high)) < 4 * error


@pytest.mark.takes_a_second
def test_a_pool_holds_each_image_once_with_its_first_draw(selected):
    _, results, keys, images = selected
    source, eps = results["pool"].source, results["pool"].eps
    assert source.shape == (POOLS, SIZE // 4)
    assert (np.diff(source, axis=1) > 0).all()
    drawn = jax.vmap(lambda k: draw_candidates(k, 1, (1,), jnp.float32)[:, 0])
    plain = np.asarray(drawn(keys[:20]))
    np.testing.assert_array_equal(eps[:20], np.take_along_axis(plain, source[:20, :, None], 1))
    # Levels tie, so strata are places in the batch: the best quarter of each.
    scores = np.asarray(score(images[:20].astype(np.float32) + plain))[..., 0].reshape(20, 4, 16)
    picks = np.sort(np.argsort(-scores, axis=2)[..., :4], axis=2) + 16 * np.arange(4)[:, None]
    np.testing.assert_array_equal(source[:20], picks.reshape(20, -1))


def test_a_floor_keeps_what_no_score_would(selected):
    _, results, _, images = selected
    # Two of each stratum's four are kept at random, so of 16 one in eight at least.
    worst = images[..., 0] < np.quantile(images, 0.02)
    shares = {}
    for name in ("pool", "floored pool"):
        kept = np.zeros((POOLS, SIZE), bool)
        np.put_along_axis(kept, results[name].source, True, axis=1)
        shares[name] = kept[worst].mean()
    assert shares["pool"] < 0.08
    error = np.sqrt(0.125 * 0.875 / worst.sum())
    assert 0.125 - 4 * error < shares["floored pool"] < 0.2
    weight = results["weights"].weight
    assert weight.min() >= np.float32(0.2)
    np.testing.assert_allclose(weight.mean(axis=1), 1, rtol=1e-5)
    assert results["weighted draws"].weight.max() <= 1 / 0.1 * (1 + 1e-6)


def test_inverse_probabilities_have_mean_one(selected):
    weight = selected[1]["weighted draws"].weight.ravel()
    assert weight.std() > 0.3
    assert abs(weight.mean() - 1) < 4 * weight.std() / np.sqrt(weight.size)


def test_the_noisy_image_tells_of_a_value_what_the_denoiser_errs_by():
    """Of v = -d outer / d w; the rest of it is the chance in x0, which must not be told.

    With a table D(x) = theta[bin of x], squared errors and SGD of rate a, a step's outer loss L has
    E[v | bin] = 2 a dL/dtheta (theta - E[x0 | bin]).
    """
    bins, count, rate = 6, 600, 0.1
    random = np.random.default_rng(0)
    x0 = random.choice((-1, 1), count) + SPREAD * random.normal(size=count)
    place = np.clip(np.floor(x0 + random.normal(size=count) + 3), 0, bins - 1).astype(int)
    mean = np.bincount(place, x0) / np.bincount(place)
    aim, optimizer = jnp.float32(random.normal(size=bins)), optax.sgd(rate)

    def losses(theta, batch):
        return (theta[batch[0]] - batch[1]) ** 2

    solve = meta_gradient(
        losses,
        lambda eta, batch: jnp.full(count, 1 / count),
        lambda theta, aim: jnp.sum((theta - aim) ** 2),
        optimizer,
    )

    def values(theta):
        """Each example's value, its mean in every bin, and the outer slopes after the step."""
        theta = jnp.float32(theta)
        inner = InnerState(theta, optimizer.init(theta))
        found = solve((), inner, (jnp.array(place[None]), jnp.float32(x0[None])), aim)
        value = -np.asarray(found.weight_gradients[0])
        slopes = 2 * np.asarray(found.inner.params - aim)
        return value, np.bincount(place, value) / np.bincount(place), slopes

    off = np.linspace(-1.0, 1.0, bins)
    value, told, slopes = values(mean + off)
    np.testing.assert_allclose(told, 2 * rate * slopes * off, rtol=1e-4, atol=1e-6)
    # At the best denoiser nothing is told, and values differ all the same.
    value, told, _ = values(mean)
    assert np.abs(told).max() < 1e-5 * np.std(value)
    assert np.std(value) > 0.05


def test_a_softmax_over_devices_is_that_of_all():
    logits = np.float32(np.random.RandomState(0).randn(4, 3) * 50)
    whole = partial(floored_softmax, floor=0.1, axis_name="data")
    parts = jax.jit(jax.vmap(whole, axis_name="data"))(logits)
    alone = jax.jit(partial(floored_softmax, floor=0.1))(logits.ravel())
    np.testing.assert_allclose(parts.ravel(), alone, rtol=1e-5)
    assert parts.min() >= np.float32(0.1)
    exponentials = np.exp(logits - logits.max())
    wanted = 0.1 + 0.9 * 12 * exponentials / exponentials.sum()
    np.testing.assert_allclose(parts, wanted, rtol=1e-5)


@pytest.mark.takes_a_second
def test_no_draw_without_a_probability_is_made_by_rounding(monkeypatch):
    """Sums of a softmax fall short of 1, and a draw would be divided by a probability of 0."""
    monkeypatch.setattr(jax.random, "uniform", lambda key: jnp.float32(1 - 2.0**-23))
    scores = 6 * jax.random.normal(jax.random.key(0), (1000, 8)).at[:, -1].set(-100)
    sums = jnp.cumsum(jax.nn.softmax(scores, axis=1), axis=1)[:, -1]
    assert (sums < 1 - 2.0**-23).any()
    draws = SoftmaxDraws(lambda candidates: scores, 8, floor=1e-30)
    keys = jax.random.split(jax.random.key(1), 1000)
    drawn = draws.select(keys, jnp.ones((1000, 1)), jnp.zeros(1000), step=0)
    # That of the last is 1e30.
    assert drawn.weight.max() < 1e20


@pytest.mark.takes_a_second
def test_half_precision_scores_are_drawn_with_the_probability_that_weighs_them():
    """In bfloat16 the rarest of these was drawn up to a third more or less often."""
    scores = jnp.asarray([0.0, -3.0, -3.0, -6.0], jnp.bfloat16)
    draws = SoftmaxDraws(
        lambda c: scores[None] + 0 * c.eps[..., 0].astype(scores.dtype), 4, 1, 0.02
    )
    keys, x0 = jax.random.split(jax.random.key(2), 65_536), jnp.zeros((65_536, 1))
    weight = jax.jit(lambda: draws.select(keys, x0, jnp.zeros(65_536), step=0).weight)()
    assert weight.dtype == jnp.float32
    soft = np.exp(np.float64([0.0, -3.0, -3.0, -6.0]))
    probs = 0.02 / 4 + 0.98 * soft / soft.sum()
    for prob, share in zip(probs[[0, 1, 3]], (probs[0], 2 * probs[1], probs[3]), strict=True):
        drawn = np.mean(np.isclose(weight, 1 / (4 * prob), rtol=1e-4))
        assert abs(drawn - share) < 4 * np.sqrt(share * (1 - share) / 65_536)


def test_weights_by_probabilities_need_a_floor():
    """A candidate whose probability underflows is never drawn: E[weight] would be below 1."""
    with pytest.raises(ArgumentError, match=r"^floor=0.0: must be above 0 with inverse_prob"):
        SoftmaxDraws(lambda candidates: candidates.lam[:, None], 4, floor=0.0)
    for given in ({"candidates": 1}, {"inverse_probability": False}):
        SoftmaxDraws(lambda candidates: candidates.lam[:, None], **{"floor": 0.0, **given})


def test_a_softmax_of_another_rank_or_with_too_high_a_floor_is_refused():
    """Its mean would be over all numbers, and its weights below 0."""
    with pytest.raises(ArgumentError, match=r"^logits=float32\[2,3\]: must be of shape \[n\]"):
        floored_softmax(jnp.ones((2, 3)), 0.1)
    with pytest.raises(ArgumentError, match=r"^floor=2.0: must be a number in \[0, 1\)"):
        floored_softmax(jnp.ones(2), 2.0)


def small(count=8):
    keys = jax.random.split(jax.random.key(0), count)
    return keys, jnp.linspace(-1, 1, 2 * count).reshape(count, 2), jnp.linspace(0.1, 9, count)


def shown(x0, eps):
    return Noisy(x0 + eps, x0[:, 0], None)


@pytest.mark.parametrize(
    "argument, call",
    [
        ("rate", lambda: NeutralPool("noisy")),
        ("share", lambda: NeutralPool(rate, share=0.0)),
        ("share", lambda: NeutralPool(rate, share=1.5)),
        ("share", lambda: NeutralPool(rate, 0.3, bins=1).select(*small(), 0, shown=shown)),
        ("bins", lambda: NeutralPool(rate, bins=0)),
        ("bins", lambda: NeutralPool(rate, 0.5, bins=3).select(*small(), 0, shown=shown)),
        ("floor", lambda: NeutralPool(rate, floor=1.0)),
        ("floor", lambda: NeutralPool(rate, 0.5, 1, 0.1).select(*small(), 0, shown=shown)),
        ("floor", lambda: NeutralPool(rate, 0.5, 1, 0.9).select(*small(), 0, shown=shown)),
        ("floor", lambda: NeutralWeights(rate, floor=-0.1)),
        ("temperature", lambda: NeutralWeights(rate, temperature=0.0)),
        ("shown", lambda: NeutralPool(rate, 0.5, bins=1).select(*small(), 0)),
        ("shown", lambda: NeutralWeights(rate).select(*small(), 0, shown=lambda x0, eps: x0)),
        ("rate", lambda: NeutralWeights(lambda *seen: seen[0]).select(*small(), 0, shown=shown)),
        ("score", lambda: SoftmaxDraws("nearest")),
        ("candidates", lambda: SoftmaxDraws(RaterScore(rate_draw), 0)),
        ("temperature", lambda: SoftmaxDraws(RaterScore(rate_draw), temperature=-1.0)),
        ("floor", lambda: SoftmaxDraws(RaterScore(rate_draw), floor=2.0)),
        ("inverse_probability", lambda: SoftmaxDraws(RaterScore(rate_draw), 4, 1.0, 0.1, 1)),
    ],
)
def test_refuses(argument, call):
    with pytest.raises(ArgumentError, match=f"^{argument}="):
        jax.eval_shape(call)
