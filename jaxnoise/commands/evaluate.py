"""Scores the newest checkpoint of a run."""

import json

import jax

from jaxnoise.commands.prepared import prepare, trained_state
from jaxnoise.commands.train import score
from jaxnoise.experiment import Experiment
from jaxnoise.training.records import RunFolder, write_whole


def main(experiment: Experiment, folder: RunFolder) -> None:
    """Prints and writes the run's JSON line."""
    folder.check_same(experiment.config)
    prepared = prepare(experiment)
    result = score(prepared, trained_state(prepared, folder))
    if jax.process_index() == 0:
        write_whole(folder.result, json.dumps(result, indent=2) + "\n")
        print(json.dumps(result), flush=True)
