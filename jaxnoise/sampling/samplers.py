"""Samplers with their names and costs, as scores and pictures refer to them."""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from jaxnoise.sampling.consistency import Denoiser, multistep


@dataclass(frozen=True)
class Sampler:
    """A way to draw images with a denoiser.

    Attributes:
      name: in records and file names, such as "1step".
      nfe: network evaluations per image.
      draw: `(denoiser, noise float[B, H, W, C], keys key[B]) -> float[B, H, W, C]`.
    """

    name: str
    nfe: int
    draw: Callable[[Denoiser, jax.Array, jax.Array], jax.Array]


def consistency_samplers(
    sigmas: tuple[float, ...], sigma_min: float, sigma_max: float
) -> tuple[Sampler, ...]:
    """One-step sampling, and multistep sampling through `sigmas` if there are any.

    Args:
      sigmas: levels of the steps after the first, descending, in data units.
      sigma_min: lowest level of the training.
      sigma_max: highest level of the training.

    Returns:
      One or two samplers.

    Example:
      >>> [(s.name, s.nfe) for s in consistency_samplers((0.821,), 0.002, 80.0)]
      [('1step', 1), ('2step', 2)]
    """
    chains: list[tuple[float, ...]] = [(), sigmas] if sigmas else [()]
    return tuple(
        Sampler(f"{len(chain) + 1}step", len(chain) + 1, _chain(chain, sigma_min, sigma_max))
        for chain in chains
    )


def _chain(
    sigmas: tuple[float, ...], sigma_min: float, sigma_max: float
) -> Callable[[Denoiser, jax.Array, jax.Array], jax.Array]:
    def draw(denoiser: Denoiser, noise: jax.Array, keys: jax.Array) -> jax.Array:
        return multistep(denoiser, noise, sigmas, keys, sigma_min=sigma_min, sigma_max=sigma_max)

    return draw
