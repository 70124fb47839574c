"""The product's own training steps at the sizes that the benchmarks time, with random images."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jaxnoise import experiment
from jaxnoise.commands.train import step_of
from jaxnoise.compilation import run_once
from jaxnoise.data import ArrayImages, batch_indices
from jaxnoise.run.model import OpenModel, open_model
from jaxnoise.run.recorder import operations
from jaxnoise.training.drawing import Examples, example_losses, to_float
from jaxnoise.training.feeding import ResidentFeeder
from jaxnoise.training.parallel import Devices
from jaxnoise.training.state import TrainState

OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "consistency": {
        "grid": {"name": "karras"},
        "law": {"name": "polynomial", "curve": 4.0, "sampling": "stratified"},
        "curriculum": {"name": "constant", "s0": 20},
        "objective": {
            "name": "consistency",
            "weight": "inverse_gap",
            "distance": {"name": "pseudo_huber"},
        },
        "sample": {"method": {"name": "multistep", "sigmas": (0.821,)}},
    },
    "denoising": {
        "law": {"name": "cosine"},
        "objective": {
            "name": "denoising",
            "target": "v",
            "weight": {"name": "uniform", "space": "v"},
        },
        "sample": {"method": {"name": "heun", "steps": 18}},
    },
}


@dataclass(frozen=True)
class Setting:
    """A network on images of a size.

    Attributes:
      preset: the network's name in a config.
      side: of the images, in pixels.
      channels: of the images.
      batch: images a step.
      fields: of the network, on top of the preset.
      devices: how many take part; None for all.
    """

    preset: str
    side: int
    channels: int
    batch: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    devices: int | None = None

    def images(self, count: int = 1024) -> ArrayImages:
        """Random images; how fast a step is does not depend on what they show."""
        draws = np.random.RandomState(0)
        shape = (count, self.side, self.side, self.channels)
        pixels = draws.randint(0, 256, shape).astype(np.uint8)
        return ArrayImages("noise", pixels, np.zeros(count, int), num_classes=1)

    def config(self, objective: str, dtype: str = "float32") -> dict[str, Any]:
        """A config for these images: RAdam, a moving average, no dropout."""
        rhythm = dict.fromkeys(("steps", "log_every", "sample_every", "checkpoint_every"), 10_000)
        return {
            **OBJECTIVES[objective],
            "data": {"dataset": "digits"},
            "model": {"name": self.preset, "dtype": dtype, **self.fields},
            "optimizer": {"name": "radam", "learning_rate": 1e-4},
            "ema": {"rate": 0.999},
            "train": {**rhythm, "batch": self.batch},
            "evaluate": {"n": 0},
        }


SETTINGS = {
    "tiny 8x8": Setting("tiny", 8, 1, 64),
    "small 32x32": Setting("small", 32, 3, 16),
    "ddpmpp of 32 channels": Setting("ddpmpp", 32, 3, 16, {"model_channels": 32}),
    "dit_tiny 8x8": Setting("dit_tiny", 8, 1, 64),
}
QUICK = {
    "dit 4x4": Setting(
        "dit_tiny", 4, 1, 8, {"hidden_size": 8, "depth": 1, "num_heads": 2}, devices=1
    ),
    "unet 4x4": Setting("tiny", 4, 1, 8, {"model_channels": 8, "channel_mult": (1,)}, devices=1),
}
SMALLEST = QUICK["dit 4x4"]


def opened(config: Mapping[str, Any], setting: Setting) -> OpenModel:
    """What a config says, ready to train on a setting's images; no score is taken."""
    run = experiment.read(config)
    assert isinstance(run, experiment.ModelRun)
    model = open_model(run, setting.images(), scored=False)
    count = setting.devices
    return model if count is None else replace(model, devices=Devices("auto", count))


class StepJob:
    """A compiled call of one or more whole training steps, and the state that it moves on.

    Args:
      model: what trains.
      steps: how many one call makes.
      objective: instead of the model's.
    """

    def __init__(self, model: OpenModel, steps: int = 1, objective: Any = None):
        if objective is not None:
            model = replace(model, run=replace(model.run, objective=objective))
        self.model, self.steps, self.images = model, steps, steps * model.run.train.batch
        step = step_of(model, None)
        count = model.images.num_examples
        indices = partial(batch_indices, model.run.seed, count, model.run.train.batch)
        self._feed = ResidentFeeder(model.images, model.devices, indices, steps)
        self._state: TrainState = model.new_state()
        self._at = 0
        mapped: Any = model.devices.map(step, steps, resident=True)
        self.lowered = mapped.lower(self._state, self._feed(0), model.key)
        self.compiled = self.lowered.compile()

    @cached_property
    def operations(self) -> float:
        """Of one step, as XLA counts them before it optimises."""
        if self.steps == self.model.devices.size == 1:
            found = (self.lowered.cost_analysis() or {}).get("flops")
        else:
            found = operations(self.model, step_of(self.model, None), self.model.run.train.batch)
        return found or float("nan")

    def run(self) -> None:
        """One call, with what brings its batch; waits for the result."""
        self.dispatch()
        jax.block_until_ready(self._state)

    def dispatch(self) -> Any:
        """One call, not waited for; gives the metrics."""
        batch = self._feed(self._at)
        self._state, metrics = self.compiled(self._state, batch, self.model.key)
        self._at += self.steps
        return metrics


@dataclass(frozen=True)
class Given:
    """Parameters, images, noise and levels on which two implementations must agree."""

    params: Any
    x0: jax.Array
    eps: jax.Array
    levels: Any

    @classmethod
    def of(cls, model: OpenModel) -> "Given":
        """Drawn at random, away from the zeros that a network starts with."""
        params = model.new_state().params
        draws = np.random.RandomState(1)
        network = jax.tree.map(
            lambda x: x + 0.02 * draws.randn(*x.shape).astype(np.float32), params["network"]
        )
        batch = min(model.run.train.batch, 16)
        pixels, _ = model.images.load(np.arange(batch))
        x0 = to_float(jnp.asarray(pixels))
        eps = jnp.asarray(draws.randn(*x0.shape).astype(np.float32))
        levels = model.run.objective.draw(model.key, model.key, jnp.int32(0), batch)
        return cls({**params, "network": network}, x0, eps, levels)

    def loss(self, model: OpenModel) -> tuple[float, float]:
        """The loss of the product's code and the norm of its gradient, in full float32."""
        examples = Examples(self.x0, self.eps, self.levels, None, None)

        def mean(params: Any, examples: Examples) -> jax.Array:
            losses = example_losses(
                model.apply, model.run.objective, params, params, examples, model.teacher_network
            )
            return jnp.mean(losses)

        with jax.default_matmul_precision("highest"):
            value, gradient = run_once(jax.value_and_grad(mean), self.params, examples)
        squares = jax.tree.map(lambda g: jnp.sum(g**2), gradient)
        return float(value), float(jnp.sqrt(sum(jax.tree.leaves(squares))))

    def save(self, path: Any, model: OpenModel) -> None:
        """What PyTorch's side reads."""
        theta = flatten_dict(self.params["network"]["params"], sep="/")
        found = {f"theta/{name}": value for name, value in theta.items()}
        levels = {
            name: getattr(self.levels, name)
            for name in ("sigma_lo", "sigma_hi", "lam")
            if name in self.levels.__dataclass_fields__
        }
        objective = model.run.objective
        if "sigma_lo" in levels:
            found["grid"] = objective.levels(model.key, jnp.int32(0))[0]
        if "input/bias" in theta and theta["input/kernel"].ndim == 2:
            from jaxnoise.models.dit import position_embedding

            patch, width = model.network.patch_size, model.network.hidden_size
            rows, columns = (side // patch for side in self.x0.shape[1:3])
            found["positions"] = position_embedding(rows, columns, width).reshape(1, -1, width)
        pixels, _ = model.images.load(np.arange(model.images.num_examples))
        np.savez(path, x0=self.x0, eps=self.eps, images=pixels, **levels, **found)
