"""The training of a model with its images open."""

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxnoise.config.selection import OpenSelection
from jaxnoise.data.images import Images
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.evaluation.denoised import denoised_by_level, sigmas_between
from jaxnoise.evaluation.extractors import Extractor, raw_pixels
from jaxnoise.evaluation.protocol import report
from jaxnoise.evaluation.reference import Reference, reference_from
from jaxnoise.evaluation.splits import Indices, floor_indices
from jaxnoise.experiment import ModelRun
from jaxnoise.files import cache_folder
from jaxnoise.meta.selection import Selection
from jaxnoise.models.rater_file import SavedRater
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.run.extractor import open_extractor, open_split, samples_asked_for
from jaxnoise.run.named_files import check_named_files
from jaxnoise.run.network import does_not_fit
from jaxnoise.run.open import OpenRun, open_images, warn
from jaxnoise.run.selection import open_selection, warn_of_other_training
from jaxnoise.run.start import Start, check_began, open_start
from jaxnoise.sampling.consistency import image_noise
from jaxnoise.training.digests import digests
from jaxnoise.training.drawing import to_float
from jaxnoise.training.generation import Generator
from jaxnoise.training.kept_images import KeptImages
from jaxnoise.training.state import Params, TrainState, create_state
from jaxnoise.training.streams import stream_key


@dataclass(frozen=True, kw_only=True)
class OpenModel(OpenRun):
    """What trains, draws with and scores a model."""

    run: ModelRun
    reference_images: Images
    """What scores compare with: the training images, or those of `evaluate.split`."""
    held_out: Images | None
    """What the floor is taken from, if not from the images that scores compare with."""
    extractor: Extractor
    selection: Selection | None
    rater: SavedRater | None
    """The frozen rater that the selection asks."""
    starts: bool = True
    """Whether the state before the first update may be asked for, and with it a file of weights."""
    goes_on: bool = False
    """Whether training goes on from a checkpoint."""
    kept: KeptImages | None = None
    """Images that this run's other scores are taken of too."""

    @cached_property
    def start(self) -> Start | None:
        """The weights that the network starts from, if they are not drawn."""
        if not self.starts:
            return None
        return open_start(self.run, self.images, self.abstract_state.params["network"])

    @cached_property
    def start_sha256(self) -> str | None:
        """By which a checkpoint knows the first weights."""
        return self.start and self.start.sha256

    @property
    def meta(self) -> dict[str, Any]:
        rater = None if self.rater is None else self.rater.sha256
        return {**super().meta, "rater": rater, "start": self.start_sha256}

    def check_meta(self, meta: dict[str, Any]) -> None:
        """Raises ConfigError unless a checkpoint is of this config, these images and this rater."""
        super().check_meta(meta)
        self.check_files(meta)

    def check_files(self, meta: dict[str, Any]) -> None:
        """Raises ConfigError unless a checkpoint is of this rater and began with these weights."""
        if self.rater is not None and meta.get("rater") != self.rater.sha256:
            raise ConfigError(
                f"config.selection.file={self.run.config['selection']['file']!r}: it is not the "
                "rater that the checkpoint was trained with"
            )
        first, named = meta.get("start"), self.run.train.init_from
        held = None if first is None else meta["config"]["train"].get("init_from")
        if self.starts and first != self.start_sha256:
            check_began(held, named)
            # A run may have trained on since another was started from it.
            warn(
                f"config.train.init_from={named!r}: its weights have changed since training began "
                "with them; the untrained model is not scored"
            )
            object.__setattr__(self, "starts", False)
        elif not self.starts and self.goes_on:
            check_began(held, named)
        if not self.starts:
            self.__dict__["start_sha256"] = first  # which later checkpoints keep

    def initial_state(self, network: Params | None = None) -> TrainState:
        """The state before the first update.

        Args:
          network: the network's variables; None to draw them.
        """

        def init(key: jax.Array) -> Params:
            drawn = self.init(key)
            return drawn if network is None else {**drawn, "network": network}

        return create_state(
            init,
            self.run.optimizer,
            stream_key(self.key, "init"),
            teacher=self.run.objective.has_teacher,
            pace=self.run.objective.pacing.init(),
            averages=len(self.run.ema_rates),
        )

    def first_state(self) -> TrainState:
        """The state that training begins with, on the devices."""
        if self.start is None:
            return self.new_state()
        # An argument, since constants of that size would be compiled in.
        return self.devices.program(self.initial_state)(self.devices.replicate(self.start.network))

    @cached_property
    def generator(self) -> Generator:
        """Draws images with given parameters."""
        objective = self.run.objective

        def denoiser(params: Params, labels: jax.Array | None) -> Denoiser:
            return objective.denoiser(lambda x, c: self.apply(params["network"], x, c, labels))

        return Generator(
            denoiser,
            self.images.image_shape,
            self.class_counts,
            self.run.sample.batch,
            self.devices,
            self.run.sample.guidance,
            self.images.dtype,
        )

    @cached_property
    def reference(self) -> Reference:
        """Half of the training images, or published statistics; and the floor beside them."""
        settings = self.run.evaluate
        # Raw pixels are read faster than statistics are looked up, and what a user's code
        # depends on cannot be told.
        own = ":" in self.run.config["evaluate"]["extractor"]["name"]
        cached = not own and self.extractor.sha256 != "" and self.extractor.dimension is not None
        return reference_from(
            self.extractor,
            self.reference_images,
            samples_asked_for(self.run, self.reference_images),
            f"{self.images.name} {settings.split or self.run.data.split}, "
            + ("first half of a fixed shuffle" if self.held_out is None else "all images"),
            metrics=settings.metrics,
            few_samples=settings.few_samples,
            held_out=self.held_out,
            published=settings.reference,
            cache=cache_folder() if cached else None,
        )

    def score(
        self, params: Params, weights: str, images_seen: int, *, by_level: bool = True
    ) -> dict[str, Any]:
        """The protocol's dict for each sampler's images with some parameters.

        Args:
          params: the network's parameters.
          weights: what they are, "raw" or "ema".
          images_seen: training images that they have seen.
          by_level: whether held-out images are denoised too, where `evaluate.levels` asks for it.
        """
        samplers = self.run.samplers
        seed = self.run.evaluate.seed
        evaluations = 1 if self.run.sample.guidance == 1 else 2
        labels, counts = self._labels_of_scores
        draw = partial(self.generator.batches, params, self.reference.n, seed)
        drawn = {s.name: draw(s, by_frequency=True, class_counts=counts) for s in samplers}
        # Those of an untrained model are asked for once.
        if self.kept is not None and images_seen:
            drawn_with = self._drawn_with(params, counts)
            drawn = {
                s.name: self.kept.batches((s.name, *drawn_with), drawn[s.name]) for s in samplers
            }
        scores = report(
            self.reference,
            drawn,
            nfe={s.name: evaluations * s.nfe for s in samplers},
            levels={s.name: s.levels for s in samplers},
            weights=weights,
            images_seen=images_seen,
            seed=seed,
            guidance=self.run.sample.guidance,
            labels=labels,
        )
        return scores | (self._denoised(params) if by_level else {})

    def _drawn_with(self, params: Params, counts: NDArray[np.int64] | None) -> tuple[Hashable, ...]:
        """All that scored images depend on beside the data, which are a run's own."""
        config = {name: held for name, held in self.run.config.items() if name != "evaluate"}
        counts = np.asarray(self.class_counts if counts is None else counts)
        # A split that is smaller but as frequent in every class asks for the same labels.
        frequencies = tuple((counts // max(1, np.gcd.reduce(counts))).tolist())
        asked = self.reference.n, self.run.evaluate.seed, frequencies
        return (*asked, json.dumps(config, sort_keys=True), *sorted(digests(params).items()))

    @property
    def _labels_of_scores(self) -> tuple[str | None, NDArray[np.int64] | None]:
        """How labels of scored images are chosen, in words, and their counts if not the data's."""
        split, compared = self.run.evaluate.split, self.reference_images
        if not self.conditional:
            return None, None
        if split is None:
            return "as frequent as in the data", None
        if list(compared.class_names) != list(self.images.class_names):
            return "as frequent as in the data that are trained on", None
        return f"as frequent as in {split}", compared.class_counts

    def _denoised(self, params: Params) -> dict[str, Any]:
        """Held-out images denoised at `evaluate.levels` noise levels, or {} for none."""
        settings, size = self.run.evaluate, self.run.sample.batch
        if settings.levels == 0:
            return {}
        images = self.reference_images if self.held_out is None else self.held_out
        halves = self.held_out is None and settings.reference is None
        held_out = floor_indices(images.num_examples, self.reference.n, halves)

        def denoise(
            pixels: NDArray[np.uint8], labels: NDArray[np.int32], rows: Indices, sigma: float
        ) -> NDArray[np.float32]:
            found = []
            for start in range(0, len(rows), size):
                # The last portion is filled up, so that one program serves all.
                part = np.resize(np.arange(start, min(start + size, len(rows))), size)
                given = pixels[part], labels[part], rows[part].astype(np.int32)
                estimates = self._denoise_program(
                    params, *given, np.float32(sigma), np.uint32(settings.seed)
                )
                found.append(np.asarray(estimates)[: len(rows) - start])
            return np.concatenate(found)

        levels = sigmas_between(settings.levels)
        return {"denoised": denoised_by_level(denoise, images, held_out, self.reference, levels)}

    @cached_property
    def _denoise_program(self) -> Callable[..., jax.Array]:
        @partial(jax.jit, out_shardings=self.devices.replicated)
        def denoise(
            params: Params,
            pixels: jax.Array,
            labels: jax.Array,
            rows: jax.Array,
            sigma: jax.Array,
            seed: jax.Array,
        ) -> jax.Array:
            x0 = to_float(pixels)
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(rows)
            x = x0 + sigma * image_noise(keys, x0.shape[1:], 0)
            condition = labels if self.conditional else None
            denoiser = self.run.objective.denoiser(
                lambda x, c: self.apply(params["network"], x, c, condition)
            )
            return denoiser(x, jnp.broadcast_to(sigma, len(x)))

        return denoise


def open_model(
    run: ModelRun,
    images: Images | None = None,
    *,
    scored: bool = True,
    selects: bool = False,
    resumes: bool = False,
    kept: KeptImages | None = None,
) -> OpenModel:
    """Opens what a config of a model names, and checks what only images, files and devices tell.

    Args:
      run: a checked config.
      images: instead of the config's own.
      scored: whether a score will be taken, which may need weights.
      selects: whether noise will be selected, which may need a rater's file.
      resumes: whether training goes on from a checkpoint, which does without first weights.
      kept: images of the run's other scores, of which this one may be taken.

    Raises:
      ConfigError: the batch does not divide, something cannot be had, or it does not fit.
    """
    own = images is None
    check_named_files(run, scored=scored, selects=selects, starts=selects and not resumes)
    devices, images, network = open_images(run, images)
    compared = open_split(run, images, "split") if scored else None
    reference_images = images if compared is None else compared
    held_out = open_split(run, images, "held_out") if scored else None
    extractor = open_extractor(run, reference_images, held_out) if scored else raw_pixels()
    opened = OpenSelection()
    if selects:
        opened = open_selection(run, images, devices.size, network.num_classes)
    model = OpenModel(
        run=run,
        images=images,
        network=network,
        devices=devices,
        reference_images=reference_images,
        held_out=held_out,
        extractor=extractor,
        selection=opened.selection,
        rater=opened.rater,
        starts=scored or selects,
        goes_on=resumes,
        kept=kept,
    )
    try:
        _ = model.abstract_state
    except ArgumentError as error:
        raise does_not_fit("model", error, images) from error
    try:
        _ = model.start
    except ConfigError as error:
        if selects and not resumes:
            raise
        # A run can go on or be scored where the weights that it began with are not.
        without = "the untrained model is not scored" if scored else "the run goes on without them"
        warn(f"{error}; {without}")
        model = replace(model, starts=False)
    check_labels(model)
    if own and opened.rater is not None:
        warn_of_other_training(opened.rater, run.config, images)
    return model


def check_labels(model: OpenModel) -> None:
    """Raises ConfigError where labels are withheld, needed or compared that are not there."""
    dropout = model.run.train.label_dropout
    guidance = model.run.sample.guidance
    if dropout and not model.conditional:
        raise ConfigError(
            f"config.train.label_dropout={dropout}: must be 0 unless model.class_conditional=True"
        )
    if guidance != 1 and not dropout:
        raise ConfigError(
            f"config.sample.guidance={guidance}: must be 1 unless train.label_dropout is above 0"
        )
    key = "split" if model.held_out is None else "held_out"
    asked = model.reference_images if model.held_out is None else model.held_out
    own, others = (list(images.class_names) for images in (model.images, asked))
    if model.conditional and model.run.evaluate.levels and own != others:
        split = getattr(model.run.evaluate, key)
        raise ConfigError(
            f"config.evaluate.{key}={split!r}: must have the classes that are trained on, {own}, "
            f"not {others}, unless evaluate.levels=0 or model.class_conditional=False"
        )
