"""What the objective's section of a config can name: objectives, their distances and weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import jax

from jaxnoise import noise, objectives
from jaxnoise.config.choices import Choices, own_keys
from jaxnoise.config.noise import LevelGrid
from jaxnoise.config.sections import with_keys
from jaxnoise.errors import ArgumentError, one_of
from jaxnoise.noise import Curriculum, Gap, LogSnrLaw, Pacing, PairLaw
from jaxnoise.objectives import (
    ConsistencyObjective,
    DenoisingObjective,
    ECTObjective,
    LearnedUncertainty,
    MeanFlowObjective,
    Prediction,
    SCMObjective,
    SnrWeight,
)
from jaxnoise.objectives.consistency import Distance
from jaxnoise.user_code import imported


def consistency(
    grid: LevelGrid,
    law: PairLaw,
    curriculum: Curriculum,
    distance: Distance,
    pacing: Pacing,
    s0: int | None,
    weight: str = "inverse_gap",
    sigma_data: float = 0.5,
    teacher: str = "student",
    teacher_mu0: float | None = None,
) -> ConsistencyObjective:
    """The consistency objective from its keys.

    Args:
      grid: the levels.
      law: over pairs of levels.
      curriculum: how many levels, when.
      distance: between two images.
      pacing: which part of the law, when.
      s0: the curriculum's, or None where it has none.
      weight: of the distance: "inverse_gap", 1 / (sigma_hi - sigma_lo), "uniform", or
        "module:attribute" of your own, `(sigma_lo, sigma_hi) -> float[B]`.
      sigma_data: standard deviation of the data as the network sees them, > 0.
      teacher: "student" for the student's own weights, or "ema" for their moving average.
      teacher_mu0: the teacher's rate where N(k) - 1 is the curriculum's s0, in (0, 1); None for
        0.9.
    """
    one_of("teacher", teacher, ("student", "ema"))
    mu0 = 0.9 if teacher_mu0 is None else teacher_mu0
    if teacher == "student" and teacher_mu0 is not None:
        raise ArgumentError("teacher_mu0", mu0, "left out unless objective.teacher='ema'")
    if not 0 < mu0 < 1:
        raise ArgumentError("teacher_mu0", mu0, "a number in (0, 1)")
    rate = None
    if teacher == "ema":
        if s0 is None:
            raise ArgumentError("teacher", teacher, "'student' where the curriculum has no key s0")
        rate = _TeacherRate(mu0, s0)
    return ConsistencyObjective(
        grid=grid,
        law=law,
        curriculum=curriculum,
        distance=distance,
        weight=pair_weight(weight),
        sigma_data=sigma_data,
        ema_teacher=rate,
        pacing=pacing,
    )


def ect(
    law: LogSnrLaw,
    gap: Gap,
    distance: Distance,
    pacing: Pacing,
    total_steps: int,
    weight: str = "inverse_gap",
    sigma_data: float = 0.5,
    sampling: str = "stratified",
) -> ECTObjective:
    """Easy consistency tuning from its keys.

    Args:
      law: over log SNR.
      gap: to the level below.
      distance: between two images.
      pacing: which part of the law, when.
      total_steps: of training.
      weight: of the distance: "inverse_gap", 1 / (sigma - sigma_lo), "uniform", or
        "module:attribute" of your own, `(sigma_lo, sigma) -> float[B]`.
      sigma_data: standard deviation of the data as the network sees them, > 0.
      sampling: source of the uniforms for the whole global batch: "stratified", "iid",
        "antithetic" or "sorted".
    """
    return ECTObjective(
        law=law,
        gap=gap,
        distance=distance,
        weight=pair_weight(weight),
        sigma_data=sigma_data,
        sampling=sampling,
        pacing=pacing,
        total_steps=total_steps,
    )


def scm(
    law: LogSnrLaw,
    uncertainty: LearnedUncertainty | None,
    pacing: Pacing,
    total_steps: int,
    warmup_steps: int = 10_000,
    normalization: float | None = 0.1,
    sigma_data: float = 0.5,
    sampling: str = "stratified",
) -> SCMObjective:
    """Continuous-time consistency training from its keys.

    Args:
      law: over log SNR.
      uncertainty: learned, or None.
      pacing: which part of the law, when.
      total_steps: of training.
      warmup_steps: updates until the derivative along the trajectory counts in full, >= 0.
      normalization: c > 0 in g / (||g|| / sqrt(D) + c), or None for g as it is.
      sigma_data: standard deviation of the data as the network sees them, > 0.
      sampling: source of the uniforms for the whole global batch: "stratified", "iid",
        "antithetic" or "sorted".
    """
    return SCMObjective(
        law=law,
        warmup_steps=warmup_steps,
        normalization=normalization,
        sigma_data=sigma_data,
        sampling=sampling,
        pacing=pacing,
        uncertainty=uncertainty,
        total_steps=total_steps,
    )


def mean_flow(
    law: LogSnrLaw,
    lower: LogSnrLaw,
    pacing: Pacing,
    total_steps: int,
    interval: float = 0.75,
    power: float = 0.75,
    offset: float = 1e-3,
    sigma_data: float = 0.5,
    sampling: str = "stratified",
) -> MeanFlowObjective:
    """MeanFlow from its keys.

    Args:
      law: over log SNR, of the time t.
      lower: over log SNR, of the time r.
      pacing: which part of the law of t, when.
      total_steps: of training.
      interval: probability that r is drawn, in [0, 1]; else r = t, which is flow matching.
      power: p in the weight (L + c)^-p, in [0, 1].
      offset: c > 0.
      sigma_data: standard deviation of the data as the network sees them, > 0.
      sampling: source of the uniforms of t for the whole global batch: "stratified", "iid",
        "antithetic" or "sorted".
    """
    try:
        return MeanFlowObjective(
            law=law,
            lower=lower,
            interval=interval,
            power=power,
            offset=offset,
            sigma_data=sigma_data,
            sampling=sampling,
            pacing=pacing,
            total_steps=total_steps,
        )
    except ArgumentError as error:
        if error.argument != "lower":
            raise
        raise ArgumentError("objective.lower", error.value, error.allowed) from error


def denoising(
    law: LogSnrLaw,
    weight: Callable[[float], SnrWeight],
    uncertainty: LearnedUncertainty | None,
    pacing: Pacing,
    total_steps: int,
    target: str = "v",
    sigma_data: float = 0.5,
    compensation: str = "none",
    max_ratio: float | None = None,
    sampling: str = "stratified",
) -> DenoisingObjective:
    """The denoising objective from its keys."""
    prediction = Prediction(target, sigma_data)
    try:
        return DenoisingObjective(
            law=law,
            weight=weight(sigma_data),
            prediction=prediction,
            compensation=compensation,
            max_ratio=max_ratio,
            sampling=sampling,
            pacing=pacing,
            uncertainty=uncertainty,
            total_steps=total_steps,
        )
    except ArgumentError as error:
        if error.argument != "weight":
            raise
        raise ArgumentError("objective.weight", error.value, error.allowed) from error


@dataclass(frozen=True)
class _PseudoHuber:
    """A class instead of a partial function, so that equal ones compare equal."""

    c: float | None
    elementwise: bool

    def __call__(self, a: jax.Array, b: jax.Array) -> jax.Array:
        return objectives.pseudo_huber(a, b, self.c, self.elementwise)


@dataclass(frozen=True)
class _TeacherRate:
    mu0: float
    s0: int

    def __call__(self, num_levels: jax.Array) -> jax.Array:
        return noise.square_root_ema_rate(num_levels, self.mu0, self.s0)


def _pseudo_huber(c: float | None = None, elementwise: bool = False) -> Distance:
    """Pseudo-Huber.

    Args:
      c: the width of the quadratic part, > 0; None for 0.00054, times the square root of pixels
        times channels unless elementwise.
      elementwise: whether it is taken of each element, and averaged, and not of the whole image.
    """
    if c is not None and not 0 < c < inf:
        raise ArgumentError("c", c, "a finite number > 0, or None for the default")
    return _PseudoHuber(c, elementwise)


def _uniform(space: str = "v") -> Callable[[float], SnrWeight]:
    weight = objectives.uniform_weight(space)
    return lambda sigma_data: weight


def _min_snr(gamma: float = 5.0) -> Callable[[float], SnrWeight]:
    weight = objectives.min_snr_weight(gamma)
    return lambda sigma_data: weight


def _soft_min_snr(gamma: float = 4.0) -> Callable[[float], SnrWeight]:
    weight = objectives.soft_min_snr_weight(gamma)
    return lambda sigma_data: weight


def _p2(gamma: float = 1.0) -> Callable[[float], SnrWeight]:
    weight = objectives.p2_weight(gamma)
    return lambda sigma_data: weight


def _of_law(of: LogSnrLaw, space: str = "v") -> Callable[[float], SnrWeight]:
    weight = objectives.density_weight(of, space)
    return lambda sigma_data: weight


def _own_distance(distance: Callable[..., Any]) -> Callable[..., Distance]:
    """`(a, b, **keys) -> float[B]` with its keys set."""
    return with_keys(lambda **keys: partial(distance, **keys), list(own_keys(distance))[2:])


def _own_weight(make: Callable[..., SnrWeight]) -> Callable[..., Callable[[float], SnrWeight]]:
    def build(**keys: Any) -> Callable[[float], SnrWeight]:
        weight = make(**keys)
        return lambda sigma_data: weight

    return with_keys(build, own_keys(make))


def pair_weight(name: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A weight `(sigma_lo, sigma_hi) -> float[B]` by its name or as "module:attribute"."""
    if ":" in name:
        return imported("weight", name)
    one_of("weight", name, PAIR_WEIGHTS)
    return PAIR_WEIGHTS[name]


DISTANCES = Choices(
    {
        "pseudo_huber": _pseudo_huber,
        "l2": lambda: objectives.l2,
        "squared_l2": lambda: objectives.squared_l2,
        "l1": lambda: objectives.l1,
    },
    own=_own_distance,
)
PAIR_WEIGHTS = {"inverse_gap": objectives.inverse_gap, "uniform": objectives.uniform}
SNR_WEIGHTS = Choices(
    {
        "uniform": _uniform,
        "min_snr": _min_snr,
        "soft_min_snr": _soft_min_snr,
        "p2": _p2,
        "edm": lambda: objectives.edm_weight,
        "density": _of_law,
    },
    own=_own_weight,
    gives=SnrWeight,
)
UNCERTAINTIES: Mapping[str, Callable[..., Any]] = {
    "none": lambda: None,
    "fourier": LearnedUncertainty,
}
