"""Rooms that work with jax, flax, optax, chex, numpy, scipy and Pillow alone."""

import re
import subprocess
import sys
from importlib.metadata import distributions, packages_distributions

import command_line
import pytest
from packaging.requirements import Requirement

SMALL = ("jax", "flax", "optax", "chex", "numpy", "scipy", "pillow")

REFUSE = """
import sys

refused = set(sys.argv[1:])

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxnoise import data, evaluation, meta, models, noise, objectives, optim, sampling
"""

USE_EVERY_ROOM = """
levels = noise.PredefinedGrid(table_size=11, rule="nested")(10)
index = noise.PolynomialPairs(curve=4.0).sample(jax.random.key(0), levels, 10, 64)
assert index.shape == (64,) and 0 <= int(index.min()) <= int(index.max()) < 9
assert jnp.isfinite(noise.Laplace(mu=0.0, b=0.5).sample(jax.random.key(1), 8)).all()

x0, eps = jnp.zeros((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1))
pairs = objectives.Pairs(sigma_lo=jnp.array([1.0]), sigma_hi=jnp.array([1.5]))
identity = lambda x, sigma: x
loss = objectives.consistency_losses(
    identity, identity, x0, eps, pairs, objectives.squared_l2, objectives.inverse_gap
)
assert loss.tolist() == [2.0]

start = sampling.image_noise(jax.random.split(jax.random.key(0), 3), (2, 2, 1), draw_index=0)
images = sampling.heun(lambda x, sigma: 0 * x + 0.5, start, [0.1, 1.0, 10.0])
assert np.allclose(images, 0.5, atol=1e-5)
assert sampling.to_uint8(images).dtype == np.uint8

solve = meta.meta_gradient(
    lambda theta, batch: (theta - batch) ** 2,
    lambda eta, batch: jax.nn.softmax(eta * batch),
    lambda theta, target: (theta - target) ** 2,
    optax.sgd(0.1),
)
inner = meta.InnerState(jnp.zeros(()), optax.sgd(0.1).init(jnp.zeros(())))
result = jax.jit(solve)(jnp.zeros(()), inner, jnp.array([[0.0, 4.0]]), jnp.array(5.0))
# theta = .1 * 2 * 4 w = .4, where w = 1 / 2 and dw / d eta = 4 w (1 - w) = 1.
assert np.isclose(result.gradient, 2 * (0.4 - 5.0) * 0.8)

optimizer = optim.momentum_decay(0.5, total_steps=10, b2=None)
params = jnp.array([1.0, -2.0])
updates, _ = optimizer.update(params, optimizer.init(params))
assert optax.apply_updates(params, updates).tolist() == [0.5, -1.0]

fields = {"out_channels": 1, "model_channels": 8, "channel_mult": (1,), "num_blocks": 1}
network = models.UNet(**models.preset("tiny", **fields))
x, c_noise = jnp.ones((2, 4, 4, 1)), jnp.zeros(2)
params = jax.jit(network.init)(jax.random.key(0), x, c_noise)
out = jax.jit(network.apply)(params, x, c_noise)
assert out.shape == x.shape and jnp.isfinite(out).all()

distance = evaluation.frechet_distance([0.0, 0.0], np.diag([4.0, 0.0]), [1.0, 2.0], np.eye(2))
assert np.isclose(distance, 7.0)
pixels = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 1), np.uint8)
mine = data.ArrayImages("mine", pixels, np.zeros(40, np.int32), 0)
reference = evaluation.reference_from(evaluation.raw_pixels(), mine, 20, "mine")
black = {"black": np.zeros_like(pixels[:20])}
score = evaluation.report(
    reference,
    black,
    nfe={"black": 1},
    levels={"black": [80.0]},
    weights="raw",
    images_seen=0,
    seed=0,
)
assert score["frechet_black"] > score["frechet_floor"] > 0
"""

SAY_WHAT_IS_NEEDED = """
for name, data_dir in (("digits", None), ("cifar10", sys.argv[1]), ("mnist", sys.argv[1])):
    try:
        data.open_images(name, data_dir=data_dir)
    except data.ConfigError as error:
        print(error)
"""


def with_needs(names):
    """Installed distributions of these names and all that they bring, `name[extra]` too."""
    installed = {normal(found.metadata["Name"]): found for found in distributions()}
    asked, done = [Requirement(name) for name in names], set()
    while asked:
        one = asked.pop()
        for extra in ("", *one.extras):
            if (normal(one.name), extra) in done or normal(one.name) not in installed:
                continue
            done.add((normal(one.name), extra))
            for line in installed[normal(one.name)].requires or ():
                other = Requirement(line)
                if other.marker is None or other.marker.evaluate({"extra": extra}):
                    asked.append(other)
    return {name for name, _ in done}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def refused():
    """Modules that `pip install .` brings and the small footprint does not."""
    small, whole = with_needs(SMALL), with_needs(["jaxnoise"])
    modules = {
        module
        for module, owners in packages_distributions().items()
        if {normal(owner) for owner in owners} <= whole - small - {"jaxnoise"}
    }
    assert modules >= {"matplotlib", "ml_collections", "sklearn", "tensorflow_datasets", "tqdm"}
    return sorted(modules)


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env=command_line.environment(),
        capture_output=True,
        text=True,
    )


@pytest.mark.takes_a_second
def test_rooms_work_with_a_small_footprint(refused):
    done = run(REFUSE + USE_EVERY_ROOM, *refused)
    assert done.returncode == 0, done.stderr


@pytest.mark.takes_a_second
def test_what_a_data_set_needs_is_said(refused, tmp_path):
    done = run(REFUSE + SAY_WHAT_IS_NEEDED, str(tmp_path), *refused)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "data set 'digits': needs pip install scikit-learn",
        "data set 'cifar10': needs pip install tensorflow-datasets",
        "data set 'mnist': needs pip install tensorflow-datasets",
    ]
