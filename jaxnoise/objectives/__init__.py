"""What a network is trained to do at a noise level, and how far it is from doing it."""

from jaxnoise.objectives.consistency import (
    ConsistencyObjective,
    Distance,
    PairWeight,
    consistency_losses,
)
from jaxnoise.objectives.denoising import DenoisingObjective
from jaxnoise.objectives.distances import l1, l2, pseudo_huber, squared_l2
from jaxnoise.objectives.ect import ECTObjective
from jaxnoise.objectives.effective_sample_size import compensation_ess, weight_ess
from jaxnoise.objectives.levels import (
    Levels,
    LogSnrLevels,
    Pairs,
    TangentLevels,
    uncompensated,
)
from jaxnoise.objectives.mean_flow import MeanFlowObjective
from jaxnoise.objectives.objective import Denoiser, Objective
from jaxnoise.objectives.parameterization import (
    Preconditioning,
    edm_preconditioning,
    karras_preconditioning,
    over_pixels,
    preconditioned,
)
from jaxnoise.objectives.prediction import Prediction, vp_coefficients
from jaxnoise.objectives.scm import SCMObjective
from jaxnoise.objectives.uncertainty import LearnedUncertainty
from jaxnoise.objectives.weighting import (
    SnrWeight,
    density_weight,
    edm_weight,
    inverse_gap,
    min_snr_weight,
    p2_weight,
    soft_min_snr_weight,
    uniform,
    uniform_weight,
)

TunedObjective = ECTObjective | SCMObjective
"""What makes a consistency function of a network that denoises, in EDM's form: `f(x, 0) = x`."""
FewStepObjective = TunedObjective | MeanFlowObjective
"""What learns to jump to the clean image, `f(x, 0) = x`, without a grid of levels."""
DerivedObjective = SCMObjective | MeanFlowObjective
"""What takes its network's forward-mode derivative."""
LogSnrObjective = DenoisingObjective | FewStepObjective
"""What draws its levels from a law over log SNR."""

__all__ = [
    "ConsistencyObjective",
    "Denoiser",
    "DenoisingObjective",
    "DerivedObjective",
    "Distance",
    "ECTObjective",
    "FewStepObjective",
    "LearnedUncertainty",
    "Levels",
    "LogSnrLevels",
    "LogSnrObjective",
    "MeanFlowObjective",
    "Objective",
    "PairWeight",
    "Pairs",
    "Preconditioning",
    "Prediction",
    "SCMObjective",
    "SnrWeight",
    "TangentLevels",
    "TunedObjective",
    "compensation_ess",
    "consistency_losses",
    "density_weight",
    "edm_preconditioning",
    "edm_weight",
    "inverse_gap",
    "karras_preconditioning",
    "l1",
    "l2",
    "min_snr_weight",
    "over_pixels",
    "p2_weight",
    "preconditioned",
    "pseudo_huber",
    "soft_min_snr_weight",
    "squared_l2",
    "uncompensated",
    "uniform",
    "uniform_weight",
    "vp_coefficients",
    "weight_ess",
]
