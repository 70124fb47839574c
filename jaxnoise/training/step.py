"""One training step as a pure per-device function over the named axis "data"."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxnoise.meta.neutral import Noisy, asks_what_is_shown
from jaxnoise.meta.selection import Selection, Weighted
from jaxnoise.models.fused import at_least_float32
from jaxnoise.objectives.levels import uncompensated
from jaxnoise.objectives.objective import Objective
from jaxnoise.optim.ema import debiased_ema
from jaxnoise.training.diagnostics import nonfinite_range, sum_by_band
from jaxnoise.training.drawing import AXIS, Batch, Drawing, Examples, Network, example_losses
from jaxnoise.training.shown import network_input
from jaxnoise.training.state import Params, TrainState
from jaxnoise.training.streams import stream_key

Metrics = dict[str, jax.Array]


def make_step(
    network: Network,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    ema_rate: float | tuple[float, ...],
    global_batch: int,
    num_classes: int,
    label_dropout: float = 0.0,
    dropout: bool,
    flip: bool,
    augment: float = 0.0,
    selection: Selection | None = None,
    teacher_network: Network | None = None,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Builds the per-device step `(state, batch, key) -> (state, metrics)`.

    The levels of the whole global batch are drawn on every device and sliced, so that a stratified
    law sees the batch and never the device; noise, dropout and flips are drawn per example from its
    global index. The number of devices therefore changes nothing but the order of summation.

    Args:
      network: the raw network `F`.
      objective: what to train on.
      optimizer: an optax optimizer.
      ema_rate: rate of the bias-corrected EMA of the parameters, in [0, 1); a tuple for as many as
        the state keeps.
      global_batch: examples per step over all devices.
      num_classes: labels that the network sees are below it; 0 for an unconditional network.
      label_dropout: probability of showing the label `num_classes`, "none of them", instead of an
        image's own, as classifier-free guidance needs it; in [0, 1).
      dropout: whether the network has dropout; student and teacher share one mask.
      flip: whether to mirror images left to right at random.
      augment: probability of each transformation of `jaxnoise.data.augment`, of which the network
        is told; 0 for none.
      selection: chooses among draws of noise, and may choose among the examples of a device or
        weigh their losses; None trains on the first draw of each.
      teacher_network: the network for the teacher, of the same parameters, where an objective asks
        more of it than a value, as `SCMObjective` its derivative; None for `network`.

    Returns:
      The step, to be mapped over the axis "data" by `jaxnoise.training.parallel`.
    """

    drawing = Drawing(objective, global_batch, num_classes, dropout, flip, label_dropout, augment)

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        drawn, noise_keys = drawing.draw(
            key, stream_key(key, "grid"), state.step, state.pace, *batch.read()
        )

        def losses_of(params: Params, examples: Examples) -> jax.Array:
            teacher = params if state.teacher is None else state.teacher
            return example_losses(network, objective, params, teacher, examples, teacher_network)

        def losses_now(x0: jax.Array, eps: jax.Array) -> jax.Array:
            rated = losses_of(state.params, drawn.replace(x0=x0, eps=eps))
            return uncompensated(rated, drawn.levels)

        def shown_now(x0: jax.Array, eps: jax.Array) -> Noisy:
            x = network_input(objective, state.params["objective"], x0, eps, drawn.levels)
            return Noisy(x, drawn.levels.lam, drawn.labels)

        x0, selected, weight = drawn.x0, {}, None
        if selection is None:
            # As candidates of a selection are: half precision is rounded from float32.
            wide = at_least_float32(x0.dtype)
            drawn_wide = jax.vmap(lambda k: jax.random.normal(k, x0.shape[1:], wide))(noise_keys)
            eps = drawn_wide.astype(x0.dtype)
            trained = drawn.replace(eps=eps)
        else:
            asked = {"shown": shown_now} if asks_what_is_shown(selection) else {}
            chosen = selection.select(
                noise_keys, x0, drawn.levels.lam, state.step, losses_now, **asked
            )
            eps, source, info = chosen[:3]
            weight = chosen.weight if isinstance(chosen, Weighted) else None
            trained = (drawn if source is None else drawn.take(source)).replace(eps=eps)
            selected = jax.lax.pmean(info, AXIS)

        def mean_loss(params: Params) -> tuple[jax.Array, jax.Array]:
            losses = losses_of(params, trained)
            return jnp.mean(losses if weight is None else weight * losses), losses

        (loss, losses), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        loss, gradient = jax.lax.pmean((loss, gradient), AXIS)
        # A selection that draws from another law than the noise's own weighs that out again.
        weights = () if weight is None else (weight,)
        seen = objective.observe(losses, state.params["objective"], trained.levels, *weights)
        # optax raises floats to integer step counts, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        band_sum, band_count = sum_by_band(
            uncompensated(losses, trained.levels), trained.levels.sigma
        )
        metrics = {
            "loss": loss,
            "grad_norm": optax.tree.norm(gradient),
            "band_sum": band_sum,
            "band_count": band_count,
            "nonfinite_sigma": nonfinite_range(losses, trained.levels.sigma),
            **objective.metrics(state.step, state.pace),
            **selected,
        }
        count = state.step + 1
        return (
            TrainState(
                step=count,
                params=params,
                opt_state=opt_state,
                ema=_averaged(state, params, ema_rate, count),
                teacher=_next_teacher(objective, state, params),
                pace=objective.pacing.update(state.pace, jax.lax.psum(seen, AXIS)),
            ),
            metrics,
        )

    return step


def _averaged(
    state: TrainState, params: Params, rates: float | tuple[float, ...], count: jax.Array
) -> Params:
    """Each average after one more update, in the structure that the state has them in."""
    rates = rates if isinstance(rates, tuple) else (rates,)
    if state.ema is None:
        return None
    pairs = zip(state.averages, rates, strict=True)
    found = tuple(debiased_ema(params, average, rate, count) for average, rate in pairs)
    return found if isinstance(state.ema, tuple) else found[0]


def _next_teacher(objective: Objective, state: TrainState, params: Params) -> Params:
    if not objective.has_teacher:
        return None
    return optax.incremental_update(params, state.teacher, 1 - objective.teacher_rate(state.step))
