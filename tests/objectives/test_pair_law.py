"""Laws over pairs that are none, which would train on one pair with finite losses."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import CategoricalPairs, Curriculum, KarrasGrid, LognormalPairs, UniformPairs
from jaxnoise.objectives import ConsistencyObjective, inverse_gap, squared_l2

COUNTS = Curriculum((0, 10, 20), (5, 9, 7))
KEY = jax.random.key(0)


def make(law, curriculum=COUNTS):
    return ConsistencyObjective(KarrasGrid(), law, curriculum, squared_l2, inverse_gap)


@dataclass(frozen=True)
class Above(CategoricalPairs):
    """Of ln(level - edge), which is NaN below the edge."""

    edge: float = 1.0

    def mass(self, levels):
        return jnp.log(levels[1:] - self.edge)


@dataclass(frozen=True)
class PerLevel(CategoricalPairs):
    def mass(self, levels):
        return 1 / levels


@dataclass(frozen=True)
class Only(CategoricalPairs):
    """One pair of the padded levels, whatever their number."""

    pair: int = 5

    def probs(self, levels, num_levels):
        return jnp.zeros(len(levels) - 1).at[self.pair].set(1.0)


@dataclass(frozen=True)
class Scaled(CategoricalPairs):
    scale: float = 1.0

    def probs(self, levels, num_levels):
        return self.scale * UniformPairs().probs(levels, num_levels)


class Failing(CategoricalPairs):
    def mass(self, levels):
        raise KeyError("no such law")


class NoBase:
    """A law without a base is no pytree."""

    def __init__(self, share):
        self.share = share

    def probs(self, levels, num_levels):
        inside = jnp.arange(len(levels) - 1) < num_levels - 1
        return jnp.where(inside, self.share / (num_levels - 1).astype(float), 0)


class PerLevelWithoutBase:
    def probs(self, levels, num_levels):
        return jnp.full(len(levels), 1 / 9)


@pytest.mark.parametrize(
    ("law", "said"),
    [
        (
            Above(),
            r"^law=Above\(edge=1.0\): must be a law whose probs, at 5 levels, are >= 0 and sum to 1"
            r" over 4 pairs and to 0 beyond; they sum to nan and nan, the least is nan$",
        ),
        (
            PerLevel(),
            r"^law=PerLevel\(\): must be a law over pairs; its mass=float32\[9\]: must be of shape "
            r"\[8\], one number for each pair$",
        ),
        # Five and seven levels have no pair 5 or 7, of which nine have both.
        (Only(5), "at 5 levels, .* they sum to 0 and 1, the least is 0$"),
        (Scaled(2.0), "they sum to 2 and 0, the least is 0$"),
        (Scaled(-1.0), "they sum to -1 and 0, the least is -0.25$"),
        (NoBase(0.5), "they sum to 0.5 and 0, the least is 0$"),
        (
            PerLevelWithoutBase(),
            r"whose probs are float\[8\], one for each pair, not float32\[9\]$",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_law_that_gives_no_probabilities_is_refused(law, said):
    with pytest.raises(ArgumentError, match=said) as refused:
        make(law)
    assert refused.value.argument == "law"
    assert "\n" not in str(refused.value)


def test_every_number_of_levels_is_asked_for():
    """The mass below the edge is no number only where a level lies there: with nine levels."""
    edge = 0.5 * float(KarrasGrid()(9)[1] + KarrasGrid()(7)[1])
    make(Above(edge), Curriculum((0, 10), (5, 7)))
    with pytest.raises(ArgumentError, match="at 9 levels"):
        make(Above(edge))


def test_a_law_that_gives_them_is_taken():
    for law in (Scaled(), NoBase(1.0), Only(2), Above(0.0 - 1.0)):
        assert make(law).law is law


def test_a_law_that_is_no_dataclass_is_asked_too():
    class Plain(CategoricalPairs):
        def __init__(self, edge):
            self.edge = edge

        def mass(self, levels):
            return jnp.log(levels[1:] - self.edge)

    assert make(Plain(-1.0)).law.edge == -1.0
    with pytest.raises(ArgumentError, match=r"law=.*a law whose probs"):
        make(Plain(1.0))


def test_a_law_that_is_not_known_yet_is_not_asked():
    def sigma(edge, scale):
        make(NoBase(scale))
        return make(Above(edge)).draw(KEY, KEY, 0, 4).sigma_hi

    assert jax.eval_shape(sigma, 0.5, 1.0).shape == (4,)
    # Code that fails is told of by what draws from it.
    with pytest.raises(KeyError, match="no such law"):
        make(Failing()).draw(KEY, KEY, 0, 4)


@pytest.mark.takes_a_second
def test_a_law_that_became_nan_is_seen_in_its_levels():
    """All its draws are the lowest pair, whose losses are finite."""

    @jax.jit
    def draw(p_mean):
        return make(LognormalPairs(p_mean)).draw(KEY, KEY, jnp.int32(0), 8)

    lost, kept = draw(jnp.nan), draw(-1.1)
    assert np.isnan([lost.sigma_lo, lost.sigma_hi]).all()
    assert np.isfinite([kept.sigma_lo, kept.sigma_hi]).all()
    assert (kept.sigma_lo < kept.sigma_hi).all()
