"""One training step as a pure per-device function over the named axis "data"."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxnoise.meta.selection import Selection
from jaxnoise.objectives.objective import Denoiser, Levels, Objective
from jaxnoise.optim.ema import debiased_ema
from jaxnoise.training.state import Params, TrainState
from jaxnoise.training.streams import example_keys, stream_key

AXIS = "data"
BAND_EDGES = (0.1, 1.0, 10.0)
BAND_NAMES = ("<0.1", "0.1-1", "1-10", ">10")

Metrics = dict[str, jax.Array]
Network = Callable[..., jax.Array]
"""`(params, x float[B,H,W,C], c_noise f32[B], labels int32[B] | None, dropout_keys key[B] | None)`
-> float[B,H,W,C]."""


class Batch(struct.PyTreeNode):
    """A device's part of a batch.

    Either the whole data set lies on every device and `index` says which examples to train on, or
    `index` is None and `images`, `labels` are the examples themselves.
    """

    index: jax.Array | None
    """int32[b] into the resident data set, or None."""
    images: jax.Array
    """uint8 or float32[n or b, H, W, C]."""
    labels: jax.Array
    """int32[n or b]."""

    def read(self) -> tuple[jax.Array, jax.Array]:
        """The examples: images uint8 or float32[b, H, W, C] and labels int32[b]."""
        if self.index is None:
            return self.images, self.labels
        return self.images[self.index], self.labels[self.index]


class Examples(struct.PyTreeNode):
    """All that a loss takes of each example but its noise; every array has b rows."""

    x0: jax.Array
    """float[b, H, W, C], clean images."""
    levels: Levels
    """As the objective draws them."""
    labels: jax.Array | None
    """int32[b], as the network sees them, or None if it is unconditional."""
    dropout_keys: jax.Array | None
    """key[b], or None without dropout."""

    def take(self, source: jax.Array) -> "Examples":
        """The examples of these indices, int32[b]."""
        return jax.tree.map(lambda x: x[source], self)


def to_float(images: jax.Array) -> jax.Array:
    """uint8 [0, 255] -> float32 [-1, 1]; floats (latents) are trained on as they are."""
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    return images.astype(jnp.float32) / 127.5 - 1


def flip_some(images: jax.Array, keys: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability 1/2, by its own key.

    Args:
      images: [B, H, W, C].
      keys: key[B].
    """
    mirrored = jax.vmap(lambda key: jax.random.bernoulli(key))(keys)
    return jnp.where(mirrored.reshape(-1, 1, 1, 1), images[:, :, ::-1], images)


def drop_labels(labels: jax.Array, keys: jax.Array, null_label: int, rate: float) -> jax.Array:
    """Replaces each label by `null_label` with probability `rate`, by its own key.

    Args:
      labels: int32[B].
      keys: key[B].
      null_label: what stands for no label.
      rate: in [0, 1).

    Reference: classifier-free guidance, Ho and Salimans (arXiv 2207.12598), algorithm 1.
    """
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(keys)
    return jnp.where(dropped, null_label, labels)


def loss_by_band(losses: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sums of the losses in each noise band, and how many examples fell there, over all devices.

    Args:
      losses: float[b].
      sigma: float[b], noise levels.

    Returns:
      float[4] sums and float[4] counts, for sigma < 0.1, 0.1-1, 1-10 and >= 10.
    """
    band = jnp.searchsorted(jnp.asarray(BAND_EDGES, sigma.dtype), sigma, side="right")
    sums = jnp.zeros(len(BAND_NAMES), losses.dtype).at[band].add(losses)
    counts = jnp.zeros(len(BAND_NAMES), losses.dtype).at[band].add(1.0)
    return jax.lax.psum((sums, counts), AXIS)


def nonfinite_range(losses: jax.Array, sigma: jax.Array) -> jax.Array:
    """Lowest and highest noise level with a non-finite loss, over all devices: float[2].

    (inf, -inf) when every loss is finite.
    """
    bad = ~jnp.isfinite(losses)
    low = jax.lax.pmin(jnp.min(jnp.where(bad, sigma, jnp.inf)), AXIS)
    high = jax.lax.pmax(jnp.max(jnp.where(bad, sigma, -jnp.inf)), AXIS)
    return jnp.stack([low, high])


def make_step(
    network: Network,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    ema_rate: float,
    global_batch: int,
    num_classes: int,
    label_dropout: float = 0.0,
    dropout: bool,
    flip: bool,
    selection: Selection | None = None,
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]:
    """Builds the per-device step `(state, batch, key) -> (state, metrics)`.

    The levels of the whole global batch are drawn on every device and sliced, so that a stratified
    law sees the batch and never the device; noise, dropout and flips are drawn per example from its
    global index. The number of devices therefore changes nothing but the order of summation.

    Args:
      network: the raw network `F`.
      objective: what to train on.
      optimizer: an optax optimizer.
      ema_rate: rate of the bias-corrected EMA of the parameters, in [0, 1).
      global_batch: examples per step over all devices.
      num_classes: labels that the network sees are below it; 0 for an unconditional network.
      label_dropout: probability of showing the label `num_classes`, "none of them", instead of an
        image's own, as classifier-free guidance needs it; in [0, 1).
      dropout: whether the network has dropout; student and teacher share one mask.
      flip: whether to mirror images left to right at random.
      selection: chooses among draws of noise, and may choose among the examples of a device; None
        trains on the first draw of each.

    Returns:
      The step, to be mapped over the axis "data" by `jaxnoise.training.parallel`.
    """

    def step(state: TrainState, batch: Batch, key: jax.Array) -> tuple[TrainState, Metrics]:
        images, labels = batch.read()
        local = images.shape[0]
        offset = jax.lax.axis_index(AXIS) * local
        positions = offset + jnp.arange(local)

        def keys(name: str) -> jax.Array:
            return example_keys(stream_key(key, name, state.step), positions)

        whole = objective.draw(
            stream_key(key, "levels", state.step),
            stream_key(key, "grid"),
            state.step,
            global_batch,
            state.pace,
        )
        levels = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, offset, local), whole)
        x0 = to_float(images)
        if flip:
            x0 = flip_some(x0, keys("flip"))
        condition = labels if num_classes else None
        if num_classes and label_dropout:
            condition = drop_labels(labels, keys("label_dropout"), num_classes, label_dropout)
        drawn = Examples(x0, levels, condition, keys("dropout") if dropout else None)

        def losses_of(params: Params, examples: Examples, eps: jax.Array) -> jax.Array:
            def bind(params: Params) -> Denoiser:
                return lambda x, c_noise: network(
                    params["network"], x, c_noise, examples.labels, examples.dropout_keys
                )

            teacher = params if state.teacher is None else state.teacher
            return objective.losses(
                bind(params),
                bind(jax.lax.stop_gradient(teacher)),
                params["objective"],
                examples.x0,
                eps,
                examples.levels,
            )

        def losses_now(x0: jax.Array, eps: jax.Array) -> jax.Array:
            return losses_of(state.params, drawn.replace(x0=x0), eps)

        trained, selected = drawn, {}
        if selection is None:
            eps = jax.vmap(lambda k: jax.random.normal(k, x0.shape[1:], x0.dtype))(keys("noise"))
        else:
            eps, source, info = selection.select(
                keys("noise"), x0, levels.sigma, state.step, losses_now
            )
            trained = drawn if source is None else drawn.take(source)
            selected = jax.lax.pmean(info, AXIS)

        def mean_loss(params: Params) -> tuple[jax.Array, jax.Array]:
            losses = losses_of(params, trained, eps)
            return jnp.mean(losses), losses

        (loss, losses), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
        loss, gradient = jax.lax.pmean((loss, gradient), AXIS)
        # optax raises floats to integer step counts, which strict promotion would refuse.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        band_sum, band_count = loss_by_band(losses, trained.levels.sigma)
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
                ema=None if state.ema is None else debiased_ema(params, state.ema, ema_rate, count),
                teacher=_next_teacher(objective, state, params),
                pace=objective.pacing.update(state.pace, loss),
            ),
            metrics,
        )

    return step


def _next_teacher(objective: Objective, state: TrainState, params: Params) -> Params:
    if not objective.has_teacher:
        return None
    return optax.incremental_update(params, state.teacher, 1 - objective.teacher_rate(state.step))
