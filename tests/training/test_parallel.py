import os
from functools import partial

import jax
import linear_network
import numpy as np
import optax
import pytest

from jaxnoise.cli import shared_batch
from jaxnoise.data import ArrayImages, batch_indices
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.noise import PolynomialPairs, PredefinedGrid, sinusoidal
from jaxnoise.objectives import ConsistencyObjective, inverse_gap, pseudo_huber
from jaxnoise.training import parallel
from jaxnoise.training.feeding import ResidentFeeder, StreamingFeeder, make_feeder
from jaxnoise.training.parallel import Devices, connect, use_all_cores
from jaxnoise.training.state import create_state
from jaxnoise.training.step import make_step

BATCH, STEPS = 16, 6
GENERATOR = np.random.RandomState(0)
IMAGES = ArrayImages(
    "noise",
    GENERATOR.randint(0, 256, (40, 4, 4, 2)).astype(np.uint8),
    np.arange(40) % 3,
    num_classes=3,
)
INDICES = partial(batch_indices, 0, 40, BATCH)


def run(devices, stride=1, feeder=ResidentFeeder):
    objective = ConsistencyObjective(
        grid=PredefinedGrid(41, "nested", 0.002, 80.0, 7.0),
        law=PolynomialPairs(),
        curriculum=sinusoidal(s0=10, s1=40, total_steps=STEPS),
        distance=pseudo_huber,
        weight=inverse_gap,
    )
    optimizer = optax.adam(1e-3)
    step = make_step(
        linear_network.apply,
        objective,
        optimizer,
        ema_rate=0.9,
        global_batch=BATCH,
        num_classes=20,
        dropout=True,
        flip=True,
    )
    feed = feeder(IMAGES, devices, INDICES, stride)
    dispatch = devices.map(step, stride, feed.resident)
    state = devices.replicate(
        create_state(linear_network.init, optimizer, jax.random.key(0), teacher=False)
    )
    losses = []
    for first in range(0, STEPS, stride):
        state, metrics = dispatch(state, feed(first), jax.random.key(1))
        losses.append(np.asarray(metrics["loss"]))
    feed.close()
    return jax.tree.map(np.asarray, state), np.concatenate(losses)


@pytest.fixture(scope="module")
def reference():
    return run(Devices("pmap", 1))


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "devices, stride, feeder",
    [
        (Devices("pmap", 2), 1, ResidentFeeder),
        (Devices("pmap", 8), 3, StreamingFeeder),
        (Devices("shard_map", 1), 2, ResidentFeeder),
        (Devices("shard_map", 8), 1, StreamingFeeder),
        (Devices("auto"), 2, ResidentFeeder),
    ],
    ids=[
        "pmap-2",
        "pmap-8-scanned-streamed",
        "shard_map-1-scanned",
        "shard_map-8-streamed",
        "auto",
    ],
)
def test_devices_mapping_dispatch_and_feeding_change_nothing(reference, devices, stride, feeder):
    state, losses = run(devices, stride, feeder)
    np.testing.assert_allclose(losses, reference[1], rtol=1e-5)
    for expected, found in zip(jax.tree.leaves(reference[0]), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.takes_a_second
def test_state_stays_a_plain_tree_without_a_device_axis(reference):
    assert reference[0].params["network"]["w"].shape == (2, 2)
    assert reference[0].step == STEPS


def test_small_sets_are_resident():
    feeder = make_feeder(IMAGES, Devices("pmap", 1), INDICES, 1)
    assert feeder.resident


def test_all_rows_of_one_process_are_local():
    np.testing.assert_array_equal(Devices("shard_map", 4).local_rows(8), np.arange(8))


def test_bad_settings_name_themselves():
    with pytest.raises(ArgumentError, match=r"mapping='pmaps'.*did you mean 'pmap'"):
        Devices("pmaps")
    with pytest.raises(ArgumentError, match="count=0"):
        Devices("pmap", 0)
    with pytest.raises(ArgumentError, match="count=99: must be at most 8"):
        _ = Devices("pmap", 99).mesh


@pytest.mark.parametrize("batch,cores,count", [(64, 2, 2), (9, 2, 1), (12, 8, 6), (64, 3, 2)])
def test_host_devices_are_as_many_as_cores_that_divide_the_batch(batch, cores, count, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(parallel.jax, "__version_info__", (0, 10, 2))
    use_all_cores(batch)
    assert os.environ["XLA_FLAGS"] == (
        f"--xla_cpu_enable_fast_math=false --xla_force_host_platform_device_count={count}"
    )


@pytest.mark.parametrize(
    "version,flags",
    [((0, 11, 0), ""), ((0, 10, 2), "--xla_force_host_platform_device_count=8")],
)
def test_host_devices_are_left_as_they_are(version, flags, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(parallel.jax, "__version_info__", version)
    use_all_cores(64)
    assert os.environ["XLA_FLAGS"] == flags


@pytest.mark.parametrize(
    "name,batch",
    [
        *dict.fromkeys(("rater_pool", "rater_shuffled", "neutral_pool", "assignment")).items(),
        *dict.fromkeys(("none", "random", "rater", "neutral_weights"), 64).items(),
    ],
)
def test_a_batch_whose_examples_compete_is_not_shared_out(name, batch):
    assert shared_batch({"train": {"batch": 64}, "selection": {"name": name}}) == batch


@pytest.mark.parametrize(
    "address, process, message",
    [
        ("127.0.0.1", "0", "JAX_COORDINATOR_ADDRESS=127.0.0.1: must be host:port"),
        (":80", "0", "JAX_COORDINATOR_ADDRESS=:80: must be host:port"),
        ("here:80", "2", "JAX_PROCESS_ID=2: must be from 0 to JAX_NUM_PROCESSES=2 less 1"),
    ],
)
def test_who_a_process_is_must_make_sense(address, process, message, monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given: pytest.fail("was called"))
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", address)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", process)
    with pytest.raises(ConfigError, match=message):
        connect()
