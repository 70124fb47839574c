"""A run whose images are open, on its devices: what every command that computes needs."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from numpy.typing import NDArray

from jaxnoise.data.images import Images, digest
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.experiment import ModelRun, Run, completed
from jaxnoise.figures.noise_plans import save_noise
from jaxnoise.objectives import DerivedObjective
from jaxnoise.objectives.objective import Objective
from jaxnoise.run.network import (
    applied,
    check_network,
    derivable,
    does_not_fit,
    noise_label,
    not_augmented,
    told_of_augmentation,
)
from jaxnoise.run.scale import check_scale
from jaxnoise.training.drawing import AXIS, Network
from jaxnoise.training.parallel import Devices
from jaxnoise.training.records import differences, flatten
from jaxnoise.training.state import Params
from jaxnoise.training.streams import stream_key
from jaxnoise.user_code import failure, line_of


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A checked config with its images, network and devices."""

    run: Run
    images: Images
    network: Any
    """A flax module: a U-Net, a DiT or the user's own."""
    devices: Devices

    @property
    def key(self) -> jax.Array:
        """The run's PRNG key."""
        return jax.random.key(self.run.seed)

    @property
    def conditional(self) -> bool:
        """Whether the network sees labels."""
        return self.network.num_classes > 0

    @property
    def dropout(self) -> bool:
        """Whether the network drops anything."""
        return (getattr(self.network, "dropout", 0) or 0) > 0

    @property
    def class_counts(self) -> NDArray[np.int64]:
        """How many images have each label that the network sees; empty if it sees none."""
        return self.images.class_counts if self.conditional else np.zeros(0, np.int64)

    def apply(
        self,
        params: Params,
        x: jax.Array,
        c_noise: jax.Array,
        labels: jax.Array | None = None,
        dropout_keys: jax.Array | None = None,
        augmentation: jax.Array | None = None,
    ) -> jax.Array:
        """The raw network `F`; unless it is told otherwise, images are not augmented."""
        return applied(self.network, params, x, c_noise, labels, dropout_keys, augmentation)

    @property
    def noise_label(self) -> jax.Array:
        """What the network is told of one image's noise, in zeros."""
        return noise_label(self.run.objective, 1)

    @property
    def teacher_network(self) -> Network | None:
        """The raw network of a teacher whose forward-mode derivative is taken; None for `apply`."""
        if not isinstance(self.run.objective, DerivedObjective):
            return None
        return partial(applied, derivable(self.network))

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters of the network and of the objective."""
        network_key, objective_key = jax.random.split(key)
        images = jnp.zeros((1, *self.images.image_shape), jnp.float32)
        labels = jnp.zeros(1, jnp.int32) if self.conditional else None
        given = images, self.noise_label, labels, None, *not_augmented(self.network, 1)
        return {
            "network": self.network.init(network_key, *given),
            "objective": self.run.objective.init(objective_key),
        }

    def initial_state(self) -> Any:
        """The state before the first update."""
        raise NotImplementedError

    @cached_property
    def new_state(self) -> Any:
        """Makes `initial_state` on the devices; traced and compiled once."""
        return self.devices.program(self.initial_state)

    def first_state(self) -> Any:
        """The state that training begins with, on the devices."""
        return self.new_state()

    @cached_property
    def abstract_state(self) -> Any:
        """The state's shapes, dtypes and shardings, without computing it.

        Raises:
          ArgumentError: the network does not fit the images.
          ConfigError: an optimizer of the user's own fails.
        """
        check_optimizer(self.run, lambda: jax.eval_shape(self.init, self.key))
        return placed(self.new_state.eval_shape(), self.devices)

    @property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint says of the run that it belongs to."""
        return {"config": self.run.config, "data": self.images.fingerprint, "rater": None}

    def check_meta(self, meta: dict[str, Any]) -> None:
        """Raises ConfigError unless a checkpoint is of this config and of these images."""
        difference = differences(completed(meta["config"]), self.run.config)
        if difference:
            raise ConfigError(f"the checkpoint is of another config: {difference}")
        if meta["data"] != self.images.fingerprint:
            changed = (
                f"config.data.dataset={self.run.data.dataset!r}: the images are not those that the "
                "checkpoint was trained on"
            )
            if not self.run.data.allow_changed:
                raise ConfigError(f"{changed}; config.data.allow_changed=True goes on all the same")
            warn(changed)

    def images_seen(self, step: int) -> int:
        """Training images after `step` updates."""
        return step * self.run.images_per_step


def open_images(run: Run, images: Images | None) -> tuple[Devices, Images, Any]:
    """Checks what depends on the devices, then opens the images and fits the network to them.

    Args:
      run: a checked config.
      images: instead of the config's own.

    Raises:
      ConfigError: the batch does not divide, or the images cannot be had or do not fit the network
        or, where they are the config's own, `objective.sigma_data`.
    """
    if run.train.mapping == "pmap" and jax.process_count() > 1:
        raise ConfigError(
            "config.train.mapping='pmap': must be auto or shard_map with --distributed"
        )
    devices = Devices(mapping=run.train.mapping)
    if run.train.batch % devices.size:
        raise ConfigError(
            f"config.train.batch={run.train.batch}: must be a multiple of {devices.size}, the "
            "number of devices"
        )
    own = images is None
    if images is None:
        images = run.data.open()
        check_same_everywhere(run, images)
    if run.data.flip and images.dtype != np.uint8:
        why = holds_latents(run, images)
        raise ConfigError(f"config.data.flip=True: must be False, since {why}")
    if run.data.augment and images.dtype != np.uint8:
        why = holds_latents(run, images)
        raise ConfigError(f"config.data.augment={run.data.augment}: must be 0, since {why}")
    try:
        network = run.network(images.image_shape, images.num_classes)
    except ArgumentError as error:
        raise does_not_fit("model", error, images) from error
    network = told_of_augmentation(run, network)
    check_network(run, images, network)
    check_objective(run, images)
    if own:
        check_scale(run, images)
    return devices, images, network


def check_same_everywhere(run: Run, images: Images) -> None:
    """Raises ConfigError where processes hold different images: orders and labels would not fit."""
    if jax.process_count() == 1:
        return
    own = np.frombuffer(bytes.fromhex(digest(images.fingerprint.encode())), np.uint8)
    every = multihost_utils.process_allgather(own)
    others = np.flatnonzero((every != every[0]).any(axis=1))
    if len(others):
        raise ConfigError(
            f"config.data.dataset={run.data.dataset!r}: process {others[0]} holds other images "
            f"than process 0 (here: {images.fingerprint}); all need the same, such as the same "
            "files in data.data_dir"
        )


def check_optimizer(run: Run, shapes: Callable[[], Params]) -> None:
    """Traces a first update of a user's own optimizer.

    Args:
      run: a checked config.
      shapes: gives those of the parameters.

    Raises:
      ConfigError: it fails, or its updates or its next state have not the shapes of the last.
    """
    name = run.config["optimizer"]["name"]
    if ":" not in name:
        return

    def ask(params: Params) -> Any:
        state = run.optimizer.init(params)
        # As in a step.
        with jax.numpy_dtype_promotion("standard"):
            return (params, state), run.optimizer.update(params, state, params)

    params = shapes()
    try:
        # Along the axis of devices, which it may average over.
        alone = jax.vmap(ask, in_axes=None, axis_name=AXIS, axis_size=1)
        before, after = jax.eval_shape(alone, params)
    except Exception as error:
        raise ConfigError(f"config.optimizer.name={name!r}: {failure(name, error)}") from error
    for what, old, new in zip(("updates", "a state"), before, after, strict=True):
        if jax.tree.map(np.shape, old) != jax.tree.map(np.shape, new):
            allowed = f"must give {what} of the shapes that it was given"
            raise ConfigError(f"config.optimizer.name={name!r}: {allowed}")


def check_objective(run: Run, images: Images) -> None:
    """Traces what a step asks of the objective: a user's own code fails here or never.

    Raises:
      ConfigError: it fails; the key and the line are named.
    """
    objective: Objective = run.objective
    count = run.train.batch

    def unchanged(x: jax.Array, c_noise: jax.Array) -> jax.Array:
        del c_noise
        return x

    def ask(key: jax.Array, x: jax.Array, step: jax.Array) -> Any:
        pace, own = objective.pacing.init(), objective.init(key)
        levels = objective.draw(key, key, step, count, pace)
        losses = objective.losses(unchanged, unchanged, own, x, x, levels)
        seen = objective.observe(losses, own, levels)
        return objective.metrics(step, pace), objective.pacing.update(pace, seen)

    x = jax.ShapeDtypeStruct((count, *images.image_shape), jnp.float32)
    try:
        jax.eval_shape(ask, jax.random.key(0), x, jax.ShapeDtypeStruct((), jnp.int32))
    except ArgumentError as error:
        raise ConfigError(
            f"config.{_key_of(error, run.config)}: must be {error.allowed}"
        ) from error
    except Exception as error:
        for key, name in flatten(run.config).items():
            if ":" in str(name) and line_of(str(name), error) is not None:
                raise ConfigError(f"config.{key}={name!r}: {failure(name, error)}") from error
        raise


def _key_of(error: ArgumentError, config: dict[str, Any]) -> str:
    """The key that an argument of the objective, or of what it is made of, stands for."""
    flat = flatten(config)
    for key, value in flat.items():
        if key.rpartition(".")[2] == error.argument and value == error.value:
            return f"{key}={value!r}"
    chosen = f"objective.{error.argument}"
    for key in (f"{chosen}.name", chosen):
        if key in flat:
            return f"{key}={flat[key]!r}"
    return f"{error.argument}={error.value!r}"


def holds_latents(run: Run, images: Images) -> str:
    """That the arrays are no pixels, for a message."""
    return f"{run.data.dataset!r} holds {images.dtype} latents"


def of_model(run: Run) -> ModelRun:
    """The run, if it trains a model.

    Raises:
      ConfigError: it trains a rater, which has no samples to look at.
    """
    if isinstance(run, ModelRun):
        return run
    raise ConfigError(
        "config.rater: a rater of noise draws no images; --mode must be train, plot or dry_run"
    )


def draw_noise(run: Run, path: Path) -> None:
    """Writes the picture of the noise that a run trains on; the folder must exist."""
    save_noise(
        run.objective,
        run.baseline,
        path,
        # Grids that are drawn at random are drawn with it in training, too.
        key=stream_key(jax.random.key(run.seed), "grid"),
        total_steps=run.schedule_steps,
    )


def placed(shapes: Any, devices: Devices) -> Any:
    """Shapes and dtypes of what lies whole on every device."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=devices.replicated), shapes
    )


def warn(line: str) -> None:
    """One line on standard error."""
    print(f"warning: {line}", file=sys.stderr, flush=True)
