"""Draws samples with a checkpoint of a run."""

from itertools import product

import jax

from jaxnoise.errors import ConfigError
from jaxnoise.evaluation.score_keys import average_name
from jaxnoise.experiment import Run
from jaxnoise.figures.samples import can_be_shown, save_each, save_samples
from jaxnoise.run.model import open_model
from jaxnoise.run.open import of_model
from jaxnoise.run.trained import check_trained, further_averages, trained_state
from jaxnoise.training.records import RunFolder


def main(run: Run, folder: RunFolder) -> None:
    """Writes samples/<sampler>_<step> for every sampler, and prints their paths.

    Those of further moving averages are samples/<sampler>_ema<rate>_<step>.
    """
    run = of_model(run)
    folder.check_same(run.config)
    check_trained(folder, "sample.step", run.sample.step)
    model = open_model(run, scored=False)
    settings = run.sample
    shape, dtype = model.images.image_shape, model.images.dtype
    if settings.format == "png" and not can_be_shown(shape, dtype):
        raise ConfigError(
            f"config.sample.format='png': must be npz for {dtype} arrays of {shape[-1]} channels"
        )
    state = trained_state(model, folder, settings.step)
    weights = {"": state.sampling_params}
    weights |= {f"_{average_name(rate)}": ema for rate, ema in further_averages(run, state)}
    # Other tools score them; in a grid every class is to be seen.
    each = settings.format != "grid"
    for sampler, (of, params) in product(run.samplers, weights.items()):
        images = model.generator(params, settings.count, settings.seed, sampler, by_frequency=each)
        if jax.process_index() == 0:
            name = f"{sampler.name}{of}_{int(state.step):07d}"
            if settings.format == "grid":
                print(save_samples(images, folder.samples, name, settings.columns))
            else:
                labels = model.generator.labels(settings.count, settings.seed, by_frequency=True)
                print(save_each(images, labels, folder.samples, name, settings.format))
