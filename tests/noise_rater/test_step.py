"""Stage 1 of NoiseRater: what the inner models train on, who is renewed when, and what eta does."""

from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import linear_network
import numpy as np
import optax
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    Cosine,
    KarrasGrid,
    LognormalPairs,
    PredefinedGrid,
    constant,
    square_root_ema_rate,
)
from jaxnoise.noise_rater.inner_task import InnerTask
from jaxnoise.noise_rater.inner_training import InnerTraining
from jaxnoise.noise_rater.population import Population, meta_indices
from jaxnoise.noise_rater.step import create_rater_state, make_meta_step
from jaxnoise.objectives import (
    ConsistencyObjective,
    DenoisingObjective,
    Prediction,
    inverse_gap,
    min_snr_weight,
    squared_l2,
)
from jaxnoise.training.drawing import Batch
from jaxnoise.training.parallel import Devices
from jaxnoise.training.state import create_state
from jaxnoise.training.step import make_step
from jaxnoise.training.streams import stream_key

pytestmark = pytest.mark.slow

BATCH, T, P, LIFETIME = 8, 2, 2, 8
SIZES = {"population": P, "inner_steps": T, "batch": BATCH, "outer_batch": 2 * BATCH}
IMAGES = np.random.RandomState(0).randint(0, 256, (60, 4, 4, 2)).astype(np.uint8)
LABELS = (np.arange(60) % 3).astype(np.int32)
KEY = linear_network.quick_key(5)
OPTIMIZER = optax.sgd(0.1, momentum=0.9)
DENOISING = DenoisingObjective(Cosine().truncated(-8.0, 8.0), min_snr_weight(), Prediction("v"))


def consistency(**settings):
    return ConsistencyObjective(
        grid=KarrasGrid(11, 0.002, 80.0, 7.0),
        law=LognormalPairs(sampling="stratified"),
        curriculum=constant(s0=11),
        distance=squared_l2,
        weight=inverse_gap,
        **settings,
    )


def rater(eta, x0, eps, lam):
    features = [
        jnp.mean(eps, axis=(1, 2, 3)),
        jnp.mean(eps**2, axis=(1, 2, 3)),
        jnp.mean(x0 * eps, axis=(1, 2, 3)),
        lam / 4,
    ]
    return jnp.stack(features, axis=1) @ eta


def detached(eta, x0, eps, lam):
    return jax.lax.stop_gradient(rater(eta, x0, eps, lam))


@lru_cache
def compiled(count, mapping, optimizer, settings):
    """The mapped meta-step; one compilation for many tests."""
    settings = {
        "objective": DENOISING,
        "rater": rater,
        "lifetime": LIFETIME,
        "candidates": None,
        "averaging": "updates",
        # Compiles faster, and the network has no convolutions.
        "unroll": False,
    } | dict(settings)
    population = Population(P, settings.pop("lifetime"))
    task = InnerTask(
        linear_network.apply,
        settings.pop("objective"),
        global_batch=BATCH,
        num_classes=3,
        dropout=True,
        flip=True,
        candidates=settings.pop("candidates"),
    )
    training = InnerTraining(
        task,
        OPTIMIZER,
        settings.pop("rater"),
        inner_steps=settings.pop("inner_steps", T),
        outer_batch=settings.pop("outer_batch", 2 * BATCH),
        population=population,
        temperature=settings.pop("temperature", 0.5),
        unroll=settings.pop("unroll"),
    )
    step = make_meta_step(training, optimizer, init_inner=linear_network.init, **settings)
    devices = Devices(mapping, count)
    return devices, devices.map(step, 1, resident=True)


@lru_cache
def starter(optimizer, averaging):
    """The compiled maker of the first state, from eta."""

    @jax.jit
    def start(eta):
        return create_rater_state(
            lambda key: eta,
            linear_network.init,
            OPTIMIZER,
            optimizer,
            KEY,
            population=Population(P, LIFETIME),
            averaging=averaging,
        )

    return start


SGD = optax.sgd(0.1)
ADAM = optax.adam(0.05)
MOVED = (0.5, -1.0, 0.7, 0.3)
ZERO = (0.0, 0.0, 0.0, 0.0)


def indices(step, **sizes):
    return meta_indices(3, 60, 20, step, **(SIZES | sizes))


def batch_at(devices, step):
    index = devices.split(indices(step)[None].astype(np.int32), axis=1)
    return Batch(index=index, images=devices.replicate(IMAGES), labels=devices.replicate(LABELS))


def run(
    steps=1, eta=MOVED, count=1, mapping="pmap", optimizer=SGD, state=None, first=0, **settings
):
    """States and metrics, on the host."""
    devices, dispatch = compiled(count, mapping, optimizer, tuple(settings.items()))
    if state is None:
        start = starter(optimizer, settings.get("averaging", "updates"))
        state = jax.tree.map(np.asarray, start(np.float32(eta)))
    state = devices.replicate(state)
    states, rows = [jax.tree.map(np.asarray, state)], []
    for i in range(first, first + steps):
        state, metrics = dispatch(state, batch_at(devices, i), KEY)
        states.append(jax.tree.map(np.asarray, state))
        rows.append({name: np.asarray(value)[0] for name, value in metrics.items()})
    return states, rows


def member(tree, p):
    return jax.tree.map(lambda x: x[p], tree)


def assert_trees(found, expected, **tolerances):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **tolerances)


def apart(a, b):
    return max(np.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@lru_cache
def plain_step():
    step = make_step(
        linear_network.apply,
        DENOISING,
        OPTIMIZER,
        ema_rate=0.5,
        global_batch=BATCH,
        num_classes=3,
        dropout=True,
        flip=True,
    )
    return Devices("pmap", 1).map(step, 1, resident=True)


def plainly(params, key, p, steps):
    """Ordinary training of model p's first life, on its batches."""
    state = create_state(lambda key: params, OPTIMIZER, key, teacher=False, averages=0)
    devices = Devices("pmap", 1)
    for step in range(steps):
        for k in range(T):
            index = devices.split(indices(step)[None, :, p, k].astype(np.int32), axis=1)
            batch = Batch(
                index=index, images=devices.replicate(IMAGES), labels=devices.replicate(LABELS)
            )
            state, _ = plain_step()(state, batch, key)
    return state.params, state.opt_state


@pytest.mark.parametrize("p", range(P))
def test_equal_scores_train_as_the_plain_step_does(p):
    states, _ = run(3, eta=ZERO, rater=detached)
    params = jax.tree.map(jnp.asarray, member(states[0].inner.params, p))
    key = Population(P, LIFETIME).key(KEY, jnp.int32(p), jnp.int32(0))
    expected = plainly(params, key, p, 3)
    assert apart(states[3].inner.params, states[0].inner.params) > 1e-2
    assert_trees(member(states[3].inner, p), expected, rtol=1e-4, atol=1e-6)


def test_detached_scores_have_no_gradient():
    states, rows = run(1, eta=MOVED, rater=detached)
    assert rows[0]["grad_norm"] == 0
    np.testing.assert_array_equal(states[1].eta, states[0].eta)
    assert rows[0]["effective_share"] < 0.95


def test_eta_moves_against_the_outer_loss():
    states, rows = run(1)
    assert rows[0]["grad_norm"] > 1e-5
    # Plain gradient descent of 0.1: a length and a direction.
    moved = states[1].eta - states[0].eta
    np.testing.assert_allclose(np.linalg.norm(moved), 0.1 * rows[0]["grad_norm"], rtol=1e-3)
    _, ahead = run(1, eta=tuple(float(x) for x in states[0].eta + 5 * moved))
    assert ahead[0]["loss"] < rows[0]["loss"]


def test_gradient_by_finite_differences():
    _, rows = run(1)
    states, _ = run(1)
    gradient = (states[0].eta - states[1].eta) / 0.1
    for i in range(4):
        ends = []
        for sign in (1, -1):
            eta = np.array(MOVED)
            eta[i] += sign * 0.1
            ends.append(run(1, eta=tuple(eta))[1][0]["loss"])
        assert abs((ends[0] - ends[1]) / 0.2 - gradient[i]) < 0.02 * rows[0]["grad_norm"]


@pytest.mark.parametrize("mapping, count, candidates", [("pmap", 2, None), ("shard_map", 8, 3)])
def test_devices_change_nothing(mapping, count, candidates):
    # Not Adam: among candidates the level cancels, and Adam would scale up what rounding leaves.
    one, one_rows = run(2, candidates=candidates)
    many, many_rows = run(2, count=count, mapping=mapping, candidates=candidates)
    assert_trees(many[2], one[2], rtol=2e-3, atol=2e-5)
    for name, value in one_rows[0].items():
        np.testing.assert_allclose(many_rows[0][name], value, rtol=1e-4, atol=1e-5)


def test_a_loop_over_models_is_the_map():
    one, _ = run(1)
    looped, _ = run(1, unroll=True)
    assert_trees(looped[1], one[1], rtol=1e-4, atol=1e-6)


def test_weights_of_candidates_sum_to_one_for_each_image():
    # Scores of image and level alone: within candidates they cancel, within a batch they do not.
    level = (0.0, 0.0, 0.0, 1.0)
    _, among = run(1, eta=level, candidates=3)
    _, over = run(1, eta=level)
    np.testing.assert_allclose(among[0]["effective_share"], 1, rtol=1e-5)
    assert over[0]["effective_share"] < 0.8
    states, _ = run(1, eta=level, candidates=3)
    start, _ = run(1, eta=ZERO, candidates=3)
    assert_trees(states[1].inner, start[1].inner, rtol=1e-4, atol=1e-6)
    assert among[0]["band_count"].sum() == P * T * BATCH * 3
    assert over[0]["band_count"].sum() == P * T * BATCH
    assert run(1, candidates=3)[1][0]["effective_share"] < 0.999


def test_scores_above_their_rivals_are_told_by_band():
    _, rows = run(1, eta=(0.0, 0.0, 0.0, 1.0))
    counts, row = rows[0]["band_count"], rows[0]
    assert counts.min() > 0
    means = row["band_sums/score"] / counts
    np.testing.assert_allclose(row["band_sums/score"].sum(), 0, atol=1e-4)
    # Scores are lambda / 4 = -ln(sigma) / 2 here, so that bands from 0.1 to 10 have a bound.
    assert (np.diff(means) < 0).all()
    assert means[1] - means[2] < np.log(100) / 2
    # Within a band that is a factor of 10 wide, the variance has a bound too.
    spread = row["band_squares/score"] / counts - means**2
    assert 0 < spread[1] <= (np.log(10) / 4) ** 2
    assert 0 < spread[2] <= (np.log(10) / 4) ** 2
    np.testing.assert_allclose(row["inner_loss"], row["band_sum"].sum() / counts.sum(), rtol=1e-5)


def test_what_rivals_share_is_no_part_of_a_score():
    rows = [run(1, eta=(*MOVED[:3], level), candidates=3)[1][0] for level in (0.0, 5.0)]
    assert "band_sums/score" not in rows[0]
    squares = [row["band_squares/score"] for row in rows]
    assert squares[0].min() > 1e-2
    np.testing.assert_allclose(squares[1], squares[0], rtol=1e-3)
    np.testing.assert_allclose(rows[1]["grad_norm"], rows[0]["grad_norm"], rtol=1e-3)


def test_models_are_judged_at_the_levels_that_they_train_on():
    grid = PredefinedGrid(table_size=251, rule="random")
    objective = replace(consistency(), grid=grid)
    sizes = {"num_classes": 3, "dropout": True, "flip": True, "candidates": None}
    task = InnerTask(linear_network.apply, objective, global_batch=BATCH, **sizes)
    life = Population(P, LIFETIME)
    training = InnerTraining(
        task, OPTIMIZER, rater, inner_steps=T, outer_batch=BATCH, population=life
    )
    index = indices(0, outer_batch=BATCH)[:, 0].T

    @jax.jit
    def drawn(key):
        def at(age):
            return training.draw(key, age, jnp.asarray(IMAGES)[index], jnp.asarray(LABELS)[index])

        on_one = jax.vmap(lambda _: jax.vmap(at)(jnp.arange(100)), axis_name="data", axis_size=1)
        return tuple(part.levels.sigma for part in on_one(jnp.zeros(1)))

    seen = []
    for p in range(P):
        inner, outer = drawn(life.key(KEY, jnp.int32(p), jnp.int32(0)))
        trained_on = set(np.unique(inner))
        assert 8 <= len(trained_on) <= 11
        assert set(np.unique(outer)) <= trained_on
        seen.append(trained_on)
    assert seen[0] != seen[1]


def test_inner_models_live_on_and_are_renewed_one_after_the_other():
    states, _ = run(12, rater=detached)
    assert np.stack([s.age for s in states]).tolist() == [
        [0, 0], [1, 1], [2, 2], [3, 3], [4, 0], [5, 1], [6, 2], [7, 3],
        [0, 4], [1, 5], [2, 6], [3, 7], [4, 0],
    ]  # fmt: skip
    population = Population(P, LIFETIME)
    firsts = [member(states[0].inner.params, p) for p in range(P)]
    for p, step in ((1, 4), (0, 8), (1, 12)):
        begun = member(states[step].inner, p)
        key = population.key(KEY, jnp.int32(p), jnp.int32(step))
        expected = linear_network.init(stream_key(key, "init"))
        assert_trees(begun.params, expected, rtol=1e-6)
        assert apart(begun.opt_state, OPTIMIZER.init(expected)) == 0
        assert all(apart(begun.params, first) > 1e-2 for first in firsts)
        firsts.append(begun.params)
    assert apart(member(states[3].inner.params, 0), member(states[2].inner.params, 0)) > 1e-3


def test_resuming_changes_nothing():
    whole, _ = run(6, rater=detached)
    resumed, _ = run(3, rater=detached, state=whole[3], first=3)
    for a, b in zip(jax.tree.leaves(resumed[3]), jax.tree.leaves(whole[6]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_averaged_updates_and_averaged_gradients():
    updates, _ = run(1, optimizer=ADAM)
    gradients, _ = run(1, optimizer=ADAM, averaging="gradients")
    # Adam's first step is the sign of the gradient: of each model's, or of the mean.
    signs = np.sign(updates[1].meta_opt_state[0].mu)
    assert signs.shape == (P, 4)
    np.testing.assert_allclose(
        updates[1].eta - updates[0].eta, -0.05 * signs.mean(0), rtol=1e-3, atol=1e-5
    )
    sign = np.sign(updates[1].meta_opt_state[0].mu.mean(0))
    assert gradients[1].meta_opt_state[0].mu.shape == (4,)
    np.testing.assert_allclose(gradients[1].eta - gradients[0].eta, -0.05 * sign, rtol=1e-3)
    # Without a state, averaged updates of 0.1 are that of the averaged gradient, in Adam's mean.
    plain, _ = run(1)
    mean = gradients[1].meta_opt_state[0].mu
    assert_trees(plain[1].eta, plain[0].eta - mean, rtol=1e-4)


@pytest.mark.parametrize("candidates", [None, 3])
def test_consistency_objective(candidates):
    states, rows = run(2, objective=CONSISTENCY, candidates=candidates)
    assert all(np.isfinite(row["loss"]) and 1e-5 < row["grad_norm"] < np.inf for row in rows)
    assert apart(states[2].eta, states[0].eta) > 1e-6


CONSISTENCY = consistency()


def test_indices_are_disjoint_and_follow_epochs():
    steps = np.stack([indices(i) for i in range(10)])
    assert steps.shape == (10, BATCH, P, T + 2)
    inner, outer = steps[..., :T], steps[..., T:]
    assert not set(inner.ravel()) & set(outer.ravel())
    assert len(set(inner.ravel())) == 40
    assert len(set(outer.ravel())) == 20
    # 320 of each kind: 8 epochs of 40 examples, 16 of 20, every example equally often.
    np.testing.assert_array_equal(np.bincount(inner.ravel())[np.unique(inner)], 8)
    np.testing.assert_array_equal(np.bincount(outer.ravel())[np.unique(outer)], 16)
    # 32 < 40 in a step: none twice, in either model.
    assert len(set(inner[0].ravel())) == 32


def test_indices_are_a_function_of_seed_and_step():
    first = indices(4)
    np.testing.assert_array_equal(first, indices(4))
    assert (first != indices(5)).mean() > 0.9
    other = meta_indices(4, 60, 20, 4, **SIZES)
    assert (first != other).mean() > 0.9
    assert set(indices(0)[..., T:].ravel()) != set(
        meta_indices(4, 60, 20, 0, **SIZES)[..., T:].ravel()
    )
    # The split does not depend on how the rest is dealt out.
    wide = indices(0, population=5, outer_batch=BATCH)
    assert not set(wide[..., :T].ravel()) & set(
        np.stack([indices(i) for i in range(5)])[..., T:].ravel()
    )


@pytest.mark.parametrize(
    "settings, argument",
    [
        ({"averaging": "update"}, "averaging"),
        ({"candidates": 1}, "candidates"),
        ({"lifetime": 0}, "lifetime"),
        ({"mode": "mixd"}, "mode"),
        ({"objective": consistency(ema_teacher=partial(square_root_ema_rate, mu0=0.9, s0=2))},
         "objective"),
    ],
)  # fmt: skip
def test_bad_arguments(settings, argument):
    with pytest.raises(ArgumentError, match=argument):
        run(0, **settings)


def test_bad_sizes():
    for settings, argument in (
        ({"held_out": 60}, "held_out"),
        ({"outer_batch": 12}, "outer_batch"),
    ):
        sizes = {"seed": 0, "num_examples": 60, "held_out": 20, "step": 0} | SIZES | settings
        with pytest.raises(ArgumentError, match=argument):
            meta_indices(**sizes)
