"""What a training step draws for its images: levels, noise, flips, labels and dropout.

Everything is drawn from keys of the step and of the example's place in the global batch, so the
number of devices changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import struct

from jaxnoise.data.augmentation import augment
from jaxnoise.errors import ArgumentError
from jaxnoise.objectives.levels import Levels
from jaxnoise.objectives.objective import Denoiser, Objective
from jaxnoise.training.state import Params
from jaxnoise.training.streams import example_keys, stream_key

AXIS = "data"

Network = Callable[..., jax.Array]
"""`(params, x float[B,H,W,C], c_noise f32[B], labels int32[B] | None, dropout_keys key[B] | None)`
-> float[B,H,W,C]; where images are augmented with their labels float32[B,9] behind these."""


class Batch(struct.PyTreeNode):
    """A device's part of a batch.

    Either the whole data set lies on every device and `index` says which examples to train on, or
    `index` is None and `images`, `labels` are the examples themselves.

    Args:
      index: int32[b] into the resident data set, or None.
      images: uint8 or float32[n or b, H, W, C].
      labels: int32[n or b].
    """

    index: jax.Array | None
    images: jax.Array
    labels: jax.Array

    def read(self) -> tuple[jax.Array, jax.Array]:
        """The examples: images uint8 or float32[b, H, W, C] and labels int32[b]."""
        if self.index is None:
            return self.images, self.labels
        return self.images[self.index], self.labels[self.index]


class Examples(struct.PyTreeNode):
    """All that the loss of some examples depends on but the parameters; arrays have b rows.

    Args:
      x0: float[b, H, W, C], clean images.
      eps: float[b, H, W, C], or None as long as it is not drawn.
      levels: as the objective draws them.
      labels: int32[b], as the network sees them, or None if it is unconditional.
      dropout_keys: key[b], or None without dropout.
      augmentation: float32[b, 9], how each image was augmented, or None if none is.
    """

    x0: jax.Array
    eps: jax.Array | None
    levels: Levels
    labels: jax.Array | None
    dropout_keys: jax.Array | None
    augmentation: jax.Array | None = None

    def take(self, source: jax.Array) -> "Examples":
        """The examples of these indices, int32[b]."""
        return jax.tree.map(lambda x: x[source], self)


@dataclass(frozen=True)
class Drawing:
    """How examples are drawn: levels for the whole batch, all else for each by its global index.

    Args:
      objective: draws the noise levels.
      global_batch: B, examples over all devices.
      num_classes: labels that the network sees are below it; 0 for an unconditional network.
      dropout: whether the network has dropout.
      flip: whether to mirror images left to right at random.
      label_dropout: probability of showing the label `num_classes`, "none of them".
      augment: probability of each transformation of an image, 0 for none.
    """

    objective: Objective
    global_batch: int
    num_classes: int
    dropout: bool
    flip: bool
    label_dropout: float = 0.0
    augment: float = 0.0

    def draw(
        self,
        key: jax.Array,
        grid_key: jax.Array,
        step: jax.Array,
        pace: jax.Array,
        images: jax.Array,
        labels: jax.Array,
    ) -> tuple[Examples, jax.Array]:
        """This device's examples of one step without noise, and the keys key[b] of their noise.

        Args:
          key: PRNG key of the run.
          grid_key: PRNG key of a random choice of levels, the same through training.
          step: int32[].
          pace: state of the objective's pacing.
          images: uint8 or float32[b, H, W, C].
          labels: int32[b].
        """
        local = images.shape[0]
        # A slice that reaches beyond the levels would be moved back without a word.
        if local * (devices := jax.lax.axis_size(AXIS)) != self.global_batch:
            allowed = f"{local * devices}, the examples of all {devices} devices"
            raise ArgumentError("global_batch", self.global_batch, allowed)
        offset = jax.lax.axis_index(AXIS) * local
        positions = offset + jnp.arange(local)

        def keys(name: str) -> jax.Array:
            return example_keys(stream_key(key, name, step), positions)

        whole = self.objective.draw(
            stream_key(key, "levels", step), grid_key, step, self.global_batch, pace
        )
        levels = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, offset, local), whole)
        x0 = to_float(images)
        if self.flip:
            x0 = flip_some(x0, keys("flip"))
        augmentation = None
        if self.augment:
            x0, augmentation = augment(x0, keys("augment"), self.augment)
        condition = labels if self.num_classes else None
        if self.num_classes and self.label_dropout:
            condition = drop_labels(
                labels, keys("label_dropout"), self.num_classes, self.label_dropout
            )
        dropout_keys = keys("dropout") if self.dropout else None
        examples = Examples(x0, None, levels, condition, dropout_keys, augmentation)
        return examples, keys("noise")


def example_losses(
    network: Network,
    objective: Objective,
    params: Params,
    teacher: Params,
    examples: Examples,
    teacher_network: Network | None = None,
) -> jax.Array:
    """The loss of each example, float[b]; to derivatives, the teacher is a constant.

    Args:
      network: the raw network.
      objective: what to train on.
      params: the student's.
      teacher: the teacher's.
      examples: what is trained on.
      teacher_network: the same network for the teacher, if it is to have other rules of
        differentiation or another precision; None for `network`.
    """

    assert examples.eps is not None
    told = () if examples.augmentation is None else (examples.augmentation,)

    def bind(network: Network, params: Params) -> Denoiser:
        return lambda x, c_noise: network(
            params["network"], x, c_noise, examples.labels, examples.dropout_keys, *told
        )

    return objective.losses(
        bind(network, params),
        bind(teacher_network or network, jax.lax.stop_gradient(teacher)),
        params["objective"],
        examples.x0,
        examples.eps,
        examples.levels,
    )


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
