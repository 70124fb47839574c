"""What a meta-gradient refuses, by name, and what it still takes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.meta import InnerState, meta_gradient, with_finite_derivatives

SGD, ADAM = optax.sgd(0.5), optax.adam(1e-2)
THETA, ETA = jnp.zeros(()), jnp.ones(())
BATCHES, TARGET = jnp.asarray([[1.0, 3.0]]), jnp.asarray(5.0)


def square(theta, x):
    return (theta - x) ** 2


def weigh(eta, x):
    return jax.nn.softmax(eta * x)


def solve(inner_loss=square, weights=weigh, outer_loss=square, optimizer=SGD, **options):
    return meta_gradient(inner_loss, weights, outer_loss, optimizer, **options)


def run(eta=ETA, inner=None, batches=BATCHES, target=TARGET, **problem):
    inner = InnerState(THETA, SGD.init(THETA)) if inner is None else inner
    return solve(**problem)(eta, inner, batches, target)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"inner_loss": 3.0}, r"^inner_loss=3\.0: must be a function \(theta, batch\)"),
        ({"weights": None}, r"^weights=None: must be a function \(eta, batch\)"),
        ({"outer_loss": jnp.ones(2)}, r"^outer_loss=float32\[2\]: must be a function"),
        ({"optimizer": "adam"}, r"^optimizer='adam': must be an optax\.GradientTransformation"),
        ({"mode": "revers"}, r"^mode='revers': .*did you mean 'reverse'"),
        ({"mode": None}, r"^mode=None"),
        ({"unroll": 3}, r"^unroll=3: must be True, False or None"),
        ({"axis_name": 0}, r"^axis_name=0"),
    ],
)
def test_a_problem_of_the_wrong_kind(options, message):
    with pytest.raises(ArgumentError, match=message):
        solve(**options)


@pytest.mark.parametrize("mode", ["mixed", "first_order", "reverse"])
@pytest.mark.parametrize(
    "given,message",
    [
        ({"inner": (THETA, ())}, r"^inner=tuple: must be an InnerState\(params, opt_state\)"),
        ({"inner": InnerState(jnp.zeros((), int), ())}, r"^inner=int32\[\]: .*float arrays"),
        (
            {"inner": InnerState({"w": jnp.arange(2)}, ())},
            r"^inner=a pytree with \['w'\]=int32\[2\]",
        ),
        (
            {"inner": InnerState(THETA, ADAM.init(THETA))},
            r"^inner=InnerState with opt_state .*Adam",
        ),
        ({"optimizer": ADAM}, r"^inner=InnerState with opt_state .* init\(params\): .*Adam"),
        ({"eta": jnp.asarray(1)}, r"^eta=int32\[\]: must be a pytree of float arrays"),
        ({"eta": {"a": "b"}}, r"^eta=a pytree with \['a'\]=b: must be a pytree of float arrays"),
        ({"batches": TARGET}, r"^batches="),
        ({"batches": 3.0}, r"^batches="),
        ({"batches": (BATCHES, jnp.ones((2, 2)))}, r"^batches="),
        (
            {"inner_loss": lambda theta, x: jnp.mean(square(theta, x))},
            r"^inner_loss=a function to float32\[\]: must be a function .* -> float\[B\]",
        ),
        (
            {"inner_loss": lambda theta, x: square(theta, x)[None]},
            r"^inner_loss=a function to float32\[1,2\]: .* here float\[1\]",
        ),
        ({"inner_loss": lambda theta, x: None}, r"^inner_loss=a function to NoneType"),
        (
            {"weights": lambda eta, x: eta},
            r"^weights=a function to float32\[\]: must be a function \(eta, batch\) -> float\[B\]",
        ),
        (
            {"weights": lambda eta, x: eta * jnp.ones(3)},
            r"^weights=a function to float32\[3\]: .* a weight for each loss, here float\[2\]",
        ),
        ({"weights": lambda eta, x: (eta * x,)}, r"^weights=a function to tuple"),
        ({"weights": lambda eta, x: jnp.ones(2, int)}, r"^weights=a function to int32\[2\]"),
        (
            {"outer_loss": lambda theta, x: square(theta, BATCHES[0])},
            r"^outer_loss=a function to float32\[2\]: .* -> float\[\], here float\[\]",
        ),
    ],
)
def test_arguments_that_do_not_fit(mode, given, message):
    with pytest.raises(ArgumentError, match=message):
        run(mode=mode, **given)


@pytest.mark.parametrize("map_", [jax.jit, jax.vmap, jax.grad])
def test_shapes_are_known_before_a_run(map_):
    wrong = solve(weights=lambda eta, x: eta)
    inner = InnerState(THETA, SGD.init(THETA))
    with pytest.raises(ArgumentError, match=r"^weights=a function to float32\[\]"):
        map_(lambda target: wrong(ETA, inner, BATCHES, target).value)(
            jnp.ones(2) if map_ is jax.vmap else TARGET
        )


@pytest.mark.takes_a_second
def test_what_fits_is_taken_as_before():
    plain = run()
    numbers = run(eta=1.0, inner=InnerState(0.0, SGD.init(0.0)))
    on_host = run(eta=np.ones((), np.float32), batches=np.asarray(BATCHES))
    scanned = run(batches=np.asarray(BATCHES), unroll=False)
    inside = jax.jit(lambda eta, batches: run(eta=eta, batches=batches))(ETA, BATCHES)
    members = jax.vmap(lambda eta: run(eta=eta))(jnp.ones(3))
    for other in (numbers, on_host, scanned, inside, jax.tree.map(lambda x: x[0], members)):
        np.testing.assert_allclose(other.value, plain.value, rtol=1e-6)
        np.testing.assert_allclose(other.gradient, plain.gradient, rtol=1e-6)


def test_finite_derivatives_of_no_function():
    with pytest.raises(ArgumentError, match=r"^function=1\.0: must be a function"):
        with_finite_derivatives(1.0)
