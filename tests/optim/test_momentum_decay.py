import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.optim import decayed_momentum, learning_rate_compensation, momentum_decay

PROGRESS = np.asarray([0.0, 0.25, 0.5, 0.75, 1.0])


def test_published_values():
    beta, factor = decayed_momentum(PROGRESS), learning_rate_compensation(PROGRESS)
    np.testing.assert_allclose(beta, [0.9, 0.871, 0.818, 0.692, 0.0], atol=5e-4)
    np.testing.assert_allclose(factor, [1.0, 0.775, 0.55, 0.325, 0.1], atol=1e-6)


@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9, 0.99])
def test_learning_rate_times_one_minus_beta_is_constant(b1):
    with jax.enable_x64(True):
        progress = jnp.linspace(0, 1, 101)
        product = learning_rate_compensation(progress, b1) * (1 - decayed_momentum(progress, b1))
        np.testing.assert_allclose(product, 1 - b1, rtol=1e-12)


def reference(gradients, rate, total, b1, b2, eps, decay, compensate):
    """The same optimizer, one formula a line, in numpy."""
    m, v, product, steps = 0.0, 0.0, 1.0, []
    for k, g in enumerate(gradients):
        tau = min(k / total, 1.0)
        beta = b1 * (1 - tau) / ((1 - b1) + b1 * (1 - tau)) if decay else b1
        lr = rate * (1 - b1 * tau) if compensate else rate
        m = beta * m + (1 - beta) * g
        product *= beta
        direction = m / (1 - product)
        if b2 is not None:
            v = b2 * v + (1 - b2) * g**2
            direction = direction / (np.sqrt(v / (1 - b2 ** (k + 1))) + eps)
        steps.append(-lr * direction)
    return np.stack(steps)


def run(optimizer, gradients):
    def body(state, g):
        updates, state = optimizer.update({"w": g}, state)
        return state, updates["w"]

    init = optimizer.init({"w": jnp.zeros_like(gradients[0])})
    return jax.jit(lambda g: jax.lax.scan(body, init, g))(gradients)


@pytest.mark.parametrize("b2", [None, 0.99])
@pytest.mark.parametrize("decay", [True, False])
@pytest.mark.parametrize("compensate", [True, False])
def test_fifty_steps_match_numpy(b2, decay, compensate):
    # 40 < 50: the last steps check what happens after total_steps.
    gradients = np.random.default_rng(0).normal(size=(50, 3))
    with jax.enable_x64(True):
        optimizer = momentum_decay(
            0.1, 40, 0.9, b2, 1e-8, decay_momentum=decay, compensate=compensate
        )
        _, updates = run(optimizer, jnp.asarray(gradients))
    expected = reference(gradients, 0.1, 40, 0.9, b2, 1e-8, decay, compensate)
    np.testing.assert_allclose(updates, expected, rtol=1e-11)


def test_constant_gradient_is_recovered_at_every_step():
    gradient = np.asarray([0.3, -2.0, 1e-3], np.float32)
    optimizer = momentum_decay(1.0, total_steps=60, b2=None, compensate=False)
    state, updates = run(optimizer, jnp.asarray(np.tile(gradient, (60, 1))))
    np.testing.assert_allclose(-updates, np.tile(gradient, (60, 1)), rtol=3e-7)
    with jax.enable_x64(True):
        betas = np.asarray(decayed_momentum(np.arange(60) / 60))
    np.testing.assert_allclose(state.mass, 1 - np.prod(betas), rtol=1e-6)
    assert int(state.taken) == 60


def test_without_decay_it_is_adam():
    gradients = np.random.default_rng(1).normal(size=(20, 4))
    with jax.enable_x64(True):
        ours = momentum_decay(0.01, 10, decay_momentum=False, compensate=False)
        _, updates = run(ours, jnp.asarray(gradients))
        with jax.numpy_dtype_promotion("standard"):  # optax's own Adam needs it
            _, expected = run(optax.adam(0.01), jnp.asarray(gradients))
    np.testing.assert_allclose(updates, expected, rtol=1e-9)


def test_learning_rate_schedule_is_multiplied():
    gradients = jnp.ones((4, 1))
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    _, updates = run(momentum_decay(schedule, 4, b1=0.5, b2=None), gradients)
    tau = np.arange(4) / 4
    np.testing.assert_allclose(-updates[:, 0], (1 - tau) * (1 - 0.5 * tau), rtol=1e-6)


def test_updates_keep_the_dtype_of_the_parameters():
    params = {"half": jnp.ones(2, jnp.bfloat16), "single": jnp.ones(2, jnp.float32)}
    optimizer = momentum_decay(0.1, 10)
    state = optimizer.init(params)
    updates, after = optimizer.update(params, state, params)
    assert jax.tree.map(lambda x: x.dtype, updates) == jax.tree.map(lambda x: x.dtype, params)
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    # Half precision holds no .999.
    assert {leaf.dtype for leaf in jax.tree.leaves((state.mu, state.nu))} == {jnp.dtype("float32")}
    # The first step of Adam is lr * sign(g).
    np.testing.assert_allclose(np.asarray(updates["single"]), -0.1, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(updates["half"], np.float32), -0.1, rtol=2e-2)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_second_moment_forgets_in_half_precision_too(dtype):
    """10 gradients of 10, then .1 for long: `nu -> .1^2`, and a step of the size of the rate."""
    optimizer = momentum_decay(1.0, 10**6)

    def update(state, k):
        gradient = jnp.where(k < 10, 10.0, 0.1).astype(dtype)[None]
        updates, state = optimizer.update(gradient, state)
        return state, updates

    state, updates = jax.lax.scan(update, optimizer.init(jnp.ones(1, dtype)), jnp.arange(20_000))
    assert updates.dtype == dtype
    np.testing.assert_allclose(np.asarray(state.nu, np.float32), 0.01, rtol=0.02)
    np.testing.assert_allclose(np.asarray(updates[-1], np.float32), -1, rtol=0.02)


@pytest.mark.parametrize(
    "argument, value",
    [("total_steps", 0), ("b1", 1.0), ("b1", -0.1), ("b2", 1.0), ("b2", 0.0), ("eps", 0.0)],
)
def test_arguments_out_of_range_are_named(argument, value):
    with pytest.raises(ArgumentError) as error:
        momentum_decay(**{"learning_rate": 0.1, "total_steps": 10, argument: value})
    assert error.value.argument == argument


@pytest.mark.takes_a_second
def test_its_numbers_may_be_traced():
    """optax's own way to move hyperparameters gives the same updates, compiled once."""
    params = {"w": jnp.asarray([1.0, -2.0, 0.5])}
    plain = momentum_decay(0.1, total_steps=4, b1=0.8)
    injected = optax.inject_hyperparams(momentum_decay)(learning_rate=0.1, total_steps=4, b1=0.8)
    state, moved = plain.init(params), injected.init(params)
    update = jax.jit(chex.assert_max_traces(injected.update, 1))
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(3):
            expected, state = plain.update(params, state)
            found, moved = update(params, moved)
            np.testing.assert_allclose(found["w"], expected["w"], rtol=1e-5)


@pytest.mark.parametrize("total_steps", [1e5, "10", True, None])
def test_steps_are_whole_numbers(total_steps):
    with pytest.raises(ArgumentError, match=r"^total_steps="):
        momentum_decay(0.1, total_steps)


def test_beyond_the_end_of_training_the_end_stays():
    assert float(decayed_momentum(1.2)) == float(decayed_momentum(1.0)) == 0
    assert float(learning_rate_compensation(1.2)) == float(learning_rate_compensation(1.0))
    for formula in (decayed_momentum, learning_rate_compensation):
        with pytest.raises(ArgumentError, match=r"b1=1.5: must be a number in \[0, 1\)"):
            formula(0.5, b1=1.5)
