"""The benchmarks run, small; what they say of speed is not looked at, what they count is."""

import json
import sys
from importlib import import_module, util
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import (
    everything,
    frame,
    gpu,
    gradient_variance,
    plain_config,
    scaling,
    selection_optimum,
    steps,
    value_of_noise,
)
from benchmarks.collectives import collectives
from docs.builders import evidence
from jaxnoise.objectives import LogSnrLevels
from jaxnoise.training.drawing import Examples

pytestmark = pytest.mark.slow


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(name, path, *arguments):
    import_module(f"benchmarks.{name}").main(["--quick", f"--json={path}", *arguments])
    return rows_of(path)


def test_a_distance_is_that_of_the_square_root(tmp_path):
    rows = run("frechet", tmp_path / "rows.json")
    assert len(rows) == 3
    assert all(row["differs"] < 1e-9 for row in rows)


def test_drawing_noise_adds_few_operations(tmp_path):
    rows = run("noise_overhead", tmp_path / "rows.json", "--rounds=1")
    assert [row["case"] for row in rows] == ["pacing: adaptive"]
    assert 1 < rows[0]["operations"] < 1.5


@pytest.mark.parametrize(
    "name,rows",
    [
        ("pipeline", 3),
        ("checkpoint", 2),
        ("loop", 1),
        ("sampling", 2),
        ("cifar_run", 1),
        ("meta_gradient", 1),
    ],
)
def test_a_benchmark_prints_its_rows(name, rows, tmp_path):
    found = run(name, tmp_path / "rows.json", "--rounds=1")
    assert [row["benchmark"] for row in found] == [name] * rows


def test_devices_exchange_one_gradient_and_little_else():
    """Sums of losses by noise band and a few numbers come on top of the gradient."""
    job = scaling.on_devices(steps.SMALLEST, 2, "consistency")
    found = collectives(job.compiled.as_text())
    gradient = sum(4 * x.size for x in jax.tree.leaves(job.model.abstract_state.params))
    assert {each.kind for each in found} == {"all-reduce"}
    assert gradient <= sum(each.bytes for each in found) < 1.02 * gradient
    large = [each for each in found if each.bytes > 0.5 * gradient]
    assert len(large) == 1


def test_collectives_are_read_from_a_program():
    text = """
      %x = f32[4,3]{1,0} add(%a, %b)
      %all-reduce.1 = (f32[], f32[4,3]{1,0}) all-reduce(%loss, %x), replica_groups={{0,1}}
      ROOT %g = bf16[8]{0} all-gather(%y), dimensions={0}
    """
    assert collectives(text) == [("all-reduce", 4 + 48), ("all-gather", 16)]


def test_the_cost_of_an_exchange_has_a_closed_form():
    cluster = scaling.Cluster(seconds=0.1, latency=0.0)
    assert cluster.exchange(1, 1e9) == 0
    assert cluster.exchange(8, 4.5e9) == pytest.approx(2 * 7 / 8 * 1e-2)
    # Two hosts: an eighth of the bytes each way over each port.
    assert cluster.exchange(16, 4e8) == pytest.approx(2 * 7 / 8 * 4e8 / 450e9 + 5e7 / 50e9)
    plain, hidden = cluster.efficiency(1024, 4 * 55.7e6)
    assert 0.9 < plain < hidden == 1


@pytest.fixture
def in_process(monkeypatch):
    """The first part runs here, not in a process of its own; others are only asked for."""
    asked = []

    def call(command, **options):
        module = command[2]
        asked.append(module)
        if command[1] == "-c":
            return SimpleNamespace(returncode=0, stdout=json.dumps(frame.machine()))
        if module == "pytest":
            print("=== 3 passed ===", file=options["stdout"])
            return SimpleNamespace(returncode=0)
        if module == "benchmarks.train_step" and asked.count(module) == 1:
            import_module(module).main([*command[3:], "--rounds=1"])
        return SimpleNamespace(returncode=0, stdout="abc")

    monkeypatch.setattr(gpu, "subprocess", SimpleNamespace(run=call, TimeoutExpired=TimeoutError))
    return asked


def test_the_record_of_a_gpu_takes_up_where_it_stopped(in_process, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "KEPT", tmp_path / "kept")
    out = tmp_path / "out"
    gpu.main(["--quick", f"--out={out}", "--seconds=0"])
    assert "goes on with: bfloat16, float32, steps a call, cifar_poly" in capsys.readouterr().out
    gpu.main(["--quick", f"--out={out}"])
    held = json.loads((out / "bench.json").read_text())["parts"]
    assert {name: part["failed"] for name, part in held.items()} == dict.fromkeys(held, "")
    assert list(held)[:3] == ["bfloat16", "float32", "steps a call"]
    assert held["bfloat16"]["rows"][1]["case"] == "dit 4x4 consistency bfloat16, ours"
    assert "| 3 passed |" in (out / "bench.md").read_text()
    assert len(list(out.iterdir())) <= gpu.MOST_FILES
    in_process.clear()
    # The device machine empties OUT; the checkout keeps the record.
    (out / "bench.json").unlink()
    gpu.main(["--quick", f"--out={out}"])
    assert not [module for module in in_process if module.startswith("benchmarks.")]
    assert json.loads((out / "bench.json").read_text())["parts"] == held


def test_shipped_configs_are_read_without_ml_collections(monkeypatch):
    expected = plain_config.shipped("cifar_poly")
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda n: None if n == "ml_collections" else find(n))
    for name in [n for n in sys.modules if n.startswith("configs")] + ["ml_collections"]:
        monkeypatch.delitem(sys.modules, name)
    assert plain_config.shipped("cifar_poly") == expected
    assert sys.modules["ml_collections"].ConfigDict is plain_config.PlainConfig


def test_the_page_shows_medians_with_their_quartiles():
    rows = [
        {"benchmark": "loop", "case": "digits", "loop": [1.02, 1.01, 1.03]},
        {"benchmark": "loop", "case": "other", "steps": 5},
    ]
    page = everything.page({"cpu": "x", "torch": None}, rows, {"loop": 3.0, "frechet": 1.0})
    assert "| digits | 1.02 (1.01 to 1.03) |  |" in page
    assert "| other |  | 5 |" in page
    assert "It failed." in page
    assert "torch" not in page


def test_runs_take_turns_and_ratios_are_taken_round_by_round():
    order, seconds = [], iter([1.0, 2.0, 8.0, 2.0])

    def job(name):
        def once():
            order.append(name)
            value = next(seconds)
            return value, value

        return once

    times = frame.in_turns({"a": job("a"), "b": job("b")}, 2)
    assert order == ["a", "b", "b", "a"]
    assert times["b"].wall == [2.0, 8.0]
    assert times["b"].over(times["a"]).median == 3.0


@pytest.mark.parametrize(
    "module,arguments,said",
    [
        ("frechet", ["--rounds=0"], "--rounds=0: must be at least 1"),
        ("train_step", ["--only", "tiny"], "--only='tiny': must be among dit 4x4, unet 4x4"),
        ("train_step", ["--torch-python=/no/python"], "--torch-python=/no/python: No such file"),
        ("gpu", ["--out=out", "--data=no_images"], "--data=no_images: is not there"),
        ("cifar_run", ["--data=README.md"], "--data=README.md: is no tar"),
    ],
)
def test_what_cannot_be_taken_is_named(module, arguments, said, capsys, monkeypatch):
    monkeypatch.chdir(frame.ROOT)
    with pytest.raises(SystemExit) as end:
        import_module(f"benchmarks.{module}").main(["--quick", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


def refuses(*arguments):
    raise AssertionError("it was written")


@pytest.mark.parametrize(
    "module, writes, arguments, code",
    [
        (selection_optimum, "save", ["--help"], 0),
        (selection_optimum, "save", ["--wrtie"], 2),
        (evidence, "archives", ["--help"], 0),
        (evidence, "archives", ["studies"], 2),
    ],
)
def test_help_writes_no_page_and_no_picture(module, writes, arguments, code, monkeypatch):
    monkeypatch.setattr(module, writes, refuses)
    with pytest.raises(SystemExit) as end:
        module.main(arguments)
    assert end.value.code == code


def test_the_folder_for_pictures_is_made_before_the_run(tmp_path):
    out = tmp_path / "new" / "out"
    with pytest.raises(SystemExit):
        import_module("benchmarks.cifar_run").main(["--data=README.md", f"--out={out}"])
    assert out.is_dir()


def test_the_trace_under_an_adaptive_law_has_a_closed_form():
    """Three in four draws are clean under p, one in two under b: r is 2/3 and 2."""
    sigma = np.array([0.05, 0.05, 0.05, 20.0])
    clean, noisy, every = gradient_variance.rows_of(
        sigma,
        importance=np.array([2 / 3, 2 / 3, 2 / 3, 2]),
        losses=np.array([1.0, 2.0, 3.0, 8.0]),
        squares=np.array([9.0, 9.0, 9.0, 3.0]),
    )
    # E_b |g|^2 = 6; E_p r^2 |g|^2 = 3/4 4/9 9 + 1/4 4 3 = 6.
    assert clean == ("<0.1", *map(pytest.approx, (1.5, 2.0, 0.75, 0.5)))
    assert noisy == (">10", *map(pytest.approx, (0.5, 8.0, 0.25, 0.5)))
    assert every == ("all", *map(pytest.approx, (1.0, 5.0, 1.0, 1.0)))


def test_what_is_told_of_a_value_is_found(monkeypatch):
    """Of a variance of 1 within levels .6 is the image's and .3 the noise's; a score tells .2.

    A value of each image by itself tells nothing of others, though an example shares it.
    """
    monkeypatch.setattr(value_of_noise, "COMPONENTS", 80)
    random = np.random.default_rng(0)
    images = 600
    x0, eps = (random.normal(size=(2 * images, 2)) for _ in range(2))
    image = np.arange(2 * images) // 2
    x0 = x0[2 * image]
    lam = random.uniform(-4, 4, 2 * images)
    chance = random.normal(size=2 * images)
    value = np.sqrt(0.6) * x0[:, 0] + np.sqrt(0.3) * eps[:, 1] + np.sqrt(0.1) * chance
    score = np.sqrt(0.2) * value + np.sqrt(0.8) * random.normal(size=2 * images)
    # Levels differ in how large values are, and in their mean, by as much as values within them.
    scaled = 3 * value + np.where(lam > 0, 3.0, -3.0)
    # What the images tell where noise is high, and all but chance where it is low.
    expected = 3 * np.where(lam < 0, np.sqrt(0.3) * eps[:, 1], value - np.sqrt(0.1) * chance)
    label = np.zeros((2 * images, 0))
    found = value_of_noise.shares_of(
        value_of_noise.Values(
            scaled, lam, -5 * score, chance, x0, eps, x0 + eps, image, label, expected
        )
    )
    wanted = {
        "levels, of the whole variance": 0.5,
        "the rater's score": -0.2,
        "the loss": 0.1,
        "the image": 0.6,
        "the noise": 0.3,
        # The covariances with x + eps are sqrt(.6) and sqrt(.3), its variances 2.
        "the noisy image": 0.45,
        "image and noise": 0.9,
        "noisy image, images known": 0.6,
    }
    quarters = [share for name, share in found.items() if name.startswith("  at log SNR")]
    assert quarters == pytest.approx([0.3, 0.3, 0.9, 0.9], abs=0.08)
    found = {name: share for name, share in found.items() if name in wanted}
    assert found == {name: pytest.approx(share, abs=0.08) for name, share in wanted.items()}


def test_what_an_image_is_worth_by_itself_tells_nothing_of_another_one():
    """Though two examples of it share it, and a regression knows it by its pixels."""
    random = np.random.default_rng(0)
    image = np.arange(400) // 2
    x0, own = random.normal(size=(200, 16))[image], random.normal(size=200)[image]
    assert value_of_noise.told_by(x0, own, image) < 0.1
    assert value_of_noise.told_by(x0, own, np.arange(400)) > 0.5


def test_the_images_of_training_tell_the_mean_of_a_noisy_one():
    """Of two images as likely, the mean; the noisy image, its level and its label stay."""
    pool = np.array([[-0.5], [0.5], [0.9]]), np.array([0, 0, 1])
    drawn = Examples(
        x0=jnp.full((3, 1), 0.5),
        eps=jnp.array([[-0.5], [0.0], [0.25]]),
        levels=LogSnrLevels(lam=jnp.array([0.0, 10.0, 0.0]), log_prob=jnp.zeros(3)),
        labels=jnp.array([0, 0, 1]),
        dropout_keys=None,
    )
    step = value_of_noise.Step(None, None, None, drawn, None, None, None, np.arange(3), pool)
    found = value_of_noise.expected_of(step)
    np.testing.assert_allclose(found.x0[:, 0], [0.0, 0.5, 0.9], atol=1e-6)
    signal = np.exp(np.asarray(drawn.levels.lam) / 2)[:, None]
    np.testing.assert_allclose(
        signal * found.x0 + found.eps, signal * drawn.x0 + drawn.eps, rtol=1e-5, atol=1e-6
    )
