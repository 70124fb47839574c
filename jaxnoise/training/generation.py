"""Draws images in batches, each from its own seed."""

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
from jaxnoise.training.examples import AXIS
from jaxnoise.training.parallel import Devices
from jaxnoise.training.state import Params


class Generator:
    """Draws images with given parameters and a sampler.

    Image i depends on (parameters, seed, i) only: not on how many are drawn, at once or in all, nor
    on the number of devices. A class-conditional network gets label `i % num_classes`.

    Args:
      denoiser: `(parameters, labels int32[B] or None) -> the denoiser (x, sigma) -> x0`; the label
        `num_classes` stands for none.
      image_shape: (H, W, C).
      num_classes: 0 for an unconditional network.
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
        num_classes: int,
        batch: int,
        devices: Devices,
        guidance: float = 1.0,
        dtype: npt.DTypeLike = np.uint8,
    ):
        self._batch = -(-batch // devices.size) * devices.size

        @partial(jax.jit, static_argnums=3, out_shardings=devices.replicated)
        def draw(
            params: Params, positions: jax.Array, seed: jax.Array, sampler: Sampler
        ) -> jax.Array:
            split = NamedSharding(devices.mesh, P(AXIS))
            positions = jax.lax.with_sharding_constraint(positions, split)
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(positions)
            labels = positions % num_classes if num_classes else None
            conditional = denoiser(params, labels)
            if guidance != 1:
                none = jnp.full_like(positions, num_classes)
                conditional = guided(conditional, denoiser(params, none), guidance)
            return sampler.draw(conditional, image_noise(keys, image_shape, 0), keys)

        self._draw = draw
        self._finish = to_uint8 if np.dtype(dtype) == np.uint8 else np.asarray

    def __call__(self, params: Params, count: int, seed: int, sampler: Sampler) -> np.ndarray:
        """Draws images 0..count-1 of a seed.

        Args:
          params: the network's parameters.
          count: how many, at least 1.
          seed: of the noise.
          sampler: how.

        Returns:
          [count, H, W, C] of the generator's dtype.
        """
        return np.concatenate(list(self.batches(params, count, seed, sampler)))

    def batches(
        self, params: Params, count: int, seed: int, sampler: Sampler
    ) -> Iterator[np.ndarray]:
        """The same images in portions, drawn when asked for: memory holds one at a time."""
        for start in range(0, count, self._batch):
            positions = jnp.arange(start, start + self._batch, dtype=jnp.int32)
            drawn = self._draw(params, positions, jnp.uint32(seed), sampler)
            yield self._finish(drawn)[: count - start]
