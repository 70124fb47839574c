from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    Adaptive,
    BetaPairs,
    Cosine,
    Difficulty,
    HighToLow,
    KarrasGrid,
    LognormalPairs,
    NoPacing,
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


@pytest.mark.takes_a_second
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


@pytest.mark.takes_a_second
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
        ("law", {"law": Cosine()}),
        ("law", {"law": "polynomial"}),
        ("distance", {"distance": "l1"}),
        ("weight", {"weight": 1.0}),
        ("pacing", {"pacing": lambda u: u}),
        ("ema_teacher", {"ema_teacher": 0.9}),
        ("curriculum", {"curriculum": lambda step: 20}),
        ("grid", {"grid": karras_levels(20)}),
    ],
)
def test_what_does_not_belong_in_an_objective_is_refused(argument, settings):
    given = {
        "grid": KarrasGrid(20),
        "law": PolynomialPairs(),
        "curriculum": constant(s0=20),
        "distance": squared_l2,
        "weight": inverse_gap,
    }
    with pytest.raises(ArgumentError) as refused:
        ConsistencyObjective(**{**given, **settings})
    assert refused.value.argument == argument
    assert "\n" not in str(refused.value)


@pytest.mark.takes_a_second
def test_a_grid_has_room_for_its_curriculum():
    """Levels past a grid's end would be equal, and their weights infinite."""
    rising = doubling(s0=10, s1=250, total_steps=100)
    for grid in (KarrasGrid(250), PredefinedGrid(250)):
        with pytest.raises(ArgumentError, match="=250: must be at least 251, the curriculum's mo"):
            make(rising, grid)
    own = OwnGrid(250)
    with pytest.raises(ArgumentError, match=r"^grid=.* must be of at least 251 levels, not 250"):
        make(rising, own)
    assert make(rising, OwnGrid(251)).grid.length == 251
    assert make(rising, KarrasGrid(300)).grid.max_levels == 300
    for grid in (KarrasGrid(sigma_max=20.0), PredefinedGrid(sigma_max=20.0)):
        fitted = make(rising, grid)
        assert (fitted.grid.max_levels, fitted.sigma_max) == (251, 20.0)
        key, last = jax.random.key(0), jnp.int32(99)
        pairs = fitted.draw(key, key, last, 4096)
        gaps = inverse_gap(pairs.sigma_lo, pairs.sigma_hi)
        assert bool(jnp.isfinite(gaps).all())
        assert float(fitted.levels(key, last)[0][-1]) == 20.0


@dataclass(frozen=True)
class OwnGrid:
    length: int
    sigma_min: float = 0.1
    sigma_max: float = 10.0

    def __call__(self, num_levels, key=None):
        return karras_levels(num_levels, self.sigma_min, self.sigma_max, length=self.length)


def test_the_range_of_levels_is_the_grid_s():
    objective = make(constant(s0=9), KarrasGrid(9, 0.05, 20.0))
    assert (objective.sigma_min, objective.sigma_max) == (0.05, 20.0)
    f = objective.denoiser(lambda x, c_noise: x + 1)
    x = jnp.full((1, 2, 2, 1), 0.3)
    np.testing.assert_array_equal(f(x, jnp.asarray([0.05])), x)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("pacing", [NoPacing(), HighToLow(100, width=0.3)])
@pytest.mark.parametrize(
    "law", [LognormalPairs(), PolynomialPairs(2.0, sampling="iid"), BetaPairs(sampling="iid")]
)
def test_a_drawn_pair_tells_the_probability_that_it_was_drawn_with(law, pacing):
    objective = make(constant(s0=12), KarrasGrid(12), law, pacing=pacing)
    key, step, count = jax.random.key(1), jnp.int32(40), 20_000
    pairs = objective.draw(key, key, step, count)
    levels = np.asarray(objective.levels(key, step)[0])
    index = np.searchsorted(levels, np.asarray(pairs.sigma_lo))
    probs = np.zeros(11)
    probs[index] = np.exp(np.asarray(pairs.log_prob))
    drawn = probs > 0
    observed = np.bincount(index, minlength=11)
    assert probs.sum() == pytest.approx(1, abs=5e-3)
    expected = probs[drawn] / probs[drawn].sum() * count
    assert stats.chisquare(observed[drawn], expected).pvalue > 1e-3


@pytest.mark.takes_a_second
@pytest.mark.parametrize("pacing", [NoPacing(), HighToLow(1)])
def test_the_sweep_of_the_prototype_reaches_the_highest_level(pacing):
    """Its last place is 1, which a pacing does not reach; sampling starts from that level."""
    law = PolynomialPairs(2.5, variant="prototype")
    objective = make(constant(s0=20), KarrasGrid(20), law, pacing=pacing)
    draw = jax.jit(lambda key: objective.draw(key, key, jnp.int32(5), 64).sigma_hi)
    found = [np.asarray(draw(jax.random.key(seed))).max() for seed in range(20)]
    # The jitter takes it away now and then.
    assert np.mean(np.isclose(found, 80.0)) > 0.6


@pytest.mark.takes_a_second
def test_an_adaptive_law_meets_pairs_too_rare_for_their_probability():
    """The first place of a sweep is 0, whose pair has a probability of 0 under a small curve."""
    law = PolynomialPairs(0.1, sampling="sorted")
    pacing = Adaptive(bins=64, range=(-8.7, 12.4), warmup_steps=1)
    objective = make(constant(s0=250), KarrasGrid(250), law, pacing=pacing)
    full = pacing.init().recent._replace(examples=jnp.ones(64), total=jnp.linspace(1.0, 64.0, 64))
    state = pacing.init()._replace(recent=full)
    key = jax.random.key(0)
    pairs = objective.draw(key, key, jnp.int32(5), 256, state)
    assert pairs.importance.min() > 0
    sums = objective.observe(jnp.ones(256) * pairs.importance, {}, pairs)
    assert np.isfinite(sums.total).all()


@pytest.mark.takes_a_second
def test_position_in_the_batch_says_nothing_of_the_level():
    """Under the default sampling a fixed order of images must not fix their noise."""
    objective = make(constant(s0=60), KarrasGrid(), PolynomialPairs())
    key = jax.random.key(3)
    draw = jax.jit(lambda k: objective.draw(k, key, jnp.int32(0), 128).sigma_hi)
    levels = np.log(np.asarray(jax.vmap(draw)(jax.random.split(key, 200))))
    place = np.broadcast_to(np.arange(128), levels.shape)
    assert abs(np.corrcoef(place.ravel(), levels.ravel())[0, 1]) < 4 / np.sqrt(levels.size)


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    ("dtype", "x64"),
    [
        (jnp.bfloat16, False),
        (jnp.bfloat16, True),
        (jnp.float32, False),
        (jnp.float32, True),
        (jnp.float64, True),
    ],
)
def test_the_network_sees_the_images_dtype_and_losses_are_wide(dtype, x64):
    with jax.enable_x64(x64):
        objective = make(constant(s0=12), KarrasGrid())
        key, seen = jax.random.key(0), {}

        def network(x, c_noise):
            seen["x"], seen["c_noise"] = x.dtype, c_noise.dtype
            return jnp.tanh(x)

        x0 = jax.random.normal(key, (8, 2, 2, 1), dtype)
        eps = jax.random.normal(jax.random.key(1), x0.shape, dtype)
        pairs = objective.draw(key, key, jnp.int32(0), 8)
        losses = jax.jit(lambda *a: objective.losses(network, network, {}, *a))(x0, eps, pairs)
        wide = jnp.float64 if dtype == jnp.float64 else jnp.float32
        assert seen == {"x": dtype, "c_noise": wide}
        assert losses.dtype == wide
        assert objective.denoiser(network)(x0, jnp.full(8, 0.5)).dtype == dtype


@pytest.mark.parametrize(
    "argument, change",
    [
        ("eps", {"eps": jnp.ones((2, 1, 1, 2))}),
        ("x0", {"x0": jnp.ones((2, 1, 1, 1), jnp.int32)}),
        ("sigma_lo", {"pairs": Pairs(jnp.ones(3), jnp.full(3, 2.0))}),
        ("pairs", {"pairs": Pairs(jnp.full(2, 2.0), jnp.ones(2))}),
        ("pairs", {"pairs": jnp.ones(2)}),
        ("student", {"student": None}),
        ("distance", {"distance": inverse_gap, "weight": squared_l2}),
        ("weight", {"weight": lambda lo, hi: lo[:1]}),
    ],
)
def test_losses_name_the_argument_that_is_wrong(argument, change):
    given = {
        "student": lambda x, sigma: x,
        "teacher": lambda x, sigma: x,
        "x0": jnp.zeros((2, 1, 1, 1)),
        "eps": jnp.ones((2, 1, 1, 1)),
        "pairs": PAIRS,
        "distance": squared_l2,
        "weight": uniform,
    }
    with pytest.raises(ArgumentError) as refused:
        consistency_losses(**{**given, **change})
    assert refused.value.argument == argument


@pytest.mark.takes_a_second
def test_a_pacing_with_a_state_asks_for_it():
    objective = make(constant(s0=12), KarrasGrid(), pacing=Difficulty(4, 10))
    key = jax.random.key(0)
    with pytest.raises(ArgumentError, match=r"^pace=\(\): must be the state of Difficulty"):
        objective.draw(key, key, jnp.int32(0), 8)
    sums = objective.pacing.observe(jnp.zeros(1), jnp.ones(1))
    state = objective.pacing.update(objective.pacing.init(), sums)
    assert objective.draw(key, key, jnp.int32(0), 8, state).sigma_hi.shape == (8,)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("network", [lambda x, c: x[:, :1, :1], lambda x, c: x[:1], lambda x, c: c])
def test_a_network_that_gives_another_shape_is_refused(network):
    """Broadcast against the images, its loss would be a number all the same."""
    objective = make(constant(s0=12), KarrasGrid())
    key, x0 = jax.random.key(0), jnp.ones((4, 2, 2, 1))
    pairs = objective.draw(key, key, 0, 4)
    with pytest.raises(ArgumentError, match=r"must be a function to floats of the shape of x"):
        objective.losses(network, network, {}, x0, x0, pairs)
    with pytest.raises(ArgumentError, match=r"^network=a function to float32"):
        objective.denoiser(network)(x0, jnp.ones(4))


def test_a_step_is_one_number():
    objective = make(constant(s0=12), KarrasGrid())
    key = jax.random.key(0)
    for step in (jnp.arange(4), np.zeros(1, np.int32), [1, 2]):
        with pytest.raises(ArgumentError, match=r"^step=.*: must be one integer, the training st"):
            objective.draw(key, key, step, 4)


def test_a_teacher_is_asked_for():
    objective = make(constant(s0=12), KarrasGrid())
    key, x0 = jax.random.key(0), jnp.ones((4, 2, 2, 1))
    with pytest.raises(ArgumentError, match="teacher=None: must be a function"):
        objective.losses(lambda x, c: x, None, {}, x0, x0, objective.draw(key, key, 0, 4))


def test_a_weight_may_be_one_number():
    x0, eps = jnp.zeros((2, 1, 1, 1)), jnp.ones((2, 1, 1, 1))
    identity = lambda x, sigma: x  # noqa: E731
    found, ones = (
        consistency_losses(identity, identity, x0, eps, PAIRS, squared_l2, weight)
        for weight in (lambda lo, hi: 1.0, uniform)
    )
    np.testing.assert_array_equal(found, ones)


@pytest.mark.takes_a_second
def test_pairs_that_are_closed_over_are_compared_under_jit():
    x = jnp.ones((1, 2, 2, 1))

    def losses(x0, pairs):
        half = lambda x, sigma: x / 2  # noqa: E731
        return consistency_losses(half, half, x0, x, pairs, squared_l2, inverse_gap)

    up, down = (Pairs(jnp.array([a]), jnp.array([b])) for a, b in ((0.5, 1.0), (1.0, 0.5)))
    np.testing.assert_array_equal(jax.jit(lambda x0: losses(x0, up))(x), losses(x, up))
    with pytest.raises(ArgumentError, match="levels with sigma_lo < sigma_hi"):
        jax.jit(lambda x0: losses(x0, down))(x)
