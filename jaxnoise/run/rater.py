"""The training of a rater of noise with its images open: inner models, scores and probes."""

from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxnoise.compilation import run_once
from jaxnoise.data.images import Images
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.experiment import RaterRun
from jaxnoise.models.neutral_raters import LawRater
from jaxnoise.models.rater import inputs_of, sees_of
from jaxnoise.noise.bands import BAND_NAMES, band_of
from jaxnoise.noise_rater.inner_task import InnerTask
from jaxnoise.noise_rater.inner_training import InnerTraining
from jaxnoise.noise_rater.population import meta_indices
from jaxnoise.noise_rater.probes import (
    make_order_probe,
    make_signal_probe,
    oldest,
    signal_test,
    signal_to_noise,
)
from jaxnoise.noise_rater.step import RaterState, create_rater_state
from jaxnoise.run.network import does_not_fit
from jaxnoise.run.open import OpenRun, open_images
from jaxnoise.training.drawing import Batch, Examples, to_float
from jaxnoise.training.feeding import Indices, StreamingFeeder
from jaxnoise.training.parallel import Step, to_host
from jaxnoise.training.step import Metrics
from jaxnoise.training.streams import stream_key

EXAMPLES_SCORED = 512

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class OpenRater(OpenRun):
    """What stage 1 of NoiseRater computes with."""

    run: RaterRun

    @property
    def _held_out(self) -> int:
        return round(self.run.meta.held_out * self.images.num_examples)

    @cached_property
    def inner_training(self) -> InnerTraining:
        """What inner models do in a meta-step."""
        run, meta = self.run, self.run.meta
        task = InnerTask(
            self.apply,
            run.objective,
            global_batch=run.train.batch,
            num_classes=self.network.num_classes,
            dropout=self.dropout,
            flip=run.data.flip,
            candidates=meta.candidates,
            judged_by=run.outer,
            teacher_network=self.teacher_network,
        )
        return InnerTraining(
            task,
            run.optimizer,
            self.rate,
            inner_steps=meta.inner_steps,
            outer_batch=meta.outer_batch,
            population=meta.inner_models,
            temperature=meta.temperature,
            unroll=meta.unroll,
            sees=sees_of(self.rater),
            floor=meta.floor,
            record=self.record if isinstance(self.rater, LawRater) else None,
        )

    @cached_property
    def rater(self) -> Any:
        """The rater's network, with as many labels as the inner models see if it sees any."""
        rater = self.run.rater
        if not getattr(rater, "num_classes", 0):
            return rater
        return rater.clone(num_classes=self.network.num_classes)

    def rate(self, eta: Any, *seen: Any) -> jax.Array:
        """The rater's scores."""
        return jnp.asarray(self.rater.apply(eta, *seen))

    def record(self, eta: Any) -> Metrics:
        """The numbers of a law that is learned, by its parameters' names."""
        law = self.rater.law(eta)
        return {"law_mu": law.mu, "law_b": law.b}

    def initial_state(self) -> RaterState:
        """The state before the first meta-update."""
        return create_rater_state(
            lambda key: self.rater.init(key, *inputs_of(self.rater, self.images.image_shape)),
            self.init,
            self.run.optimizer,
            self.run.meta_optimizer,
            self.key,
            population=self.run.meta.inner_models,
            averaging=self.run.meta.averaging,
        )

    @property
    def indices(self) -> Indices:
        """Which examples each meta-step trains and measures on."""
        meta = self.run.meta
        return self._indices(meta.population, meta.inner_steps, meta.outer_batch)

    def _indices(self, population: int, inner_steps: int, outer_batch: int) -> Indices:
        return partial(
            meta_indices,
            self.run.seed,
            self.images.num_examples,
            self._held_out,
            population=population,
            inner_steps=inner_steps,
            batch=self.run.train.batch,
            outer_batch=outer_batch,
        )

    @cached_property
    def _scored(self) -> Examples:
        """Held-out images, noise that competes and levels, the same through training."""
        # Those that any meta-step may measure on, whatever its sizes are.
        split = meta_indices(
            self.run.seed,
            self.images.num_examples,
            self._held_out,
            0,
            population=1,
            inner_steps=1,
            batch=EXAMPLES_SCORED,
            outer_batch=EXAMPLES_SCORED,
        )
        rivals = self.run.meta.candidates or 1
        images, labels = self.images.load(split[: -(-EXAMPLES_SCORED // rivals), 0, 1])
        objective = self.run.objective

        def draw(images: jax.Array, labels: jax.Array, key: jax.Array) -> Examples:
            keys = jax.random.split(stream_key(key, "scored"))
            x0, last = to_float(images), jnp.int32(self.run.schedule_steps - 1)
            pace = objective.pacing.init()
            levels = objective.draw(keys[0], stream_key(key, "grid"), last, x0.shape[0], pace)
            seen = labels if self.network.num_classes else None
            one = Examples(x0, None, levels, seen, None)
            examples: Examples = jax.tree.map(lambda x: jnp.repeat(x, rivals, axis=0), one)
            x0 = examples.x0
            return examples.replace(eps=jax.random.normal(keys[1], x0.shape, x0.dtype))

        scored: Examples = run_once(draw, images, labels, self.key)
        return scored

    @cached_property
    def _score(self) -> Any:
        return jax.jit(self.inner_training.scores)

    def scores(self, eta: Any) -> tuple[Floats, Floats]:
        """Scores of fixed held-out images above the mean of their rivals, and noise levels.

        Returns:
          float32[n] each, rivals side by side.
        """
        found = np.asarray(self._score(jax.tree.map(to_host, eta), self._scored))
        competing = found.reshape(-1, self.run.meta.candidates or len(found))
        return (competing - competing.mean(1, keepdims=True)).reshape(-1), np.exp(
            -np.asarray(self._scored.levels.lam) / 2
        )

    @cached_property
    def _order_probe(self) -> Step[RaterState]:
        measure = make_order_probe(self.inner_training)

        def probe(state: RaterState, batch: Batch, key: jax.Array) -> tuple[RaterState, Metrics]:
            return state, {"cosine": measure(state, batch, key)}

        return self.devices.map(probe, 1, resident=False, donate=False)

    @cached_property
    def _signal_probe(self) -> Step[RaterState]:
        meta, population = self.run.meta, self.run.meta.inner_models
        measure = make_signal_probe(
            self.inner_training.task,
            self.run.optimizer,
            draws=meta.probe_draws,
            repeats=meta.probe_repeats,
        )

        def probe(state: RaterState, batch: Batch, key: jax.Array) -> tuple[RaterState, Metrics]:
            member, inner, age = oldest(state)
            # Draws of its own, at the levels that the model trains on.
            own = population.key(stream_key(key, "signal"), member, state.step)
            grid_key = stream_key(population.key(key, member, state.step), "grid")
            slopes, sigma = measure(inner, age * meta.inner_steps, batch, own, grid_key)
            return state, {"slopes": slopes, "sigma": sigma}

        return self.devices.map(probe, 1, resident=False, donate=False)

    def probe(self, state: RaterState) -> dict[str, float]:
        """The cosine of the first-order to the exact meta-gradient, and the signal to noise."""
        meta, batch = self.run.meta, self.run.train.batch
        order = self._measure(self._order_probe, state, self.indices)
        signal = self._measure(
            self._signal_probe, state, self._indices(1, 1, meta.probe_repeats * batch)
        )
        found, test = run_once(lambda s: (signal_to_noise(s), signal_test(s)), signal["slopes"])
        band = band_of(signal["sigma"])
        f = np.asarray(found.f)
        return {
            "probe_inner_steps": int(np.max(to_host(state.age))) * meta.inner_steps,
            "first_order_cosine": float(order["cosine"]),
            "signal_ratio": float(np.mean(found.ratio)),
            "signal_f": float(test.f),
            "signal_f_without_signal": float(test.without_signal),
            "signal_p": float(test.p),
            **{
                f"signal_f/{name}": float(np.mean(f[band == i]))
                for i, name in enumerate(BAND_NAMES)
                if (band == i).any()
            },
        }

    def _measure(
        self, probe: Step[RaterState], state: RaterState, indices: Indices
    ) -> dict[str, Any]:
        with closing(StreamingFeeder(self.images, self.devices, indices, 1)) as feeder:
            _, found = probe(state, feeder(int(state.step)), self.key)
        return {name: to_host(value)[0] for name, value in found.items()}


def open_rater(run: RaterRun, images: Images | None = None) -> OpenRater:
    """Opens what a config of a rater names, and checks what only images and devices tell.

    Args:
      run: a checked config.
      images: instead of the config's own.

    Raises:
      ConfigError: the batch does not divide, or images, network, rater and held-out share do not
        fit each other.
    """
    devices, images, network = open_images(run, images)
    rater = OpenRater(run=run, images=images, network=network, devices=devices)
    if getattr(run.rater, "num_classes", 0) and not rater.conditional:
        raise ConfigError(
            "config.rater.class_conditional=True: must be False unless model.class_conditional=True"
        )
    try:
        jax.eval_shape(rater.init, rater.key)
    except ArgumentError as error:
        raise does_not_fit("model", error, images) from error
    count, share, least = images.num_examples, run.meta.held_out, run.meta.outer_batch
    if not least <= round(share * count) < count:
        raise ConfigError(
            f"config.meta.held_out={share}: must be from {least / count:.4g} (an outer batch) "
            f"to below {1 - 0.5 / count:.6g} for {count} images"
        )
    try:
        _ = rater.abstract_state
    except ArgumentError as error:
        raise does_not_fit("rater", error, images) from error
    return rater
