"""What `optimizer` of a config can name, and the optimizer of a rater."""

from collections.abc import Callable
from math import inf

import optax

from jaxnoise.config.choices import Choices
from jaxnoise.errors import ArgumentError, check_positive
from jaxnoise.optim import momentum_decay
from jaxnoise.optim.ema import check_rate


def _adaptive(
    optimizer: Callable[..., optax.GradientTransformation],
) -> Callable[..., optax.GradientTransformation]:
    def build(
        learning_rate: float,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-8,
        warmup_steps: int = 0,
        clip_norm: float | None = None,
    ) -> optax.GradientTransformation:
        check_rate("b1", b1)
        check_rate("b2", b2)
        check_positive("eps", eps)
        rate = _warmed_up(learning_rate, warmup_steps)
        return _clipped(optimizer(rate, b1=b1, b2=b2, eps=eps), clip_norm)

    return build


def _momentum_decay(
    total_steps: int,
    learning_rate: float,
    b1: float = 0.9,
    b2: float | None = 0.999,
    eps: float | None = None,
    decay_momentum: bool = True,
    compensate: bool = True,
    warmup_steps: int = 0,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    if b2 is None and eps is not None:
        raise ArgumentError("eps", eps, "left out where optimizer.b2 is None")
    rate, eps = _warmed_up(learning_rate, warmup_steps), 1e-8 if eps is None else eps
    update = momentum_decay(rate, total_steps, b1, b2, eps, decay_momentum, compensate)
    return _clipped(update, clip_norm)


def _warmed_up(learning_rate: float, warmup_steps: int) -> float | optax.Schedule:
    check_positive("learning_rate", learning_rate)
    if warmup_steps < 0:
        raise ArgumentError("warmup_steps", warmup_steps, "at least 0")
    if not warmup_steps:
        return learning_rate
    return optax.linear_schedule(learning_rate / warmup_steps, learning_rate, warmup_steps)


def _clipped(
    update: optax.GradientTransformation, clip_norm: float | None
) -> optax.GradientTransformation:
    if clip_norm is None:
        return update
    if not 0 < clip_norm < inf:
        raise ArgumentError("clip_norm", clip_norm, "a finite number > 0, or None")
    return optax.chain(optax.clip_by_global_norm(clip_norm), update)


def meta_adamw(
    learning_rate: float = 1e-3,
    weight_decay: float = 0.1,
    warmup_steps: int = 100,
    clip_norm: float | None = 0.01,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """AdamW of a rater; the defaults but the learning rate are DataRater's (arXiv 2505.17895)."""
    check_rate("b1", b1)
    check_rate("b2", b2)
    check_positive("eps", eps)
    if not 0 <= weight_decay < inf:
        raise ArgumentError("weight_decay", weight_decay, "a finite number, at least 0")
    rate = _warmed_up(learning_rate, warmup_steps)
    return _clipped(optax.adamw(rate, b1, b2, eps, weight_decay=weight_decay), clip_norm)


OPTIMIZERS = Choices(
    {
        "radam": _adaptive(optax.radam),
        "adam": _adaptive(optax.adam),
        "momentum_decay": _momentum_decay,
    },
    gives=("init", "update"),
)
