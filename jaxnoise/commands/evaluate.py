"""Scores a checkpoint of a run."""

from jaxnoise.commands.prepared import trained_state
from jaxnoise.commands.preparing import check_draws_images, prepare
from jaxnoise.commands.train import report
from jaxnoise.errors import ConfigError
from jaxnoise.experiment import Experiment
from jaxnoise.training.records import RunFolder


def main(experiment: Experiment, folder: RunFolder) -> None:
    """Prints and writes the JSON line of the newest checkpoint, or of `evaluate.step`."""
    check_draws_images(experiment)
    if experiment.evaluate.n == 0:
        raise ConfigError("config.evaluate.n=0: must be at least 2 for --mode=evaluate")
    folder.check_same(experiment.config)
    prepared = prepare(experiment)
    report(prepared, trained_state(prepared, folder, experiment.evaluate.step), folder)
