"""What a run writes beside its checkpoints."""

from types import SimpleNamespace

from jaxnoise.errors import ArgumentError
from jaxnoise.run import recorder
from jaxnoise.training.records import RunFolder


def test_a_picture_that_cannot_be_drawn_does_not_end_a_training(tmp_path, monkeypatch, capsys):
    def fails(run, path):
        raise ArgumentError("moments", "nan", "numbers")

    monkeypatch.setattr(recorder, "draw_noise", fails)
    opened = SimpleNamespace(run=None)
    held = SimpleNamespace(_lead=True, _folder=RunFolder(tmp_path), _opened=opened)
    recorder.Recorder.draw_noise(held)
    said = capsys.readouterr().err
    assert said == "warning: noise.png is not drawn: moments='nan': must be numbers\n"
