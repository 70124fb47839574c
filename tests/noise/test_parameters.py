"""Laws as pytrees: their numbers may be traced, and are checked where they are known."""

import pickle
from dataclasses import dataclass
from math import inf

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise import noise
from jaxnoise.errors import ArgumentError

LAWS = {
    "laplace": noise.Laplace(0.3, 0.7),
    "cauchy": noise.Cauchy(0.3, 0.7),
    "normal": noise.Normal(0.4, 1.2),
    "logit_normal": noise.LogitNormal(0.4, 1.2),
    "linear_beta": noise.LinearBeta(0.2, 18.0),
    "uniform": noise.Uniform(-4.0, 9.0),
    "affine": noise.Laplace(0.3, 0.7).shifted(0.5).scaled(1.5),
    "truncated": noise.Normal(0.0, 2.0).truncated(-3.0, 4.0),
    "open above": noise.Normal(0.0, 2.0).truncated(-3.0, inf),
    "open below": noise.Laplace(0.3, 0.7).truncated(-inf, 2.5),
    "window": noise.window(noise.Laplace(0.3, 0.7), 0.02, 0.97),
    "mixture": noise.mixture([noise.Laplace(0.3, 0.7), noise.Cosine()], [0.8, 0.2]),
    "tabulated": noise.Tabulated((-2.0, 0.5, 2.0), (0.2, 1.0, 0.4)),
}
PAIR_LAWS = {
    "lognormal": noise.LognormalPairs(-0.8, 1.5),
    "beta": noise.BetaPairs(1.7, 4.5),
    "polynomial": noise.PolynomialPairs(2.3),
    "prototype": noise.PolynomialPairs(1.7, variant="prototype"),
}


def of_law(law):
    lam = jnp.asarray([-1.5, 0.1, 1.3])
    t = jnp.asarray([0.1, 0.45, 0.8])
    return jnp.concatenate([law.log_prob(lam), law.survival(lam), law.inverse_survival(t)])


def of_pairs(law):
    levels = noise.karras_levels(9)
    levels = jnp.pad(levels, (0, 3), mode="edge")
    paced = law.paced_probs(levels, 8, lambda t: t**2)
    return jnp.concatenate([law.probs(levels, 8), paced])


EACH = [(of_law, law) for law in LAWS.values()] + [(of_pairs, law) for law in PAIR_LAWS.values()]
IDS = [*LAWS, *PAIR_LAWS]


@pytest.mark.takes_a_second
@pytest.mark.parametrize(("values", "law"), EACH, ids=IDS)
def test_a_law_is_an_argument_of_a_jitted_function(values, law):
    np.testing.assert_allclose(jax.jit(values)(law), values(law), rtol=2e-5, atol=2e-6)


@pytest.mark.takes_a_second
@pytest.mark.parametrize(("values", "law"), EACH, ids=IDS)
def test_derivatives_by_a_law_s_numbers_are_those_of_finite_differences(values, law):
    with jax.enable_x64(True):
        numbers, structure = jax.tree.flatten(law)
        numbers = np.asarray(numbers, np.float64)
        moving = np.flatnonzero(np.isfinite(numbers))

        @jax.jit
        def at(numbers):
            return values(jax.tree.unflatten(structure, list(numbers)))

        found = jax.jit(jax.jacfwd(at))(numbers)
        for i in moving:
            h = 1e-6 * np.eye(len(numbers))[i]
            slope = (at(numbers + h) - at(numbers - h)) / 2e-6
            np.testing.assert_allclose(found[:, i], slope, rtol=1e-5, atol=1e-7)
        assert np.all(np.any(found[:, moving] != 0, axis=0))


@pytest.mark.takes_a_second
@pytest.mark.parametrize(("values", "law"), EACH, ids=IDS)
def test_laws_map_over_their_numbers(values, law):
    numbers, structure = jax.tree.flatten(law)
    several = [[x, 1.02 * x] for x in numbers]
    mapped = jax.jit(jax.vmap(values))(
        jax.tree.unflatten(structure, [jnp.asarray(x) for x in several])
    )
    single = jax.jit(values)
    for i in (0, 1):
        alone = single(jax.tree.unflatten(structure, [jnp.asarray(x[i]) for x in several]))
        np.testing.assert_allclose(mapped[i], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("law", [*LAWS.values(), *PAIR_LAWS.values(), noise.Cosine()])
def test_laws_pickle_compare_and_keep_what_is_no_number(law):
    assert pickle.loads(pickle.dumps(law)) == law
    assert hash(pickle.loads(pickle.dumps(law))) == hash(law)
    doubled = jax.tree.map(lambda x: 2 * x, law)
    assert jax.tree.structure(doubled) == jax.tree.structure(law)
    assert getattr(doubled, "sampling", None) == getattr(law, "sampling", None)


@dataclass(frozen=True)
class OwnPairs(noise.CategoricalPairs):
    power: float = 1.0
    offset: int = 1
    sampling: str = "stratified"

    def mass(self, levels):
        return levels[self.offset :] ** self.power


@pytest.mark.takes_a_second
def test_a_law_of_ones_own_is_a_pytree_too():
    law = OwnPairs(0.5)
    assert jax.tree.leaves(law) == [0.5]
    levels = noise.karras_levels(4)
    slope = jax.grad(lambda law: law.probs(levels, 4)[2])(law)
    assert (slope.offset, slope.sampling) == (1, "stratified")
    high = np.asarray(levels[1:], np.float64)
    share = high**0.5 / np.sum(high**0.5)
    expected = share[2] * (np.log(high[2]) - np.sum(share * np.log(high)))
    assert float(slope.power) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("b", lambda x: noise.Laplace(0.0, x)),
        ("gamma", lambda x: noise.Cauchy(0.0, x)),
        ("std", lambda x: noise.Normal(0.0, x)),
        ("s", lambda x: noise.Cosine().scaled(x)),
        ("p_std", lambda x: noise.LognormalPairs(0.0, x)),
        ("a", lambda x: noise.BetaPairs(x)),
        ("curve", lambda x: noise.PolynomialPairs(x)),
    ],
)
@pytest.mark.parametrize("bad", [-1.0, 0, "1", None, True, jnp.asarray([1.0, -1.0]), [1.0, np.nan]])
def test_known_numbers_are_checked(argument, make, bad):
    with pytest.raises(ArgumentError) as error:
        make(bad)
    assert error.value.argument == argument
    make(1.5)
    make(jnp.asarray([0.5, 2.0]))
    # Traced ones are not known.
    jax.eval_shape(make, jax.ShapeDtypeStruct((), jnp.float32))


def test_a_law_is_asked_for_where_one_is_needed():
    with pytest.raises(ArgumentError, match=r"law=3\.0: must be a law over log SNR"):
        noise.window(3.0, 0.1, 0.9)
    with pytest.raises(ArgumentError, match=r"^laws="):
        noise.mixture([noise.Cosine(), "laplace"])
    with pytest.raises(ArgumentError, match=r"density=float32\[1\]: must be of shape \[2\]"):
        jax.eval_shape(
            lambda x: noise.Tabulated([0.0, x], (1.0,)).log_prob(0.0),
            jax.ShapeDtypeStruct((), jnp.float32),
        )


def test_what_jax_cannot_see_is_refused():
    class Plain(noise.LogSnrLaw):
        def __init__(self, mu):
            self.mu = mu

    with pytest.raises(TypeError, match="Plain: must be a dataclass"):
        jax.tree.leaves(Plain(0.0))


@pytest.mark.takes_a_second
def test_a_mixture_takes_batched_numbers():
    batched = noise.mixture([noise.Laplace(jnp.zeros(3), 0.5), noise.Cosine()])
    alone = noise.mixture([noise.Laplace(0.0, 0.5), noise.Cosine()])
    np.testing.assert_allclose(batched.log_prob(0.4), jnp.full(3, alone.log_prob(0.4)), rtol=1e-6)
    np.testing.assert_allclose(
        batched.inverse_survival(0.2), jnp.full(3, alone.inverse_survival(0.2)), rtol=1e-5
    )


@pytest.mark.takes_a_second
def test_linear_beta_is_finite_at_large_rates():
    lam = noise.LinearBeta(0.1, 200.0).inverse_survival(np.float32([0.5, 1.0]))
    np.testing.assert_allclose(lam, [-25.0375, -100.05], rtol=1e-4)
