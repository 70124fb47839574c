"""Whether a weight suits a law and a target: an error where it overflows, else a warning."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import ArgumentError, WeightWarning
from jaxnoise.noise.logsnr_law import LogSnrLaw
from jaxnoise.objectives.effective_sample_size import (
    COMMON,
    compensation_ess,
    drawn_levels,
    ess_of,
    weight_ess,
)
from jaxnoise.objectives.prediction import Prediction
from jaxnoise.objectives.weighting import SnrWeight, min_snr_weight

LARGEST_LOG_WEIGHT = 80.0
"""ln of the largest weight on what the network predicts; e^88 is the largest float32."""

_LARGEST_VARIANCE = 100.0
# On the digits a network whose weight left .02 drew no image, and one with .54 did.
_LEAST_ESS = 0.05
# The frames between are _check_weight, __post_init__ and the generated __init__.
_CALLER = 5


def levels_to_check(law: LogSnrLaw, weight: SnrWeight) -> tuple[jax.Array, bool]:
    """lambda at which a weight is checked, and whether they are those of `weight_ess`.

    Of several laws or weights at a time, whose numbers are arrays, they are the ends alone.
    """
    half = jax.ShapeDtypeStruct((), jnp.result_type(float))
    shape = jax.eval_shape(lambda t: weight.log_on(COMMON, law.inverse_survival(t)), half).shape
    with jax.ensure_compile_time_eval():
        if shape == ():
            return drawn_levels(law), True
        return law.inverse_survival(jnp.asarray([0.0, 1.0])), False


def check_overflow(
    law: LogSnrLaw, weight: SnrWeight, prediction: Prediction, lam: jax.Array
) -> None:
    """Refuses a weight that overflows within a law.

    Args:
      law: the law that is drawn from.
      weight: the weight, with the error that it is declared for.
      prediction: what the network predicts.
      lam: float[...], levels that the law draws, its ends among them.

    Raises:
      ArgumentError: the weight on the error of what is predicted is beyond float32.
    """
    with jax.ensure_compile_time_eval():
        highest = float(np.max(weight.log_on(prediction, lam)))
    if highest > LARGEST_LOG_WEIGHT:
        remedy = "truncate the law" + (" or predict v" if prediction.target != "v" else "")
        raise ArgumentError(
            "weight",
            weight.space,
            f"one that stays finite on the error of {prediction.target} under {law}: {remedy}",
        )


def check_compensation(law: LogSnrLaw, weight: SnrWeight, max_ratio: float | None) -> bool:
    """Warns where importance compensation leaves under 1% of a batch (`compensation_ess`).

    Args:
      law: the proposal.
      weight: w of w/p.
      max_ratio: where w/p is clipped, or None.

    Returns:
      Whether it does not.
    """
    size = compensation_ess(law, weight, max_ratio)
    variance = 1 / size - 1 if size > 0 else math.inf
    if variance > _LARGEST_VARIANCE:
        warnings.warn(
            f"importance compensation under {law} has variance {variance:.3g}: an "
            f"effective sample size of {size:.2%} of the batch; truncate the law, set "
            "max_ratio, or mix in a wide law",
            WeightWarning,
            stacklevel=_CALLER,
        )
        return False
    return True


def check_factors(
    law: LogSnrLaw, log_factors: jax.Array, prediction: Prediction, remedy: str = ""
) -> None:
    """Warns where under 5% of the draws rule what is learned (`weight_ess`).

    Args:
      law: the law that is drawn from.
      log_factors: float[n + 2], ln of what multiplies the squared error of the network, at
        `drawn_levels`.
      prediction: what the network predicts.
      remedy: what to do about it; by default another weight, if one helps.

    Raises:
      ArgumentError: the weight is not a number where the law draws.
    """
    size = ess_of(log_factors)
    if math.isnan(size):
        raise ArgumentError("weight", size, f"a number at every lambda that {law} draws")
    if size < _LEAST_ESS:
        if not remedy and weight_ess(law, min_snr_weight(), prediction) > _LEAST_ESS:
            remedy = "take a weight that is bounded there, such as min_snr, or truncate the law"
        warnings.warn(
            f"the weights on the error of {prediction.target}, which the network predicts, have an "
            f"effective sample size of {size:.2%} under {law}, so that few draws rule what is "
            f"learned: {remedy or 'the law seldom draws where they lie'}",
            WeightWarning,
            stacklevel=_CALLER,
        )
