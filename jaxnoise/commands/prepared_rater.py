"""A rater of noise with the inner models that it is judged by, and the images that they see."""

from contextlib import closing
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxnoise.commands.prepared import Prepared
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.experiment import Rating
from jaxnoise.training.bands import BAND_EDGES, BAND_NAMES
from jaxnoise.training.examples import Batch, to_float
from jaxnoise.training.feeding import Indices, StreamingFeeder
from jaxnoise.training.lesson import Lesson
from jaxnoise.training.noise_rater import RaterState, create_rater_state
from jaxnoise.training.parallel import Step, to_host
from jaxnoise.training.population import meta_indices
from jaxnoise.training.probes import (
    make_order_probe,
    make_signal_probe,
    oldest,
    signal_test,
    signal_to_noise,
)
from jaxnoise.training.problem import Problem
from jaxnoise.training.step import Metrics
from jaxnoise.training.streams import stream_key

EXAMPLES_SCORED = 512

Floats = NDArray[np.floating[Any]]


class PreparedRater:
    """What stage 1 computes with.

    Raises:
      ConfigError: the rater or the held-out share does not fit the images.
    """

    def __init__(self, prepared: Prepared, rating: Rating):
        self.prepared, self.rating = prepared, rating
        count, share = prepared.images.num_examples, rating.meta.held_out
        self._held_out = round(share * count)
        least = rating.meta.outer_batch
        if not least <= self._held_out < count:
            raise ConfigError(
                f"config.meta.held_out={share}: must be from {least / count:.4g} (an outer batch) "
                f"to below {1 - 0.5 / count:.6g} for {count} images"
            )
        try:
            jax.eval_shape(self.initial_state)
        except ArgumentError as error:
            shape = prepared.images.image_shape
            raise ConfigError(f"config.rater.{error} (images are {shape})") from error

    @cached_property
    def lesson(self) -> Lesson:
        """What inner models do in a meta-step."""
        experiment, meta = self.prepared.experiment, self.rating.meta
        network = self.prepared.network
        problem = Problem(
            self.prepared.apply,
            experiment.objective,
            global_batch=experiment.train.batch,
            num_classes=network.num_classes,
            dropout=network.dropout > 0,
            flip=experiment.data.flip,
            candidates=meta.candidates,
        )
        return Lesson(
            problem,
            experiment.optimizer,
            self.rate,
            inner_steps=meta.inner_steps,
            outer_batch=meta.outer_batch,
            population=meta.inner_models,
            temperature=meta.temperature,
            unroll=meta.unroll,
        )

    def rate(self, eta: Any, x0: jax.Array, eps: jax.Array, lam: jax.Array) -> jax.Array:
        """The rater's scores."""
        return jnp.asarray(self.rating.network.apply(eta, x0, eps, lam))

    def initial_state(self) -> RaterState:
        """The state before the first meta-update."""
        images = jnp.zeros((1, *self.prepared.images.image_shape), jnp.float32)
        return create_rater_state(
            lambda key: self.rating.network.init(key, images, images, jnp.zeros(1, jnp.float32)),
            self.prepared.init,
            self.prepared.experiment.optimizer,
            self.rating.optimizer,
            self.prepared.key,
            population=self.rating.meta.inner_models,
            averaging=self.rating.meta.averaging,
        )

    @property
    def indices(self) -> Indices:
        """Which examples each meta-step trains and measures on."""
        meta = self.rating.meta
        return self._indices(meta.population, meta.inner_steps, meta.outer_batch)

    def _indices(self, population: int, inner_steps: int, outer_batch: int) -> Indices:
        return partial(
            meta_indices,
            self.prepared.experiment.seed,
            self.prepared.images.num_examples,
            self._held_out,
            population=population,
            inner_steps=inner_steps,
            batch=self.prepared.experiment.train.batch,
            outer_batch=outer_batch,
        )

    @cached_property
    def _scored(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Held-out images, noise that competes and log SNR, the same through training."""
        experiment = self.prepared.experiment
        key = stream_key(self.prepared.key, "scored")
        keys = jax.random.split(key)
        # Those that any meta-step may measure on, whatever its sizes are.
        split = meta_indices(
            experiment.seed,
            self.prepared.images.num_examples,
            self._held_out,
            0,
            population=1,
            inner_steps=1,
            batch=EXAMPLES_SCORED,
            outer_batch=EXAMPLES_SCORED,
        )
        rivals = self.rating.meta.candidates or 1
        images = self.prepared.images.load(split[: -(-EXAMPLES_SCORED // rivals), 0, 1])[0]
        x0 = to_float(jnp.asarray(images))
        last = jnp.int32(experiment.schedule_steps - 1)
        objective = experiment.objective
        pace = objective.pacing.init()
        levels = objective.draw(
            keys[0], stream_key(self.prepared.key, "grid"), last, x0.shape[0], pace
        )
        x0, lam = (jnp.repeat(x, rivals, axis=0) for x in (x0, levels.lam))
        return x0, jax.random.normal(keys[1], x0.shape, x0.dtype), lam

    @cached_property
    def _score(self) -> Any:
        return jax.jit(self.rate)

    def scores(self, eta: Any) -> tuple[Floats, Floats]:
        """Scores of fixed held-out images above the mean of their rivals, and noise levels.

        Returns:
          float32[n] each, rivals side by side.
        """
        x0, eps, lam = self._scored
        found = np.asarray(self._score(jax.tree.map(to_host, eta), x0, eps, lam))
        competing = found.reshape(-1, self.rating.meta.candidates or len(found))
        return (competing - competing.mean(1, keepdims=True)).reshape(-1), np.exp(
            -np.asarray(lam) / 2
        )

    @cached_property
    def _order_probe(self) -> Step[RaterState]:
        measure = make_order_probe(self.lesson)

        def probe(state: RaterState, batch: Batch, key: jax.Array) -> tuple[RaterState, Metrics]:
            return state, {"cosine": measure(state, batch, key)}

        return self.prepared.devices.map(probe, 1, resident=False, donate=False)

    @cached_property
    def _signal_probe(self) -> Step[RaterState]:
        meta, population = self.rating.meta, self.rating.meta.inner_models
        measure = make_signal_probe(
            self.lesson.problem,
            self.prepared.experiment.optimizer,
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

        return self.prepared.devices.map(probe, 1, resident=False, donate=False)

    def probe(self, state: RaterState) -> dict[str, float]:
        """The cosine of the first-order to the exact meta-gradient, and the signal to noise."""
        meta, batch = self.rating.meta, self.prepared.experiment.train.batch
        order = self._measure(self._order_probe, state, self.indices)
        signal = self._measure(
            self._signal_probe, state, self._indices(1, 1, meta.probe_repeats * batch)
        )
        slopes = jnp.asarray(signal["slopes"])
        found, test = signal_to_noise(slopes), signal_test(slopes)
        band = np.searchsorted(BAND_EDGES, signal["sigma"], side="right")
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
        prepared = self.prepared
        with closing(StreamingFeeder(prepared.images, prepared.devices, indices, 1)) as feeder:
            _, found = probe(state, feeder(int(state.step)), prepared.key)
        return {name: to_host(value)[0] for name, value in found.items()}
