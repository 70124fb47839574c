import itertools
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxnoise.errors import ArgumentError
from jaxnoise.meta import InnerState, MetaResult, meta_gradient

pytestmark = pytest.mark.slow

BATCH, TOKENS, WIDTH = 4, 3, 4


def without_jit(optimizer):
    """The same optimizer, whose operations are compiled once and not once per inner step."""
    return optax.GradientTransformation(optimizer.init, jax.disable_jit()(optimizer.update))


OPTIMIZERS = {
    "sgd": optax.sgd(0.3),
    "momentum": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "adam": optax.adam(0.02),
    "radam": optax.radam(0.02),
    # State with a key, decay that reads the parameters, a norm over all of them.
    "chain": optax.chain(
        optax.clip_by_global_norm(0.1),
        optax.add_noise(1e-3, 0.55, key=3),
        optax.adamw(0.02, weight_decay=0.1),
    ),
}
OPTIMIZERS = {name: without_jit(optimizer) for name, optimizer in OPTIMIZERS.items()}


@pytest.fixture(autouse=True, scope="module")
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def optimised():
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


def transformer_init(seed):
    generator = np.random.RandomState(seed)
    names = ("attend", "value", "label")
    return {name: generator.randn(WIDTH, WIDTH) / np.sqrt(WIDTH) for name in names}


@jax.jit
def transformer_losses(theta, batch):
    """A layer of attention over tokens, with labels and dropout: float[B]."""

    def single(x, target, label, key):
        x = x + theta["label"][label][None]
        attention = jax.nn.softmax(x @ theta["attend"] @ x.T / np.sqrt(WIDTH), axis=1)
        keep = jax.random.bernoulli(key, 0.8, (WIDTH,)).astype(x.dtype)
        x = x + keep[None] * jnp.tanh(attention @ x @ theta["value"])
        return jnp.mean((x - target) ** 2)

    return jax.vmap(single)(batch["x"], batch["target"], batch["label"], batch["key"])


def transformer_batch(seed, *leading):
    generator = np.random.RandomState(seed)
    return {
        "x": generator.randn(*leading, TOKENS, WIDTH),
        "target": generator.randn(*leading, TOKENS, WIDTH),
        "label": generator.randint(0, WIDTH, leading),
        "key": jax.random.split(jax.random.key(seed), leading),
    }


def scores(eta, batch):
    features = batch["x"].reshape(batch["x"].shape[0], -1)[:, :9]
    return features @ eta["slope"] + eta["label"] * batch["label"].astype(features.dtype)


def weights(eta, batch):
    return jax.nn.softmax(scores(eta, batch))


ETA = {"slope": np.linspace(-0.5, 0.7, 9), "label": np.array(0.3)}


def outer(theta, batch):
    return jnp.mean(transformer_losses(theta, batch))


def under_way(params, optimizer, steps=6):
    """Inner training under way: RAdam rectifies from step 5 on."""
    inner = (params, optimizer.init(params))
    batch = transformer_batch(7, BATCH)
    gradient = jax.grad(lambda theta: outer(theta, batch))

    @jax.jit
    def step(inner, gradient):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, inner[1], inner[0])
        return optax.apply_updates(inner[0], updates), state

    for _ in range(steps):
        inner = step(inner, gradient(inner[0]))
    return InnerState(*inner)


def batches(steps):
    return transformer_batch(5, steps, BATCH), transformer_batch(6, BATCH)


@lru_cache
def transformer(name):
    return under_way(transformer_init(4), OPTIMIZERS[name])


def arguments(name, steps):
    return ETA, transformer(name), *batches(steps)


def solver(optimizer, weigh=weights, **options):
    options = {"unroll": True} | options
    return meta_gradient(transformer_losses, weigh, outer, OPTIMIZERS[optimizer], **options)


def flat(tree):
    """The floats of a pytree in one vector; counters and keys stay out."""
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return np.concatenate([np.ravel(x) for x in leaves])


def distance(a, b):
    """Relative distance of two pytrees."""
    return np.linalg.norm(flat(a) - flat(b)) / np.linalg.norm(flat(b))


def assert_same(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        assert distance(a, b) < tolerance


@pytest.mark.parametrize(
    "name, steps",
    [*itertools.product(("sgd", "momentum", "adam", "radam"), (1, 2, 3, 4)), ("chain", 2)],
)
def test_mixed_is_reverse_on_a_transformer(name, steps):
    given = arguments(name, steps)
    reverse = solver(name, mode="reverse")(*given)
    assert np.linalg.norm(flat(reverse.gradient)) > 1e-6
    assert_same(solver(name)(*given), reverse, 1e-10)


@lru_cache
def scanned(mode):
    return jax.jit(solver("adam", mode=mode, unroll=False))


@pytest.mark.parametrize("mode", ["mixed", "reverse"])
def test_scan_is_the_loop(mode):
    given = arguments("adam", 3)
    assert_same(scanned(mode)(*given), solver("adam", mode=mode)(*given), 1e-11)


def test_gradient_by_finite_differences():
    eta, *given = arguments("adam", 3)
    solve = scanned("mixed")
    gradient = flat(solve(eta, *given).gradient)
    vector, unflatten = ravel_pytree(eta)
    assert vector.size == 10
    for i in range(vector.size):
        step = 1e-4 * np.eye(vector.size)[i]
        ends = [solve(unflatten(vector + sign * step), *given).value for sign in (1, -1)]
        difference = (ends[0] - ends[1]) / 2e-4
        assert abs(difference - gradient[i]) < 1e-5 * np.abs(gradient).max()


def test_one_step_is_its_closed_form():
    # Adam's first step is -lr g / (|g| + eps), so u = -lr eps / (|g| + eps)^2 grad outer.
    params = transformer_init(4)
    steps, outer_batch = batches(1)
    batch = jax.tree.map(lambda x: x[0], steps)
    w, pull = jax.vjp(lambda eta: weights(eta, batch), jax.tree.map(jnp.asarray, ETA))
    per_example = jax.vmap(lambda tree: ravel_pytree(tree)[0])(
        jax.jacrev(transformer_losses)(params, batch)
    )
    g = w @ per_example
    rate, eps = 0.02, 1e-2
    cases = {
        "sgd": (optax.sgd(0.3), -0.3 * g, -0.3 * jnp.ones_like(g)),
        "adam": (
            without_jit(optax.adam(rate, eps=eps)),
            -rate * g / (jnp.abs(g) + eps),
            -rate * eps / (jnp.abs(g) + eps) ** 2,
        ),
    }
    for optimizer, update, slope in cases.values():
        inner = InnerState(params, optimizer.init(params))
        solve = meta_gradient(transformer_losses, weights, outer, optimizer)
        result = solve(ETA, inner, steps, outer_batch)
        after = ravel_pytree(params)[1](ravel_pytree(params)[0] + update)
        u = slope * ravel_pytree(jax.grad(outer)(after, outer_batch))[0]
        assert distance(result.inner.params, after) < 1e-12
        assert distance(result.weight_gradients[0], per_example @ u) < 1e-12
        assert distance(result.gradient, pull(per_example @ u)[0]) < 1e-12
        np.testing.assert_allclose(result.weights[0], w, rtol=1e-14)
        np.testing.assert_allclose(result.losses[0], transformer_losses(params, batch), rtol=1e-14)


def test_a_population_is_its_members():
    optimizer = OPTIMIZERS["momentum"]
    params = [transformer_init(i) for i in range(3)]
    members = [InnerState(theta, optimizer.init(theta)) for theta in params]
    eta, _, steps, outer_batch = arguments("momentum", 2)
    population = jax.tree.map(lambda *x: np.stack(x), *members)
    solve = solver("momentum")
    together = jax.jit(jax.vmap(solve, in_axes=(None, 0, None, None)))(
        eta, population, steps, outer_batch
    )
    together = jax.tree.map(np.asarray, together)
    for i, member in enumerate(members):
        alone = solve(eta, member, steps, outer_batch)
        assert_same(jax.tree.map(lambda x, i=i: x[i], together), alone, 1e-12)


def test_scanning_meta_steps_advances_the_inner_model():
    eta, inner, _, outer_batch = arguments("momentum", 2)
    steps = transformer_batch(8, 3, 2, BATCH)
    solve = solver("momentum")

    def meta_step(carry, batches):
        eta, inner = carry
        result = solve(eta, inner, batches, outer_batch)
        eta = jax.tree.map(lambda e, g: e - 0.5 * g, eta, result.gradient)
        return (eta, result.inner), result.value

    start = (jax.tree.map(jnp.asarray, eta), inner)
    scanned, values = jax.jit(partial(jax.lax.scan, meta_step))(start, steps)
    carry = start
    for k in range(3):
        carry, value = meta_step(carry, jax.tree.map(lambda x, k=k: x[k], steps))
        assert abs(value - values[k]) < 1e-12
    assert distance(scanned, carry) < 1e-12
    assert distance(scanned[0], eta) > 1e-4


GLOBAL = 8


def global_softmax(eta, batch):
    exponentials = jnp.exp(scores(eta, batch))
    return exponentials / jax.lax.psum(jnp.sum(exponentials), "data")


def spread(mapping, count, mode):
    """The problem on `count` devices, with the same global batch: eta's gradient and the rest."""
    steps, outer_batch = transformer_batch(9, 2, GLOBAL), transformer_batch(10, GLOBAL)
    solve = solver("adam", global_softmax, axis_name="data", mode=mode)
    inner = transformer("adam")
    if mapping == "shard_map":
        mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,))
        by_example = P(None, "data")
        result_specs = MetaResult(P(), P(), P(), by_example, by_example, by_example)
        mapped = jax.shard_map(
            solve, mesh=mesh, in_specs=(P(), P(), by_example, P("data")), out_specs=result_specs
        )
        return jax.jit(mapped)(ETA, inner, steps, outer_batch)

    @partial(jax.jit, static_argnames="axis")
    def cut(batch, axis):
        def piece(x):
            pieces = x.reshape(*x.shape[:axis], count, GLOBAL // count, *x.shape[axis + 1 :])
            return jnp.moveaxis(pieces, axis, 0)

        return jax.tree.map(piece, batch)

    pieces = cut(steps, axis=1), cut(outer_batch, axis=0)
    if mapping == "vmap":
        mapped = jax.jit(jax.vmap(solve, in_axes=(None, None, 0, 0), axis_name="data"))
    else:
        mapped = jax.pmap(solve, in_axes=(None, None, 0, 0), axis_name="data")
    result = jax.tree.map(np.asarray, mapped(ETA, inner, *pieces))
    whole = [jax.tree.map(lambda x: x[0], part) for part in result[:3]]
    for part, one in zip(result[:3], whole, strict=True):
        for x, y in zip(jax.tree.leaves(part), jax.tree.leaves(one), strict=True):
            assert (x == y[None]).all()
    joined = [np.moveaxis(x, 0, 1).reshape(2, GLOBAL) for x in result[3:]]
    return MetaResult(*whole, *joined)


@pytest.fixture(scope="module")
def one_device():
    return spread("vmap", 1, "mixed")


@pytest.mark.parametrize(
    "mapping, count, mode",
    [
        ("pmap", 2, "mixed"),
        ("pmap", 8, "mixed"),
        ("pmap", 2, "reverse"),
        ("shard_map", 2, "mixed"),
        ("shard_map", 8, "reverse"),
    ],
)
def test_devices_change_nothing(one_device, mapping, count, mode):
    assert_same(spread(mapping, count, mode), one_device, 1e-11)


@pytest.mark.parametrize("optimizer", [optax.adam(0.02), optax.radam(0.02)])
def test_a_dead_unit_leaves_the_gradient_finite(optimizer):
    def losses(theta, batch):
        hidden = jax.nn.relu(batch @ theta["in"] + theta["bias"][None])
        return (hidden @ theta["out"] - 1) ** 2

    # The second unit is below zero for every example: its three gradients are exactly 0.
    theta = {
        "in": jnp.array([[0.5, 0.1], [0.2, -0.3]]),
        "bias": jnp.array([1.0, -100.0]),
        "out": jnp.array([0.3, -0.2]),
    }
    # At a count of 10, RAdam divides by the second moment too.
    state = optax.tree.set(optimizer.init(theta), count=jnp.int32(10))
    inner = InnerState(theta, state)
    steps = np.random.RandomState(0).randn(2, BATCH, 2)

    def weigh(eta, batch):
        return jax.nn.softmax(batch @ eta)

    @jax.jit
    @jax.grad
    def plainly(eta):
        theta, state = inner
        for batch in steps:
            w = weigh(eta, batch)
            gradient = jax.grad(lambda p, w=w, b=batch: jnp.sum(w * losses(p, b)))(theta)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state, theta)
            theta = optax.apply_updates(theta, updates)
        return jnp.mean(losses(theta, steps[0]))

    @jax.jit
    def in_modes(eta):
        return [
            meta_gradient(losses, weigh, lambda p, b: jnp.mean(losses(p, b)), optimizer, mode=mode)(
                eta, inner, steps, steps[0]
            )
            for mode in ("mixed", "reverse")
        ]

    eta = jnp.array([0.3, -0.5])
    assert np.isnan(plainly(eta)).all()
    results = in_modes(eta)
    assert np.linalg.norm(results[0].gradient) > 1e-5
    assert_same(*results, 1e-10)


def test_weights_without_gradient_give_none():
    def detached(eta, batch):
        return jax.lax.stop_gradient(weights(eta, batch))

    result = solver("adam", detached)(*arguments("adam", 2))
    assert (flat(result.gradient) == 0).all()
    assert np.linalg.norm(result.weight_gradients) > 1e-6


def test_first_order_drops_the_hessian_and_nothing_else():
    exact, rough = (solver("sgd", mode=m)(*arguments("sgd", 2)) for m in ("mixed", "first_order"))
    assert distance(rough.gradient, exact.gradient) > 1e-3
    assert distance(rough.weight_gradients[0], exact.weight_gradients[0]) > 1e-3
    assert distance(rough.weight_gradients[1], exact.weight_gradients[1]) < 1e-13
    assert distance(rough.inner, exact.inner) < 1e-13
    one = [solver("sgd", mode=m)(*arguments("sgd", 1)) for m in ("mixed", "first_order")]
    assert_same(*one, 1e-13)


@pytest.mark.usefixtures("optimised")
def test_memory_hardly_grows_with_the_number_of_steps():
    def losses(theta, batch):
        for w in theta:
            batch = jnp.tanh(batch @ w)
        return jnp.mean(batch**2, axis=1)

    theta = list(0.3 * np.random.RandomState(0).randn(4, 16, 16))
    optimizer = optax.sgd(0.1)
    inner = InnerState(theta, optimizer.init(theta))

    def memory(mode, steps):
        solve = meta_gradient(
            losses, lambda eta, b: jax.nn.softmax(b @ eta), lambda p, b: jnp.mean(losses(p, b)),
            optimizer, mode=mode, unroll=True,
        )  # fmt: skip
        given = (np.ones(16), inner, np.ones((steps, 512, 16)), np.ones((512, 16)))
        analysis = jax.jit(solve).lower(*given).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    mixed = [memory("mixed", steps) for steps in (2, 5)]
    reverse = [memory("reverse", steps) for steps in (2, 5)]
    assert mixed[1] < 1.4 * mixed[0]
    assert reverse[1] > 1.8 * reverse[0]
    assert mixed[1] < 0.4 * reverse[1]


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="mode"):
        solver("sgd", mode="mixd")
    eta, inner, steps, outer_batch = arguments("sgd", 2)
    for bad in ({"x": steps["x"], "label": steps["label"][:1]}, {"x": jnp.ones(())}, {}):
        with pytest.raises(ArgumentError, match="batches"):
            solver("sgd")(eta, inner, bad, outer_batch)
