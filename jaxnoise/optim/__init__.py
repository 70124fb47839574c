"""Optimizer pieces that optax does not have."""

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
    "learning_rate_compensation",
    "momentum_decay",
]
