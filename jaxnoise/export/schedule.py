"""The noise levels at which a sampler evaluates the network, and what it makes of each output."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnoise.objectives.objective import Denoiser
from jaxnoise.sampling.samplers import Sampler


def evaluations(sampler: Sampler, denoiser: Callable[[Denoiser], Denoiser]) -> list[dict[str, Any]]:
    """The noise level and the preconditioning of each evaluation of a sampler, in order.

    `D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)`. With these numbers a sampler can be written
    down for the raw network F alone.

    Args:
      sampler: the sampler.
      denoiser: an objective's `denoiser`: raw network -> denoiser.

    Returns:
      One dict for each evaluation: sigma, c_skip, c_out, c_in, c_noise; float32 values, a list of
      them in c_noise where the network is told more than one.

    Example:
      >>> from jaxnoise.export import evaluations
      >>> from jaxnoise.noise import Cosine
      >>> from jaxnoise.objectives import DenoisingObjective, Prediction, min_snr_weight
      >>> from jaxnoise.sampling import euler_sampler
      >>> objective = DenoisingObjective(Cosine(), min_snr_weight(), Prediction("eps"))
      >>> first, last = evaluations(euler_sampler(2, 0.25, 4.0), objective.denoiser)
      >>> [round(first[name], 4) for name in ("sigma", "c_skip", "c_out", "c_in", "c_noise")]
      [4.0, 1.0, -4.0, 0.2481, 0.6931]
    """
    levels = _levels(sampler)
    sigma = jnp.asarray(levels, jnp.float32)
    seen: dict[str, jax.Array] = {}

    def network(value: float) -> Denoiser:
        def constant(x: jax.Array, c_noise: jax.Array) -> jax.Array:
            seen.update(scaled=x, c_noise=c_noise)
            return jnp.full_like(x, value)

        return constant

    zeros = jnp.zeros((len(levels), 1, 1, 1), jnp.float32)
    c_out = denoiser(network(1.0))(zeros, sigma)
    c_skip = denoiser(network(0.0))(zeros + 1, sigma)
    columns = {
        "sigma": sigma,
        "c_skip": c_skip,
        "c_out": c_out,
        "c_in": seen["scaled"],
        "c_noise": seen["c_noise"],
    }
    rows = {name: column.reshape(len(levels), -1) for name, column in columns.items()}
    lists = {name: (x[:, 0] if x.shape[1] == 1 else x).tolist() for name, x in rows.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _levels(sampler: Sampler) -> list[float]:
    levels: list[float] = []

    def record(x: jax.Array, sigma: jax.Array) -> jax.Array:
        levels.append(sigma[0].item())
        return x

    # Without jit a solver's loop is Python's, and its levels are numbers.
    with jax.disable_jit():
        noise = jnp.zeros((1, 1, 1, 1), jnp.float32)
        sampler.draw(record, noise, jax.random.split(jax.random.key(0), 1))
    return levels
