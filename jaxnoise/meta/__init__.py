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
from jaxnoise.meta.pool import PoolSelection
from jaxnoise.meta.selection import (
    NoiseAssignment,
    NoiseSelection,
    Selected,
    Selection,
    noise_moments,
    optimal_assignment,
)
from jaxnoise.meta.strata import shuffle_within_levels, top_k_by_level
from jaxnoise.meta.unroll import InnerState, MetaResult, meta_gradient

__all__ = [
    "Candidates",
    "InnerState",
    "LossScore",
    "Losses",
    "MetaResult",
    "NearestScore",
    "NoiseAssignment",
    "NoiseSelection",
    "PoolSelection",
    "RandomScore",
    "Rate",
    "RaterScore",
    "Score",
    "Selected",
    "Selection",
    "ShuffledScore",
    "draw_candidates",
    "meta_gradient",
    "noise_moments",
    "optimal_assignment",
    "shuffle_within_levels",
    "top_k_by_level",
    "with_finite_derivatives",
]
