"""Which levels of noise a training draws: where its law ends, and how far its pacing gets."""

from math import inf
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import ArgumentError
from jaxnoise.noise.logsnr_law import LogSnrLaw
from jaxnoise.noise.pacing import NoPacing, Pacing

RARELY = 1e-6
"""Mass of either tail that counts as never trained on. EDM's own sigma_max = 80 lies where its law
has 1.7e-6 left, so that anything above would refuse the published sampler."""

_RAREST = 2.0**-24
"""The rarest uniform in float32."""

LARGEST_STEP = 2**31 - 1
# At how many steps a pacing is asked what it draws; ours are widest at the first or the last.
_MOMENTS = 11


def drawn_range(law: LogSnrLaw, pacing: Pacing, pace: Any, last_step: int) -> tuple[float, float]:
    """Lowest and highest lambda that are drawn, but for `RARELY` at either end.

    Args:
      law: over lambda.
      pacing: of its quantiles.
      pace: the pacing's state, where training ended.
      last_step: of the training, at least 0.
    """
    steps = np.unique(np.linspace(0, last_step, _MOMENTS).astype(np.int32))
    # Doubles, in which both tails of a warped uniform keep their digits.
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        rarely = jnp.asarray([RARELY, 1 - RARELY])
        placed = pacing.on(law.survival)
        t = jax.vmap(lambda step: placed.warp(rarely, pace, step))(jnp.asarray(steps))
        cleanest, noisiest = jnp.min(t[:, 0]), jnp.max(t[:, 1])
        lowest = law.from_tails(noisiest, 1 - noisiest)
        highest = law.from_tails(cleanest, 1 - cleanest)
        return float(lowest), float(highest)


def check_law_range(
    law: LogSnrLaw, lowest: float, highest: float, argument: str = "law"
) -> tuple[float, float]:
    """The lowest and highest lambda that a law draws, which must lie between two.

    Args:
      law: over lambda, with numbers that are known.
      lowest: of the noisiest level, in float32's rarest draw.
      highest: of the cleanest, but for `RARELY`.
      argument: the parameter that holds it.

    Raises:
      ArgumentError: they do not.
    """
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        rarest = jnp.float64(_RAREST)
        noisiest = float(law.from_tails(1 - rarest, rarest))
    cleanest = drawn_range(law, NoPacing(), (), 0)[1]
    if noisiest < lowest or cleanest > highest:
        allowed = (
            f"a law of log SNR from {lowest:g} to {highest:g}, not {noisiest:.3g} to "
            f"{cleanest:.3g}: law.truncated(lo, hi), in a config its keys low and high"
        )
        raise ArgumentError(argument, law, allowed)
    return noisiest, cleanest


def ends_of(law: LogSnrLaw) -> tuple[float, float]:
    """A law's lowest and highest lambda, infinite where it has no end."""
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        low, high = map(float, law.inverse_survival(jnp.asarray([1.0, 0.0])))
        reach = 1 + high - low
        beyond = law.log_prob(jnp.asarray([low - reach, high + reach]))
        endless = np.isfinite(np.asarray(beyond))
    return -inf if endless[0] else low, inf if endless[1] else high
