"""How far below a level its neighbour lies, when: consistency training without a grid."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError, check_numbers, check_positive
from jaxnoise.noise.counts import check_range
from jaxnoise.noise.parameters import as_level

Gap = Callable[[jax.Array, jax.Array], jax.Array]
"""`(sigma float[B], step int32[]) -> sigma_lo float[B]`, 0 <= sigma_lo < sigma."""

_SMALLEST = 1e-5
"""Relative gap whose reciprocal float32 gives to two digits."""


@dataclass(frozen=True)
class ShrinkingGap:
    """The lower level of a pair in easy consistency tuning: a gap that shrinks stage by stage.

      stage    = min(floor(stages step / K), stages - 1)
      sigma_lo = max(0, sigma (1 - q^-(stage + 1) (1 + k sigmoid(-b sigma))))

    K = `total_steps`. Where sigma_lo is 0 the target is the image itself, so that training begins
    as denoising at all levels below some sigma, and turns into consistency training as the gap
    shrinks. k makes the gap wider at low noise, where levels would else be too close.

    For `ECTObjective`; a curriculum of pairs as N(k) is, for levels that are drawn and not laid
    out beforehand.

    Args:
      total_steps: K, at least 1; later steps stay in the last stage.
      stages: how many, at least 1.
      q: by how much the gap shrinks from one stage to the next, > 1: 2 in eight stages for
        CIFAR-10, 256 in one stage for its short run, 4 in four stages for ImageNet at 64.
      k: how much wider the gap is at low noise, 1 + k / 2 times at sigma = 0; at least 0.
      b: how fast that widening fades as sigma grows, > 0, per unit of sigma.

    Raises:
      ArgumentError: an argument is outside its range, or the last gap is below 1e-5 of sigma.

    Example:
      >>> from jaxnoise.noise import ShrinkingGap
      >>> gap = ShrinkingGap(total_steps=800)
      >>> [round(float(gap(80.0, step)), 3) for step in (0, 100, 799)]
      [40.0, 60.0, 79.688]
      >>> float(gap(0.5, 0))
      0.0

    Reference:
      Geng et al., Consistency Models Made Easy (arXiv 2406.14548), section 3.2; stages that are
      equal parts of training as in the authors' CIFAR-10 run.
    """

    total_steps: int
    stages: int = 8
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0

    def __post_init__(self) -> None:
        check_range("total_steps", self.total_steps, 1, 2**31 - 1)
        check_range("stages", self.stages, 1)
        check_numbers("q", self.q, lambda q: (q > 1) & (q < inf), "a finite number > 1")
        check_numbers("k", self.k, lambda k: (k >= 0) & (k < inf), "a finite number >= 0")
        check_positive("b", self.b)
        if self.stages * log(self.q) > -log(_SMALLEST):
            allowed = f"so few that the last gap, q^-stages, is at least {_SMALLEST:g}"
            raise ArgumentError("stages", self.stages, f"{allowed}, for q={self.q:g}")

    def stage(self, step: ArrayLike) -> jax.Array:
        """The stage of a step, from 0.

        Args:
          step: k, an integer >= 0 or an integer array; may be traced.

        Returns:
          int32, shaped as `step`.
        """
        starts = [-(-stage * self.total_steps // self.stages) for stage in range(1, self.stages)]
        edges = jnp.asarray(np.asarray(starts, np.int32))
        step = jnp.clip(jnp.asarray(step), 0, self.total_steps).astype(jnp.int32)
        found = jnp.searchsorted(edges, step, side="right", method="compare_all")
        return found.astype(jnp.int32)

    def __call__(self, sigma: ArrayLike, step: ArrayLike) -> jax.Array:
        """The level that lies below each.

        Args:
          sigma: float[...], noise levels > 0.
          step: training step, an integer scalar; may be traced.

        Returns:
          float[...] in [0, sigma).
        """
        sigma = as_level(sigma)
        shrunk = jnp.asarray(self.q ** -np.arange(1.0, self.stages + 1), sigma.dtype)
        widened = 1 + self.k * jax.nn.sigmoid(-self.b * sigma)
        return sigma * jnp.maximum(0, 1 - shrunk[self.stage(step)] * widened)
