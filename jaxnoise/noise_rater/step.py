"""The meta-step that trains a rater of noise: stage 1 of NoiseRater.

NoiseRater (arXiv 2605.08144) is known to us by its abstract only. Blanks are filled from DataRater
(arXiv 2505.17895), which weights data in the same way, or by our choice; which is which is said
where it is made.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxnoise.errors import one_of
from jaxnoise.meta.unroll import InnerState
from jaxnoise.noise_rater.inner_training import InnerTraining
from jaxnoise.noise_rater.population import Population, over_members
from jaxnoise.training.diagnostics import nonfinite_range, sum_by_band
from jaxnoise.training.drawing import AXIS, Batch
from jaxnoise.training.state import Params
from jaxnoise.training.step import Metrics
from jaxnoise.training.streams import stream_key

AVERAGING = ("updates", "gradients")


class RaterState(struct.PyTreeNode):
    """The state of meta-training: a plain pytree, replicated over devices."""

    step: jax.Array
    """int32[], how many meta-updates were made."""
    eta: Any
    """The rater's parameters."""
    meta_opt_state: optax.OptState
    """Leaves have a leading axis [P] if updates are averaged."""
    inner: InnerState
    """Parameters and optimizer state of the inner models, leaves with a leading axis [P]."""
    age: jax.Array
    """int32[P], meta-steps since each inner model was begun."""


class _Outcome(NamedTuple):
    """What one inner model contributes; leaves of [T, b] are this device's."""

    value: jax.Array
    gradient: Any
    inner: InnerState
    age: jax.Array
    weights: jax.Array
    losses: jax.Array
    sigma: jax.Array
    scores: jax.Array


def create_rater_state(
    init_rater: Callable[[jax.Array], Any],
    init_inner: Callable[[jax.Array], Params],
    inner_optimizer: optax.GradientTransformation,
    meta_optimizer: optax.GradientTransformation,
    key: jax.Array,
    *,
    population: Population,
    averaging: str = "updates",
) -> RaterState:
    """The state before the first meta-update; `jax.eval_shape` of it costs nothing.

    Args:
      init_rater: PRNG key -> eta.
      init_inner: PRNG key -> `{"network": ..., "objective": ...}`.
      inner_optimizer: of the inner models.
      meta_optimizer: of the rater.
      key: PRNG key of the run.
      population: how many inner models there are, and how long they live.
      averaging: "updates" or "gradients", as in `make_meta_step`.

    Raises:
      ArgumentError: no such averaging.
    """
    one_of("averaging", averaging, AVERAGING)
    eta, begin = init_rater(stream_key(key, "rater")), jnp.zeros((), jnp.int32)
    meta_opt_state = meta_optimizer.init(eta)
    if averaging == "updates":
        meta_opt_state = jax.tree.map(lambda x: jnp.stack([x] * population.size), meta_opt_state)

    def fresh(member: jax.Array) -> InnerState:
        return _begin(init_inner, inner_optimizer, population.key(key, member, begin))

    return RaterState(
        step=begin,
        eta=eta,
        meta_opt_state=meta_opt_state,
        inner=jax.vmap(fresh)(jnp.arange(population.size)),
        age=jnp.zeros(population.size, jnp.int32),
    )


def _begin(
    init_inner: Callable[[jax.Array], Params],
    inner_optimizer: optax.GradientTransformation,
    key: jax.Array,
) -> InnerState:
    params = init_inner(stream_key(key, "init"))
    return InnerState(params, inner_optimizer.init(params))


def make_meta_step(
    training: InnerTraining,
    meta_optimizer: optax.GradientTransformation,
    *,
    init_inner: Callable[[jax.Array], Params],
    mode: str = "mixed",
    averaging: str = "updates",
) -> Callable[[RaterState, Batch, jax.Array], tuple[RaterState, Metrics]]:
    """Builds the per-device meta-step `(state, batch, key) -> (state, metrics)`.

    Each inner model goes through an `InnerTraining`; eta moves against the derivative of its outer
    loss. Equal scores give the mean loss, so a rater that starts at zero starts with plain
    training. The inner models go on from theta_T in the next meta-step; each is begun afresh at the
    end of its life. Levels, noise, dropout and flips of a model in its life are those of
    `make_step` under the key `population.key(key, p, step)`, at the steps that this model has made,
    which a curriculum counts too.

    With "updates" each inner model has a meta-optimizer of its own and the updates are averaged,
    so that a model with steep gradients does not outvote the others; with "gradients" the averaged
    gradient goes into one. Soft weights that enter the inner loss, T, and hard selection afterwards
    are NoiseRater's; the population that lives on, its staggered renewal and averaged updates are
    DataRater's. The recipe of DataRater is T = 2, P = 8, inner and outer batch 128, and AdamW with
    weight decay 0.1, 100 steps of warm-up and gradients clipped to a global norm of 0.01.

    A consistency objective's teacher is theta_k itself, held constant: second derivatives leave out
    how theta_k moves its own target.

    Args:
      training: what inner models do in a meta-step.
      meta_optimizer: of the rater.
      init_inner: PRNG key -> `{"network": ..., "objective": ...}`, for models begun afresh.
      mode: of `meta_gradient`.
      averaging: "updates" or "gradients".

    Returns:
      The step, to be mapped over the axis "data" by `jaxnoise.training.parallel`. Its batch holds
      [b, P, T + R] examples, laid out as `meta_indices` does. In the metrics "loss" is the outer
      loss and "grad_norm" the norm of the averaged meta-gradient; "band_sum" and "band_count" are
      of the unweighted inner losses; "effective_share" is 1 / (n sum w^2) of n weights that compete
      and sum to 1. Of scores less the mean of their rivals, "band_squares/score" holds the sums of
      squares in each noise band and, where the batch competes, "band_sums/score" the sums. What
    `training.record` tells is of eta before the update.

    Raises:
      ArgumentError: an argument out of range.

    Reference: NoiseRater (arXiv 2605.08144), abstract; DataRater (arXiv 2505.17895).
    """
    one_of("averaging", averaging, AVERAGING)
    population = training.population
    solve = training.solver(mode)

    def step(state: RaterState, batch: Batch, key: jax.Array) -> tuple[RaterState, Metrics]:
        by_member = training.by_member(*batch.read())

        def live(
            member: jax.Array,
            inner: InnerState,
            age: jax.Array,
            images: jax.Array,
            labels: jax.Array,
        ) -> _Outcome:
            own = population.key(key, member, state.step)
            examples, outer = training.draw(own, age, images, labels)
            result = solve(state.eta, inner, examples, outer)
            after = state.step + 1
            _, renewed = population.life(member, after)
            next_inner = jax.lax.cond(
                renewed,
                lambda: _begin(init_inner, training.optimizer, population.key(key, member, after)),
                lambda: result.inner,
            )
            return _Outcome(
                value=result.value,
                gradient=result.gradient,
                inner=next_inner,
                age=jnp.where(renewed, 0, age + 1),
                weights=result.weights,
                losses=result.losses,
                sigma=examples.levels.sigma,
                scores=training.above_rivals(
                    jax.vmap(lambda one: training.scores(state.eta, one))(examples)
                ),
            )

        members = jnp.arange(population.size)
        outcome = over_members(live, (members, state.inner, state.age, *by_member), training.unroll)
        gradient = jax.tree.map(lambda g: jnp.mean(g, axis=0), outcome.gradient)

        def move(gradient: Any, opt_state: optax.OptState) -> tuple[Any, optax.OptState]:
            # optax raises floats to integer step counts, which strict promotion would refuse.
            with jax.numpy_dtype_promotion("standard"):
                return meta_optimizer.update(gradient, opt_state, state.eta)

        if averaging == "updates":
            updates, opt_state = jax.vmap(move)(outcome.gradient, state.meta_opt_state)
            updates = jax.tree.map(lambda u: jnp.mean(u, axis=0), updates)
        else:
            updates, opt_state = move(gradient, state.meta_opt_state)
        metrics = {
            "loss": jnp.mean(outcome.value),
            "grad_norm": optax.tree.norm(gradient),
            **_metrics(
                outcome,
                training.task.candidates,
                training.task.global_batch,
            ),
            **({} if training.record is None else training.record(state.eta)),
        }
        return (
            RaterState(
                step=state.step + 1,
                eta=optax.apply_updates(state.eta, updates),
                meta_opt_state=opt_state,
                inner=outcome.inner,
                age=outcome.age,
            ),
            metrics,
        )

    return step


def _metrics(outcome: _Outcome, candidates: int | None, global_batch: int) -> Metrics:
    """Means over devices, inner models and inner steps."""
    losses, sigma, scores = (x.reshape(-1) for x in (outcome.losses, outcome.sigma, outcome.scores))
    band_sum, band_count = sum_by_band(losses, sigma)
    by_band = {"band_squares/score": sum_by_band(scores**2, sigma)[0]}
    if candidates is None:
        by_band["band_sums/score"] = sum_by_band(scores, sigma)[0]
    return {
        "band_sum": band_sum,
        "band_count": band_count,
        "nonfinite_sigma": nonfinite_range(losses, sigma),
        "inner_loss": jnp.sum(band_sum) / jnp.sum(band_count),
        "effective_share": _effective_share(outcome.weights, candidates, global_batch),
        **by_band,
    }


def _effective_share(w: jax.Array, candidates: int | None, global_batch: int) -> jax.Array:
    """The mean of `1 / (n sum w^2)` over all softmaxes, from weights float[P, T, b]."""
    if candidates is None:
        return jnp.mean(1 / (global_batch * jax.lax.psum(jnp.sum(w**2, axis=2), AXIS)))
    of_image = w.reshape(-1, candidates) * global_batch
    return jax.lax.pmean(jnp.mean(1 / (candidates * jnp.sum(of_image**2, axis=1))), AXIS)
