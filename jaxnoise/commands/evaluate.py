"""Scores a checkpoint of a run."""

import json

from jaxnoise.commands.train import report
from jaxnoise.errors import ConfigError
from jaxnoise.experiment import ModelRun, Run
from jaxnoise.files import write_whole
from jaxnoise.run.model import open_model
from jaxnoise.run.open import of_model
from jaxnoise.run.trained import check_trained, score_of, trained_state
from jaxnoise.training.kept_images import KeptImages
from jaxnoise.training.records import RunFolder


def main(run: Run, folder: RunFolder) -> None:
    """Prints and writes the JSON line of the newest checkpoint, or of `evaluate.step`."""
    run = of_model(run)
    if run.evaluate.n == 0:
        raise ConfigError("config.evaluate.n=0: must be at least 2 for --mode=evaluate")
    folder.check_same(run.config)
    check_trained(folder, "evaluate.step", run.evaluate.step)
    model = open_model(run)
    report(model, trained_state(model, folder, run.evaluate.step), folder)


def score_further(
    run: ModelRun, folder: RunFolder, name: str, kept: KeptImages | None = None
) -> None:
    """Scores a finished run under other settings, into a file of its own.

    Args:
      run: the run's config with other settings of `evaluate` or `sample`.
      folder: of the run.
      name: of the score.
      kept: images of the run's other scores.
    """
    model = open_model(run, kept=kept)
    state = trained_state(model, folder, run.evaluate.step)
    text = json.dumps(score_of(model, state), indent=2, ensure_ascii=False)
    write_whole(folder.further(name), text + "\n")
