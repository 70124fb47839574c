"""Laws over the pair index i = 0..N-2; pair i joins noise levels `levels[i]` and `levels[i+1]`.

Every law has `sample(key, levels, num_levels, count)` and `probs(levels, num_levels)`. `levels` is
an ascending vector, padded at the end if it has more than `num_levels` = N entries; N may be traced
and must be from 2 to `len(levels)`, which is checked where it is known. `count` is the GLOBAL
batch: draw it whole and slice, so that the law is the same on any number of devices. `sampling`
names the source of the uniforms (`jaxnoise.noise.uniforms`): "stratified" draws once in each of
`count` equal parts of the law, in random order, "sorted" the same in ascending order, "iid" every
index on its own, "antithetic" in mirrored pairs. `warp` maps the uniforms on their way into the
inverse CDF (0 the lowest noise, 1 the highest), which is how a pacing restricts any law.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr

from jaxnoise.errors import (
    ArgumentError,
    check_finite,
    check_positive,
    check_shape,
    describe,
    is_traced,
    one_of,
)
from jaxnoise.noise.counts import known_count
from jaxnoise.noise.parameters import Number, Parameterized, ceil_of
from jaxnoise.noise.uniforms import SOURCES, Warp, unpaced

# Gauss-Legendre nodes per index; a Beta density is smooth.
_BETA_NODES = 32


Cdf = Callable[[jax.Array], jax.Array]
"""`t -> P(u' <= t)` of warped uniforms u', the inverse of the warp: float[...] in [0, 1]."""


class PairLaw(Protocol):
    """What a law over neighbouring pairs has: index i stands for (levels[i], levels[i + 1]).

    A class of one's own needs no base; `CategoricalPairs` gives all but `mass`.

    Example:
      >>> from jaxnoise.noise import PairLaw, UniformPairs
      >>> law: PairLaw = UniformPairs()
      >>> [hasattr(law, method) for method in ("sample", "probs", "paced_probs")]
      [True, True, True]
    """

    def sample(
        self,
        key: jax.Array,
        levels: jax.Array,
        num_levels: jax.Array,
        count: int,
        warp: Warp = ...,
    ) -> jax.Array:
        """Draws pair indices.

        Args:
          key: PRNG key.
          levels: float[n], noise levels, ascending, padded at the end.
          num_levels: N, int[] from 2 to n, how many of them are in use; may be traced.
          count: how many indices (static), at least 1; the GLOBAL batch.
          warp: `float[count] -> float[count]`, a map of the uniforms, as a pacing makes them.

        Returns:
          int32[count], pair indices in 0..N-2.
        """
        ...

    def probs(self, levels: jax.Array, num_levels: jax.Array) -> jax.Array:
        """Probability of every pair.

        Args:
          levels: float[n], noise levels, ascending, padded at the end.
          num_levels: N, int[] from 2 to n; may be traced.

        Returns:
          float[n-1], sums to 1, zero past index N-2.
        """
        ...

    def paced_probs(self, levels: jax.Array, num_levels: jax.Array, cdf: Cdf) -> jax.Array:
        """Probability of every pair where the uniforms go through a warp.

        Args:
          levels: float[n], noise levels, ascending, padded at the end.
          num_levels: N, int[] from 2 to n; may be traced.
          cdf: `t float[...] -> P(u' <= t)`, that of the warped uniforms u'.

        Returns:
          float[n-1], sums to 1, zero past index N-2.
        """
        ...


def check_levels(levels: jax.Array, num_levels: int | jax.Array) -> jax.Array:
    """`num_levels` as an int32 scalar; what is known of it and of `levels` is checked."""
    check_shape("levels", levels, (None,), "noise levels, ascending")
    known = known_count("num_levels", num_levels)
    if known is None:
        return jnp.asarray(num_levels, jnp.int32)
    if not 2 <= known <= len(levels):
        raise ArgumentError("num_levels", known, f"from 2 to {len(levels)}, the levels given")
    if not is_traced(levels) and not (np.diff(np.asarray(levels, np.float64)[:known]) >= 0).all():
        raise ArgumentError("levels", describe(levels), "noise levels, ascending")
    return jnp.asarray(known, jnp.int32)


def _index(x: jax.Array) -> jax.Array:
    return jnp.arange(x.shape[0], dtype=jnp.int32)


def normalized(mass: jax.Array, last: jax.Array) -> jax.Array:
    """`mass` without what lies past index `last`, summing to 1."""
    mass = jnp.where(_index(mass) <= last, jnp.maximum(mass, 0), 0)
    return mass / jnp.sum(mass)


def _probs_of(law: "CategoricalPairs", levels: jax.Array, num_levels: int | jax.Array) -> jax.Array:
    """Its `probs`, which a subclass may give itself, if they are one number for each pair."""
    probs = law.probs(levels, num_levels)
    check_shape("probs", probs, (len(levels) - 1,), "one number for each pair")
    return probs


def _draw(u: jax.Array, probs: jax.Array, last: jax.Array) -> jax.Array:
    """Inverse CDF: the first index whose cumulative probability is above `u`, at most `last`."""
    # A parallel cumulative sum may dip by one rounding, and a search needs an ascending CDF.
    cdf = jax.lax.cummax(jnp.cumsum(probs))
    # Its sum may miss 1 by a rounding, which must not go to the last pair: it may have none.
    cdf = cdf / cdf[-1]
    # Exactly 1 from the last bin on: a `u` below 1 cannot run past it.
    cdf = jnp.where(_index(cdf) >= last, 1, jnp.minimum(cdf, 1))
    index = jnp.searchsorted(cdf, u, side="right", method="scan_unrolled").astype(jnp.int32)
    # A warp of one's own may round to 1.
    return jnp.minimum(index, last)


def gauss_legendre(count: int, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1], each float[1, count]."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return jnp.asarray((nodes + 1) / 2, dtype)[None, :], jnp.asarray(weights / 2, dtype)[None, :]


class CategoricalPairs(Parameterized):
    """What a law over pairs of one's own builds on: it is drawn through the inverse CDF of `probs`.

    A subclass is a frozen dataclass that gives `mass`, or `probs` itself.

    Attributes:
      sampling: source of the uniforms, a field if a subclass makes it one: "stratified" (the
        default), "iid", "antithetic" or "sorted".

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import CategoricalPairs
      >>> class GapPairs(CategoricalPairs):
      ...     def mass(self, levels):
      ...         return jnp.log(levels[1:] / levels[:-1])
      >>> print(GapPairs().probs(jnp.asarray([1.0, 10.0, 1000.0, 1e4]), num_levels=3))
      [0.33333334 0.6666667  0.        ]
    """

    sampling: str = "stratified"

    def mass(self, levels: jax.Array) -> jax.Array:
        """How likely each pair is, up to a common factor.

        Args:
          levels: float[n], ascending, padded at the end; what pairs of the padding get is ignored.

        Returns:
          float[n-1], >= 0, one number for each pair and so one less than levels.
        """
        raise NotImplementedError

    def sample(
        self,
        key: jax.Array,
        levels: jax.Array,
        num_levels: int | jax.Array,
        count: int,
        warp: Warp = unpaced,
    ) -> jax.Array:
        """Draws pair indices, through the inverse CDF of `probs`.

        Args:
          key: PRNG key.
          levels: float[n], noise levels, ascending, padded at the end.
          num_levels: N, from 2 to n, how many of them are in use; may be traced.
          count: how many indices (static), at least 1; the GLOBAL batch.
          warp: `float[count] -> float[count]`, a map of the uniforms, as a pacing makes them.

        Returns:
          int32[count], pair indices in 0..N-2.

        Raises:
          ArgumentError: `levels`, `num_levels` or `count` is outside its range, or the law gives
            other than one number for each pair.
        """
        last = check_levels(levels, num_levels) - 2
        one_of("sampling", self.sampling, SOURCES)
        u = warp(SOURCES[self.sampling](key, count))
        return _draw(u, _probs_of(self, levels, num_levels), last)

    def probs(self, levels: jax.Array, num_levels: int | jax.Array) -> jax.Array:
        """Probability of every pair.

        Args:
          levels: float[n], noise levels, ascending, padded at the end.
          num_levels: N, from 2 to n, how many of them are in use; may be traced.

        Returns:
          float[n-1], sums to 1, zero past index N-2.

        Raises:
          ArgumentError: `levels` or `num_levels` is outside its range, or `mass` gives other than
            one number for each pair.
        """
        last = check_levels(levels, num_levels) - 2
        mass = self.mass(levels)
        check_shape("mass", mass, (len(levels) - 1,), "one number for each pair")
        return normalized(mass, last)

    def paced_probs(self, levels: jax.Array, num_levels: int | jax.Array, cdf: Cdf) -> jax.Array:
        """Probability of every pair where the uniforms go through a warp.

        `p'_i = F(C_{i+1}) - F(C_i)`, C the CDF of the pairs, F = `cdf`.

        Args:
          levels: float[n], noise levels, ascending, padded at the end.
          num_levels: N, from 2 to n, how many of them are in use; may be traced.
          cdf: `t float[...] -> P(u' <= t)`, that of the warped uniforms u'.

        Returns:
          float[n-1], sums to 1, zero past index N-2.
        """
        probs = _probs_of(self, levels, num_levels)
        # A parallel cumulative sum may dip by one rounding.
        upper = jax.lax.cummax(jnp.cumsum(probs))
        edges = jnp.concatenate([jnp.zeros(1, upper.dtype), upper / upper[-1]])
        mass = jnp.where(probs > 0, jnp.diff(cdf(edges)), 0)
        return mass / jnp.sum(mass)


@dataclass(frozen=True)
class UniformPairs(CategoricalPairs):
    """Every pair is equally likely: `p_i = 1 / (N-1)`.

    The law of the first consistency models; a control for the others.

    Args:
      sampling: source of the uniforms: "stratified", "iid", "antithetic" or "sorted".

    Raises:
      ArgumentError: no such `sampling`.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import UniformPairs
      >>> levels = jnp.asarray([0.1, 1.0, 10.0, 10.0])
      >>> print(UniformPairs().probs(levels, num_levels=3))
      [0.5 0.5 0. ]

    Reference: consistency models (arXiv 2303.01469), algorithm 3.
    """

    sampling: str = "stratified"

    def __post_init__(self) -> None:
        one_of("sampling", self.sampling, SOURCES)

    def mass(self, levels: jax.Array) -> jax.Array:
        return jnp.ones(len(levels) - 1, jnp.result_type(float))


@dataclass(frozen=True)
class LognormalPairs(CategoricalPairs):
    """A normal law over log sigma, integrated between neighbouring levels.

    `p_i ∝ Phi((ln S_{i+1} - p_mean) / p_std) - Phi((ln S_i - p_mean) / p_std)`

    The published mean is -1.1; copies with +1.1 train mostly on noise near sigma = 3.

    For iCT, whose setting is the default: most pairs lie at low noise.

    Args:
      p_mean: mean of ln sigma.
      p_std: standard deviation of ln sigma, > 0.
      sampling: source of the uniforms: "stratified", "iid" (as published), "antithetic" or
        "sorted".

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import LognormalPairs
      >>> probs = jax.jit(LognormalPairs().probs)(jnp.asarray([0.1, 1.0, 10.0]), 3)
      >>> [f"{p:.3f}" for p in probs]
      ['0.638', '0.362']

    Reference: iCT (arXiv 2310.14189), section 3.5.
    """

    p_mean: Number = -1.1
    p_std: Number = 2.0
    sampling: str = "stratified"

    def __post_init__(self) -> None:
        check_finite("p_mean", self.p_mean)
        check_positive("p_std", self.p_std)
        one_of("sampling", self.sampling, SOURCES)

    def probs(self, levels: jax.Array, num_levels: int | jax.Array) -> jax.Array:
        last = check_levels(levels, num_levels) - 2
        z = (jnp.log(levels.astype(jnp.result_type(float))) - self.p_mean) / self.p_std
        # Above the mean the mirrored lower tail keeps digits that 1 - Phi would lose.
        mirror = z[:-1] + z[1:] > 0
        far = log_ndtr(jnp.where(mirror, -z[1:], z[:-1]))
        near = log_ndtr(jnp.where(mirror, -z[:-1], z[1:]))
        # In logarithms, so that a law whose mean is far from every level does not become 0 / 0.
        # Padding has no mass: the slope of its logarithm must not become 0 x inf.
        gap = jnp.where(far < near, far - near, -1)
        log_mass = near + jnp.where(far < near, jnp.log(-jnp.expm1(gap)), -jnp.inf)
        return jax.nn.softmax(jnp.where(_index(log_mass) <= last, log_mass, -jnp.inf))


@dataclass(frozen=True)
class BetaPairs(CategoricalPairs):
    """A Beta law over the index: `i = floor(v (N-1))`, `v ~ Beta(a, b)`.

    `p_i ∝ ∫ v^(a-1) (1-v)^(b-1) dv` over `i/(N-1) < v < (i+1)/(N-1)`.

    v is not rescaled by the extremes of its batch: that would make the law depend on the batch size
    and widen it (at N = 20 and a batch of 512, 7% of the samples above sigma = 10, not 1.5%).
    Probabilities are by quadrature; absolute error below 1e-6 in float32 for a, b from .05 to 1000.

    For HN-iCT, or wherever the law should be set by its shape over the index instead of over sigma.

    Args:
      a: first shape parameter, > 0.
      b: second shape parameter, > 0; b > a puts more samples at low noise.
      sampling: source of the uniforms: "stratified", "iid", "antithetic" or "sorted".

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.noise import BetaPairs
      >>> probs = jax.jit(BetaPairs().probs)(jnp.asarray([0.1, 1.0, 10.0]), 3)
      >>> [f"{p:.3f}" for p in probs]
      ['0.936', '0.064']

    Reference: HN-iCT (arXiv 2411.12181); (1.5, 5) is the authors' setting.
    """

    a: Number = 1.5
    b: Number = 5.0
    sampling: str = "stratified"

    def __post_init__(self) -> None:
        check_positive("a", self.a)
        check_positive("b", self.b)
        one_of("sampling", self.sampling, SOURCES)

    def probs(self, levels: jax.Array, num_levels: int | jax.Array) -> jax.Array:
        last = check_levels(levels, num_levels) - 2
        dtype = jnp.result_type(float)
        pairs = (last + 1).astype(dtype)
        index = jnp.minimum(jnp.arange(len(levels), dtype=dtype), pairs)[:, None]
        # Above the middle v is mirrored, so that 1 - v never loses digits near v = 1.
        mirror = index[:-1] >= pairs / 2
        low = jnp.where(mirror, pairs - index[1:], index[:-1]) / pairs
        high = jnp.where(mirror, pairs - index[:-1], index[1:]) / pairs
        first = jnp.where(mirror, self.b, self.a)
        second = jnp.where(mirror, self.a, self.b)
        # In the end bins v = t^p takes the singularity of v^(a-1) away.
        smooth = jnp.where(mirror, ceil_of(4 / self.b), ceil_of(4 / self.a))
        power = jnp.where(low > 0, 1, smooth).astype(dtype)
        nodes, weights = gauss_legendre(_BETA_NODES, dtype)
        start, width = low ** (1 / power), high ** (1 / power) - low ** (1 / power)
        # Where the width is 0, t would be 1, and the slope of its logarithm infinite.
        t = jnp.where(width > 0, start + width * nodes, 0.5)
        log_density = (power * first - 1) * jnp.log(t) + (second - 1) * jnp.log1p(-(t**power))
        # Past index N-2 the width is 0; relative to the peak nothing overflows for large a, b.
        log_density = jnp.where(width > 0, log_density, -jnp.inf)
        density = jnp.exp(log_density - jnp.max(log_density))
        return normalized(jnp.sum(weights * power * width * density, axis=1), last)
