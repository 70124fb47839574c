"""What the names in a config stand for: name -> what builds it, whose parameters are the keys."""

import inspect
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Any

import jax.numpy as jnp
import optax

from jaxnoise import models, noise, objectives
from jaxnoise.errors import ArgumentError, one_of
from jaxnoise.noise.discretization import Curriculum
from jaxnoise.objectives import ConsistencyObjective
from jaxnoise.objectives.consistency import Distance, PairLaw
from jaxnoise.optim.ema import check_rate
from jaxnoise.sampling.samplers import Sampler, consistency_samplers

Choices = Mapping[str, Callable[..., Any]]
LevelGrid = noise.KarrasGrid | noise.PredefinedGrid


def _karras(
    curriculum: Curriculum, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> LevelGrid:
    return noise.KarrasGrid(curriculum.max_levels, sigma_min, sigma_max, rho)


def _predefined(
    curriculum: Curriculum,
    table_size: int | None = None,
    rule: str = "nested",
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
) -> LevelGrid:
    size = curriculum.max_levels if table_size is None else table_size
    if size < curriculum.max_levels:
        raise ArgumentError(
            "table_size", table_size, f"at least {curriculum.max_levels}, the curriculum's peak"
        )
    return noise.PredefinedGrid(size, rule, sigma_min, sigma_max, rho)


def _consistency(
    grid: LevelGrid,
    law: PairLaw,
    curriculum: Curriculum,
    distance: Distance,
    weight: str = "inverse_gap",
    sigma_data: float = 0.5,
    teacher: str = "student",
    teacher_mu0: float = 0.9,
    teacher_s0: int = 2,
) -> ConsistencyObjective:
    one_of("weight", weight, WEIGHTS)
    one_of("teacher", teacher, ("student", "ema"))
    if not sigma_data > 0:
        raise ArgumentError("sigma_data", sigma_data, "a number > 0")
    if not 0 < teacher_mu0 < 1:
        raise ArgumentError("teacher_mu0", teacher_mu0, "a number in (0, 1)")
    if teacher_s0 < 1:
        raise ArgumentError("teacher_s0", teacher_s0, "at least 1")
    rate = partial(noise.square_root_ema_rate, mu0=teacher_mu0, s0=teacher_s0)
    return ConsistencyObjective(
        grid=grid,
        law=law,
        curriculum=curriculum,
        distance=distance,
        weight=WEIGHTS[weight],
        sigma_data=sigma_data,
        sigma_min=grid.sigma_min,
        sigma_max=grid.sigma_max,
        ema_teacher=rate if teacher == "ema" else None,
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
        build.__signature__ = inspect.Signature(own + shared)  # type: ignore[attr-defined]
        return build

    return {name: member(preset) for name, preset in presets.items()}


def _pseudo_huber(c: float | None = None, elementwise: bool = False) -> Distance:
    if c is not None and not c > 0:
        raise ArgumentError("c", c, "a number > 0, or None for the default")
    return partial(objectives.pseudo_huber, c=c, elementwise=elementwise)


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
        if not 0 < learning_rate < inf:
            raise ArgumentError("learning_rate", learning_rate, "a finite number > 0")
        check_rate("b1", b1)
        check_rate("b2", b2)
        if not eps > 0:
            raise ArgumentError("eps", eps, "a number > 0")
        if warmup_steps < 0:
            raise ArgumentError("warmup_steps", warmup_steps, "at least 0")
        if clip_norm is not None and not clip_norm > 0:
            raise ArgumentError("clip_norm", clip_norm, "a number > 0, or None")
        rate: float | optax.Schedule = learning_rate
        if warmup_steps:
            rate = optax.linear_schedule(learning_rate / warmup_steps, learning_rate, warmup_steps)
        update = optimizer(rate, b1=b1, b2=b2, eps=eps)
        if clip_norm is None:
            return update
        return optax.chain(optax.clip_by_global_norm(clip_norm), update)

    return build


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


CURRICULA: Choices = {
    "constant": noise.constant,
    "square_root": noise.square_root,
    "doubling": noise.doubling,
    "sinusoidal": noise.sinusoidal,
    "sinusoidal_rising": noise.sinusoidal_rising,
}
GRIDS: Choices = {"karras": _karras, "predefined": _predefined}
LAWS: Choices = {
    "uniform": noise.UniformPairs,
    "lognormal": noise.LognormalPairs,
    "polynomial": noise.PolynomialPairs,
    "beta": noise.BetaPairs,
}
DISTANCES: Choices = {
    "pseudo_huber": _pseudo_huber,
    "squared_l2": lambda: objectives.squared_l2,
    "l1": lambda: objectives.l1,
}
WEIGHTS = {"inverse_gap": objectives.inverse_gap, "uniform": objectives.uniform}
SAMPLERS: Choices = {"multistep": _multistep}
OBJECTIVES: Choices = {"consistency": _consistency}
OPTIMIZERS: Choices = {"radam": _adaptive(optax.radam), "adam": _adaptive(optax.adam)}
MODELS: Choices = _family(models.UNet, models.PRESETS)
