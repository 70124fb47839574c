"""Several seeds in one program: the numbers of each run on its own, and who stops whom."""

import contextlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import linear_network
import numpy as np
import optax
import pytest
from training import test_loop

from jaxnoise.commands import train_together as command
from jaxnoise.errors import NonFiniteError
from jaxnoise.noise import Cosine, Difficulty
from jaxnoise.objectives import DenoisingObjective, uniform_weight
from jaxnoise.training.drawing import AXIS, Batch
from jaxnoise.training.state import create_state
from jaxnoise.training.step import make_step
from jaxnoise.training.together import step_together, train_together

IMAGES = np.random.RandomState(0).randint(0, 256, (20, 4, 4, 2)).astype(np.uint8)
LABELS = np.arange(20, dtype=np.int32)
SEEDS = (3, 4, 5)


def on_one_device(step):
    """Gives a step the named axis of one device."""
    mapped = jax.vmap(step, axis_name=AXIS)

    def call(*arguments):
        out = mapped(*jax.tree.map(lambda x: jnp.asarray(x)[None], arguments))
        return jax.tree.map(lambda x: x[0], out)

    return jax.jit(call)


@pytest.mark.slow
@pytest.mark.parametrize("resident", [True, False])
def test_each_run_is_what_it_is_alone(resident):
    objective = DenoisingObjective(Cosine(), uniform_weight(), pacing=Difficulty(3, 1))
    optimizer = optax.adam(1e-2)
    step = make_step(
        linear_network.apply,
        objective,
        optimizer,
        ema_rate=0.5,
        global_batch=6,
        num_classes=0,
        dropout=True,
        flip=True,
    )
    keys = [linear_network.quick_key(seed) for seed in SEEDS]
    states = [
        create_state(
            linear_network.init, optimizer, key, teacher=False, pace=objective.pacing.init()
        )
        for key in keys
    ]
    alone, both = on_one_device(step), on_one_device(step_together(step))
    together = tuple(states)
    for i in range(3):
        index = np.random.RandomState(i).randint(0, 20, (6, len(SEEDS))).astype(np.int32)
        if resident:
            batch = Batch(index, IMAGES, LABELS)
            parts = [Batch(index[:, s], IMAGES, LABELS) for s in range(len(SEEDS))]
        else:
            batch = Batch(None, IMAGES[index], LABELS[index])
            parts = [Batch(None, IMAGES[row], LABELS[row]) for row in index.T]
        together, metrics = both(together, batch, jnp.stack(keys))
        for s, part in enumerate(parts):
            states[s], own = alone(states[s], part, keys[s])
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), metrics[s], own)
    assert [int(state.step) for state in together] == [3, 3, 3]
    for one, other in zip(states, together, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 2e-5, 1e-6), one, other)


def lockstep(bad=None, stop_at=None, at_step=lambda states: None):
    """Three runs of the loop's test, of which one may fail; what came of them, and their logs."""
    logs, fed = [test_loop.Log() for _ in range(3)], []

    def feeder(step):
        fed.append(step)
        return step

    feeder.resident = True

    def dispatch(states, batch, keys):
        step = int(states[0].step)
        at_step(states)
        if step == stop_at:
            test_loop.os.kill(test_loop.os.getpid(), test_loop.signal.SIGTERM)
        lost = [np.nan if i == bad and step >= 6 else None for i in range(3)]
        return (
            tuple(test_loop.state_at(step + 2) for _ in states),
            tuple(test_loop.metrics(step, loss=loss) for loss in lost),
        )

    states = [test_loop.state_at(0)] * 3
    found = train_together(states, dispatch, feeder, None, test_loop.RHYTHM, logs)
    return found, logs, fed


def test_every_run_is_recorded_and_asks_for_one_batch():
    found, logs, fed = lockstep()
    assert [int(state.step) for state in found] == [12, 12, 12]
    assert fed == [0, 2, 4, 6, 8, 10]
    for log in logs:
        assert log.of("save") == [6, 12]
        assert [row["step"] for row in log.of("log")] == [4, 8, 12]


def test_recording_of_one_run_counts_as_training_of_none(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(test_loop.Log, "save", lambda *given: now.__setitem__(0, now[0] + 100))

    def at_step(states):
        now[0] += 2

    _, logs, _ = lockstep(at_step=at_step)
    rates = [[row["images_per_second"] for row in log.of("log")] for log in logs]
    # 4 images in each second of 2 steps a dispatch, of each of three runs.
    assert rates == [[12.0] * 3] * 3


def test_where_one_fails_the_others_are_left_to_go_on():
    found, logs, _ = lockstep(bad=1)
    assert isinstance(found[1], NonFiniteError)
    assert found[0] is None
    assert found[2] is None
    assert [log.of("save") for log in logs] == [[6], [6], [6]]


@pytest.mark.parametrize(
    "failure", [OSError("its last state was not written"), ValueError("its score is none")]
)
def test_each_round_has_the_rhythm_of_its_runs_and_ends_all(failure, monkeypatch):
    steps, rhythms, finished = {"a": 8, "b": 7, "c": 8}, [], []

    @contextlib.contextmanager
    def begun(model, folder):
        at = steps[folder]
        yield test_loop.state_at(at), f"rhythm at {at}", None

    def trained(models, states, rhythm, recorders):
        rhythms.append((rhythm, len(states)))
        return states

    def finish(model, state, folder):
        finished.append(folder)
        if folder == "a":
            raise failure

    opened = SimpleNamespace(run=None, images=None)
    monkeypatch.setattr(command, "open_model", lambda *given, **flags: opened)
    monkeypatch.setattr(command, "has_checkpoint", lambda folder: False)
    monkeypatch.setattr(command, "begun", begun)
    monkeypatch.setattr(command, "_train", trained)
    monkeypatch.setattr(command, "finish", finish)
    with pytest.raises(type(failure), match=str(failure)):
        command.main([None] * 3, list(steps))
    assert rhythms == [("rhythm at 8", 2), ("rhythm at 7", 1)]
    assert finished == ["a", "c", "b"]


def test_a_stop_reaches_all_at_the_same_step():
    found, logs, _ = lockstep(stop_at=6)
    assert {str(outcome) for outcome in found} == {
        "stopped at step 8; last good checkpoint: checkpoints/8"
    }
    assert [log.of("save") for log in logs] == [[6, 8]] * 3
