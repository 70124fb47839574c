import itertools

import jax
import jax.numpy as jnp
import linear_network
import numpy as np
import optax
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.meta.candidates import LossScore, NearestScore, RandomScore, draw_candidates
from jaxnoise.meta.pool import PoolSelection
from jaxnoise.meta.selection import NoiseAssignment, NoiseSelection
from jaxnoise.noise import (
    Cosine,
    Difficulty,
    KarrasGrid,
    LognormalPairs,
    Normal,
    constant,
    square_root_ema_rate,
)
from jaxnoise.objectives import (
    ConsistencyObjective,
    DenoisingObjective,
    LearnedUncertainty,
    MeanFlowObjective,
    SCMObjective,
    inverse_gap,
    min_snr_weight,
    squared_l2,
)
from jaxnoise.training.diagnostics import nonfinite_range, sum_by_band
from jaxnoise.training.drawing import AXIS, Batch, drop_labels, flip_some, to_float
from jaxnoise.training.state import create_state
from jaxnoise.training.step import make_step
from jaxnoise.training.streams import example_keys, stream_key

pytestmark = pytest.mark.slow

BATCH = 8
IMAGES = np.random.RandomState(0).randint(0, 256, (20, 4, 4, 2)).astype(np.uint8)
LABELS = np.arange(20, dtype=np.int32)


def objective(ema_teacher=None):
    return ConsistencyObjective(
        grid=KarrasGrid(11, 0.002, 80.0, 7.0),
        law=LognormalPairs(sampling="stratified"),
        curriculum=constant(s0=11),
        distance=squared_l2,
        weight=inverse_gap,
        ema_teacher=ema_teacher,
    )


def one_device(function):
    """Gives a function the named axis of one device."""
    mapped = jax.vmap(function, axis_name=AXIS)

    def call(*arguments):
        out = mapped(*jax.tree.map(lambda x: jnp.asarray(x)[None], arguments))
        return jax.tree.map(lambda x: x[0], out)

    return call


def run(network=linear_network.apply, steps=1, learning_rate=1e-3, **settings):
    optimizer = optax.sgd(learning_rate)
    target = settings.pop("objective", objective())
    keywords = {
        "ema_rate": 0.5,
        "global_batch": BATCH,
        "num_classes": 0,
        "dropout": True,
        "flip": False,
    }
    keywords |= settings
    step = jax.jit(one_device(make_step(network, target, optimizer, **keywords)))
    rates = keywords["ema_rate"]
    state = create_state(
        linear_network.init,
        optimizer,
        jax.random.key(0),
        teacher=target.has_teacher,
        averages=len(rates) if isinstance(rates, tuple) else 1,
    )
    states, metrics = [state], []
    for i in range(steps):
        batch = Batch(
            index=jnp.arange(BATCH, dtype=jnp.int32) + i,
            images=jnp.asarray(IMAGES),
            labels=jnp.asarray(LABELS),
        )
        state, out = step(state, batch, jax.random.key(5))
        states.append(state)
        metrics.append(out)
    return states, metrics


def spy(seen):
    """The linear network, with what it is called with handed to the host."""

    def network(params, x, c_noise, labels=None, dropout_keys=None):
        mask_bits = jax.vmap(lambda k: jax.random.bits(k, (4,)))(dropout_keys)
        jax.debug.callback(lambda m: seen.append(np.array(m)), mask_bits)
        return linear_network.apply(params, x, c_noise, labels, dropout_keys)

    return network


@pytest.mark.parametrize(
    "target",
    [
        objective(),
        SCMObjective(Normal(mean=2.0, std=3.6)),
        MeanFlowObjective(Normal(mean=1.2, std=3.2), Normal(mean=8.0, std=3.2)),
    ],
    ids=lambda target: type(target).__name__,
)
def test_student_and_teacher_share_the_mask_and_steps_do_not(target):
    """A teacher's derivative is taken under the student's mask too."""
    seen = []
    run(spy(seen), steps=2, objective=target)
    jax.effects_barrier()
    masks = np.stack(seen)
    distinct = np.unique(masks.reshape(len(masks), -1), axis=0)
    # Two steps, each with a student and a teacher pass (the backward pass may not call back).
    assert len(distinct) == 2
    assert len(masks) >= 4
    # Within a batch every example has a mask of its own.
    assert len(np.unique(masks[0].reshape(BATCH, -1), axis=0)) == BATCH


def test_update_is_sgd_on_the_mean_of_the_losses():
    states, metrics = run(dropout=False)
    target = objective()
    key = jax.random.key(5)
    pairs = target.draw(stream_key(key, "levels", 0), stream_key(key, "grid"), jnp.int32(0), BATCH)
    keys = example_keys(stream_key(key, "noise", 0), jnp.arange(BATCH))
    x0 = to_float(jnp.asarray(IMAGES[:BATCH]))
    eps = jax.vmap(lambda k: jax.random.normal(k, x0.shape[1:]))(keys)

    def loss(params):
        def network(x, c):
            return linear_network.apply(params, x, c)

        def frozen(x, c):
            return linear_network.apply(states[0].params["network"], x, c)

        return target.losses(network, frozen, {}, x0, eps, pairs).mean()

    value, gradient = jax.value_and_grad(loss)(states[0].params["network"])
    np.testing.assert_allclose(metrics[0]["loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics[0]["grad_norm"], optax.tree.norm(gradient), rtol=1e-5)
    for name, old in states[0].params["network"].items():
        np.testing.assert_allclose(
            states[1].params["network"][name], old - 1e-3 * gradient[name], rtol=1e-4, atol=1e-6
        )


def test_ema_is_debiased_from_the_first_step():
    states, _ = run(steps=2)
    np.testing.assert_allclose(
        states[1].ema["network"]["w"], states[1].params["network"]["w"], rtol=1e-6
    )
    expected = (0.5 * states[1].params["network"]["w"] + states[2].params["network"]["w"]) / 1.5
    np.testing.assert_allclose(states[2].ema["network"]["w"], expected, rtol=1e-5)


def test_several_averages_are_those_of_runs_with_one_each():
    alone = [run(steps=3, ema_rate=rate)[0][3] for rate in (0.5, 0.9)]
    both = run(steps=3, ema_rate=(0.5, 0.9))[0][3]
    assert [len(state.averages) for state in (*alone, both)] == [1, 1, 2]
    for found, state in zip(both.averages, alone, strict=True):
        jax.tree.map(np.testing.assert_array_equal, found, state.ema)
    jax.tree.map(np.testing.assert_array_equal, both.sampling_params, alone[0].ema)
    jax.tree.map(np.testing.assert_array_equal, both.params, alone[0].params)
    assert both.averages[0]["network"]["w"][0, 0] != both.averages[1]["network"]["w"][0, 0]


def test_teacher_ema_follows_the_student_at_its_rate():
    states, _ = run(steps=2, objective=objective(lambda n: square_root_ema_rate(n, 0.9, 2)))
    assert run()[0][1].teacher is None
    rate = np.exp(2 * np.log(0.9) / 10)
    for before, after in itertools.pairwise(states):
        expected = rate * before.teacher["network"]["w"] + (1 - rate) * after.params["network"]["w"]
        np.testing.assert_allclose(after.teacher["network"]["w"], expected, rtol=1e-5)


def test_conditional_network_sees_the_labels_of_its_images():
    seen = []

    def network(params, x, c_noise, labels=None, dropout_keys=None):
        jax.debug.callback(lambda m: seen.append(np.array(m)), labels)
        return linear_network.apply(params, x, c_noise, labels, dropout_keys)

    run(network, num_classes=20)
    jax.effects_barrier()
    np.testing.assert_array_equal(seen[0].reshape(-1), LABELS[:BATCH])


def test_labels_are_dropped_at_the_rate_asked_for_and_by_their_own_key():
    labels, keys = jnp.arange(4000) % 10, jax.random.split(jax.random.key(0), 4000)
    shown = drop_labels(labels, keys, 10, 0.1)
    dropped = np.asarray(shown == 10)
    # Five standard deviations of a binomial count.
    assert abs(dropped.sum() - 400) < 5 * np.sqrt(4000 * 0.1 * 0.9)
    np.testing.assert_array_equal(shown[~dropped], labels[~dropped])
    np.testing.assert_array_equal(drop_labels(labels[7:9], keys[7:9], 10, 0.1), shown[7:9])


def test_dropped_labels_reach_the_network():
    seen = []

    def network(params, x, c_noise, labels=None, dropout_keys=None):
        jax.debug.callback(lambda m: seen.append(np.array(m)), labels)
        return linear_network.apply(params, x, c_noise, labels, dropout_keys)

    run(network, num_classes=20, label_dropout=0.5)
    jax.effects_barrier()
    shown = seen[0].reshape(-1)
    assert 0 < np.sum(shown == 20) < BATCH
    np.testing.assert_array_equal(shown[shown != 20], LABELS[:BATCH][shown != 20])


@pytest.mark.parametrize(
    "selection",
    [
        NoiseSelection(NearestScore(), candidates=1),
        NoiseSelection(LossScore("lowest"), candidates=1),
        NoiseSelection(RandomScore(), candidates=1),
        PoolSelection(LossScore("lowest"), candidates=1, bins=2),
    ],
)
def test_one_candidate_is_training_without_selection(selection):
    plain, _ = run(steps=2)
    one, metrics = run(steps=2, selection=selection)
    for a, b in zip(
        jax.tree.leaves(plain[-1].params), jax.tree.leaves(one[-1].params), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert float(metrics[-1]["changed_share"]) == 0


def test_selected_noise_is_trained_on():
    _, plain = run()
    _, nearest = run(selection=NoiseSelection(NearestScore(), candidates=8))
    assert float(nearest[0]["changed_share"]) > 0.5
    # Towards the image, by the largest of 8 normal draws: 1.42 on average, .37 the deviation of 8.
    assert 0.6 < float(nearest[0]["noise_along_image"]) < 2.2
    for order, sign in (("lowest", -1), ("highest", 1)):
        _, chosen = run(selection=NoiseSelection(LossScore(order), candidates=8))
        assert sign * (float(chosen[0]["loss"]) - float(plain[0]["loss"])) > 0
    _, assigned = run(selection=NoiseAssignment())
    assert float(assigned[0]["noise_along_image"]) > 0


def test_pool_is_scored_whole_and_trained_on_as_gathered():
    """Image, level, label and dropout mask go with the noise that was selected for them."""
    candidates, bins = 3, 2
    selection = PoolSelection(LossScore("highest"), candidates, bins)
    states, metrics = run(selection=selection, num_classes=20)
    target, key, params = objective(), jax.random.key(5), states[0].params["network"]
    pairs = target.draw(stream_key(key, "levels", 0), stream_key(key, "grid"), jnp.int32(0), BATCH)
    keys = {n: example_keys(stream_key(key, n, 0), jnp.arange(BATCH)) for n in ("noise", "dropout")}
    x0, labels = to_float(jnp.asarray(IMAGES[:BATCH])), jnp.asarray(LABELS[:BATCH])
    eps = draw_candidates(keys["noise"], candidates, x0.shape[1:], x0.dtype)

    @jax.jit
    def losses(student, source, eps):
        def network(params):
            own = labels[source], keys["dropout"][source]
            return lambda x, c: linear_network.apply(params, x, c, *own)

        levels = jax.tree.map(lambda x: x[source], pairs)
        return target.losses(network(student), network(params), {}, x0[source], eps, levels)

    everyone = jnp.arange(BATCH)
    scores = np.stack([losses(params, everyone, eps[:, m]) for m in range(candidates)], axis=1)
    # A stratum is a half of the batch by level.
    strata = np.argsort(np.asarray(pairs.sigma), kind="stable").reshape(bins, -1)
    pool = (strata[:, :, None] * candidates + np.arange(candidates)).reshape(bins, -1)
    best = np.argsort(-scores.ravel()[pool], axis=1)[:, : BATCH // bins]
    picks = np.sort(np.take_along_axis(pool, best, axis=1).ravel())
    source, gathered = picks // candidates, eps.reshape(-1, *x0.shape[1:])[picks]
    assert 1 < len(np.unique(source)) < BATCH
    assert float(metrics[0]["image_share"]) == len(np.unique(source)) / BATCH
    margin = scores.ravel()[picks].mean() - scores.mean()
    np.testing.assert_allclose(metrics[0]["score_margin"], margin, rtol=1e-4)

    value, gradient = jax.value_and_grad(lambda p: losses(p, source, gathered).mean())(params)
    np.testing.assert_allclose(metrics[0]["loss"], value, rtol=1e-5)
    for name, old in params.items():
        np.testing.assert_allclose(
            states[1].params["network"][name], old - 1e-3 * gradient[name], rtol=1e-4, atol=1e-6
        )
    sigma = np.asarray(pairs.sigma)
    counts = np.histogram(sigma[source], [0, 0.1, 1, 10, 100])[0]
    assert (counts != np.histogram(sigma, [0, 0.1, 1, 10, 100])[0]).any()
    np.testing.assert_array_equal(metrics[0]["band_count"], counts)
    np.testing.assert_allclose(metrics[0]["band_sum"].sum(), value * BATCH, rtol=1e-5)


def test_metrics_by_band_count_every_example_once():
    losses = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
    sigma = jnp.array([0.05, 0.1, 0.99, 10.0, 9.9])
    sums, counts = one_device(sum_by_band)(losses, sigma)
    np.testing.assert_array_equal(sums, [1.0, 6.0, 16.0, 8.0])
    np.testing.assert_array_equal(counts, [1.0, 2.0, 1.0, 1.0])


def test_a_learned_uncertainty_does_not_pace_a_curriculum():
    """The curriculum follows the error, where the loss is negative."""
    target = DenoisingObjective(
        Cosine().truncated(-4.0, 4.0),
        min_snr_weight(),
        uncertainty=LearnedUncertainty(harmonics=1),
        pacing=Difficulty(clusters=2, patience=1),
    )
    optimizer = optax.sgd(0.0)
    own = {"uncertainty": {"weight": jnp.zeros(2), "bias": jnp.float32(-1.5)}}

    def init(key):
        return {**linear_network.init(key), "objective": own}

    pace = target.pacing.init()
    state = create_state(init, optimizer, jax.random.key(0), False, pace, averages=0)
    settings = {"ema_rate": 0.0, "global_batch": BATCH, "num_classes": 0}
    step = make_step(linear_network.apply, target, optimizer, dropout=False, flip=False, **settings)
    index = jnp.arange(BATCH, dtype=jnp.int32)
    batch = Batch(index=index, images=jnp.asarray(IMAGES), labels=jnp.asarray(LABELS))
    after, metrics = jax.jit(one_device(step))(state, batch, jax.random.key(5))
    # u = -1.5 everywhere, and an error so small that the loss L e^1.5 - 1.5 is below 0.
    assert metrics["loss"] < 0
    expected = (metrics["loss"] + 1.5) / np.exp(1.5)
    np.testing.assert_allclose(after.pace.best, expected, rtol=1e-4)
    assert after.pace.best > 0


def test_nonfinite_losses_name_their_levels():
    sigma = jnp.array([0.1, 0.5, 2.0, 7.0])
    find = one_device(nonfinite_range)
    np.testing.assert_allclose(find(jnp.array([1.0, jnp.nan, jnp.inf, 3.0]), sigma), [0.5, 2.0])
    low, high = find(jnp.ones(4), sigma)
    assert low > high


def test_bytes_map_to_minus_one_and_one():
    np.testing.assert_allclose(to_float(jnp.array([0, 255], jnp.uint8)), [-1.0, 1.0])


def test_half_of_the_images_are_mirrored_whole():
    keys = jax.random.split(jax.random.key(0), 2000)
    images = jnp.broadcast_to(jnp.arange(3.0).reshape(1, 1, 3, 1), (2000, 2, 3, 1))
    out = np.asarray(flip_some(images, keys))
    mirrored = out[:, 0, 0, 0] == 2
    np.testing.assert_array_equal(out[mirrored], np.asarray(images)[mirrored][:, :, ::-1])
    np.testing.assert_array_equal(out[~mirrored], np.asarray(images)[~mirrored])
    # Binomial(2000, 1/2): standard deviation 22.
    assert abs(mirrored.sum() - 1000) < 90


@pytest.mark.parametrize("resident", [True, False])
def test_batch_reads_resident_or_streamed_examples(resident):
    index = jnp.array([3, 1])
    batch = (
        Batch(index=index, images=jnp.asarray(IMAGES), labels=jnp.asarray(LABELS))
        if resident
        else Batch(
            index=None, images=jnp.asarray(IMAGES[[3, 1]]), labels=jnp.asarray(LABELS[[3, 1]])
        )
    )
    images, labels = batch.read()
    np.testing.assert_array_equal(images, IMAGES[[3, 1]])
    np.testing.assert_array_equal(labels, [3, 1])


def test_levels_noise_and_flips_change_every_step_and_are_independent():
    seen = {"sigma": [], "eps": [], "x0": []}

    class Watching(ConsistencyObjective):
        def losses(self, student, teacher, own, x0, eps, levels):
            watched = {"sigma": levels.sigma, "eps": eps, "x0": x0}
            for name, value in watched.items():
                jax.debug.callback(lambda v, n=name: seen[n].append(np.array(v)), value)
            return super().losses(student, teacher, own, x0, eps, levels)

    base = objective()
    watching = Watching(base.grid, base.law, base.curriculum, base.distance, base.weight)
    run(steps=12, objective=watching, flip=True, dropout=False)
    jax.effects_barrier()
    # Eight of ten pairs in strata: two batches may coincide by chance, twelve may not.
    assert len(np.unique(np.stack(seen["sigma"]).reshape(12, -1), axis=0)) > 8
    assert len(np.unique(np.stack(seen["eps"]).reshape(12, -1), axis=0)) == 12
    x0, eps = (np.stack(seen[n]).reshape(12, BATCH, 4, 4, 2) for n in ("x0", "eps"))
    plain = np.asarray(to_float(jnp.asarray(IMAGES)))
    batches = np.stack([plain[i : i + BATCH] for i in range(12)])
    flipped = (np.abs(x0 - batches) > 1e-3).any(axis=(2, 3, 4))
    assert len(np.unique(flipped, axis=0)) > 6
    # 96 fair coins: standard deviation 4.9.
    assert 30 < flipped.sum() < 66
    # The first bit of the noise does not tell the flip: agreement of 96 pairs of fair coins.
    assert 30 < (flipped == (eps[:, :, 0, 0, 0] > 0)).sum() < 66


@pytest.mark.parametrize("global_batch", [BATCH // 2, 2 * BATCH])
def test_a_global_batch_is_that_of_all_devices(global_batch):
    """One that is a device's own would draw the same levels on each."""
    allowed = f"global_batch={global_batch}: must be {BATCH}, the examples of all 1 devices"
    with pytest.raises(ArgumentError, match=allowed):
        run(global_batch=global_batch)
