import os
import signal
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError, ConfigError, NonFiniteError
from jaxnoise.noise.bands import BAND_NAMES
from jaxnoise.training.loop import (
    Interrupted,
    Rhythm,
    Window,
    check_finite,
    train,
)
from jaxnoise.training.state import TrainState

RHYTHM = Rhythm(
    steps=12, batch=4, steps_per_dispatch=2, log_every=4, sample_every=6, checkpoint_every=6
)


def metrics(step, count=2, loss=None):
    return {
        "loss": np.array([float(step + i) if loss is None else loss for i in range(count)]),
        "grad_norm": np.ones(count),
        "band_sum": np.tile([2.0, 0.0, 3.0, 0.0], (count, 1)),
        "band_count": np.tile([1.0, 0.0, 3.0, 0.0], (count, 1)),
        "nonfinite_sigma": np.tile([0.5, 2.0], (count, 1)),
        "num_levels": np.full(count, 20 + step),
    }


class Log:
    def __init__(self):
        self.events = []

    def progress(self, step, loss):
        self.events.append(("progress", step))

    def log(self, row):
        self.events.append(("log", row))

    def sample(self, state, step):
        self.events.append(("sample", step))

    def evaluate(self, state, step):
        self.events.append(("evaluate", step))

    def check(self, state, step):
        self.events.append(("check", step))

    def save(self, state, step):
        self.events.append(("save", step))

    def last_good(self):
        return f"checkpoints/{self.of('save')[-1]}"

    def of(self, kind):
        return [value for name, value in self.events if name == kind]


def state_at(step):
    return TrainState(step=jnp.int32(step), params=0, opt_state=0, ema=0, teacher=None, pace=())


def broken_at(step, error):
    """A feeder that raises when it is asked for the batch of a step."""

    def feeder(asked):
        if asked >= step:
            raise error
        return asked

    return feeder


def run(log, rhythm=RHYTHM, start=0, at_step=lambda step: None, bad=None, feeder=lambda step: step):
    def dispatch(state, batch, key):
        step = int(state.step)
        at_step(step)
        loss = np.nan if bad is not None and step >= bad else None
        return state_at(step + 2), metrics(step, loss=loss)

    return train(state_at(start), dispatch, feeder, None, rhythm, log)


def test_records_at_its_rhythm_and_at_the_end():
    log = Log()
    final = run(log)
    assert int(final.step) == 12
    assert log.of("progress") == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in log.of("log")] == [4, 8, 12]
    assert log.of("save") == [6, 12]
    assert log.of("sample") == [6, 12]
    assert log.events.index(("save", 6)) < log.events.index(("sample", 6))


def test_what_is_never_due_comes_at_the_end_alone():
    log = Log()
    run(log, replace(RHYTHM, log_every=0, sample_every=0, checkpoint_every=0))
    assert log.of("save") == log.of("sample") == [row["step"] for row in log.of("log")] == [12]


def test_a_row_is_the_mean_since_the_last_one():
    log = Log()
    run(log)
    first, second, _ = log.of("log")
    assert first["loss"] == np.mean([0, 1, 2, 3])
    assert second["loss"] == np.mean([4, 5, 6, 7])
    assert second["num_levels"] == 26
    assert second["images_seen"] == 32
    assert second["loss_band/<0.1"] == 2.0
    assert second["loss_band/0.1-1"] is None
    assert second["loss_band/1-10"] == 1.0


def test_means_by_band_are_over_examples():
    window = Window(batch=4)
    for step in (0, 1):
        counts = np.array([[1.0, 0.0, 3.0 * step, 2.0]])
        # All examples of a step have the value step + 1.
        value = step + 1.0
        sums = {"band_sums/a": counts * value, "band_squares/a": counts * value**2}
        sums["band_squares/b"] = counts * value**2
        window.add({**metrics(step, count=1), "band_count": counts, **sums})
    row = window.row(2)
    assert [row[f"a_mean/{band}"] for band in BAND_NAMES] == [1.5, None, 2.0, 1.5]
    assert [row[f"a_std/{band}"] for band in BAND_NAMES] == [0.5, None, 0.0, 0.5]
    assert [row[f"b_std/{band}"] for band in BAND_NAMES] == [2.5**0.5, None, 2.0, 2.5**0.5]
    assert "b_mean/<0.1" not in row


def test_resumes_where_the_state_stands():
    log = Log()
    run(log, start=8)
    assert log.of("progress") == [10, 12]


@pytest.mark.parametrize(
    "start, settings, message",
    [
        (7, {}, "state.step=7: must be a multiple of rhythm.steps_per_dispatch=2"),
        (4, {"steps": 13}, "rhythm.steps=13: must be a multiple of rhythm.steps_per_dispatch=2"),
        (
            0,
            {"log_every": 3},
            "rhythm.log_every=3: must be a multiple of rhythm.steps_per_dispatch=2",
        ),
    ],
)
def test_dispatches_that_would_pass_by_what_is_due_are_refused(start, settings, message):
    log, made = Log(), []
    with pytest.raises(ArgumentError) as error:
        run(log, replace(RHYTHM, **settings), start=start, at_step=made.append)
    assert str(error.value) == message
    assert made == []
    assert log.events == []


def test_a_run_that_stands_behind_its_end_is_finished():
    log = Log()
    assert int(run(log, start=15).step) == 15
    assert log.events == []


def test_non_finite_loss_stops_before_the_next_save():
    log = Log()
    with pytest.raises(NonFiniteError) as error:
        run(log, bad=8)
    message = str(error.value)
    assert message.startswith("step 8: loss nan")
    assert "sigma 0.5 to 2" in message
    assert "num_levels 28" in message
    assert "checkpoints/6" in message
    assert log.of("save") == [6]


def test_non_finite_gradient_with_finite_losses():
    bad = metrics(3)
    bad["grad_norm"][1] = np.inf
    bad["nonfinite_sigma"][:] = [np.inf, -np.inf]
    with pytest.raises(NonFiniteError, match=r"step 4: .*though every example's loss is finite"):
        check_finite(3, bad, lambda: "none yet")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(number):
    log = Log()
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="stopped at step 4"):
        run(log, at_step=lambda step: os.kill(os.getpid(), number) if step == 2 else None)
    assert log.of("save") == [4]
    assert signal.getsignal(number) is before


def test_a_signal_at_the_last_step_stops_too():
    log = Log()
    with pytest.raises(Interrupted, match="stopped at step 12"):
        run(log, at_step=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 10 else None)
    assert log.of("save") == [6, 12]


def test_a_stop_cuts_a_row_in_two_and_loses_no_step():
    log, rhythm = Log(), replace(RHYTHM, log_every=6)
    with pytest.raises(Interrupted) as error:
        run(log, rhythm, at_step=lambda step: os.kill(os.getpid(), signal.SIGTERM) if step else 0)
    assert str(error.value) == "stopped at step 4; last good checkpoint: checkpoints/4"
    run(log, rhythm, start=4)
    rows = [(row["step"], row["loss"]) for row in log.of("log")]
    assert rows == [(4, np.mean([0, 1, 2, 3])), (6, np.mean([4, 5])), (12, np.mean(range(6, 12)))]


def test_a_state_is_saved_before_it_is_scored_and_checked_where_it_is_not_saved():
    log = Log()
    run(log, replace(RHYTHM, evaluate_every=2, sample_every=4))
    recorded = [event for event in log.events if event[0] not in ("progress", "log")]
    assert recorded == [
        *[("check", 2), ("evaluate", 2)],
        *[("check", 4), ("evaluate", 4), ("sample", 4)],
        *[("save", 6), ("evaluate", 6)],
        *[("check", 8), ("evaluate", 8), ("sample", 8)],
        *[("check", 10), ("evaluate", 10)],
        *[("save", 12), ("sample", 12)],
    ]


def test_no_step_is_lost_to_an_example_that_cannot_be_read():
    log, broken = Log(), ConfigError("example 3 cannot be decoded")
    with pytest.raises(ConfigError) as error:
        run(log, feeder=broken_at(10, broken))
    assert error.value is broken
    assert broken.__notes__ == ["last good checkpoint: checkpoints/10"]
    assert log.of("progress") == [2, 4, 6, 8, 10]
    assert [row["step"] for row in log.of("log")] == [4, 8, 10]
    assert log.of("log")[-1]["loss"] == np.mean([8, 9])
    assert log.of("save") == [6, 10]


def test_no_step_is_lost_to_a_score_that_cannot_be_taken():
    log, broken = Log(), ConfigError("example 3 cannot be decoded")
    log.evaluate = lambda state, step: broken_at(4, broken)(step)
    with pytest.raises(ConfigError):
        run(log, replace(RHYTHM, evaluate_every=4))
    assert log.of("save") == [4]
    assert broken.__notes__ == ["last good checkpoint: checkpoints/4"]


def test_no_step_is_lost_to_a_picture_that_cannot_be_drawn():
    log, full = Log(), OSError(28, "No space left on device")
    log.sample = lambda state, step: broken_at(6, full)(step)
    with pytest.raises(OSError, match="No space left") as error:
        run(log, replace(RHYTHM, checkpoint_every=12))
    assert error.value is full
    assert log.of("save") == [6]
    assert [row["step"] for row in log.of("log")] == [4, 6]
    assert full.__notes__ == ["last good checkpoint: checkpoints/6"]


def test_no_step_is_lost_to_a_row_that_cannot_be_written_and_it_is_tried_once():
    log, full, tried = Log(), OSError(28, "No space left on device"), []

    def write(row):
        tried.append(row["step"])
        broken_at(8, full)(row["step"])

    log.log = write
    with pytest.raises(OSError, match="No space left") as error:
        run(log)
    assert error.value is full
    assert tried == [4, 8]
    assert log.of("save") == [6, 8]


def test_what_cannot_be_written_either_takes_no_error_s_place():
    log, broken = Log(), ConfigError("example 3 cannot be decoded")

    def fails(*arguments):
        raise OSError("checkpoint 2 cannot be written")

    log.log = fails
    with pytest.raises(ConfigError):
        run(log, feeder=broken_at(2, broken))
    assert log.of("save") == [2]
    log.save, log.last_good, broken.__notes__ = fails, lambda: "none yet", []
    with pytest.raises(ConfigError) as error:
        run(log, feeder=broken_at(2, broken))
    assert error.value is broken
    assert broken.__notes__ == ["checkpoint 2 cannot be written", "last good checkpoint: none yet"]


@pytest.mark.parametrize("start, step, saved", [(0, 0, []), (4, 4, []), (0, 6, [6])])
def test_a_state_that_is_saved_is_not_saved_again(start, step, saved):
    log, broken = Log(), OSError("the disk is gone")
    with pytest.raises(OSError, match="the disk is gone"):
        run(log, start=start, feeder=broken_at(step, broken))
    assert log.of("save") == saved
    assert not hasattr(broken, "__notes__")


def test_a_broken_example_does_not_save_what_is_not_finite():
    log = Log()
    with pytest.raises(NonFiniteError, match="step 8: loss nan"):
        run(log, bad=8, feeder=broken_at(10, ConfigError("example 3 cannot be decoded")))
    assert log.of("save") == [6]


def test_one_of_several_processes_does_not_save_alone(monkeypatch):
    monkeypatch.setattr("jax.process_count", lambda: 2)
    log, broken = Log(), ConfigError("example 3 cannot be decoded")
    with pytest.raises(ConfigError):
        run(log, feeder=broken_at(2, broken))
    assert log.of("progress") == [2]
    assert log.of("save") == []
    assert not hasattr(broken, "__notes__")


@pytest.mark.parametrize("runs", [1, 3])
def test_time_spent_recording_does_not_count(runs, monkeypatch):
    clock = iter([0.0, 10.0, 110.0, 120.0, 120.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    window = Window(batch=4, runs=runs)
    with window.paused():
        pass
    window.add(metrics(0))
    # 120 s went by, of which 100 were spent recording: 2 steps of 4 images in 20 s, of each run.
    assert window.row(2)["images_per_second"] == pytest.approx(0.4 * runs)
