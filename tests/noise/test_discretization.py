"""Curricula: every published plateau, exact integers for any step, and no recompilation."""

from collections.abc import Callable
from math import ceil, floor, pi, sin, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    Curriculum,
    constant,
    curriculum,
    discretization,
    doubling,
    sinusoidal,
    sinusoidal_rising,
    square_root,
    square_root_ema_rate,
)

# The sinusoid with s0 = 20, s1 = 250 over 100,000 steps has 31 plateaus: first steps and levels.
SINUSOID_STARTS = [
    *[0, 10044, 15944, 20893, 25309, 29369, 33165, 36754, 40176, 43458, 46620, 49678, 52645, 55531],
    *[58343, 61089, 66405, 68985, 71516, 74004, 76451, 78859, 81231, 83569, 85874, 88149, 90395],
    *[92614, 94806, 96973, 99116],
]
SINUSOID_LEVELS = [
    *[20, 43, 66, 88, 110, 131, 150, 169, 185, 201, 214, 225, 235, 242, 247, 250],
    *[249, 244, 238, 230, 219, 206, 192, 176, 158, 139, 119, 98, 76, 53, 30],
]
CURRICULA = [square_root, doubling, sinusoidal, sinusoidal_rising]


def formula(curriculum: Callable, k: int, s0: int, s1: int, K: int) -> int:
    """N(k) in plain Python, one step at a time."""
    if curriculum is square_root:
        return ceil(sqrt(k / K * ((s1 + 1) ** 2 - s0**2) + s0**2) - 1) + 1
    if curriculum is doubling:
        doublings = np.log2(s1 // s0)
        return min(s0 * 2 ** (k // max(floor(K / (doublings + 1)), 1)), s1) + 1
    if curriculum is sinusoidal:
        return ceil(abs((s1 - s0) * sin(floor(10 * pi * (k / K) ** 1.5) / 10) + s0))
    return min(ceil(abs(s1 * sin(floor(3 * pi * k / K) / 3 / 2) + s0)) + 1, s1 + 1)


def test_sinusoid_levels() -> None:
    curriculum = sinusoidal(s0=20, s1=250, total_steps=100_000)
    assert curriculum.counts == tuple(SINUSOID_LEVELS)
    np.testing.assert_allclose(curriculum.starts, SINUSOID_STARTS, atol=5)
    assert curriculum.max_levels == 250


def test_sinusoid_edges_in_closed_form() -> None:
    # x = j / 10 begins where 10 pi (k/K)^1.5 reaches j; at j = 16 the count stays 250.
    edges = [ceil(100_000 * (j / (10 * pi)) ** (2 / 3)) for j in range(32) if j != 16]
    np.testing.assert_array_equal(sinusoidal(total_steps=100_000).starts, edges)


def test_sinusoid_exponent_moves_the_top() -> None:
    early, late = (sinusoidal(total_steps=1000, rho=rho) for rho in (5.0, 9.0))
    assert early.starts[early.counts.index(250)] == ceil(1000 * 15 / (10 * pi))
    assert late.starts[late.counts.index(250)] == ceil(1000 * (15 / (10 * pi)) ** 0.5)


def test_rising_sinusoid_levels() -> None:
    curriculum = sinusoidal_rising(s0=20, s1=250, total_steps=100_000)
    assert curriculum.counts == (21, 63, 103, 141, 176, 207, 232, 251)
    edges = [ceil(100_000 * j / (3 * pi)) for j in range(8)]
    np.testing.assert_array_equal(curriculum.starts, edges)
    assert curriculum.starts[-1] == pytest.approx(74_300, abs=50)


def test_doubling_levels() -> None:
    assert doubling(s0=10, s1=1280, total_steps=400_000).plateaus == tuple(
        (50_000 * j, count) for j, count in enumerate([11, 21, 41, 81, 161, 321, 641, 1281])
    )
    assert doubling(s0=20, s1=250, total_steps=100_000).plateaus == (
        *[(0, 21), (21810, 41), (43620, 81), (65430, 161), (87240, 251)],
    )


def test_doubling_of_a_very_short_run_still_doubles() -> None:
    assert doubling(s0=10, s1=1280, total_steps=3).plateaus == ((0, 11), (1, 21), (2, 41))


def test_square_root_levels() -> None:
    K, s0, s1 = 800_000, 2, 150
    curriculum = square_root(s0=s0, s1=s1, total_steps=K)
    assert curriculum.counts == tuple(range(s0, s1 + 2))
    # N = ceil(sqrt(X)) exceeds m as soon as X > m^2: exact in integers.
    edges = [K * (m**2 - s0**2) // ((s1 + 1) ** 2 - s0**2) + 1 for m in range(s0, s1 + 1)]
    np.testing.assert_allclose(curriculum.starts[1:], edges, atol=1)


def test_constant_levels() -> None:
    curriculum = constant(s0=20, s1=250, total_steps=100)
    assert curriculum.plateaus == ((0, 20),)
    np.testing.assert_array_equal(curriculum(jnp.asarray([0, 99, 10**6])), [20, 20, 20])
    assert constant() == Curriculum((0,), (20,))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    curriculum=st.sampled_from(CURRICULA),
    s0=st.integers(2, 40),
    rise=st.integers(0, 300),
    total_steps=st.integers(1, 300),
)
def test_plateaus_are_the_formula_at_every_step(
    curriculum: Callable, s0: int, rise: int, total_steps: int
) -> None:
    built = curriculum(s0=s0, s1=s0 + rise, total_steps=total_steps)
    expected = [formula(curriculum, k, s0, s0 + rise, total_steps) for k in range(total_steps)]
    lengths = np.diff([*built.starts, total_steps])
    np.testing.assert_array_equal(np.repeat(built.counts, lengths), expected)
    assert all(a != b for a, b in zip(built.counts, built.counts[1:], strict=False))
    assert min(built.counts) >= 2
    assert built.max_levels == max(built.counts) <= s0 + rise + 1


def test_long_runs_are_evaluated_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sinusoidal(total_steps=1000)
    monkeypatch.setattr(discretization, "_CHUNK", 7)
    assert sinusoidal(total_steps=1000) == whole


def test_lookup_is_exact_at_every_edge_and_beyond_the_end() -> None:
    curriculum = sinusoidal(total_steps=2000)
    steps = np.arange(2500)
    expected = np.repeat(curriculum.counts, np.diff([*curriculum.starts, 2500]))
    batched = jax.jit(curriculum)(jnp.asarray(steps))
    assert batched.dtype == jnp.int32
    np.testing.assert_array_equal(batched, expected)
    np.testing.assert_array_equal(jax.jit(jax.vmap(curriculum))(jnp.asarray(steps)), expected)
    assert int(curriculum(10**9)) == curriculum.counts[-1]


def test_lookup_takes_python_and_traced_steps_of_any_integer_type() -> None:
    curriculum = Curriculum((0, 5, 9), (2, 7, 4))
    assert [int(curriculum(k)) for k in (0, 4, 5, 8, 9)] == [2, 2, 7, 7, 4]
    assert [int(curriculum.plateau(k)) for k in (4, 5, 9)] == [0, 1, 2]
    np.testing.assert_array_equal(curriculum(jnp.asarray([[4], [9]], jnp.uint32)), [[2], [4]])
    assert curriculum(3).shape == ()
    with jax.enable_x64(True):
        assert curriculum(jnp.asarray(5)).dtype == jnp.int32


@pytest.mark.parametrize("held", [int, np.int64, np.asarray, jnp.int32])
def test_any_integer_is_one(held: Callable) -> None:
    assert sinusoidal(total_steps=held(500)) == sinusoidal(total_steps=500)
    assert type(sinusoidal(total_steps=held(500)).total_steps) is int
    assert doubling(s0=held(10), s1=held(100), total_steps=held(60)).counts == (11, 21, 41, 81, 101)
    assert constant(s0=held(20), total_steps=held(9)) == constant(s0=20, total_steps=9)
    built = Curriculum((0, 5), (2, 7))
    assert int(built(held(5))) == 7
    with pytest.raises(ArgumentError, match=r"^step=-5: must be an integer >= 0$"):
        built(held(-5))
    with pytest.raises(ArgumentError, match=r"^total_steps=0: must be an integer >= 1$"):
        doubling(total_steps=held(0))
    assert float(square_root_ema_rate(held(3))) == pytest.approx(0.9, rel=1e-6)
    with pytest.raises(ArgumentError, match=r"^num_levels=1: must be an integer >= 2$"):
        square_root_ema_rate(held(1))


def test_a_step_beyond_int32_is_on_the_last_plateau() -> None:
    built = Curriculum((0, 5, 9), (2, 7, 4))
    for step in (2**31 - 1, 2**31 + 5, np.uint32(3_000_000_000), np.int64(2**31 + 5), 2**63 + 5):
        assert int(built.plateau(step)) == 2
    np.testing.assert_array_equal(built(np.asarray([4, 2**32], np.int64)), [2, 4])
    assert int(built(np.int8(6))) == 7
    traced = jax.jit(built)
    assert int(traced(jnp.uint32(3_000_000_000))) == 4
    with jax.enable_x64(True):
        np.testing.assert_array_equal(traced(jnp.asarray([6, 2**32 + 1])), [7, 4])
    with pytest.raises(ArgumentError, match=r"^step=-1: must be an integer >= 0$"):
        built(np.asarray([3, -1]))
    with pytest.raises(ArgumentError, match=r"^step=2.5: must be an integer, or an array of them$"):
        built(2.5)


def test_a_formula_may_give_one_number() -> None:
    assert curriculum(lambda k: 20, total_steps=10) == Curriculum((0,), (20,), 10)
    assert curriculum(lambda k: np.float64(20.7), total_steps=10).counts == (20,)
    rising = curriculum(lambda k: jnp.asarray(k, jnp.int32) // 5 + 2, total_steps=10)
    assert rising.plateaus == ((0, 2), (5, 3))
    for formula in (lambda k: k[:3] + 2, lambda k: "20", lambda k: k / 0 + 2, lambda k: None):
        with np.errstate(all="ignore"), pytest.raises(ArgumentError) as error:
            curriculum(formula, total_steps=10)
        allowed = "one to a finite number for each of the 10 steps, or to one number"
        assert error.value.argument == "formula"
        assert error.value.allowed == allowed


def test_one_trace_serves_a_whole_curriculum() -> None:
    traces = []
    curriculum = sinusoidal(total_steps=1000)

    @jax.jit
    def levels(step: jax.Array) -> jax.Array:
        traces.append(step)
        return curriculum(step)

    assert tuple(int(levels(jnp.int32(k))) for k in curriculum.starts) == curriculum.counts
    assert len(traces) == 1


def test_curricula_are_values() -> None:
    same = sinusoidal(total_steps=500)
    assert {same: "a"}[sinusoidal(total_steps=500)] == "a"
    assert same.plateaus[0] == (0, 20)
    assert same.total_steps == 500


def test_square_root_ema_rate() -> None:
    # exp(s0 ln mu0 / N') with N' = N - 1 pairs.
    assert float(square_root_ema_rate(2)) == pytest.approx(0.9**2, rel=1e-6)
    assert float(square_root_ema_rate(3)) == pytest.approx(0.9, rel=1e-6)
    assert float(square_root_ema_rate(151)) == pytest.approx(0.9 ** (2 / 150), rel=1e-6)
    rates = jax.jit(lambda n: square_root_ema_rate(n, mu0=0.5, s0=4))(jnp.asarray([5, 9]))
    assert rates.dtype == jnp.float32
    np.testing.assert_allclose(rates, [0.5, 0.5**0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: square_root(s0=1, total_steps=9), "s0=1: must be an integer >= 2"),
        (lambda: sinusoidal(s0=1, total_steps=9), "s0=1: must be an integer >= 2"),
        (lambda: constant(s0=1), "s0=1: must be an integer >= 2"),
        (lambda: constant(s0=20, s1=19), "s1=19: must be an integer >= 20"),
        (lambda: constant(total_steps=0), "total_steps=0: must be an integer >= 1"),
        (lambda: doubling(s0=0, total_steps=9), "s0=0: must be an integer >= 1"),
        (lambda: doubling(s0=10, s1=9, total_steps=9), "s1=9: must be an integer >= 10"),
        (lambda: sinusoidal_rising(s0=2.5, total_steps=9), "s0=2.5: must be an integer >= 1"),
        (lambda: sinusoidal(total_steps=1e5), "total_steps=100000.0: must be an integer >= 1"),
        (
            lambda: doubling(total_steps=2**31),
            "total_steps=2147483648: must be an integer >= 1 and <= 2147483647",
        ),
        (lambda: sinusoidal(total_steps=9, rho=1.0), "rho=1.0: must be a finite number > 1"),
        (lambda: constant()(-1), "step=-1: must be an integer >= 0"),
        (
            lambda: Curriculum((1,), (5,)),
            "starts=(1,): must be strictly ascending steps from 0",
        ),
        (
            lambda: Curriculum((0, 3, 3), (5, 6, 7)),
            "starts=(0, 3, 3): must be strictly ascending steps from 0",
        ),
        (lambda: Curriculum((), ()), "starts=(): must be strictly ascending steps from 0"),
        (
            lambda: Curriculum((0, 4), (5,)),
            "counts=(5,): must be one integer >= 2 for each of starts",
        ),
        (lambda: square_root_ema_rate(1), "num_levels=1: must be an integer >= 2"),
        (lambda: square_root_ema_rate(3, mu0=1.0), "mu0=1.0: must be a number in (0, 1)"),
        (lambda: square_root_ema_rate(3, s0=0), "s0=0: must be an integer >= 1"),
    ],
)
def test_errors_name_the_argument_and_the_range(call: Callable, message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        call()
    assert str(error.value) == message
    assert error.value.argument == message.split("=")[0]


@pytest.mark.parametrize(
    "starts, counts, message",
    [
        ((0, 100.5), (11, 21), "starts=100.5: must be an integer >= 0"),
        ((0, 100), (11, 21.7), "counts=21.7: must be an integer >= 2"),
        ((0, 100), (11, float("nan")), "counts=nan: must be an integer >= 2"),
        ((0, 100), (1, 21), "counts=1: must be an integer >= 2"),
    ],
)
def test_plateaus_are_of_integers(starts, counts, message):
    with pytest.raises(ArgumentError, match=message):
        Curriculum(starts, counts)
