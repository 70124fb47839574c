"""Laws that learn themselves in a training step: devices, checkpoints, compilations, buffers."""

import jax
import jax.numpy as jnp
import linear_network
import numpy as np
import optax
import pytest

from jaxnoise.noise import (
    Adaptive,
    Cosine,
    KarrasGrid,
    LognormalPairs,
    ShrinkingGap,
    doubling,
)
from jaxnoise.objectives import (
    ConsistencyObjective,
    DenoisingObjective,
    ECTObjective,
    MeanFlowObjective,
    SCMObjective,
    inverse_gap,
    min_snr_weight,
    squared_l2,
)
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.drawing import AXIS, Batch
from jaxnoise.training.parallel import Devices
from jaxnoise.training.state import create_state
from jaxnoise.training.step import make_step

pytestmark = pytest.mark.slow

BATCH, STEPS = 16, 6
IMAGES = np.random.RandomState(0).randint(0, 256, (BATCH, 4, 4, 2)).astype(np.uint8)
KEY = linear_network.quick_key(3)
OPTIMIZER = optax.adam(1e-2)
OBJECTIVES = {
    "denoising": DenoisingObjective(
        Cosine(),
        min_snr_weight(),
        pacing=Adaptive("progress", bins=4, warmup_steps=2, rate=0.5, range=(-6.0, 6.0)),
    ),
    "ect": ECTObjective(
        Cosine(),
        ShrinkingGap(total_steps=STEPS, stages=3),
        pacing=Adaptive("loss", bins=4, warmup_steps=2, rate=0.5, range=(-6.0, 6.0)),
    ),
    "scm": SCMObjective(
        Cosine(),
        warmup_steps=3,
        pacing=Adaptive("loss", bins=4, warmup_steps=2, rate=0.5, range=(-6.0, 6.0)),
    ),
    "meanflow": MeanFlowObjective(
        Cosine().truncated(-15.0, 15.0),
        Cosine().truncated(-15.0, 15.0),
        pacing=Adaptive("loss", bins=4, warmup_steps=2, rate=0.5, range=(-6.0, 6.0)),
    ),
    "consistency": ConsistencyObjective(
        KarrasGrid(),
        LognormalPairs(),
        doubling(s0=4, s1=16, total_steps=STEPS),
        squared_l2,
        inverse_gap,
        pacing=Adaptive("second_moment", bins=4, warmup_steps=2, rate=0.5),
    ),
}


def step_of(objective):
    return make_step(
        linear_network.apply,
        objective,
        OPTIMIZER,
        ema_rate=0.5,
        global_batch=BATCH,
        num_classes=0,
        dropout=False,
        flip=False,
    )


def first_state(objective):
    return create_state(linear_network.init, OPTIMIZER, KEY, False, objective.pacing.init())


@pytest.fixture(scope="module", params=OBJECTIVES)
def trained(request):
    """States and metrics of every step on one, two and eight devices; traces of one device's."""
    objective, traces = OBJECTIVES[request.param], []
    step = step_of(objective)

    def run(devices):
        def counted(state, batch, key):
            traces.append(devices)
            return step(state, batch, key)

        cut = (devices, BATCH // devices)
        batch = Batch(
            index=None,
            images=jnp.asarray(IMAGES.reshape(*cut, 4, 4, 2)),
            labels=jnp.zeros(cut, jnp.int32),
        )
        mapped = jax.jit(jax.vmap(counted, (None, 0, None), 0, axis_name=AXIS))
        state, seen = first_state(objective), []
        for _ in range(STEPS):
            states, metrics = mapped(state, batch, KEY)
            state = jax.tree.map(lambda x: x[0], states)
            # What is handed on is the same on every device, to the bit.
            for leaf in jax.tree.leaves((states.pace, states.params)):
                np.testing.assert_array_equal(leaf, np.broadcast_to(leaf[:1], leaf.shape))
            seen.append(jax.tree.map(lambda x: np.asarray(x[0]), (states, metrics)))
        return seen

    runs = {devices: run(devices) for devices in (1, 2, 8)}
    return objective, runs, traces


def test_the_number_of_devices_changes_nothing(trained):
    _, runs, _ = trained
    for devices in (2, 8):
        for one, many in zip(runs[1], runs[devices], strict=True):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), one, many
            )


def test_the_law_moves_after_the_warm_up_without_a_compilation(trained):
    objective, runs, traces = trained
    laws = [
        [value for name, value in metrics.items() if name.startswith("law/")]
        for _, metrics in runs[1]
    ]
    low, high = objective.pacing.range
    np.testing.assert_allclose(np.mean(laws, axis=1) * (high - low), 1, rtol=1e-5)
    if "num_levels" not in runs[1][0][1]:
        np.testing.assert_array_equal(laws[0], laws[1])
    assert np.abs(np.diff(laws[2:], axis=0)).max(axis=1).min() > 1e-4
    assert sorted(traces) == [1, 2, 8]
    # Every example is seen by one bin.
    pace = runs[1][0][0].pace
    np.testing.assert_allclose(pace.recent.examples.sum(), BATCH / 2)


def test_a_run_that_goes_on_from_a_checkpoint_is_the_same_to_the_bit(trained, tmp_path):
    objective, _, _ = trained
    devices = Devices("pmap", 2)
    mapped = devices.map(step_of(objective), 1, resident=False)
    cut = (2, 1, BATCH // 2)
    batch = Batch(
        index=None,
        images=jnp.asarray(IMAGES.reshape(*cut, 4, 4, 2)),
        labels=jnp.zeros(cut, jnp.int32),
    )

    def train(state, steps):
        for _ in range(steps):
            state, _ = mapped(state, batch, KEY)
        return state

    half = train(devices.replicate(first_state(objective)), STEPS // 2)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(half, {})
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), half
    )
    whole = train(half, STEPS - STEPS // 2)
    checkpoints.last_good()
    restored = checkpoints.restore(abstract, set_aside=False)
    checkpoints.close()
    assert float(restored.pace.recent.examples.sum()) > 0
    again = train(restored, STEPS - STEPS // 2)
    jax.tree.map(np.testing.assert_array_equal, again, whole)
