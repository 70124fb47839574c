"""What a run writes beside its checkpoints."""

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from jaxnoise.config.settings import TrainSettings
from jaxnoise.errors import ArgumentError
from jaxnoise.run import recorder
from jaxnoise.training.records import RunFolder


def test_a_picture_that_cannot_be_drawn_does_not_end_a_training(tmp_path, monkeypatch, capsys):
    def fails(run, path):
        raise ArgumentError("moments", "nan", "numbers")

    monkeypatch.setattr(recorder, "draw_noise", fails)
    opened = SimpleNamespace(run=None)
    held = SimpleNamespace(
        _lead=True, _folder=RunFolder(tmp_path), _opened=opened, _noise_tried=False
    )
    # At every step that is settled: once is enough to try.
    for _ in range(3):
        recorder.Recorder.draw_noise(held)
    said = capsys.readouterr().err
    assert said == "warning: noise.png is not drawn: moments='nan': must be numbers\n"


def test_a_line_that_nobody_reads_does_not_end_a_training(tmp_path, monkeypatch):
    def fails(*given, **more):
        raise BrokenPipeError(32, "Broken pipe")

    with Pictures(opened(), RunFolder(tmp_path), None, first_step=0) as pictures:
        for name in ("update", "close"):
            monkeypatch.setattr(pictures._bar, name, fails)
        pictures.progress(10, loss=1.0)


def test_events_that_are_made_again_take_the_place_of_the_first(tmp_path, monkeypatch):
    made = []

    def writer(folder, **settings):
        made.append(settings)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(recorder, "_event_writer", lambda: writer)
    for first_step in (0, 6):
        run = opened(tensorboard=True)
        with Pictures(run, RunFolder(tmp_path), None, first_step=first_step):
            pass
    assert made == [{"purge_step": None}, {"purge_step": 7}]


class Pictures(recorder.Recorder):
    """Notes what it is asked for."""

    asked = ()

    def evaluate(self, state, step):
        self.asked += (("evaluate", step),)

    def sample(self, state, step):
        self.asked += (("sample", step),)

    def make_up_pictures(self, state, step):
        self.asked += (("make_up_pictures", step),)

    def draw_noise(self):
        pass


def opened(**settings):
    train = TrainSettings(**{"steps": 1000, "batch": 4, "log_every": 10, **settings})
    return SimpleNamespace(run=SimpleNamespace(train=train, images_per_step=4))


def test_a_run_whose_further_steps_are_taken_back_is_finished(tmp_path, capsys):
    run, folder, state = opened(), RunFolder(tmp_path), SimpleNamespace(step=jnp.int32(1200))
    rhythm = recorder.rhythm_of(run, evaluate_every=100, first_step=1200)
    with Pictures(run, folder, None, first_step=1200) as pictures:
        recorder.make_up(pictures, folder, state, rhythm, "score")
    assert pictures.asked == (("make_up_pictures", 1200),)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "platform, first_step, stride",
    [
        ("gpu", 0, 10),
        ("gpu", 40, 10),
        ("gpu", 45, 5),
        ("gpu", 7, 1),
        ("gpu", 1007, 1),
        ("cpu", 7, 1),
    ],
)
def test_a_run_goes_on_in_dispatches_that_meet_its_rhythm(
    platform, first_step, stride, monkeypatch, capsys
):
    monkeypatch.setattr("jax.default_backend", lambda: platform)
    found = recorder.rhythm_of(opened(steps_per_dispatch=10), 0, first_step)
    assert found.steps_per_dispatch == stride
    assert (found.log_every, found.steps) == (10, 1000)
    says = platform == "gpu" and stride < 10 and first_step < 1000
    assert capsys.readouterr().err == says * (
        f"warning: step {first_step} is no multiple of config.train.steps_per_dispatch=10: until "
        f"this run ends or is stopped, a dispatch makes {stride}\n"
    )


def test_a_last_state_that_was_not_written_is_an_error(tmp_path):
    folder = RunFolder(tmp_path)
    (folder.checkpoints / "8").mkdir(parents=True)
    recorder.check_kept(folder, 8)
    with pytest.raises(OSError, match="holds no checkpoint of the last step, 12, which") as error:
        recorder.check_kept(folder, 12)
    assert str(error.value).startswith(f"--workdir={tmp_path}: ")
