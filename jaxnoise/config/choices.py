"""What a config can name beside noise and objective: networks, optimizers and samplers.

Each name stands for what builds it, whose parameters are the section's keys.
"""

import inspect
import itertools
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

import jax.numpy as jnp
import optax

from jaxnoise import models
from jaxnoise.config.noise_choices import Choices
from jaxnoise.config.sections import keys_of, with_keys
from jaxnoise.errors import ArgumentError, one_of
from jaxnoise.noise.logsnr_law import check_positive
from jaxnoise.objectives import ConsistencyObjective, DenoisingObjective
from jaxnoise.optim import momentum_decay
from jaxnoise.optim.ema import check_rate
from jaxnoise.sampling.samplers import (
    Sampler,
    consistency_samplers,
    ddim_sampler,
    euler_sampler,
    heun_sampler,
)


def _family(network: Callable[..., Any], presets: Mapping[str, Mapping[str, Any]]) -> Choices:
    """One choice for each preset; its keys are the network's fields, its defaults the preset's.

    Each builds `(image shape, number of classes) -> the network`. Channels come from the images and
    the number of classes from the labels, so a config says `class_conditional` alone.
    """
    fields = inspect.signature(network).parameters
    hidden = ("out_channels", "num_classes", "dtype", "fused", "parent", "name")
    keys = [name for name in fields if name not in hidden]

    def member(preset: Mapping[str, Any]) -> Callable[..., Any]:
        def build(class_conditional: bool, dtype: str, **given: Any) -> Callable[..., Any]:
            one_of("dtype", dtype, ("float32", "bfloat16"))
            network(**given)

            def fitted(image_shape: tuple[int, int, int], num_classes: int) -> Any:
                if class_conditional and not num_classes:
                    raise ArgumentError(
                        "class_conditional", True, "False: the images have no label"
                    )
                return network(
                    out_channels=image_shape[-1],
                    num_classes=num_classes if class_conditional else 0,
                    dtype=jnp.dtype(dtype),
                    **given,
                )

            return fitted

        def key(name: str, default: Any, annotation: Any) -> inspect.Parameter:
            kind = inspect.Parameter.KEYWORD_ONLY
            return inspect.Parameter(name, kind, default=default, annotation=annotation)

        own = [key(k, preset.get(k, fields[k].default), fields[k].annotation) for k in keys]
        shared = [key("class_conditional", False, bool), key("dtype", "float32", str)]
        return with_keys(build, own + shared)

    return {name: member(preset) for name, preset in presets.items()}


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
    b0: float = 0.9,
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
    update = momentum_decay(rate, total_steps, b0, b2, eps, decay_momentum, compensate)
    return _clipped(update, clip_norm)


def _warmed_up(learning_rate: float, warmup_steps: int) -> float | optax.Schedule:
    if not 0 < learning_rate < inf:
        raise ArgumentError("learning_rate", learning_rate, "a finite number > 0")
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


def _rater(name: str) -> Callable[..., Any]:
    """A rater's own fields as keys; builds the flax module."""
    network = models.RATERS[name]
    fields = inspect.signature(network).parameters
    hidden = ("dtype", "parent", "name")

    def build(dtype: str, **own: Any) -> Any:
        one_of("dtype", dtype, ("float32", "bfloat16"))
        return network(**own, dtype=jnp.dtype(dtype))

    kind = inspect.Parameter.KEYWORD_ONLY
    dtype = inspect.Parameter("dtype", kind, default="float32", annotation=str)
    return with_keys(build, [*(fields[key] for key in fields if key not in hidden), dtype])


def _multistep(
    objective: ConsistencyObjective, sigmas: tuple[float, ...] = (0.821,)
) -> tuple[Sampler, ...]:
    low, high = objective.sigma_min, objective.sigma_max
    inside = all(low < sigma < high for sigma in sigmas)
    if not inside or any(a <= b for a, b in itertools.pairwise(sigmas)):
        raise ArgumentError(
            "sigmas", sigmas, f"descending within (grid.sigma_min={low}, grid.sigma_max={high})"
        )
    return consistency_samplers(sigmas, low, high)


def _solver(sampler: Callable[..., Sampler]) -> Callable[..., tuple[Sampler, ...]]:
    """A solver's own keys; the range of noise that it must stay within is the objective's."""

    def build(objective: DenoisingObjective, **own: Any) -> tuple[Sampler, ...]:
        return (sampler(**own, trained_range=objective.trained_range),)

    own = [key for name, key in keys_of(sampler).items() if name != "trained_range"]
    return with_keys(build, [keys_of(build)["objective"], *own])


CONSISTENCY_SAMPLERS: Choices = {"multistep": _multistep}
DENOISING_SAMPLERS: Choices = {
    "heun": _solver(heun_sampler),
    "euler": _solver(euler_sampler),
    "ddim": _solver(ddim_sampler),
}
OPTIMIZERS: Choices = {
    "radam": _adaptive(optax.radam),
    "adam": _adaptive(optax.adam),
    "momentum_decay": _momentum_decay,
}
RATERS: Choices = {name: _rater(name) for name in models.RATERS}
MODELS: Choices = {
    **_family(models.UNet, models.PRESETS),
    **_family(models.DiT, models.DIT_PRESETS),
}
