"""Samplers with their names and costs, as scores and pictures refer to them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, log

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import (
    ArgumentError,
    check_callable,
    check_count,
    check_numbers,
    check_positive,
    describe,
)
from jaxnoise.noise.levels import karras_levels
from jaxnoise.objectives.objective import Denoiser
from jaxnoise.sampling.checks import check_concrete, check_level, checked_range, checked_steps
from jaxnoise.sampling.consistency import multistep
from jaxnoise.sampling.diffusion import ddim, euler, heun

USUAL_RANGE = (0.002, 80.0)
"""EDM's sigma_min and sigma_max for images in [-1, 1] (arXiv 2206.00364, table 1)."""

_LARGEST_LOG = 700.0


@dataclass(frozen=True)
class Sampler:
    """A way to draw images with a denoiser.

    Attributes:
      name: in records and file names, such as "1step".
      nfe: network evaluations per image.
      levels: noise levels visited, from the highest, in data units.
      draw: `(denoiser, noise float[B, H, W, C], keys key[B]) -> float[B, H, W, C]`.

    Raises:
      ArgumentError: a field of another kind, or no evaluation.

    Example:
      >>> import jax
      >>> from jaxnoise.sampling import Sampler, image_noise, one_step
      >>> own = Sampler("mine", 1, (80.0,), lambda denoiser, z, keys: one_step(denoiser, z, 80.0))
      >>> keys = jax.random.split(jax.random.key(0), 3)
      >>> own.draw(lambda x, sigma: 0 * x, image_noise(keys, (8, 8, 1), 0), keys).shape
      (3, 8, 8, 1)
    """

    name: str
    nfe: int
    levels: tuple[float, ...]
    draw: Callable[[Denoiser, jax.Array, jax.Array], jax.Array]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise ArgumentError("name", describe(self.name), "a string")
        check_count("nfe", self.nfe, 1)
        if not isinstance(self.levels, tuple):
            raise ArgumentError("levels", describe(self.levels), "a tuple, which can be hashed")
        check_numbers("levels", self.levels, lambda x: x.ndim == 1, "a tuple of noise levels")
        check_callable("draw", self.draw, "(denoiser, noise, keys) -> float[B, H, W, C]")


def consistency_samplers(
    sigmas: tuple[float, ...], sigma_min: float, sigma_max: float
) -> tuple[Sampler, ...]:
    """One-step sampling, and multistep sampling through `sigmas` if there are any.

    Args:
      sigmas: levels of the steps after the first, in order, in data units.
      sigma_min: lowest level of the training, at which the function is the identity, >= 0.
      sigma_max: highest level of the training.

    Returns:
      One or two samplers.

    Raises:
      ArgumentError: levels that are out of range or in no strict order.

    Example:
      >>> from jaxnoise.sampling import consistency_samplers
      >>> [(s.name, s.nfe) for s in consistency_samplers((0.821,), 0.002, 80.0)]
      [('1step', 1), ('2step', 2)]
    """
    steps = checked_steps(sigmas, sigma_min, sigma_max)
    chains: list[tuple[float, ...]] = [(), steps] if steps else [()]
    return tuple(
        Sampler(
            name=f"{len(chain) + 1}step",
            nfe=len(chain) + 1,
            levels=(sigma_max, *chain),
            draw=_chain(chain, sigma_min, sigma_max),
        )
        for chain in chains
    )


def _chain(
    sigmas: tuple[float, ...], sigma_min: float, sigma_max: float
) -> Callable[[Denoiser, jax.Array, jax.Array], jax.Array]:
    def draw(denoiser: Denoiser, noise: jax.Array, keys: jax.Array) -> jax.Array:
        return multistep(denoiser, noise, sigmas, keys, sigma_min=sigma_min, sigma_max=sigma_max)

    return draw


def heun_sampler(
    steps: int = 18,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
    *,
    trained_range: tuple[float, float] = (-inf, inf),
) -> Sampler:
    """EDM's second-order sampler on Karras levels; 2 steps - 1 evaluations.

    Args:
      steps: noise levels, at least 2; 18 are EDM's 35 evaluations.
      sigma_min: lowest level in data units, > 0; None for 0.002, or the lowest trained level if
        that is higher.
      sigma_max: level of the start, > sigma_min; None for 80, or the highest trained level if that
        is lower.
      rho: of the Karras levels, > 0.
      trained_range: (lowest, highest) lambda = -2 ln sigma that training has seen, an objective's
        `trained_range`.

    Returns:
      A sampler of denoisers D(x, sigma).

    Raises:
      ArgumentError: an argument is outside its range, or a level outside the trained range.

    Example:
      >>> from jaxnoise.sampling import heun_sampler
      >>> sampler = heun_sampler(18)
      >>> sampler.name, sampler.nfe
      ('heun18', 35)

    Reference: Karras et al. (arXiv 2206.00364), algorithm 1 and equation 5.
    """
    sigmas = _karras_sigmas(steps, sigma_min, sigma_max, rho, trained_range)

    def draw(denoiser: Denoiser, noise: jax.Array, keys: jax.Array) -> jax.Array:
        del keys
        return heun(denoiser, noise, sigmas)

    return Sampler(f"heun{steps}", 2 * steps - 1, tuple(sigmas[::-1].tolist()), draw)


def euler_sampler(
    steps: int = 35,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
    *,
    trained_range: tuple[float, float] = (-inf, inf),
) -> Sampler:
    """Euler's method on the levels of `heun_sampler`; one evaluation per level.

    Args:
      steps: noise levels, at least 2.
      sigma_min: lowest level, as in `heun_sampler`.
      sigma_max: level of the start, as in `heun_sampler`.
      rho: of the Karras levels, > 0.
      trained_range: (lowest, highest) lambda that training has seen.

    Returns:
      A sampler of denoisers D(x, sigma).

    Raises:
      ArgumentError: an argument is outside its range, or a level outside the trained range.

    Example:
      >>> from jaxnoise.sampling import euler_sampler
      >>> sampler = euler_sampler(35)
      >>> sampler.name, sampler.nfe
      ('euler35', 35)
    """
    sigmas = _karras_sigmas(steps, sigma_min, sigma_max, rho, trained_range)

    def draw(denoiser: Denoiser, noise: jax.Array, keys: jax.Array) -> jax.Array:
        del keys
        return euler(denoiser, noise, sigmas)

    return Sampler(f"euler{steps}", steps, tuple(sigmas[::-1].tolist()), draw)


def ddim_sampler(
    steps: int = 50,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    *,
    trained_range: tuple[float, float] = (-inf, inf),
) -> Sampler:
    """Deterministic DDIM at equal steps of lambda, from `-2 ln sigma_max` to `-2 ln sigma_min`.

    Args:
      steps: evaluations, at least 2.
      sigma_min: lowest level, as in `heun_sampler`.
      sigma_max: level of the start, as in `heun_sampler`; there alpha should be small, since the
        start is pure noise.
      trained_range: (lowest, highest) lambda that training has seen.

    Returns:
      A sampler of denoisers D(x, sigma) of the variance-exploding form, as every sampler here.

    Raises:
      ArgumentError: an argument is outside its range, or a level outside the trained range.

    Example:
      >>> from jaxnoise.sampling import ddim_sampler
      >>> sampler = ddim_sampler(50)
      >>> sampler.name, sampler.nfe
      ('ddim50', 50)

    Reference: Song et al. (arXiv 2010.02502), equation 12 at sigma = 0.
    """
    check_count("steps", steps, 2)
    low, high = _sigma_range(sigma_min, sigma_max, trained_range)
    lambdas = np.linspace(-2 * log(high), -2 * log(low), steps)

    def draw(denoiser: Denoiser, noise: jax.Array, keys: jax.Array) -> jax.Array:
        del keys

        def at_lambda(x: jax.Array, lam: jax.Array) -> jax.Array:
            sigma = jnp.exp(-lam / 2)
            stretch = jnp.sqrt(1 + sigma**2)  # 1 / alpha
            wide = stretch.reshape(-1, *(1,) * (x.ndim - 1)) * x.astype(sigma.dtype)
            return denoiser(wide.astype(x.dtype), sigma)

        return ddim(at_lambda, noise, lambdas, trained_range=trained_range)

    return Sampler(f"ddim{steps}", steps, tuple(np.exp(-lambdas / 2).tolist()), draw)


def _karras_sigmas(
    steps: int,
    sigma_min: float | None,
    sigma_max: float | None,
    rho: float,
    trained_range: tuple[float, float],
) -> np.ndarray:
    check_count("steps", steps, 2)
    low, high = _sigma_range(sigma_min, sigma_max, trained_range)
    check_concrete("rho", rho)
    check_level("rho", rho)
    # On the host: the solvers check their grid, and a program that this is called in must not trace
    # it.
    with jax.ensure_compile_time_eval():
        return np.asarray(karras_levels(steps, low, high, rho))


def sigmas_of(lowest: float, highest: float) -> tuple[float, float]:
    """The lowest and highest sigma of a range of log SNR, `exp(-lam / 2)`.

    The range of a Cauchy law is wider than a double can hold as sigma, which is then cut.

    Example:
      >>> sigmas_of(0.0, float("inf")), sigmas_of(-1e9, 0.0)[1] < float("inf")
      ((0.0, 1.0), True)
    """
    return exp(-highest / 2), exp(min(-lowest / 2, _LARGEST_LOG))


def _sigma_range(
    sigma_min: float | None, sigma_max: float | None, trained_range: tuple[float, float]
) -> tuple[float, float]:
    """The range of levels, with defaults filled in, none of it outside the trained range."""
    lowest, highest = checked_range(trained_range)
    for argument, sigma in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
        if sigma is not None:
            check_concrete(argument, sigma)
            check_level(argument, sigma)
    trained_min, trained_max = sigmas_of(lowest, highest)
    low = max(USUAL_RANGE[0], trained_min) if sigma_min is None else sigma_min
    high = min(USUAL_RANGE[1], trained_max) if sigma_max is None else sigma_max
    check_positive("sigma_min", low)
    if not low < high < inf:
        raise ArgumentError("sigma_max", high, f"a finite number > sigma_min={low}")
    # A level given as the end of the range may miss it by a rounding.
    if high > trained_max * (1 + 1e-6):
        allowed = f"at most {trained_max:.4g}, {_why(high, trained_range)}"
        raise ArgumentError("sigma_max", high, allowed)
    if low < trained_min * (1 - 1e-6):
        allowed = f"at least {trained_min:.4g}, {_why(low, trained_range)}"
        raise ArgumentError("sigma_min", low, allowed)
    return low, high


def _why(sigma: float, trained_range: tuple[float, float]) -> str:
    lowest, highest = trained_range
    lam = -2 * log(sigma)
    return f"since its lambda={lam:.4g} is outside the trained range [{lowest:.4}, {highest:.4}]"
