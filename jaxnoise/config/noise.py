"""What the noise sections of a config can name: laws, level grids, curricula and pacing."""

from collections.abc import Callable
from math import inf
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise import noise
from jaxnoise.config.choices import Choices
from jaxnoise.config.sections import keys_of, with_keys
from jaxnoise.errors import ArgumentError, check_finite, check_positive, one_of
from jaxnoise.noise import Curriculum, LogSnrLaw, Pacing, PairLaw
from jaxnoise.noise.partitions import PARTITIONS, Cells

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
    """A subset of one table.

    Args:
      curriculum: how many levels, when.
      table_size: levels of the table, at least the curriculum's most; None for just these.
      rule: how the subset is chosen: "nested", "even" or "random".
      sigma_min: lowest noise level, > 0.
      sigma_max: highest noise level, > sigma_min.
      rho: exponent of the table, > 0.
    """
    size = curriculum.max_levels if table_size is None else table_size
    if size < curriculum.max_levels:
        raise ArgumentError(
            "table_size", table_size, f"at least {curriculum.max_levels}, the curriculum's peak"
        )
    return noise.PredefinedGrid(size, rule, sigma_min, sigma_max, rho)


def _compose(
    law: LogSnrLaw,
    scale: float = 1.0,
    shift: float = 0.0,
    low: float | None = None,
    high: float | None = None,
    quantiles: tuple[float, ...] = (0.0, 1.0),
) -> LogSnrLaw:
    """The law over log SNR that a law becomes, in this order.

    Args:
      law: as its own keys make it.
      scale: log SNR is divided by it, > 0.
      shift: what is added to log SNR, such as -2 ln 2 for images of twice the side.
      low: log SNR below which nothing is drawn, or None.
      high: log SNR above which nothing is drawn, or None.
      quantiles: the part of the law that is drawn, two ascending numbers in [0, 1]; 0 is its clean
        end.
    """
    check_positive("scale", scale)
    check_finite("shift", shift)
    ascending = len(quantiles) == 2 and 0 <= quantiles[0] < quantiles[1] <= 1
    if not ascending:
        raise ArgumentError("quantiles", quantiles, "two ascending numbers in [0, 1]")
    # An unused composition would cost rounding.
    law = law if scale == 1 else law.scaled(scale)
    law = law if shift == 0 else law.shifted(shift)
    if low is not None or high is not None:
        lo, hi = -inf if low is None else low, inf if high is None else high
        if not lo < hi:
            raise ArgumentError("high", high, f"a number > low={low}")
        try:
            law = law.truncated(lo, hi)
        except ArgumentError as error:
            key = {"lo": "low", "hi": "high"}[error.argument]
            raise ArgumentError(key, error.value, error.allowed) from error
    return law if quantiles == (0.0, 1.0) else noise.window(law, *quantiles)


def _composed(law: Callable[..., LogSnrLaw]) -> Callable[..., LogSnrLaw]:
    """Adds the keys by which every law over log SNR is scaled, shifted, truncated and windowed.

    A user's law may have a key of the same name; then that is its own.
    """
    own = keys_of(law)
    shared = {n: key for n, key in keys_of(_compose).items() if n != "law" and n not in own}

    def build(**given: Any) -> LogSnrLaw:
        composition = {name: given.pop(name) for name in shared}
        return _compose(law(**given), **composition)

    return with_keys(build, [*own.values(), *shared.values()])


def _with_share(law: Callable[..., LogSnrLaw]) -> Callable[..., tuple[LogSnrLaw, float]]:
    """Adds the key `share`, a law's part of a mixture."""

    if "share" in keys_of(law):
        allowed = "code without a parameter 'share', which is another key of the section"
        raise ArgumentError("name", "share", allowed)

    def build(share: float, **own: Any) -> tuple[LogSnrLaw, float]:
        """The law and its share.

        Args:
          share: of the mixture that is this law, in (0, 1).
          **own: keys of the law.
        """
        if not 0 < share < 1:
            raise ArgumentError("share", share, "a number in (0, 1)")
        return law(**own), share

    return with_keys(build, [keys_of(build)["share"], *keys_of(law).values()])


def _tabulated(lam: tuple[float, ...], density: tuple[float, ...]) -> LogSnrLaw:
    return noise.Tabulated(lam, density)


def _clts(
    total_steps: int,
    ramp_steps: int | None = None,
    mu: float = 0.3,
    sig: float = 0.2,
    max_weight: float = 0.5,
) -> Pacing:
    """A Gaussian over time that grows into the law.

    Args:
      total_steps: of training.
      ramp_steps: steps after which the Gaussian's weight would reach 1; None for those of training.
      mu: middle of the Gaussian in [0, 1]; 0 is clean.
      sig: its width, > 0.
      max_weight: largest weight of the Gaussian, in [0, 1].
    """
    return noise.CLTS(total_steps if ramp_steps is None else ramp_steps, mu, sig, max_weight)


def _adaptive(
    total_steps: int,
    statistic: str = "loss",
    bins: int = 100,
    rate: float = 0.99,
    warmup_steps: int | None = None,
    floor: float = 0.2,
    compensate: bool = True,
    range: tuple[float, ...] | None = None,
) -> Pacing:
    """A law that learns itself.

    Args:
      total_steps: of training.
      statistic: what levels are drawn by: "loss", "second_moment", "gradient", "entropy_rate" or
        "progress"; an objective refuses one that it does not have.
      bins: how many, at least 1.
      rate: of the moving averages, in [0, 1).
      warmup_steps: steps that draw from the law alone, at least 1; None for a 20th of training.
      floor: share of the law alone in what is drawn, in [0, 1); > 0 with compensation.
      compensate: whether losses are weighted so that what is trained for stays the law's own.
      range: lowest and highest log SNR of the bins; None for the ends of the law, if it has some.
    """
    if warmup_steps is None:
        warmup_steps = max(1, total_steps // 20)
    elif not 1 <= warmup_steps < total_steps:
        allowed = f"from 1 to {total_steps - 1}, or None for a 20th of training"
        raise ArgumentError("warmup_steps", warmup_steps, allowed)
    return noise.Adaptive(statistic, bins, rate, warmup_steps, floor, compensate, range)


def _high_to_low(
    total_steps: int, annealing_steps: int | None = None, width: float = 0.1
) -> Pacing:
    """Annealing from high noise down.

    Args:
      total_steps: of training.
      annealing_steps: steps until all noise is in, up to those of training; None for all of them.
      width: share of the law in the first window, in [1e-6, 1].
    """
    if annealing_steps is not None and not 1 <= annealing_steps <= total_steps:
        allowed = f"from 1 to {total_steps}, all steps of training, or None for all of them"
        raise ArgumentError("annealing_steps", annealing_steps, allowed)
    return noise.HighToLow(total_steps if annealing_steps is None else annealing_steps, width)


def _difficulty(
    cells: Callable[[], Cells],
    clusters: int = 20,
    patience: int = 200,
    partition: str = "snr",
) -> Pacing:
    """Stages from the easiest part of the law to all of it.

    Args:
      cells: gives the noise range in small steps, seen by the law.
      clusters: of noise, and so stages, at least 1.
      patience: steps without a new best loss that end a stage, at least 1.
      partition: what the clusters are: "quantile", equal parts of the law; "uniform", equal parts
        of time; or "snr", clusters of log SNR.
    """
    if clusters < 1:
        raise ArgumentError("clusters", clusters, "at least 1")
    one_of("partition", partition, PARTITIONS)
    return noise.Difficulty(clusters, patience, noise.partition(partition, clusters, *cells()))


def log_snr_cells(law: LogSnrLaw) -> Cells:
    """The noise range in 1,000 equal steps of the cosine schedule's time, seen by a law.

    The partitions of the difficulty curriculum were made for the timesteps of a schedule; that it
    is the cosine schedule under every law is our choice.
    """
    return noise.schedule_cells(noise.Cosine(), law)


def pair_cells(grid: LevelGrid, law: PairLaw, curriculum: Curriculum) -> Cells:
    """The pairs of a grid at the curriculum's peak, seen by a law."""
    count = curriculum.max_levels
    # Only a grid of random subsets asks for a key, and at the peak it takes the whole table.
    levels = grid(jnp.int32(count), jax.random.key(0))
    probs = law.probs(levels, jnp.int32(count))
    return noise.pair_cells(np.asarray(levels)[:count], np.asarray(probs)[: count - 1])


CURRICULA = Choices(
    {
        "constant": noise.constant,
        "square_root": noise.square_root,
        "doubling": noise.doubling,
        "sinusoidal": noise.sinusoidal,
        "sinusoidal_rising": noise.sinusoidal_rising,
    },
    gives=Curriculum,
)
GAPS = Choices({"shrinking": noise.ShrinkingGap}, gives=("__call__",))
GRIDS = Choices(
    {"karras": _karras, "predefined": _predefined},
    gives=("__call__", "sigma_min", "sigma_max", "rho"),
)
PAIR_LAWS = Choices(
    {
        "uniform": noise.UniformPairs,
        "lognormal": noise.LognormalPairs,
        "polynomial": noise.PolynomialPairs,
        "beta": noise.BetaPairs,
    },
    gives=("sample", "probs", "paced_probs"),
)
_LAWS: dict[str, Callable[..., LogSnrLaw]] = {
    "cosine": noise.Cosine,
    "laplace": noise.Laplace,
    "cauchy": noise.Cauchy,
    "normal": noise.Normal,
    "logit_normal": noise.LogitNormal,
    "linear_path": noise.LinearPath,
    "linear_beta": noise.LinearBeta,
    "uniform": noise.Uniform,
    "tabulated": _tabulated,
}
LOG_SNR_LAWS = Choices(
    {name: _composed(law) for name, law in _LAWS.items()}, own=_composed, gives=LogSnrLaw
)
MIXED_LAWS = Choices(
    {name: _with_share(_composed(law)) for name, law in _LAWS.items()},
    own=lambda law: _with_share(_composed(law)),
    gives=LogSnrLaw,
)
PACINGS = Choices(
    {
        "none": noise.NoPacing,
        "adaptive": _adaptive,
        "asymmetric": noise.Asymmetric,
        "clts": _clts,
        "difficulty": _difficulty,
        "high_to_low": _high_to_low,
    },
    gives=Pacing,
)
