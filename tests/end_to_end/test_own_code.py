"""A user's own code in a config: the files of docs/own_code.md, and what is refused."""

import importlib
import json
import math
import re
import sys
from dataclasses import dataclass

import command_line
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxnoise import experiment, noise
from jaxnoise.cli import main
from jaxnoise.errors import ConfigError
from jaxnoise.objectives import SnrWeight
from jaxnoise.objectives.denoising import DenoisingObjective
from jaxnoise.run.model import open_model
from jaxnoise.run.open import open_images
from jaxnoise.training.drawing import AXIS

pytestmark = pytest.mark.slow

PAGE = (command_line.ROOT / "docs" / "own_code.md").read_text()
SHRUNK = [flag for flag in command_line.SHRUNK if "sample.batch" not in flag]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A folder with the page's files, from which modules are imported."""
    folder = tmp_path_factory.mktemp("own")
    noise_file, config_file = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    (folder / "my_noise.py").write_text(noise_file)
    (folder / "my_config.py").write_text(config_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    for name in ("my_noise", "my_config"):
        sys.modules.pop(name, None)


def test_the_page_trains_and_draws(page, capsys):
    command = [f"--config={page / 'my_config.py'}", f"--workdir={page / 'run'}"]
    settings = [*SHRUNK, "--config.evaluate.n=64", "--config.sample.batch=64"]
    assert main([*command, *settings]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert np.isfinite(result["frechet_1step"])
    kept = json.loads((page / "run" / "config.json").read_text())
    assert kept["law"] == {
        "name": "my_noise:BumpPairs",
        "center": 0.5,
        "width": 1.0,
        "sampling": "stratified",
    }
    assert kept["objective"]["distance"] == {"name": "my_noise:log_cosh", "scale": 0.05}
    assert tiny.read_png(page / "run" / "noise.png").shape[2] >= 3


def test_the_pages_law_curriculum_and_distance_are_what_they_say(page):
    own = importlib.import_module("my_noise")
    levels = noise.karras_levels(30)
    probs = np.asarray(own.BumpPairs(center=0.5, width=0.7).probs(levels, 30))
    expected = np.exp(-((np.log(levels[1:] / 0.5) / 0.7) ** 2) / 2)
    np.testing.assert_allclose(probs, expected / expected.sum(), rtol=2e-5)
    counts = own.cosine_ramp(total_steps=1000, s0=20, s1=100)
    assert (int(counts(0)), int(counts(500)), counts.max_levels) == (20, 60, 100)
    a = jnp.asarray([[[[0.3]]], [[[-2.0]]]])
    expected = 0.1 * np.log(np.cosh(np.array([3.0, 20.0])))
    np.testing.assert_allclose(own.log_cosh(a, jnp.zeros_like(a)), expected, rtol=1e-5)


class Flat(nn.Module):
    """A network in the smallest form that a config may name."""

    out_channels: int = 1
    num_classes: int = 0
    width: int = 4

    @nn.compact
    def __call__(self, x, c_noise, labels=None, dropout_keys=None):
        del labels, dropout_keys
        h = nn.Conv(self.width, (3, 3))(x) + c_noise.reshape(-1, 1, 1, 1)
        return nn.Conv(self.out_channels, (1, 1))(nn.silu(h))


def steep_weight(power: float = 2.0) -> SnrWeight:
    return SnrWeight("v", lambda lam: power * lam)


def late(total_steps: int, share: float = 0.5) -> noise.Pacing:
    return noise.HighToLow(max(1, round(share * total_steps)))


def not_a_law(low: float = 0.0) -> float:
    return low


def logistic(mean: float = 0.0) -> noise.LogSnrLaw:
    return noise.Laplace(mean, 1.0)


def named(
    span: tuple[float, float] | None = None, name: str = "of its own", mean: float = 0.0
) -> noise.LogSnrLaw:
    low, high = span or (-20.0, 20.0)
    return noise.Laplace(mean, 1.0).truncated(low, high)


def crowded(share: float = 0.5) -> noise.LogSnrLaw:
    return noise.Laplace(share, 1.0)


def restless(cells: float = 0.5) -> noise.Pacing:
    return noise.HighToLow(100, width=cells)


def untyped(scores=()) -> noise.LogSnrLaw:
    return noise.Laplace(0.0, 1.0)


def broken(mean: float = 0.0) -> noise.LogSnrLaw:
    raise RuntimeError("out of order")


class Labelled(Flat):
    class_conditional: bool = False


class Taller(Flat):
    @nn.compact
    def __call__(self, x, c_noise, labels=None, dropout_keys=None):
        return jnp.concatenate([x, x], axis=1)


class Untraceable(Flat):
    @nn.compact
    def __call__(self, x, c_noise, labels=None, dropout_keys=None):
        return x if c_noise[0] > 0 else -x


@dataclass(frozen=True)
class UnevenPairs(noise.CategoricalPairs):
    sampling: str = "stratified"
    power: float = 1.0

    def mass(self, levels):
        return levels[1:] ** self.power if self.power < 3 else {}[self.power]


def drifting(mean: float = math.nan) -> noise.LogSnrLaw:
    return noise.Laplace(mean, 1.0)


def failing(where: str) -> optax.GradientTransformation:
    """SGD that fails, or gives what does not fit, in one place."""

    def init(params):
        return jnp.zeros(3 if where == "init" else 2), {}["init"] if where == "init" else 0

    def update(updates, state, params=None):
        if where == "update":
            raise ValueError("out of order")
        if where == "shape":
            updates = jax.tree.map(lambda u: jnp.stack([u, u]), updates)
        return updates, state[:1] if where == "state" else state

    return optax.GradientTransformation(init, update)


def mean_distance(a, b):
    return jnp.mean((a - b) ** 2)


def test_a_parameter_called_name_does_not_hide_the_choice():
    law = {"name": f"{__name__}:named", "span": (-3.0, 4.0)}
    run = denoising(law=law)
    assert run.config["law"]["name"] == law["name"]
    assert run.config["law"]["span"] == (-3.0, 4.0)
    assert experiment.read(run.config).config == run.config


def denoising(**sections):
    from configs import digits_laplace

    return experiment.read(tiny.shrunk(digits_laplace.get_config(), **sections))


def test_every_choice_takes_code_of_ones_own():
    here = __name__
    config = tiny.shrunk(importlib.import_module("configs.digits_laplace").get_config())
    config |= {
        "law": {"name": f"{here}:logistic", "mean": 1.0, "shift": 0.5},
        "model": {"name": f"{here}:Flat", "width": 8},
        "pacing": {"name": f"{here}:late", "share": 0.25},
        "optimizer": {"name": "optax:lion", "learning_rate": 1e-3, "b1": 0.8},
    }
    config["objective"]["weight"] = {"name": f"{here}:steep_weight", "power": 3.0}
    run = experiment.read(config)
    assert isinstance(run.objective, DenoisingObjective)
    assert float(run.objective.law.inverse_survival(0.5)) == pytest.approx(1.5, abs=1e-6)
    assert float(run.objective.weight.log_weight(jnp.float32(2.0))) == 6.0
    assert run.objective.pacing == noise.HighToLow(2)
    network = run.network((8, 8, 1), 10)
    assert (network.width, network.num_classes, network.out_channels) == (8, 0, 1)
    params = {"w": jnp.ones(2)}
    update, _ = run.optimizer.update(params, run.optimizer.init(params), params)
    expected, _ = (lion := optax.lion(1e-3, b1=0.8)).update(params, lion.init(params), params)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), update, expected))
    # The defaults of the user's code are in the record, so that a changed one is noticed.
    assert run.config["optimizer"]["weight_decay"] == 1e-3
    assert experiment.read(run.config).config == run.config


@pytest.mark.parametrize(
    ("law", "said"),
    [
        ({"name": "no_such_module:Law"}, "config.law.name='no_such_module:Law': must be 'module:"),
        ({"name": "math:no_such"}, "config.law.name='math:no_such': must be 'module:attribute'"),
        ({"name": "math:pi"}, "must be 'module:attribute', something that can be called"),
        ({"name": f"{__name__}:not_a_law"}, "must be code that gives an object with LogSnrLaw"),
        ({"name": f"{__name__}:logistic", "mena": 1.0}, "did you mean config.law.mean"),
        ({"name": f"{__name__}:logistic", "mean": "high"}, "config.law.mean='high': must be a num"),
        (
            {"name": f"{__name__}:drifting"},
            "config.law.mean: must be set, since its default is nan",
        ),
        ({"name": "laplaze", "mu": 0.0, "b": 1.0}, "or 'module:attribute' of your own (did you"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(law, said):
    with pytest.raises(ConfigError) as caught:
        denoising(law=law)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


HERE = __name__


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"law": {"name": f"{HERE}:broken"}}, r"config.law.name='.*': RuntimeError: out of order"),
        ({"law": {"name": "builtins:iter"}}, "config.law.name='builtins:iter': must be code with"),
        ({"law": {"name": f"{HERE}:untyped", "scores": np.ones(2)}}, "config.law.scores=.* tuple"),
        ({"law.mixed": {"name": f"{HERE}:crowded", "share": 0.5}}, "without a parameter 'share'"),
        ({"model": {"name": f"{HERE}:Labelled"}}, "without a parameter 'class_conditional'"),
        ({"model": {"name": "flax.linen:Dense"}}, "a flax module with a field 'out_channels'"),
    ],
)
def test_code_that_cannot_be_called_is_refused_by_name(sections, said):
    with pytest.raises(ConfigError, match=said) as caught:
        denoising(**sections)
    assert "\n" not in str(caught.value)


def test_a_pacing_s_own_parameters_are_its_own():
    run = denoising(pacing={"name": f"{HERE}:restless", "cells": 0.25})
    assert run.objective.pacing == noise.HighToLow(100, width=0.25)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        (
            {"law": {"name": f"{HERE}:UnevenPairs", "sampling": "stratifed"}},
            "config.law.sampling='stratifed': must be one of .*did you mean 'stratified'",
        ),
        (
            {"law": {"name": f"{HERE}:UnevenPairs", "power": 3.0}},
            r"config.law.name='.*:UnevenPairs': KeyError: 3.0 \(test_own_code.py, line \d+\)",
        ),
        (
            {"objective.distance": {"name": f"{HERE}:mean_distance"}},
            r"config.objective.distance.name='.*': must be one, \(a, b\) -> float\[B\]",
        ),
        (
            {"objective.weight": "jax.numpy:subtract", "law": {"name": f"{HERE}:Flat"}},
            "config.law.name='.*': must be code that gives an object with sample",
        ),
        (
            {"objective.weight": "jax.numpy:outer"},
            r"config.objective.weight='jax.numpy:outer': must be one, \(sigma_lo, sigma_hi\)",
        ),
        (
            {"model": {"name": f"{HERE}:Taller"}},
            r"must give float32\[2,8,8,1\] for float32\[2,8,8,1\]; it gave float32\[2,16,8,1\]",
        ),
        (
            {"model": {"name": f"{HERE}:Flat"}, "data.augment": 0.1},
            r"config.data.augment=0.1: must be 0 for model.name='.*:Flat', which has no field augm",
        ),
        (
            {"model": {"name": f"{HERE}:Untraceable"}},
            r"config.model.name='.*': TracerBoolConversionError: .*test_own_code.py, line",
        ),
    ],
)
def test_code_that_fails_when_traced_is_refused_before_anything_is_written(sections, said):
    with pytest.raises(ConfigError, match=said) as caught:
        open_images(experiment.read(tiny.digits_config(**sections)), None)
    assert "\n" not in str(caught.value)


OPTIMIZERS = [
    ({"name": "optax:lion", "learning_rate": "fast"}, r"[A-Z]\w+Error: .*"),
    ({"where": "init"}, r"KeyError: 'init' \(test_own_code.py, line \d+\)"),
    ({"where": "update"}, r"ValueError: out of order \(test_own_code.py, line \d+\)"),
    ({"where": "shape"}, "must give updates of the shapes that it was given"),
    ({"where": "state"}, "must give a state of the shapes that it was given"),
]


@pytest.mark.parametrize(("section", "said"), OPTIMIZERS)
def test_an_optimizer_that_fails_is_refused_before_anything_is_written(section, said):
    section = {"name": f"{HERE}:failing"} | section
    run = experiment.read(tiny.digits_config(optimizer=section))
    with pytest.raises(ConfigError, match=f"^config.optimizer.name='{section['name']}': {said}$"):
        open_model(run, selects=True)


def agreeing(learning_rate: float = 0.1) -> optax.GradientTransformation:
    """Sees the devices, as in a step."""
    return optax.stateless(lambda updates, params: jax.lax.pmean(updates, AXIS))


def test_an_optimizer_may_average_over_the_devices():
    run = experiment.read(tiny.digits_config(optimizer={"name": f"{HERE}:agreeing"}))
    assert open_model(run, selects=True).abstract_state.opt_state is not None


@pytest.mark.parametrize(("section", "said"), OPTIMIZERS[:3])
def test_an_optimizer_that_fails_is_refused_for_a_rater(section, said):
    from configs import digits_noise_rater

    config = digits_noise_rater.get_config().to_dict()
    config["optimizer"] = {"name": f"{HERE}:failing"} | section
    name = config["optimizer"]["name"]
    with pytest.raises(ConfigError, match=f"^config.optimizer.name='{name}': {said}$"):
        experiment.read(config)
