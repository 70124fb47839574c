"""The states that a trained model's folder holds, and their scores."""

from typing import Any

from jaxnoise.errors import ConfigError
from jaxnoise.evaluation.score_keys import average_key
from jaxnoise.experiment import ModelRun
from jaxnoise.run.model import OpenModel
from jaxnoise.run.open import warn
from jaxnoise.run.untrained_noise import warn_of_untrained_noise
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.records import RunFolder
from jaxnoise.training.state import Params, TrainState


def weights_of(run: ModelRun) -> str:
    """Which parameters images are drawn with: "raw", or "ema" where there is an average."""
    return "raw" if run.evaluate.weights == "raw" or not run.ema_rates else "ema"


def scored_params(run: ModelRun, state: TrainState) -> Params:
    """The parameters of `weights_of`."""
    return state.params if weights_of(run) == "raw" else state.sampling_params


def score_of(model: OpenModel, state: TrainState) -> dict[str, Any]:
    """The protocol's dict of the parameters that samples are drawn with.

    Where there are several averages, it also holds the numbers of the others' images, named by
    `average_key`; all else that it says is the same for them.
    """
    run, seen = model.run, model.images_seen(int(state.step))
    kind = weights_of(run)
    result = model.score(scored_params(run, state), kind, seen)
    for rate, params in further_averages(run, state) if kind == "ema" else ():
        scored = model.score(params, kind, seen, by_level=False)
        result |= {
            average_key(rate, key): value
            for key, value in scored.items()
            if isinstance(value, float) and key not in (*model.reference.floor, "guidance")
        }
    return result


def further_averages(run: ModelRun, state: TrainState) -> list[tuple[float, Params]]:
    """The moving averages beside the main one, with their rates."""
    return list(zip(run.ema_rates, state.averages, strict=True))[1:]


def has_checkpoint(folder: RunFolder) -> bool:
    """Whether training goes on from a checkpoint, one that verifies or not."""
    return bool(Checkpoints(folder.checkpoints).steps())


def check_trained(folder: RunFolder, key: str, step: int | None) -> None:
    """Raises ConfigError unless a run has a checkpoint, or that of the step that `key` asks for."""
    if not has_checkpoint(folder):
        raise ConfigError(f"--workdir={folder.root}: holds no checkpoint; train first")
    steps = Checkpoints(folder.checkpoints).steps()
    if step is not None and step not in steps:
        held = ", ".join(map(str, steps))
        raise ConfigError(
            f"config.{key}={step}: --workdir={folder.root} holds no step {step}; it holds {held}"
        )


def trained_state(model: OpenModel, folder: RunFolder, step: int | None = None) -> TrainState:
    """The newest state of a run that verifies, or that of one step; nothing is moved or written.

    Raises:
      ConfigError: the folder holds no run of this config, or no checkpoint.
    """
    folder.check_same(model.run.config)
    checkpoints = Checkpoints(folder.checkpoints, on_skip=warn)
    state = checkpoints.restore(
        model.abstract_state,
        set_aside=False,
        check_meta=model.check_meta,
        step=step,
    )
    if state is None:
        raise ConfigError(f"--workdir={folder.root}: holds no checkpoint; train first")
    warn_of_untrained_noise(model.run, state)
    return state
