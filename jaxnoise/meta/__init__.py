"""Learning what to train on: exact gradients of the outcome of training, and choosing noise."""

from jaxnoise.meta.candidates import (
    Candidates,
    Losses,
    LossScore,
    NearestScore,
    RandomScore,
    Rate,
    RaterScore,
    Score,
    ShuffledScore,
    draw_candidates,
)
from jaxnoise.meta.finite_derivatives import with_finite_derivatives
from jaxnoise.meta.neutral import (
    NeutralPool,
    NeutralWeights,
    Noisy,
    NoisyRate,
    Shown,
    asks_what_is_shown,
    floored_softmax,
)
from jaxnoise.meta.pool import PoolSelection
from jaxnoise.meta.selection import (
    NoiseAssignment,
    NoiseSelection,
    Selected,
    Selection,
    Weighted,
    noise_moments,
    optimal_assignment,
)
from jaxnoise.meta.softmax_draws import SoftmaxDraws
from jaxnoise.meta.strata import shuffle_within_levels, top_k_by_level
from jaxnoise.meta.unroll import InnerState, MetaResult, meta_gradient

__all__ = [
    "Candidates",
    "InnerState",
    "LossScore",
    "Losses",
    "MetaResult",
    "NearestScore",
    "NeutralPool",
    "NeutralWeights",
    "NoiseAssignment",
    "NoiseSelection",
    "Noisy",
    "NoisyRate",
    "PoolSelection",
    "RandomScore",
    "Rate",
    "RaterScore",
    "Score",
    "Selected",
    "Selection",
    "Shown",
    "ShuffledScore",
    "SoftmaxDraws",
    "Weighted",
    "asks_what_is_shown",
    "draw_candidates",
    "floored_softmax",
    "meta_gradient",
    "noise_moments",
    "optimal_assignment",
    "shuffle_within_levels",
    "top_k_by_level",
    "with_finite_derivatives",
]
