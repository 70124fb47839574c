"""Scores a checkpoint of a run."""

from jaxnoise.commands.train import report
from jaxnoise.errors import ConfigError
from jaxnoise.experiment import Run
from jaxnoise.run.model import open_model, trained_state
from jaxnoise.run.open import of_model
from jaxnoise.training.records import RunFolder


def main(run: Run, folder: RunFolder) -> None:
    """Prints and writes the JSON line of the newest checkpoint, or of `evaluate.step`."""
    run = of_model(run)
    if run.evaluate.n == 0:
        raise ConfigError("config.evaluate.n=0: must be at least 2 for --mode=evaluate")
    folder.check_same(run.config)
    model = open_model(run)
    report(model, trained_state(model, folder, run.evaluate.step), folder)
