"""Draws images in batches, each from its own seed."""

import zlib
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnoise.objectives.objective import Denoiser
from jaxnoise.sampling.consistency import image_noise
from jaxnoise.sampling.guidance import guided
from jaxnoise.sampling.images import to_uint8
from jaxnoise.sampling.samplers import Sampler
from jaxnoise.training.drawing import AXIS
from jaxnoise.training.parallel import Devices
from jaxnoise.training.state import Params


def labels_by_frequency(keys: jax.Array, class_counts: npt.NDArray[np.integer]) -> jax.Array:
    """Labels with the frequencies of a data set, by the inverse of their cumulative sum.

    Images whose distance to the data is taken need them: with other frequencies a generator of
    perfect images of each class would not score the floor.

    Args:
      keys: typed PRNG keys, key[B], one for each image.
      class_counts: int[num_classes] >= 0, examples of each class, not all 0.

    Returns:
      int32[B], never a class without examples.

    Example:
      >>> import jax
      >>> import numpy as np
      >>> from jaxnoise.training.generation import labels_by_frequency
      >>> print(labels_by_frequency(jax.random.split(jax.random.key(0), 3), np.array([0, 5, 0])))
      [1 1 1]
    """
    own = jax.vmap(lambda key: jax.random.fold_in(key, zlib.crc32(b"label")))(keys)
    u = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32))(own)
    cumulative = np.cumsum(class_counts) / np.sum(class_counts)
    last = int(np.flatnonzero(class_counts)[-1])
    found = jnp.searchsorted(jnp.asarray(cumulative, jnp.float32), u, side="right")
    return jnp.minimum(found, last).astype(jnp.int32)


class Generator:
    """Draws images with given parameters and a sampler.

    Image i depends on (parameters, seed, i) only: not on how many are drawn, at once or in all, nor
    on the number of devices. A class-conditional network gets label `i % num_classes`, so that a
    grid shows every class, or labels as frequent as in the data, for a score.

    Args:
      denoiser: `(parameters, labels int32[B] or None) -> the denoiser (x, sigma) -> x0`; the label
        `num_classes` stands for none.
      image_shape: (H, W, C).
      class_counts: int[num_classes], how many examples of each class the data hold; empty for an
        unconditional network.
      batch: images drawn at once; rounded up to a multiple of the number of devices.
      devices: where to draw.
      guidance: scale of classifier-free guidance; 1 for none.
      dtype: uint8 for images, which are clipped to [-1, 1] and rounded; float32 for latents, which
        are left as they are.
    """

    def __init__(
        self,
        denoiser: Callable[[Params, jax.Array | None], Denoiser],
        image_shape: tuple[int, int, int],
        class_counts: npt.NDArray[np.integer],
        batch: int,
        devices: Devices,
        guidance: float = 1.0,
        dtype: npt.DTypeLike = np.uint8,
    ):
        self._batch = -(-batch // devices.size) * devices.size
        num_classes = len(class_counts)

        def keys_of(positions: jax.Array, seed: jax.Array) -> jax.Array:
            return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(positions)

        def labels_of(
            positions: jax.Array, seed: jax.Array, counts: tuple[int, ...] | None
        ) -> jax.Array:
            if counts is not None:
                return labels_by_frequency(keys_of(positions, seed), np.asarray(counts))
            return positions % num_classes

        # Labels come from outside, so that pictures and scores share the large program.
        @partial(jax.jit, static_argnums=4, out_shardings=devices.replicated)
        def draw(
            params: Params,
            positions: jax.Array,
            seed: jax.Array,
            labels: jax.Array | None,
            sampler: Sampler,
        ) -> jax.Array:
            split = NamedSharding(devices.mesh, P(AXIS))
            positions, labels = jax.lax.with_sharding_constraint((positions, labels), split)
            keys = keys_of(positions, seed)
            conditional = denoiser(params, labels)
            if guidance != 1:
                none = jnp.full_like(positions, num_classes)
                conditional = guided(conditional, denoiser(params, none), guidance)
            return sampler.draw(conditional, image_noise(keys, image_shape, 0), keys)

        self._draw = draw
        self._counts = class_counts
        self._labels = jax.jit(labels_of, static_argnums=2) if num_classes else None
        self._finish = to_uint8 if np.dtype(dtype) == np.uint8 else np.asarray

    def __call__(
        self,
        params: Params,
        count: int,
        seed: int,
        sampler: Sampler,
        *,
        by_frequency: bool = False,
    ) -> np.ndarray:
        """Draws images 0..count-1 of a seed.

        Args:
          params: the network's parameters.
          count: how many, at least 1.
          seed: of the noise.
          sampler: how.
          by_frequency: whether labels are as frequent as in the data, not one class after another.

        Returns:
          [count, H, W, C] of the generator's dtype.
        """
        portions = self.batches(params, count, seed, sampler, by_frequency=by_frequency)
        return np.concatenate(list(portions))

    def batches(
        self,
        params: Params,
        count: int,
        seed: int,
        sampler: Sampler,
        *,
        by_frequency: bool = False,
        class_counts: npt.NDArray[np.integer] | None = None,
    ) -> Iterator[np.ndarray]:
        """The same images in portions, drawn when asked for: memory holds one at a time.

        Args:
          params: the network's parameters.
          count: how many, at least 1.
          seed: of the noise.
          sampler: how.
          by_frequency: whether labels are as frequent as in the data, not one class after another.
          class_counts: of other data, whose frequencies are then taken; None for the generator's.
        """
        counts = self._frequencies(class_counts) if by_frequency else None
        for start in range(0, count, self._batch):
            positions = np.arange(start, start + self._batch, dtype=np.int32)
            labels = self._labels and self._labels(positions, np.uint32(seed), counts)
            drawn = self._draw(params, positions, np.uint32(seed), labels, sampler)
            yield self._finish(drawn)[: count - start]

    def labels(self, count: int, seed: int, *, by_frequency: bool = False) -> np.ndarray | None:
        """The labels of images 0..count-1 of a seed, int32[count], or None without classes."""
        if self._labels is None:
            return None
        positions = np.arange(count, dtype=np.int32)
        counts = self._frequencies(None) if by_frequency else None
        return np.asarray(self._labels(positions, np.uint32(seed), counts))

    def _frequencies(self, class_counts: npt.NDArray[np.integer] | None) -> tuple[int, ...]:
        counts = self._counts if class_counts is None else class_counts
        return tuple(int(count) for count in counts)
