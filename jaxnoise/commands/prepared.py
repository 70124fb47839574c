"""An experiment with its images, network and devices: what every command that computes needs."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.config.selection_choices import OpenSelection
from jaxnoise.data.images import Images
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.evaluation.extractors import Extractor, extract, raw_pixels
from jaxnoise.evaluation.protocol import (
    Reference,
    check_n,
    checked_metrics,
    reference_from,
    report,
)
from jaxnoise.evaluation.statistics_files import load_statistics
from jaxnoise.experiment import Experiment
from jaxnoise.meta.selection import Selection
from jaxnoise.models.rater_file import SavedRater
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.training.checkpoints import Checkpoints
from jaxnoise.training.generation import Generator
from jaxnoise.training.parallel import Devices
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
            raise ConfigError(
                f"config.data.dataset={self.experiment.data.dataset!r}: the images are not those "
                "that the checkpoint was trained on"
            )
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
            self.network.num_classes,
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
        return report(
            self.reference,
            {s.name: self.generator(params, self.reference.n, seed, s) for s in samplers},
            nfe={s.name: evaluations * s.nfe for s in samplers},
            levels={s.name: s.levels for s in samplers},
            weights=weights,
            images_seen=images_seen,
            seed=seed,
            guidance=self.experiment.sample.guidance,
        )


def prepare(
    experiment: Experiment,
    images: Images | None = None,
    *,
    scored: bool = True,
    selects: bool = False,
) -> Prepared:
    """Checks what depends on the devices, then opens the images and builds the network.

    Args:
      experiment: a checked config.
      images: instead of the config's own.
      scored: whether a score will be taken, which may need weights.
      selects: whether noise will be selected, which may need a rater's file.

    Raises:
      ConfigError: the batch does not divide, or the images cannot be had or do not fit the network.
    """
    if experiment.train.mapping == "pmap" and jax.process_count() > 1:
        raise ConfigError(
            "config.train.mapping='pmap': must be auto or shard_map with --distributed"
        )
    devices = Devices(mapping=experiment.train.mapping)
    check_batch(experiment.train.batch, devices.size)
    images = experiment.data.open() if images is None else images
    check_latents(experiment, images)
    extractor = open_extractor(experiment, images) if scored else raw_pixels()
    try:
        network = experiment.network(images.image_shape, images.num_classes)
        opened = open_selection(experiment, images, devices.size) if selects else OpenSelection()
        prepared = Prepared(
            experiment, images, extractor, network, opened.selection, opened.rater, devices
        )
        jax.eval_shape(prepared.initial_state)
    except ArgumentError as error:
        raise ConfigError(f"config.model.{error} (images are {images.image_shape})") from error
    check_labels(prepared)
    return prepared


def abstract(devices: Devices, initial_state: Callable[[], State]) -> State:
    """A state's shapes, dtypes and shardings, without computing it."""
    state: State = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=devices.replicated),
        jax.eval_shape(initial_state),
    )
    return state


def open_selection(experiment: Experiment, images: Images, devices: int) -> OpenSelection:
    """The selection of noise, with its rater, and a check that it fits images and batch.

    Raises:
      ConfigError: the rater's file cannot be read or is for other images, or strata of levels do
        not fit a device's part of the batch.
    """
    try:
        opened = experiment.selection()
        if opened.selection is not None:
            local = experiment.train.batch // devices
            x0 = jax.ShapeDtypeStruct((local, *images.image_shape), jnp.float32)
            if opened.rater is not None and opened.rater.card["image_shape"] != [*x0.shape[1:]]:
                shape = tuple(opened.rater.card["image_shape"])
                file = experiment.config["selection"]["file"]
                raise ArgumentError(
                    "file", file, f"a rater of images {x0.shape[1:]}; it is one of {shape}"
                )
            keys = jax.eval_shape(partial(jax.random.split, num=local), jax.random.key(0))
            sigma = jax.ShapeDtypeStruct((local,), jnp.float32)
            select = partial(opened.selection.select, step=0, losses=_first_pixels)
            jax.eval_shape(select, keys, x0, sigma)
    except ArgumentError as error:
        raise ConfigError(f"config.selection.{error}") from error
    return opened


def _first_pixels(x0: jax.Array, eps: jax.Array) -> jax.Array:
    """Stands for losses where shapes alone matter."""
    return eps.reshape(eps.shape[0], -1)[:, 0]


def check_draws_images(experiment: Experiment) -> None:
    """Raises ConfigError for a config that trains a rater, which has no samples to look at."""
    if experiment.rating is not None:
        raise ConfigError(
            "config.rater: a rater of noise draws no images; --mode must be train, plot or dry_run"
        )


def check_labels(prepared: Prepared) -> None:
    """Raises ConfigError where labels are withheld, or needed to be, that are not there."""
    dropout = prepared.experiment.train.label_dropout
    guidance = prepared.experiment.sample.guidance
    if dropout and not prepared.conditional:
        raise ConfigError(
            f"config.train.label_dropout={dropout}: must be 0 unless model.class_conditional=True"
        )
    if guidance != 1 and not dropout:
        raise ConfigError(
            f"config.sample.guidance={guidance}: must be 1 unless train.label_dropout is above 0"
        )


def samples_asked_for(experiment: Experiment, images: Images) -> int:
    """How many images are generated for a score; 0 for no score."""
    n = experiment.evaluate.n
    return images.num_examples // 2 if n is None else n


def open_extractor(experiment: Experiment, images: Images) -> Extractor:
    """The extractor, with its weights, and a check that the score asked for can be had.

    Raises:
      ConfigError: the weights are not there, or n does not fit the images or the features.
    """
    settings = experiment.evaluate
    n, half = samples_asked_for(experiment, images), images.num_examples // 2
    if n == 0:
        return raw_pixels()
    if n > half and settings.reference is None:
        raise ConfigError(f"config.evaluate.n={n}: must be at most {half}, half of the images")
    if n < 2:
        raise ConfigError(f"config.evaluate.n={n}: must be at least 2")
    try:
        extractor = experiment.extractor()
        dimension = feature_count(extractor, images)
    except ArgumentError as error:
        raise ConfigError(f"config.evaluate.extractor.{error}") from error
    except ConfigError as error:
        raise ConfigError(f"config.evaluate.extractor: {error}") from error
    try:
        checked_metrics(extractor, settings.metrics, settings.reference is not None)
        check_n(n, dimension, settings.few_samples)
        if settings.reference is not None:
            load_statistics(settings.reference, dimension)
    except ArgumentError as error:
        key = "reference" if error.argument == "path" else error.argument
        raise ConfigError(
            f"config.evaluate.{key}={error.value!r}: must be {error.allowed}"
        ) from error
    return extractor


def feature_count(extractor: Extractor, images: Images) -> int:
    """How many features the extractor sees in these images; a user's function is called once.

    Raises:
      ArgumentError: the images do not suit the extractor.
    """
    if extractor.dimension is not None:
        return extractor.dimension(images.image_shape)
    seen = extract(extractor, [images.load(np.arange(2))[0]])
    return int(seen.moments.mean.size)


def cache_folder() -> Path:
    """Where reference statistics are kept between runs."""
    return Path(os.environ.get("JAXNOISE_CACHE") or "~/.cache/jaxnoise").expanduser()


def check_latents(experiment: Experiment, images: Images) -> None:
    """Raises ConfigError where arrays that are no pixels would be treated as such."""
    if images.dtype == np.uint8:
        return
    why = f"{experiment.data.dataset!r} holds {images.dtype} latents"
    if experiment.data.flip:
        raise ConfigError(f"config.data.flip=True: must be False, since {why}")
    if experiment.evaluate.n != 0:
        raise ConfigError(
            f"config.evaluate.n={experiment.evaluate.n}: must be 0, since {why}: decode samples to "
            "score them"
        )


def check_batch(batch: int, devices: int) -> None:
    """Raises ConfigError unless the global batch divides by the number of devices."""
    if batch % devices:
        raise ConfigError(
            f"config.train.batch={batch}: must be a multiple of {devices}, the number of devices"
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
    return state
