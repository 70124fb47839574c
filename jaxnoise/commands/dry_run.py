"""Shows what a run would do, and trains nothing."""

import json
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.data import stand_in
from jaxnoise.data.images import fits_on_device
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.experiment import RaterRun, Run
from jaxnoise.objectives import ConsistencyObjective, ECTObjective, MeanFlowObjective, SCMObjective
from jaxnoise.run.model import OpenModel, open_model
from jaxnoise.run.open import OpenRun, of_model, warn
from jaxnoise.run.rater import OpenRater, open_rater
from jaxnoise.run.trained import has_checkpoint
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.records import RunFolder


def main(run: Run, folder: RunFolder) -> None:
    """Prints the resolved config, the parameters, the curriculum's plateaus and the memory."""
    folder.check_same(run.config)
    # Shapes are enough, so nothing is downloaded.
    images = stand_in(run.data.dataset)
    try:
        images = images and run.data.resized(images)
    except ArgumentError as error:
        raise ConfigError(f"config.data.{error}") from error
    opened: OpenModel | OpenRater
    if isinstance(run, RaterRun):
        opened = open_rater(run, images)
        print(json.dumps(run.config, indent=2))
        print("\nParameters of the rater")
        for line in parameter_table(jax.eval_shape(opened.initial_state).eta):
            print(line)
        print(f"\nParameters of each of {run.meta.population} inner models")
    else:
        resumes = has_checkpoint(folder)
        opened = open_model(of_model(run), images, scored=False, selects=True, resumes=resumes)
        if resumes:
            opened.check_files(Checkpoints(folder.checkpoints, on_skip=warn).meta())
        print(json.dumps(run.config, indent=2))
        print("\nParameters")
    for line in parameter_table(jax.eval_shape(opened.init, opened.key)):
        print(line)
    if isinstance(run.objective, ConsistencyObjective):
        print("\nCurriculum: levels N(k) from step k on")
        for start, count in run.objective.curriculum.plateaus:
            print(f"{start:>9,}  {count:>5,}")
    else:
        low, high = run.objective.trained_range
        print(f"\nNoise: log SNR from {low:.2f} to {high:.2f}, {run.objective.law}")
    if isinstance(run.objective, ECTObjective):
        print(f"Pairs: sigma_lo below each, {run.objective.gap}")
    if isinstance(run.objective, MeanFlowObjective):
        print(f"Jumps: down to the level of {run.objective.lower}")
    if isinstance(run.objective, SCMObjective):
        print(f"Derivative: counts in full from step {run.objective.warmup_steps:,} on")
    steps = run.train.last_step
    print(f"\n{steps:,} steps, {opened.images_seen(steps):,} images seen")
    print("\nMemory of one device (estimate)")
    sizes = rater_memory(opened) if isinstance(opened, OpenRater) else model_memory(opened)
    for name, size in sizes.items():
        print(f"  {name:<42}{size / 2**20:>12,.1f} MiB")


def parameter_table(params: Any) -> Iterator[str]:
    """One line for each part of the network: arrays and numbers in it."""
    parts: dict[str, list[int]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [str(getattr(entry, "key", entry)) for entry in path]
        parts.setdefault("/".join(names[1:-1] or names), []).append(int(np.prod(leaf.shape)))
    for name, sizes in parts.items():
        yield f"  {name:<50}{len(sizes):>4} arrays {sum(sizes):>12,}"
    yield f"  {'all':<50}{'':>11} {sum(map(sum, parts.values())):>12,}"


def model_memory(model: OpenModel) -> dict[str, int]:
    """Bytes on one device by purpose, from shapes alone."""
    state = jax.eval_shape(model.initial_state)
    params = nbytes(state.params)
    held = {
        "parameters": params,
        "EMA": nbytes(state.ema),
        "teacher": nbytes(state.teacher),
        "optimizer": nbytes(state.opt_state),
        "gradient": params,
    }
    return _memory(model, held, state.params, model.run.train.batch // model.devices.size)


def rater_memory(rater: OpenRater) -> dict[str, int]:
    """The same of a rater's training, whose T inner steps keep a model, optimizer and gradient.

    Inner models are counted one by one; a meta-gradient counts as a gradient of a larger batch.
    """
    state, meta = jax.eval_shape(rater.initial_state), rater.run.meta
    params = jax.eval_shape(rater.init, rater.key)
    model = nbytes(state.inner) // meta.population
    held = {
        "rater and its optimizers": nbytes(state.eta) + nbytes(state.meta_opt_state),
        f"{meta.population} inner models with optimizers": nbytes(state.inner),
        f"{meta.inner_steps} inner steps of one model": meta.inner_steps * (model + nbytes(params)),
    }
    # Measured (docs/noise_rater.md): 7.7 and 17.6 times at 2 and 4 steps in reverse, else 3.5.
    copies = 4.5 * meta.inner_steps if meta.mode == "reverse" else 3.5
    local = rater.run.train.batch // rater.devices.size
    batch = max(
        math.ceil(copies * local * (meta.candidates or 1)), meta.outer_batch // rater.devices.size
    )
    return _memory(rater, held, params, batch)


def _memory(opened: OpenRun, held: dict[str, int], params: Any, batch: int) -> dict[str, int]:
    """What is held, beside the activations of a batch and the data.

    Activations are what the backward pass keeps, as autodiff sees it before the compiler fuses or
    recomputes anything: an upper estimate.
    """
    images = opened.images
    shape = (batch, *images.image_shape)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32) if opened.conditional else None

    def residuals(params: Any, x: jax.Array, c_noise: jax.Array, labels: Any) -> Any:
        return jax.vjp(lambda p: opened.apply(p, x, c_noise, labels), params["network"])[1]

    kept = jax.eval_shape(
        residuals,
        params,
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct((batch, *opened.noise_label.shape[1:]), jnp.float32),
        labels,
    )
    bytes_each = int(np.prod(images.image_shape)) * np.dtype(images.dtype).itemsize
    fed = 2 * opened.images_seen(1) // opened.devices.size * bytes_each
    sizes = {
        **held,
        f"activations, batch {batch} a device": max(nbytes(kept) - nbytes(params), 0),
        "data set": images.num_examples * bytes_each if fits_on_device(images) else fed,
    }
    return {**sizes, "all": sum(sizes.values())}


def nbytes(tree: Any) -> int:
    """Bytes of a pytree of arrays or shapes."""
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
