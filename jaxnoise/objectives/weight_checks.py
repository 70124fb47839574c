"""Whether a weight suits a law and a target: an error where it overflows, else a warning."""

import math
import warnings

import jax
import jax.numpy as jnp

from jaxnoise.errors import ArgumentError
from jaxnoise.noise.logsnr_law import LogSnrLaw
from jaxnoise.objectives.effective_sample_size import compensation_ess, weight_ess
from jaxnoise.objectives.prediction import Prediction
from jaxnoise.objectives.weighting import SnrWeight

LARGEST_LOG_WEIGHT = 80.0
"""ln of the largest weight on what the network predicts; e^88 is the largest float32."""

_LEAST_ESS = 0.01
# The frames between are __post_init__ and the generated __init__.
_CALLER = 4


def check_overflow(law: LogSnrLaw, weight: SnrWeight, prediction: Prediction) -> None:
    """Refuses a weight that overflows within a law.

    Args:
      law: the law that is drawn from.
      weight: the weight, with the error that it is declared for.
      prediction: what the network predicts.

    Raises:
      ArgumentError: the weight on the error of what is predicted is beyond float32.
    """
    if max(_log_weight_at(law, weight, prediction, 0.0, 1.0)) > LARGEST_LOG_WEIGHT:
        raise ArgumentError(
            "weight",
            weight.space,
            f"one that stays finite on the error of {prediction.target} under {law}:"
            " truncate the law or predict v",
        )


def check_weight(law: LogSnrLaw, weight: SnrWeight, prediction: Prediction) -> None:
    """Warns where a weight leaves under 1% of a batch on what the network predicts (`weight_ess`).

    Args:
      law: the law that is drawn from.
      weight: the weight, with the error that it is declared for.
      prediction: what the network predicts.
    """
    first, median, last = _log_weight_at(law, weight, prediction, 0.0, 0.5, 1.0)
    # Half of the draws weigh as much as the median or more, so that 1% is sure to be left.
    if max(first, last) - median <= math.log(0.5 / _LEAST_ESS):
        return
    size = weight_ess(law, weight, prediction)
    if size < _LEAST_ESS:
        target = prediction.target
        warnings.warn(
            f"a weight that is declared for the error of {weight.space} leaves, on that of "
            f"{target} under {law}, an effective sample size of {size:.2%} of the batch: few draws "
            f"rule the gradient; take min_snr, declare the weight for {target}, or predict v",
            stacklevel=_CALLER,
        )


def _log_weight_at(
    law: LogSnrLaw, weight: SnrWeight, prediction: Prediction, *shares: float
) -> list[float]:
    with jax.ensure_compile_time_eval():
        places = law.inverse_survival(jnp.asarray(shares))
        return [float(x) for x in weight.log_on(prediction, places)]


def check_compensation(law: LogSnrLaw, weight: SnrWeight, max_ratio: float | None) -> None:
    """Warns where importance compensation leaves under 1% of a batch (`compensation_ess`).

    Args:
      law: the proposal.
      weight: w of w/p.
      max_ratio: where w/p is clipped, or None.
    """
    size = compensation_ess(law, weight, max_ratio)
    variance = 1 / size - 1 if size > 0 else math.inf
    if variance > 1 / _LEAST_ESS:
        warnings.warn(
            f"importance compensation under {law} has variance {variance:.3g}: an "
            f"effective sample size of {size:.2%} of the batch; truncate the law, set "
            "max_ratio, or mix in a wide law",
            stacklevel=_CALLER,
        )
