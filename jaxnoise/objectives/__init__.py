"""What a network is trained to do at a noise level, and how far it is from doing it."""

from jaxnoise.objectives.consistency import (
    ConsistencyObjective,
    Pairs,
    consistency_losses,
)
from jaxnoise.objectives.distances import l1, pseudo_huber, squared_l2
from jaxnoise.objectives.parameterization import (
    Preconditioning,
    karras_preconditioning,
    over_pixels,
)
from jaxnoise.objectives.weighting import inverse_gap, uniform

__all__ = [
    "ConsistencyObjective",
    "Pairs",
    "Preconditioning",
    "consistency_losses",
    "inverse_gap",
    "karras_preconditioning",
    "l1",
    "over_pixels",
    "pseudo_huber",
    "squared_l2",
    "uniform",
]
