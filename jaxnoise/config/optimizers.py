"""What `optimizer` of a config can name, and the optimizer of a rater."""

from collections.abc import Callable
from functools import partial
from math import inf

import jax
import jax.numpy as jnp
import optax

from jaxnoise.config.choices import Choices
from jaxnoise.errors import ArgumentError, check_positive, one_of
from jaxnoise.optim import momentum_decay
from jaxnoise.optim.ema import check_rate

DECAYS = ("none", "cosine", "inverse_sqrt")


def _adaptive(
    optimizer: Callable[..., optax.GradientTransformation],
) -> Callable[..., optax.GradientTransformation]:
    def build(
        total_steps: int,
        learning_rate: float,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-8,
        warmup_steps: int = 0,
        decay: str = "none",
        decay_steps: int | None = None,
        clip_norm: float | None = None,
    ) -> optax.GradientTransformation:
        _check_averages(b1, b2, eps)
        rate = learning_rates(learning_rate, warmup_steps, decay, decay_steps, total_steps)
        return _clipped(optimizer(rate, b1=b1, b2=b2, eps=eps), clip_norm)

    return build


def _adamw(
    total_steps: int,
    learning_rate: float,
    weight_decay: float = 0.01,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    warmup_steps: int = 0,
    decay: str = "none",
    decay_steps: int | None = None,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    _check_weight_decay(weight_decay)
    build = _adaptive(partial(optax.adamw, weight_decay=weight_decay))
    return build(
        total_steps, learning_rate, b1, b2, eps, warmup_steps, decay, decay_steps, clip_norm
    )


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


def learning_rates(
    learning_rate: float,
    warmup_steps: int,
    decay: str,
    decay_steps: int | None,
    total_steps: int,
) -> float | optax.Schedule:
    """The learning rate of each step, `r w_k d_k`.

      w_k = min(1, (1 + k (1 - 1/W)) / W),  W = warmup_steps;  1 for W = 0
      d_k = 1                                "none"
      d_k = (1 + cos(pi min(1, k / K))) / 2  "cosine",  K = decay_steps, or all steps
      d_k = 1 / sqrt(max(1, k / K))          "inverse_sqrt",  K = decay_steps

    Args:
      learning_rate: r > 0.
      warmup_steps: W, steps over which it rises in a straight line, at least 0.
      decay: "none", "cosine" or "inverse_sqrt", EDM2's (arXiv 2312.02696).
      decay_steps: K, at least 1, or None; "inverse_sqrt" needs it, "none" has no use for it.
      total_steps: of the run.

    Raises:
      ArgumentError: an argument outside its range.
    """
    one_of("decay", decay, DECAYS)
    warmed_up = _warmed_up(learning_rate, warmup_steps)
    if decay_steps is not None and (decay == "none" or decay_steps < 1):
        allowed = "at least 1" if decay != "none" else "None without optimizer.decay"
        raise ArgumentError("decay_steps", decay_steps, allowed)
    if decay == "none":
        return warmed_up
    if decay == "inverse_sqrt" and decay_steps is None:
        raise ArgumentError("decay_steps", None, "at least 1 for optimizer.decay='inverse_sqrt'")
    end = total_steps if decay_steps is None else decay_steps
    warmup = warmed_up if callable(warmed_up) else optax.constant_schedule(warmed_up)
    cosine = optax.cosine_decay_schedule(1.0, end)

    def rate(count: jax.Array) -> jax.Array:
        if decay == "cosine":
            return jnp.asarray(warmup(count) * cosine(count))
        progress = jnp.asarray(count, jnp.float32) / end
        return jnp.asarray(warmup(count) / jnp.sqrt(jnp.maximum(progress, 1.0)))

    return rate


def _check_averages(b1: float, b2: float, eps: float) -> None:
    """Raises ArgumentError for a number of Adam's that is outside its range.

    Args:
      b1: rate of the moving average of gradients, in [0, 1).
      b2: rate of the moving average of their squares, in [0, 1).
      eps: added to the root of that average, by which the step is divided, > 0.
    """
    check_rate("b1", b1)
    check_rate("b2", b2)
    check_positive("eps", eps)


def _check_weight_decay(weight_decay: float) -> None:
    """Raises ArgumentError for a weight decay outside its range.

    Args:
      weight_decay: share of the weights, times the learning rate, that a step takes away, >= 0.
    """
    if not 0 <= weight_decay < inf:
        raise ArgumentError("weight_decay", weight_decay, "a finite number, at least 0")


def _warmed_up(learning_rate: float, warmup_steps: int) -> float | optax.Schedule:
    """The learning rate of each step.

    Args:
      learning_rate: > 0.
      warmup_steps: steps over which it rises in a straight line, at least 0.
    """
    check_positive("learning_rate", learning_rate)
    if warmup_steps < 0:
        raise ArgumentError("warmup_steps", warmup_steps, "at least 0")
    if not warmup_steps:
        return learning_rate
    return optax.linear_schedule(learning_rate / warmup_steps, learning_rate, warmup_steps)


def _clipped(
    update: optax.GradientTransformation, clip_norm: float | None
) -> optax.GradientTransformation:
    """An optimizer whose gradients are clipped.

    Args:
      update: the optimizer.
      clip_norm: largest norm of a gradient, > 0; a longer one is shortened to it. None for any.
    """
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
    _check_averages(b1, b2, eps)
    _check_weight_decay(weight_decay)
    rate = _warmed_up(learning_rate, warmup_steps)
    return _clipped(optax.adamw(rate, b1, b2, eps, weight_decay=weight_decay), clip_norm)


OPTIMIZERS = Choices(
    {
        "radam": _adaptive(optax.radam),
        "adam": _adaptive(optax.adam),
        "adamw": _adamw,
        "momentum_decay": _momentum_decay,
    },
    gives=("init", "update"),
)
