"""Draws samples with a checkpoint of a run."""

import jax

from jaxnoise.commands.prepared import trained_state
from jaxnoise.commands.preparing import check_draws_images, prepare
from jaxnoise.errors import ConfigError
from jaxnoise.experiment import Experiment
from jaxnoise.training.pictures import can_be_shown, save_each, save_samples
from jaxnoise.training.records import RunFolder


def main(experiment: Experiment, folder: RunFolder) -> None:
    """Writes samples/<sampler>_<step> for every sampler, and prints their paths."""
    check_draws_images(experiment)
    folder.check_same(experiment.config)
    prepared = prepare(experiment, scored=False)
    settings = experiment.sample
    shape, dtype = prepared.images.image_shape, prepared.images.dtype
    if settings.format == "png" and not can_be_shown(shape, dtype):
        raise ConfigError(
            f"config.sample.format='png': must be npz for {dtype} arrays of {shape[-1]} channels"
        )
    state = trained_state(prepared, folder, settings.step)
    for sampler in experiment.samplers:
        # Other tools score them; in a grid every class is to be seen.
        each = settings.format != "grid"
        images = prepared.generator(
            state.sampling_params, settings.count, settings.seed, sampler, by_frequency=each
        )
        if jax.process_index() == 0:
            name = f"{sampler.name}_{int(state.step):07d}"
            if settings.format == "grid":
                print(save_samples(images, folder.samples, name, settings.columns))
            else:
                labels = prepared.generator.labels(settings.count, settings.seed, by_frequency=True)
                print(save_each(images, labels, folder.samples, name, settings.format))
