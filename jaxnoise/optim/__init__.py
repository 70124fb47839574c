"""Optimizer pieces that optax does not have."""

from jaxnoise.optim.momentum_decay import (
    MomentumDecayState,
    decayed_momentum,
    learning_rate_compensation,
    momentum_decay,
)

__all__ = [
    "MomentumDecayState",
    "decayed_momentum",
    "learning_rate_compensation",
    "momentum_decay",
]
