"""An experiment with its images, network and devices: what every command that computes needs."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxnoise.data.images import Images
from jaxnoise.errors import ConfigError
from jaxnoise.evaluation.extractors import Extractor
from jaxnoise.evaluation.protocol import Reference, reference_from, report
from jaxnoise.experiment import Experiment
from jaxnoise.files import cache_folder
from jaxnoise.meta.selection import Selection
from jaxnoise.models.rater_file import SavedRater
from jaxnoise.objectives import DenoisingObjective
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.generation import Generator
from jaxnoise.training.parallel import Devices, to_host
from jaxnoise.training.records import RunFolder, differences
from jaxnoise.training.state import Params, State, TrainState, create_state
from jaxnoise.training.streams import stream_key


@dataclass(frozen=True)
class Prepared:
    """A checked experiment whose images are open."""

    experiment: Experiment
    images: Images
    extractor: Extractor
    network: Any
    """A flax module: a U-Net or a DiT."""
    selection: Selection | None
    rater: SavedRater | None
    """The frozen rater that the selection asks."""
    devices: Devices

    @property
    def key(self) -> jax.Array:
        """The run's PRNG key."""
        return jax.random.key(self.experiment.seed)

    @property
    def conditional(self) -> bool:
        """Whether the network sees labels."""
        return self.network.num_classes > 0

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
    ) -> jax.Array:
        """The raw network `F`."""
        return jnp.asarray(self.network.apply(params, x, c_noise, labels, dropout_keys))

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters of the network and of the objective."""
        network_key, objective_key = jax.random.split(key)
        images = jnp.zeros((1, *self.images.image_shape), jnp.float32)
        labels = jnp.zeros(1, jnp.int32) if self.conditional else None
        return {
            "network": self.network.init(network_key, images, jnp.zeros(1, jnp.float32), labels),
            "objective": self.experiment.objective.init(objective_key),
        }

    @property
    def meta(self) -> dict[str, Any]:
        """What a checkpoint says of the run that it belongs to."""
        rater = None if self.rater is None else self.rater.sha256
        return {
            "config": self.experiment.config,
            "data": self.images.fingerprint,
            "rater": rater,
        }

    def check_meta(self, meta: dict[str, Any]) -> None:
        """Raises ConfigError unless a checkpoint is of this config and of these images."""
        difference = differences(meta["config"], self.experiment.config)
        if difference:
            raise ConfigError(f"the checkpoint is of another config: {difference}")
        if meta["data"] != self.images.fingerprint:
            changed = (
                f"config.data.dataset={self.experiment.data.dataset!r}: the images are not those "
                "that the checkpoint was trained on"
            )
            if not self.experiment.data.allow_changed:
                raise ConfigError(f"{changed}; config.data.allow_changed=True goes on all the same")
            warn(changed)
        if self.rater is not None and meta.get("rater") != self.rater.sha256:
            raise ConfigError(
                f"config.selection.file={self.experiment.config['selection']['file']!r}: it is not "
                "the rater that the checkpoint was trained with"
            )

    def initial_state(self) -> TrainState:
        """The state before the first update."""
        return create_state(
            self.init,
            self.experiment.optimizer,
            stream_key(self.key, "init"),
            teacher=self.experiment.objective.has_teacher,
            pace=self.experiment.objective.pacing.init(),
            ema=self.experiment.ema_rate > 0,
        )

    @cached_property
    def generator(self) -> Generator:
        """Draws images with given parameters."""
        objective = self.experiment.objective

        def denoiser(params: Params, labels: jax.Array | None) -> Denoiser:
            return objective.denoiser(lambda x, c: self.apply(params["network"], x, c, labels))

        return Generator(
            denoiser,
            self.images.image_shape,
            self.class_counts,
            self.experiment.sample.batch,
            self.devices,
            self.experiment.sample.guidance,
            self.images.dtype,
        )

    @cached_property
    def reference(self) -> Reference:
        """Half of the training images, or published statistics; and the floor beside them."""
        settings = self.experiment.evaluate
        # Raw pixels are read faster than statistics are looked up, and what a user's function
        # depends on cannot be told.
        cached = self.extractor.sha256 != "" and self.extractor.dimension is not None
        return reference_from(
            self.extractor,
            self.images,
            samples_asked_for(self.experiment, self.images),
            f"{self.images.name} {self.experiment.data.split}, first half of a fixed shuffle",
            metrics=settings.metrics,
            few_samples=settings.few_samples,
            published=settings.reference,
            cache=cache_folder() if cached else None,
        )

    def score(self, params: Params, weights: str, images_seen: int) -> dict[str, Any]:
        """The protocol's dict for each sampler's images with some parameters.

        Args:
          params: the network's parameters.
          weights: what they are, "raw" or "ema".
          images_seen: training images that they have seen.
        """
        samplers = self.experiment.samplers
        seed = self.experiment.evaluate.seed
        evaluations = 1 if self.experiment.sample.guidance == 1 else 2
        n, generator = self.reference.n, self.generator
        return report(
            self.reference,
            {s.name: generator.batches(params, n, seed, s, by_frequency=True) for s in samplers},
            nfe={s.name: evaluations * s.nfe for s in samplers},
            levels={s.name: s.levels for s in samplers},
            weights=weights,
            images_seen=images_seen,
            seed=seed,
            guidance=self.experiment.sample.guidance,
            labels="as frequent as in the data" if self.conditional else None,
        )


def abstract(devices: Devices, initial_state: Callable[[], State]) -> State:
    """A state's shapes, dtypes and shardings, without computing it."""
    state: State = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=devices.replicated),
        jax.eval_shape(initial_state),
    )
    return state


def samples_asked_for(experiment: Experiment, images: Images) -> int:
    """How many images are generated for a score; 0 for no score."""
    n = experiment.evaluate.n
    return images.num_examples // 2 if n is None else n


def warn_of_untrained_noise(experiment: Experiment, state: TrainState) -> None:
    """A warning where samplers visit noise that a curriculum by the loss did not get to."""
    objective, pace = experiment.objective, jax.tree.map(to_host, state.pace)
    if not isinstance(objective, DenoisingObjective) or not jax.tree.leaves(pace):
        return
    low, high = objective.range_under(pace)
    visited = [-2 * log(sigma) for s in experiment.samplers for sigma in s.levels if sigma > 0]
    # Ends of the range went through sigma and back.
    if min(visited) < low - 1e-3 or max(visited) > high + 1e-3:
        name = experiment.config["pacing"]["name"]
        warn(
            f"config.pacing.name={name!r}: by step {int(state.step)} training has seen log SNR "
            f"from {low:.2f} to {high:.2f} only; samplers visit {min(visited):.2f} to "
            f"{max(visited):.2f}"
        )


def warn(line: str) -> None:
    """One line on standard error."""
    print(f"warning: {line}", file=sys.stderr, flush=True)


def trained_state(prepared: Prepared, folder: RunFolder, step: int | None = None) -> TrainState:
    """The newest state of a run that verifies, or that of one step; nothing is moved or written.

    Raises:
      ConfigError: the folder holds no run of this config, or no checkpoint.
    """
    folder.check_same(prepared.experiment.config)
    checkpoints = Checkpoints(folder.checkpoints, on_skip=warn)
    state = checkpoints.restore(
        abstract(prepared.devices, prepared.initial_state),
        set_aside=False,
        check_meta=prepared.check_meta,
        step=step,
    )
    if state is None:
        raise ConfigError(f"--workdir={folder.root}: holds no checkpoint; train first")
    warn_of_untrained_noise(prepared.experiment, state)
    return state
