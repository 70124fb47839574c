"""Which noise level, and how many: pure functions of a key, a step and the levels."""

from jaxnoise.noise.adaptive import Adaptive, AdaptiveState
from jaxnoise.noise.clts import CLTS
from jaxnoise.noise.difficulty import Difficulty, DifficultyState
from jaxnoise.noise.discretization import (
    Curriculum,
    constant,
    curriculum,
    doubling,
    sinusoidal,
    sinusoidal_rising,
    square_root,
    square_root_ema_rate,
)
from jaxnoise.noise.gaps import Gap, ShrinkingGap
from jaxnoise.noise.levels import (
    Grid,
    KarrasGrid,
    PredefinedGrid,
    karras_levels,
    predefined_levels,
)
from jaxnoise.noise.logsnr import (
    Cauchy,
    Cosine,
    Laplace,
    LinearBeta,
    LinearPath,
    LogitNormal,
    Normal,
    Uniform,
)
from jaxnoise.noise.logsnr_law import LogSnrLaw, window
from jaxnoise.noise.logsnr_mixture import mixture
from jaxnoise.noise.logsnr_tabulated import Tabulated
from jaxnoise.noise.pacing import (
    HighToLow,
    NoPacing,
    Pacing,
    paced_probs,
    pair_survival,
    windowed_uniform,
)
from jaxnoise.noise.pairs import (
    BetaPairs,
    CategoricalPairs,
    LognormalPairs,
    PairLaw,
    UniformPairs,
)
from jaxnoise.noise.partitions import pair_cells, partition, schedule_cells
from jaxnoise.noise.polynomial_pairs import PolynomialPairs
from jaxnoise.noise.speed import Asymmetric
from jaxnoise.noise.uniforms import antithetic, ascending, iid, stratified

__all__ = [
    "CLTS",
    "Adaptive",
    "AdaptiveState",
    "Asymmetric",
    "BetaPairs",
    "CategoricalPairs",
    "Cauchy",
    "Cosine",
    "Curriculum",
    "Difficulty",
    "DifficultyState",
    "Gap",
    "Grid",
    "HighToLow",
    "KarrasGrid",
    "Laplace",
    "LinearBeta",
    "LinearPath",
    "LogSnrLaw",
    "LogitNormal",
    "LognormalPairs",
    "NoPacing",
    "Normal",
    "Pacing",
    "PairLaw",
    "PolynomialPairs",
    "PredefinedGrid",
    "ShrinkingGap",
    "Tabulated",
    "Uniform",
    "UniformPairs",
    "antithetic",
    "ascending",
    "constant",
    "curriculum",
    "doubling",
    "iid",
    "karras_levels",
    "mixture",
    "paced_probs",
    "pair_cells",
    "pair_survival",
    "partition",
    "predefined_levels",
    "schedule_cells",
    "sinusoidal",
    "sinusoidal_rising",
    "square_root",
    "square_root_ema_rate",
    "stratified",
    "window",
    "windowed_uniform",
]
