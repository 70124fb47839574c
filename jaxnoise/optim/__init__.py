"""Optimizer pieces that optax does not have."""

from jaxnoise.optim.derivatives import follows_gradient
from jaxnoise.optim.ema import debiased_ema
from jaxnoise.optim.momentum_decay import (
    MomentumDecayState,
    decayed_momentum,
    learning_rate_compensation,
    momentum_decay,
)

__all__ = [
    "MomentumDecayState",
    "debiased_ema",
    "decayed_momentum",
    "follows_gradient",
    "learning_rate_compensation",
    "momentum_decay",
]
