import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnoise.meta import InnerState, meta_gradient, with_finite_derivatives


def norm(x):
    return jnp.sqrt(jnp.sum(jnp.square(x)))


@pytest.mark.takes_a_second
def test_values_are_the_same_bits_and_derivatives_away_from_zero_too():
    x = jnp.asarray(np.random.RandomState(0).randn(7), jnp.float32)
    np.testing.assert_array_equal(with_finite_derivatives(norm)(x), norm(x))
    np.testing.assert_allclose(
        jax.grad(with_finite_derivatives(norm))(x), jax.grad(norm)(x), rtol=1e-6
    )


@pytest.mark.takes_a_second
def test_the_derivative_at_zero_is_zero_under_jit_control_flow_and_vmap():
    def nested(x):
        return jax.lax.cond(x[0] >= 0, jax.jit(norm), jnp.sum, x)

    zeros = jnp.zeros(3)
    assert np.isnan(jax.grad(nested)(zeros)).all()
    np.testing.assert_array_equal(jax.grad(with_finite_derivatives(nested))(zeros), zeros)
    many = jax.vmap(jax.jit(jax.grad(with_finite_derivatives(norm))))
    expected = np.array([[0.0, 0.0], [0.6, 0.8]])
    np.testing.assert_allclose(many(jnp.array([[0.0, 0.0], [3.0, 4.0]])), expected, rtol=1e-6)


@pytest.mark.takes_a_second
def test_a_quotient_that_is_not_taken_leaves_no_nan():
    def guarded(x, y):
        return jnp.where(y == 0, x + 2 * y, x / y)

    safe = with_finite_derivatives(guarded)
    x, y = jnp.array([3.0, 3.0, -1.0]), jnp.array([0.0, 2.0, 0.5])
    np.testing.assert_array_equal(safe(x, y), guarded(x, y))
    grads = jax.vmap(jax.grad(safe, argnums=(0, 1)))(x, y)
    np.testing.assert_allclose([g[0] for g in grads], [1.0, 2.0], rtol=1e-6)
    plain = jax.vmap(jax.grad(guarded, argnums=(0, 1)))(x, y)
    assert np.isnan(plain[1][0])
    for mine, other in zip(grads, plain, strict=True):
        np.testing.assert_allclose(mine[1:], other[1:], rtol=1e-6)
    tangents = jax.vmap(lambda x, y: jax.jvp(safe, (x, y), (1.0, 1.0))[1])(x, y)
    np.testing.assert_allclose(tangents, grads[0] + grads[1], rtol=1e-6)
    # Integers divide as they did.
    assert int(with_finite_derivatives(lambda n: n // 3)(jnp.int32(7))) == 2


NORMED = {
    "clipped adam": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1, eps=1e-3)),
    "lamb": optax.lamb(0.1, eps=1e-3),
    "lars": optax.lars(10.0),
    "adafactor": optax.adafactor(0.1, min_dim_size_to_factor=2, weight_decay_rate=0.1),
}


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("mode", ["mixed", "reverse"])
def test_meta_gradients_are_exact_beside_a_gradient_of_zero(name, mode):
    """The first of three inner steps starts at the minimum of all its losses."""
    with jax.enable_x64(True):
        theta, eta = jnp.array([1.0, -2.0]), jnp.array(0.3)
        offsets = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 2))).at[0].set(0)

        def losses(theta, offset):
            return jnp.sum((theta[None] - jnp.array([[1.0, -2.0]]) - offset) ** 2, axis=1)

        solve = meta_gradient(
            losses,
            lambda eta, offset: jax.nn.softmax(eta * offset[:, 0]),
            lambda theta, target: jnp.sum((theta - target) ** 2),
            NORMED[name],
            mode=mode,
        )

        @jax.jit
        def outcome(eta):
            result = solve(eta, InnerState(theta, NORMED[name].init(theta)), offsets, 5.0)
            return result.value, result.gradient

        found = outcome(eta)[1]
        h = 1e-5
        slope = (outcome(eta + h)[0] - outcome(eta - h)[0]) / (2 * h)
        assert abs(slope) > 1e-3
        np.testing.assert_allclose(found, slope, rtol=1e-6)


def test_a_root_below_one_has_a_finite_slope_at_zero():
    """Adafactor's: the cube of `rsqrt(1e-30)` is no float32, and 0 times infinity is NaN."""

    def function(x):
        return x * jax.lax.rsqrt(jnp.square(x) + 1e-30)

    safe = with_finite_derivatives(function)
    assert np.isnan(jax.grad(function)(0.0))
    np.testing.assert_allclose(jax.grad(safe)(0.0), 1e15, rtol=1e-6)
    # d rsqrt(x) is -x^-1.5 / 2, and 0 where there is none.
    root = jax.vmap(jax.grad(with_finite_derivatives(jax.lax.rsqrt)))
    np.testing.assert_allclose(root(jnp.array([4.0, 0.0, -1.0])), [-1 / 16, 0, 0], rtol=1e-6)


def test_second_derivatives_are_those_of_the_square_root():
    function = with_finite_derivatives(jnp.sqrt)
    assert abs(float(jax.grad(jax.grad(function))(4.0)) + 1 / 32) < 1e-7
    assert float(jax.grad(jax.grad(function))(0.0)) == 0


@pytest.mark.takes_a_second
@jax.numpy_dtype_promotion("standard")  # optax raises floats to integer step counts
def test_adam_stays_adam_and_its_derivative_becomes_finite():
    optimizer = optax.adam(0.1, eps=0.1)
    gradient = jnp.array([0.0, 0.5, -2.0])
    state = optimizer.init(gradient)

    def step(update, gradient):
        return update(gradient, state, gradient)[0]

    safe = with_finite_derivatives(optimizer.update)
    expected = step(optimizer.update, gradient)
    np.testing.assert_allclose(step(safe, gradient), expected, rtol=1e-6)
    plain = jax.jacobian(lambda g: step(optimizer.update, g))(gradient)
    assert np.isnan(plain[0, 0])
    # Adam's first step is -lr g / (|g| + eps).
    slope = -0.1 * 0.1 / (np.abs(gradient) + 0.1) ** 2
    finite = jax.jacobian(lambda g: step(safe, g))(gradient)
    np.testing.assert_allclose(finite, np.diag(slope), rtol=1e-4, atol=1e-12)


@pytest.mark.takes_a_second
@jax.numpy_dtype_promotion("standard")
def test_the_first_steps_of_radam_have_the_slope_of_their_momentum():
    """Before it rectifies, at step 5 or 6, RAdam's update is -lr times the corrected mean."""
    optimizer, gradient = optax.radam(0.1), jnp.array([0.0, 0.5, -2.0])

    def last(update, gradient, steps):
        state = optimizer.init(gradient)
        for _ in range(steps):
            step, state = update(gradient, state)
        return step

    safe = with_finite_derivatives(optimizer.update)
    assert np.isnan(jax.jacobian(lambda g: last(optimizer.update, g, 3))(gradient)).any()
    for steps in range(1, 5):
        slope = jax.jacobian(lambda g, steps=steps: last(safe, g, steps))(gradient)
        np.testing.assert_allclose(slope, -0.1 * np.eye(3), rtol=1e-5, atol=1e-8)
        np.testing.assert_array_equal(
            last(safe, gradient, steps), last(optimizer.update, gradient, steps)
        )
    assert np.isnan(with_finite_derivatives(jnp.sqrt)(jnp.nan))
