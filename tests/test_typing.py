"""What a type checker says of a user's script."""

import shutil
from pathlib import Path

import pytest
from mypy import api

pytestmark = pytest.mark.slow

RIGHT = """
import jax
import jax.numpy as jnp

import jaxnoise
from jaxnoise import data, meta, noise, objectives, sampling
from jaxnoise.errors import ArgumentError


def draw(key: jax.Array, law: noise.LogSnrLaw) -> jax.Array:
    return law.sample(key, 256)


grid = jaxnoise.noise.PredefinedGrid(table_size=251, rule="nested")
curriculum = jaxnoise.noise.sinusoidal(s0=20, s1=250, total_steps=100_000)
num_levels = curriculum(50_000)
levels = grid(num_levels)
law = jaxnoise.noise.PolynomialPairs(curve=4.0)
index = law.sample(jax.random.key(0), levels, num_levels, 256)
pairs = objectives.Pairs(sigma_lo=levels[index], sigma_hi=levels[index + 1])
consistency = objectives.ConsistencyObjective(
    grid=grid,
    law=law,
    curriculum=curriculum,
    distance=objectives.squared_l2,
    weight=objectives.inverse_gap,
)

mixed = noise.mixture([noise.Laplace(mu=0.0, b=0.5).shifted(-1.0), noise.Cosine()], [0.9, 0.1])
lam: jax.Array = draw(jax.random.key(0), mixed)
denoising = objectives.DenoisingObjective(mixed, objectives.min_snr_weight(5.0))

network = jaxnoise.models.UNet(**jaxnoise.models.preset("tiny", out_channels=1))
params = network.init(jax.random.key(0), jnp.zeros((2, 8, 8, 1)), jnp.zeros(2))
optimizer = jaxnoise.optim.momentum_decay(1e-3, total_steps=10)
start = meta.InnerState(params, optimizer.init(params))


def denoiser(x: jax.Array, sigma: jax.Array) -> jax.Array:
    return 0 * x


keys = jax.random.split(jax.random.key(0), 4)
images = sampling.one_step(denoiser, sampling.image_noise(keys, (8, 8, 1), 0), 80.0)
distance: float = jaxnoise.evaluation.frechet_distance([0.0], [[1.0]], [0.0], [[1.0]])

try:
    digits: data.Images = jaxnoise.data.open_images("digits")
    jaxnoise.report.write_report
    jaxnoise.export.load_weights
except (ArgumentError, jaxnoise.errors.ConfigError) as error:
    print(error)
"""

MISSPELT = """
import jaxnoise

jaxnoise.noise.PolynomialPairs(curv=4.0)
jaxnoise.models.UNet(model_chanels=64)
jaxnoise.nosie.Cosine()
jaxnoise.noise.Cosign()
jaxnoise.__version__ + 1
"""


# The functions of the docs' scripts have no annotations; all that they call of jaxnoise has.
SETTINGS = """
[mypy]
strict = True
[mypy-linen,nnx,eqx]
allow_untyped_defs = True
allow_untyped_calls = True
[mypy-equinox.*,flax.*,optax.*]
ignore_missing_imports = True
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What mypy prints of each script, by its name; far from the checkout, where jaxnoise is read
    as it is installed and not as the user's own source."""
    folder, root = tmp_path_factory.mktemp("users"), Path(__file__).parents[1]
    (folder / "right.py").write_text(RIGHT)
    (folder / "misspelt.py").write_text(MISSPELT)
    (folder / "mypy.ini").write_text(SETTINGS)
    for script in ("linen", "nnx", "eqx"):
        shutil.copy(root / "docs" / "own_loop" / f"{script}.py", folder)
    names = sorted(path.name for path in folder.glob("*.py"))
    cache = root / ".cache" / "mypy_of_users"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ("--config-file=mypy.ini", f"--cache-dir={cache}", "--no-error-summary")
        out, error, code = api.run([*options, *names])
    assert not error
    assert code == 1
    lines = out.splitlines()
    return {name: [line for line in lines if line.startswith(f"{name}:")] for name in names}


@pytest.mark.parametrize("script", ["right", "linen", "nnx", "eqx"])
def test_a_right_script_is_clean(printed, script):
    assert printed[f"{script}.py"] == []


def test_what_is_misspelt_is_found(printed):
    errors = [line for line in printed["misspelt.py"] if " error: " in line]
    assert [int(line.split(":")[1]) for line in errors] == [4, 5, 6, 7, 8]
    assert '"curv" for "PolynomialPairs"' in errors[0]
    assert '"model_chanels" for "UNet"' in errors[1]
    assert '"nosie"' in errors[2]
    assert '"Cosign"' in errors[3]
