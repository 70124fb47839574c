"""Shows what a run would do, and trains nothing."""

import json
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.commands.prepared import Prepared
from jaxnoise.commands.prepared_rater import PreparedRater
from jaxnoise.commands.preparing import prepare
from jaxnoise.data import stand_in
from jaxnoise.data.images import fits_on_device
from jaxnoise.experiment import Experiment
from jaxnoise.objectives import ConsistencyObjective
from jaxnoise.training.records import RunFolder


def main(experiment: Experiment, folder: RunFolder) -> None:
    """Prints the resolved config, the parameters, the curriculum's plateaus and the memory."""
    folder.check_same(experiment.config)
    # Shapes are enough, so nothing is downloaded.
    images = stand_in(experiment.data.dataset)
    prepared = prepare(experiment, images, scored=False, selects=True)
    rater = None if experiment.rating is None else PreparedRater(prepared, experiment.rating)
    print(json.dumps(experiment.config, indent=2))
    if rater is not None:
        print("\nParameters of the rater")
        for line in parameter_table(jax.eval_shape(rater.initial_state).eta):
            print(line)
        print(f"\nParameters of each of {rater.rating.meta.population} inner models")
    else:
        print("\nParameters")
    for line in parameter_table(jax.eval_shape(prepared.init, prepared.key)):
        print(line)
    if isinstance(experiment.objective, ConsistencyObjective):
        print("\nCurriculum: levels N(k) from step k on")
        for start, count in experiment.objective.curriculum.plateaus:
            print(f"{start:>9,}  {count:>5,}")
    else:
        low, high = experiment.objective.trained_range
        print(f"\nNoise: log SNR from {low:.2f} to {high:.2f}, {experiment.objective.law}")
    images_seen = experiment.train.steps * experiment.images_per_step
    print(f"\n{experiment.train.steps:,} steps, {images_seen:,} images seen")
    print("\nMemory of one device (estimate)")
    for name, size in memory(prepared).items():
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


def memory(prepared: Prepared) -> dict[str, int]:
    """Bytes on one device by purpose, from shapes alone; inner models are counted one by one.

    Activations are what the backward pass keeps, as autodiff sees it before the compiler fuses or
    recomputes anything: an upper estimate. A meta-gradient counts as a gradient of a larger batch.
    """
    experiment = prepared.experiment
    state = jax.eval_shape(prepared.initial_state)
    params = nbytes(state.params)
    batch = experiment.train.batch // prepared.devices.size
    if experiment.rating is not None:
        meta = experiment.rating.meta
        # Measured (docs/noise_rater.md): 7.4 and 16.8 times at 2 and 4 steps in reverse, else 3.2.
        copies = 4.5 * meta.inner_steps if meta.mode == "reverse" else 3.5
        inner = copies * batch * (meta.candidates or 1)
        batch = max(math.ceil(inner), meta.outer_batch // prepared.devices.size)
    shape = (batch, *prepared.images.image_shape)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32) if prepared.conditional else None

    def residuals(params: Any, x: jax.Array, c_noise: jax.Array, labels: Any) -> Any:
        return jax.vjp(lambda p: prepared.apply(p, x, c_noise, labels), params["network"])[1]

    kept = jax.eval_shape(
        residuals,
        state.params,
        jax.ShapeDtypeStruct(shape, jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.float32),
        labels,
    )
    data = prepared.images.num_examples * int(np.prod(prepared.images.image_shape))
    fed = 2 * experiment.images_per_step // prepared.devices.size * int(np.prod(shape[1:]))
    if experiment.rating is None:
        held = {"parameters": params, "EMA": nbytes(state.ema), "teacher": nbytes(state.teacher)}
        held |= {"optimizer": nbytes(state.opt_state), "gradient": params}
    else:
        held = rater_memory(PreparedRater(prepared, experiment.rating), params)
    sizes = {
        **held,
        f"activations, batch {batch} a device": max(nbytes(kept) - params, 0),
        "data set": data if fits_on_device(prepared.images) else fed,
    }
    return {**sizes, "all": sum(sizes.values())}


def rater_memory(rater: PreparedRater, params: int) -> dict[str, int]:
    """Bytes of a rater's training, whose T inner steps keep a model, its optimizer and gradient."""
    state, meta = jax.eval_shape(rater.initial_state), rater.rating.meta
    model = nbytes(state.inner) // meta.population
    return {
        "rater and its optimizers": nbytes(state.eta) + nbytes(state.meta_opt_state),
        f"{meta.population} inner models with optimizers": nbytes(state.inner),
        f"{meta.inner_steps} inner steps of one model": meta.inner_steps * (model + params),
    }


def nbytes(tree: Any) -> int:
    """Bytes of a pytree of arrays or shapes."""
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
