"""The scripts and snippets of docs/own_loop.md: jaxnoise's parts in a loop of one's own."""

import importlib
import importlib.util
import json
import re
from functools import partial

import command_line
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnoise.noise import sinusoidal

pytestmark = pytest.mark.slow

FOLDER = command_line.ROOT / "docs" / "own_loop"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
PAGE = FOLDER.with_suffix(".md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def opened(name):
    spec = importlib.util.spec_from_file_location(f"own_loop_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    small = {"width": 64, "blocks": 2}
    if name == "linen":
        module.NETWORK = module.Network(**small)
    else:
        module.Network = partial(module.Network, **small)
    return module


@pytest.fixture(params=SCRIPTS)
def script(request):
    return opened(request.param)


def test_there_is_a_script_for_each_library():
    assert SCRIPTS == ["eqx", "linen", "nnx"]


def test_a_script_trains_and_scores_and_compiles_its_step_once(script, capsys, monkeypatch):
    traces, losses = [], script.losses

    def counted(*args):
        traces.append(args)
        return losses(*args)

    monkeypatch.setattr(script, "losses", counted)
    steps = 6
    assert len(sinusoidal(s0=20, s1=250, total_steps=steps).plateaus) > 3
    # optax raises floats to integer step counts, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        script.main(["--steps", str(steps)])
    (line,) = capsys.readouterr().out.splitlines()
    scores = json.loads(line)
    assert list(scores) == ["frechet_1step", "frechet_2step", "untrained", "floor"]
    assert all(np.isfinite(score) for score in scores.values())
    assert scores["floor"] == 0.338
    assert scores["frechet_1step"] != scores["untrained"] > 10
    assert len(traces) == 1


def network_of(script):
    """What the script's `losses` takes first."""
    key = jax.random.key(0)
    if script.__name__.endswith("linen"):
        return script.NETWORK.init(key, jnp.zeros((1, 8, 8, 1)), jnp.zeros(1))
    if script.__name__.endswith("nnx"):
        return script.Network(nnx.Rngs(key))
    return script.Network(key)


class Compared:
    """In the objective's place: student and teacher at equal inputs, as the script hands them."""

    def losses(self, student, teacher, own, x0, eps, levels):
        del own, eps
        return student(x0, levels), teacher(x0, levels)


def test_student_and_teacher_see_one_mask_and_the_next_step_another(script):
    network = network_of(script)
    x0 = jax.random.normal(jax.random.key(1), (5, 8, 8, 1))
    c_noise = jnp.linspace(-1, 1, 5)

    def outputs(seed):
        return script.losses(network, Compared(), x0, x0, c_noise, jax.random.key(seed))

    student, teacher = outputs(2)
    assert student.shape == x0.shape
    np.testing.assert_array_equal(student, teacher)
    other, _ = outputs(3)
    assert (np.abs(student - other).max(axis=(1, 2, 3)) > 1e-3).all()


def test_the_pages_snippets_run_and_its_excerpts_are_the_script_s(capsys):
    linen, seen, ran = (FOLDER / "linen.py").read_text(), 0, {}
    for block in BLOCKS:
        if block in linen:
            seen += 1
        else:
            exec(compile(block, "own_loop.md", "exec"), ran)
    assert seen == 6
    assert len(BLOCKS) == 15
    assert capsys.readouterr().out.split() == ["False", "True", "float32"]
    assert jnp.isfinite(ran["samples"]).all()
    assert ran["samples"].shape == (4, 8, 8, 1)
    assert jnp.isfinite(ran["pace"].best)
    assert next(iter(ran["drawn"])) == "law/9.5"
    np.testing.assert_allclose(sum(ran["drawn"].values()), 1, rtol=1e-5)
    assert float(ran["drawn"]["law/0.5"]) != pytest.approx(float(ran["drawn"]["law/-0.5"]))
    assert float(jnp.abs(ran["eta"]["mu"])) > 0
    assert ran["losses"].shape == (64,)


def test_the_page_s_slices_are_the_whole_batch():
    ran = {}
    for block in BLOCKS[7:8] + [block for block in BLOCKS if "shard_map(" in block]:
        exec(compile(block, "own_loop.md", "exec"), ran)
    whole = ran["consistency"].draw(ran["key"], ran["grid_key"], jnp.int32(0), 64)
    assert jax.device_count() == 8
    np.testing.assert_array_equal(ran["levels"].sigma_hi, whole.sigma_hi)


def test_an_equinox_module_has_leaves_that_must_not_be_averaged():
    """The page's reason for splitting the module."""
    leaves = jax.tree.leaves(opened("eqx").Network(jax.random.key(0)))
    assert {type(leaf) for leaf in leaves if not eqx.is_array(leaf)} == {bool, float}


def test_everything_that_the_page_says_to_import_is_there():
    rooms = "noise|objectives|optim|sampling|evaluation|meta"
    named = set(re.findall(rf"\b({rooms})\.(?!md\b)(\w+)", PAGE))
    assert len(named) > 25
    for room, name in named:
        assert hasattr(importlib.import_module(f"jaxnoise.{room}"), name), (room, name)


def test_the_page_s_table_counts_the_lines_of_each_script():
    for name in SCRIPTS:
        lines = len((FOLDER / f"{name}.py").read_text().splitlines())
        (row,) = re.findall(rf"\[{name}\.py\]\(own_loop/{name}\.py\) \|[^|]*\| (\d+) \|", PAGE)
        assert int(row) == lines, name
