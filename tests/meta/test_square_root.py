import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnoise.meta import with_flat_square_root


def norm(x):
    return jnp.sqrt(jnp.sum(jnp.square(x)))


def test_values_are_the_same_bits_and_derivatives_away_from_zero_too():
    x = jnp.asarray(np.random.RandomState(0).randn(7), jnp.float32)
    np.testing.assert_array_equal(with_flat_square_root(norm)(x), norm(x))
    np.testing.assert_allclose(
        jax.grad(with_flat_square_root(norm))(x), jax.grad(norm)(x), rtol=1e-6
    )


def test_the_derivative_at_zero_is_zero_under_jit_control_flow_and_vmap():
    def nested(x):
        return jax.lax.cond(x[0] >= 0, jax.jit(norm), jnp.sum, x)

    zeros = jnp.zeros(3)
    assert np.isnan(jax.grad(nested)(zeros)).all()
    np.testing.assert_array_equal(jax.grad(with_flat_square_root(nested))(zeros), zeros)
    many = jax.vmap(jax.jit(jax.grad(with_flat_square_root(norm))))
    expected = np.array([[0.0, 0.0], [0.6, 0.8]])
    np.testing.assert_allclose(many(jnp.array([[0.0, 0.0], [3.0, 4.0]])), expected, rtol=1e-6)


def test_second_derivatives_are_those_of_the_square_root():
    function = with_flat_square_root(jnp.sqrt)
    assert abs(float(jax.grad(jax.grad(function))(4.0)) + 1 / 32) < 1e-7
    assert float(jax.grad(jax.grad(function))(0.0)) == 0


@jax.numpy_dtype_promotion("standard")  # optax raises floats to integer step counts
def test_adam_stays_adam_and_its_derivative_becomes_finite():
    optimizer = optax.adam(0.1, eps=0.1)
    gradient = jnp.array([0.0, 0.5, -2.0])
    state = optimizer.init(gradient)

    def step(update, gradient):
        return update(gradient, state, gradient)[0]

    safe = with_flat_square_root(optimizer.update)
    expected = step(optimizer.update, gradient)
    np.testing.assert_allclose(step(safe, gradient), expected, rtol=1e-6)
    plain = jax.jacobian(lambda g: step(optimizer.update, g))(gradient)
    assert np.isnan(plain[0, 0])
    # Adam's first step is -lr g / (|g| + eps).
    slope = -0.1 * 0.1 / (np.abs(gradient) + 0.1) ** 2
    finite = jax.jacobian(lambda g: step(safe, g))(gradient)
    np.testing.assert_allclose(finite, np.diag(slope), rtol=1e-4, atol=1e-12)


@jax.numpy_dtype_promotion("standard")
def test_the_first_steps_of_radam_have_the_slope_of_their_momentum():
    """Before it rectifies, at step 5 or 6, RAdam's update is -lr times the corrected mean."""
    optimizer, gradient = optax.radam(0.1), jnp.array([0.0, 0.5, -2.0])

    def last(update, gradient, steps):
        state = optimizer.init(gradient)
        for _ in range(steps):
            step, state = update(gradient, state)
        return step

    safe = with_flat_square_root(optimizer.update)
    assert np.isnan(jax.jacobian(lambda g: last(optimizer.update, g, 3))(gradient)).any()
    for steps in range(1, 5):
        slope = jax.jacobian(lambda g, steps=steps: last(safe, g, steps))(gradient)
        np.testing.assert_allclose(slope, -0.1 * np.eye(3), rtol=1e-5, atol=1e-8)
        np.testing.assert_array_equal(
            last(safe, gradient, steps), last(optimizer.update, gradient, steps)
        )
    assert np.isnan(with_flat_square_root(jnp.sqrt)(jnp.nan))
