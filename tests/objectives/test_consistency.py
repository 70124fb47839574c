import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    KarrasGrid,
    PolynomialPairs,
    PredefinedGrid,
    constant,
    doubling,
    karras_levels,
    sinusoidal,
    square_root,
    square_root_ema_rate,
)
from jaxnoise.objectives import (
    ConsistencyObjective,
    Pairs,
    consistency_losses,
    inverse_gap,
    squared_l2,
    uniform,
)

PAIRS = Pairs(sigma_lo=jnp.array([0.5, 2.0]), sigma_hi=jnp.array([0.75, 4.0]))


def make(curriculum, grid, law=None, **settings):
    return ConsistencyObjective(
        grid=grid,
        law=law or PolynomialPairs(),
        curriculum=curriculum,
        distance=squared_l2,
        weight=inverse_gap,
        **settings,
    )


def test_student_is_above_the_teacher_with_the_same_noise():
    x0 = jnp.zeros((2, 1, 1, 1))
    eps = jnp.ones((2, 1, 1, 1))
    seen = {}

    def watch(name):
        def f(x, sigma):
            seen[name] = (np.asarray(x).ravel().tolist(), np.asarray(sigma).tolist())
            return x

        return f

    losses = consistency_losses(
        watch("student"), watch("teacher"), x0, eps, PAIRS, squared_l2, uniform
    )
    assert seen == {
        "student": ([0.75, 4.0], [0.75, 4.0]),
        "teacher": ([0.5, 2.0], [0.5, 2.0]),
    }
    np.testing.assert_allclose(losses, [0.25**2, 2.0**2])


def test_weight_is_one_over_the_gap():
    np.testing.assert_allclose(inverse_gap(PAIRS.sigma_lo, PAIRS.sigma_hi), [4.0, 0.5])


def test_no_gradient_through_the_teacher():
    x0, eps = jnp.zeros((2, 1, 1, 1)), jnp.ones((2, 1, 1, 1))

    def loss(student, teacher):
        return consistency_losses(
            lambda x, s: student * x, lambda x, s: teacher * x, x0, eps, PAIRS, squared_l2, uniform
        ).sum()

    by_student, by_teacher = jax.grad(loss, argnums=(0, 1))(2.0, 3.0)
    # d/da sum (a hi - b lo)^2 = sum 2 hi (a hi - b lo)
    np.testing.assert_allclose(by_student, 2 * 0.75 * (1.5 - 1.5) + 2 * 4.0 * (8.0 - 6.0))
    assert by_teacher == 0.0


def test_drawn_pairs_are_neighbours_of_the_levels_in_use():
    curriculum = sinusoidal(s0=20, s1=250, total_steps=1000)
    grid = PredefinedGrid(251, "nested", 0.002, 80.0, 7.0)
    objective = make(curriculum, grid)
    for step in (0, 400, 999):
        levels, num_levels = objective.levels(jax.random.key(1), jnp.int32(step))
        in_use = np.asarray(levels)[: int(num_levels)]
        pairs = objective.draw(jax.random.key(2), jax.random.key(1), jnp.int32(step), 512)
        lower = np.searchsorted(in_use, np.asarray(pairs.sigma_lo))
        np.testing.assert_array_equal(in_use[lower], pairs.sigma_lo)
        np.testing.assert_array_equal(in_use[lower + 1], pairs.sigma_hi)


def test_one_compilation_for_a_whole_curriculum():
    curriculum = sinusoidal(s0=20, s1=250, total_steps=200)
    objective = make(curriculum, PredefinedGrid(251, "nested", 0.002, 80.0, 7.0))
    traces = []

    @jax.jit
    def draw(key, step):
        traces.append(step)
        return objective.draw(key, jax.random.key(0), step, 64).sigma_hi, objective.metrics(step)

    seen = set()
    for step in range(200):
        _, metrics = draw(jax.random.key(step), jnp.int32(step))
        seen.add(int(metrics["num_levels"]))
    assert len(traces) == 1
    assert len(seen) > 25


def test_random_table_is_drawn_anew_on_every_plateau_only():
    curriculum = doubling(s0=10, s1=40, total_steps=300)
    objective = make(curriculum, PredefinedGrid(41, "random", 0.002, 80.0, 7.0))
    key = jax.random.key(3)

    def at(step):
        levels, num_levels = objective.levels(key, jnp.int32(step))
        return np.asarray(levels)[: int(num_levels)]

    np.testing.assert_array_equal(at(0), at(99))
    assert not set(at(0)) <= set(at(100))


def test_teacher_rate_of_the_square_root_curriculum():
    curriculum = square_root(s0=2, s1=150, total_steps=800)
    # mu = exp(s0 ln(mu0) / N'), N' = N - 1; the run starts at N' = 1 and ends at 150.
    np.testing.assert_allclose(square_root_ema_rate(curriculum(0)), np.exp(2 * np.log(0.9)), 1e-6)
    np.testing.assert_allclose(
        square_root_ema_rate(curriculum(799)), np.exp(2 * np.log(0.9) / 150), 1e-6
    )


def test_karras_grid_gives_the_levels_of_the_formula():
    objective = make(constant(s0=11), KarrasGrid(11, 0.002, 80.0, 7.0))
    levels, num_levels = objective.levels(jax.random.key(0), jnp.int32(5))
    assert int(num_levels) == 11
    np.testing.assert_allclose(levels, karras_levels(11), rtol=2e-6)


@pytest.mark.parametrize(
    "argument, settings",
    [
        ("sigma_data", {"sigma_data": -1.0}),
        ("sigma_data", {"sigma_data": 1e-30}),
        ("sigma_min", {"sigma_min": 0.0}),
        ("sigma_max", {"sigma_min": 1.0, "sigma_max": 0.5}),
        ("sigma_max", {"sigma_max": float("inf")}),
    ],
)
def test_levels_and_data_out_of_range_are_refused(argument, settings):
    with pytest.raises(ArgumentError) as refused:
        make(constant(), KarrasGrid(20), **settings)
    assert refused.value.argument == argument
