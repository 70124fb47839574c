"""Whether a law over pairs gives probabilities, which a training would not notice by itself."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnoise.errors import ArgumentError, describe, is_traced
from jaxnoise.noise.levels import Grid
from jaxnoise.noise.pairs import BetaPairs, LognormalPairs, PairLaw, UniformPairs
from jaxnoise.noise.polynomial_pairs import PolynomialPairs

# Their numbers are checked where they are made, and their formulas by tests; a program that
# evaluates one takes longer to compile than all else that an objective does when it is made.
_KNOWN = (UniformPairs, LognormalPairs, BetaPairs, PolynomialPairs)
# Of a sum over at most some thousand pairs in float32.
_SLACK = 1e-3


def check_pair_law(law: PairLaw, grid: Grid, counts: Sequence[int]) -> None:
    """Raises ArgumentError unless a law gives probabilities at each of these numbers of levels.

    Probabilities that are NaN would draw the lowest pair alone, with finite losses. Those of a law
    whose numbers are traced are not known, and jaxnoise's own laws are not asked.

    Args:
      law: over pairs.
      grid: of the levels.
      counts: numbers of levels, each of which the grid has.
    """
    try:
        traced = is_traced(law)
    except TypeError:  # no dataclass: what it holds are no leaves, and so not traced
        traced = False
    if type(law) in _KNOWN or traced:
        return
    counts = sorted(set(counts))
    with jax.ensure_compile_time_eval():
        key, asked = jax.random.key(0), jnp.asarray(counts, jnp.int32)
        levels = jax.eval_shape(grid, asked[0], key)
        try:
            probs = jax.eval_shape(law.probs, levels, asked[0])
        except ArgumentError as error:
            raise ArgumentError("law", describe(law), f"a law over pairs; its {error}") from error
        except Exception:
            return  # code that fails says where when it is drawn from
        pairs = levels.shape[0] - 1
        if getattr(probs, "shape", None) != (pairs,):
            allowed = (
                f"a law whose probs are float[{pairs}], one for each pair, not {describe(probs)}"
            )
            raise ArgumentError("law", describe(law), allowed)
        sums = jax.jit(lambda n: jax.lax.map(lambda n: _sums(law, grid(n, key), n), n))(asked)
    if is_traced(sums):
        return
    for count, (in_use, beyond, least) in zip(counts, np.asarray(sums).tolist(), strict=True):
        if least >= 0 and abs(in_use - 1) <= _SLACK and beyond <= _SLACK:
            continue
        allowed = (
            f"a law whose probs, at {count} levels, are >= 0 and sum to 1 over {count - 1} pairs "
            f"and to 0 beyond; they sum to {in_use:.4g} and {beyond:.4g}, the least is {least:.4g}"
        )
        raise ArgumentError("law", describe(law), allowed)


def _sums(law: PairLaw, levels: jax.Array, num_levels: jax.Array) -> jax.Array:
    """Of the probabilities: the sum over pairs in use, that beyond them, and the least one."""
    probs = jnp.asarray(law.probs(levels, num_levels))
    used = jnp.arange(probs.shape[0]) < num_levels - 1
    parts = jnp.where(used, probs, 0), jnp.where(used, 0, probs)
    return jnp.stack([jnp.sum(parts[0]), jnp.sum(parts[1]), jnp.min(probs)])
