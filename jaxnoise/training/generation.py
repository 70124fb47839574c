"""Draws images in batches, each from its own seed."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnoise.objectives.consistency import ConsistencyObjective
from jaxnoise.sampling.consistency import image_noise, multistep
from jaxnoise.sampling.images import to_uint8
from jaxnoise.training.parallel import Devices
from jaxnoise.training.state import Params
from jaxnoise.training.step import AXIS


class Generator:
    """One-step and multistep samples of a consistency model.

    Image i depends on (parameters, seed, i) only: not on how many are drawn, at once or in all, nor
    on the number of devices. A class-conditional network gets label `i % num_classes`.

    Args:
      network: `(params, x, c_noise, labels) -> float[B, H, W, C]`.
      objective: gives the consistency function of the network.
      image_shape: (H, W, C).
      num_classes: 0 for an unconditional network.
      batch: images drawn at once; rounded up to a multiple of the number of devices.
      devices: where to draw.
    """

    def __init__(
        self,
        network: Callable[..., jax.Array],
        objective: ConsistencyObjective,
        image_shape: tuple[int, int, int],
        num_classes: int,
        batch: int,
        devices: Devices,
    ):
        self._batch = -(-batch // devices.size) * devices.size
        self._num_classes = num_classes
        self._devices = devices

        @partial(jax.jit, static_argnums=3, out_shardings=devices.replicated)
        def draw(
            params: Params, positions: jax.Array, seed: jax.Array, sigmas: tuple[float, ...]
        ) -> jax.Array:
            split = NamedSharding(devices.mesh, P(AXIS))
            positions = jax.lax.with_sharding_constraint(positions, split)
            keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(positions)
            labels = positions % num_classes if num_classes else None
            denoiser = objective.denoiser(lambda x, c: network(params, x, c, labels))
            return multistep(
                denoiser,
                image_noise(keys, image_shape, 0),
                sigmas,
                keys,
                sigma_min=objective.sigma_min,
                sigma_max=objective.sigma_max,
            )

        self._draw = draw

    def __call__(
        self, params: Params, count: int, seed: int, sigmas: tuple[float, ...] = ()
    ) -> np.ndarray:
        """Draws images 0..count-1 of a seed.

        Args:
          params: the network's parameters.
          count: how many, at least 1.
          seed: of the noise.
          sigmas: levels of the steps after the first, descending, in data units (static).

        Returns:
          uint8[count, H, W, C].
        """
        images = []
        for start in range(0, count, self._batch):
            positions = jnp.arange(start, start + self._batch, dtype=jnp.int32)
            images.append(to_uint8(self._draw(params, positions, jnp.uint32(seed), sigmas)))
        return np.concatenate(images)[:count]
