import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import tiny

from jaxnoise import experiment, noise
from jaxnoise.errors import ConfigError

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "common")


def error(**overrides):
    with pytest.raises(ConfigError) as caught:
        experiment.read(tiny.digits_config(**overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_is_valid_and_states_its_claim(name):
    module = importlib.import_module(f"configs.{name}")
    checked = experiment.read(module.get_config())
    for word in ("Command:", "Hardware:", "Paper:", "Ours:", f"configs/{name}.py"):
        assert word in module.__doc__
    assert checked.train.steps % checked.train.checkpoint_every == 0


def test_the_poly_arm_is_what_the_paper_says():
    from configs import cifar_poly

    checked = experiment.read(cifar_poly.get_config())
    assert checked.objective.law == noise.PolynomialPairs(
        curve=4.0, variant="paper", sampling="stratified"
    )
    assert checked.objective.curriculum.max_levels == 250
    assert checked.train.steps * checked.train.batch == 12_800_000
    assert checked.objective.grid.table_size == 251


def test_the_constant_arm_differs_in_the_curriculum_alone():
    from configs import cifar_poly, cifar_poly_constant

    arm = experiment.read(cifar_poly_constant.get_config()).config
    twin = experiment.read(cifar_poly.get_config()).config
    assert [key for key in arm if arm[key] != twin[key]] == ["curriculum"]


def test_resolved_config_holds_every_setting():
    checked = experiment.read(tiny.digits_config())
    assert set(checked.config) == set(experiment.SECTIONS)
    assert checked.config["optimizer"] == {
        "name": "radam",
        "learning_rate": 1e-3,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "warmup_steps": 0,
        "clip_norm": None,
    }
    assert checked.config["objective"]["distance"]["elementwise"] is False


def test_reading_a_resolved_config_gives_it_back():
    once = experiment.read(tiny.digits_config()).config
    assert experiment.read(once).config == once


@pytest.mark.parametrize(
    "overrides, parts",
    [
        ({"law.curve": -1.0}, ["config.law.curve=-1.0", "> 0"]),
        ({"law.curve": "4"}, ["config.law.curve='4'", "a number"]),
        ({"law.name": "polynomail"}, ["config.law.name", "did you mean 'polynomial'"]),
        ({"law.variant": "papr"}, ["config.law.variant", "did you mean 'paper'"]),
        ({"curriculum.s0": 300}, ["config.curriculum.s1=250", "300"]),
        ({"curriculum.s0": 1}, ["config.curriculum.s0=1"]),
        ({"grid.sigma_min": 90.0}, ["config.grid.sigma_m", "90.0"]),
        ({"grid.table_size": 100}, ["config.grid.table_size=100", "at least 250"]),
        ({"grid.rule": "nest"}, ["config.grid.rule", "nested"]),
        ({"objective.weight": "gap"}, ["config.objective.weight='gap'"]),
        ({"objective.distance.c": 0.0}, ["config.objective.distance.c=0.0"]),
        ({"objective.sigma_data": 0.0}, ["config.objective.sigma_data=0.0"]),
        ({"objective.teacher": "ema", "objective.teacher_mu0": 1.0}, ["teacher_mu0=1.0"]),
        ({"objective.teacher": "ema", "objective.teacher_s0": 0}, ["teacher_s0=0"]),
        ({"optimizer.learning_rate": 0.0}, ["config.optimizer.learning_rate=0.0"]),
        ({"optimizer.warmup_steps": -1}, ["config.optimizer.warmup_steps=-1"]),
        ({"optimizer.clip_norm": 0.0}, ["config.optimizer.clip_norm=0.0"]),
        ({"optimizer.eps": 0.0}, ["config.optimizer.eps=0.0"]),
        ({"optimizer.b2": 1.0}, ["config.optimizer.b2=1.0"]),
        ({"ema.rate": 1.0}, ["config.ema.rate=1.0"]),
        ({"train.batch": 0}, ["config.train.batch=0"]),
        (
            {"train.steps_per_dispatch": 2, "train.log_every": 3},
            ["config.train.log_every=3", "multiple of train.steps_per_dispatch=2"],
        ),
        ({"train.mapping": "pmaps"}, ["config.train.mapping='pmaps'"]),
        ({"sample.method.sigmas": (0.5, 0.8)}, ["config.sample.method.sigmas", "descend"]),
        ({"sample.method.sigmas": (90.0,)}, ["config.sample.method.sigmas", "sigma_max=80.0"]),
        ({"sample.count": 0}, ["config.sample.count=0"]),
        ({"evaluate.n": 1}, ["config.evaluate.n=1"]),
        ({"model.name": "tinny"}, ["config.model.name='tinny'", "did you mean 'tiny'"]),
        ({"model.dtype": "float16"}, ["config.model.dtype='float16'", "bfloat16"]),
        ({"model.dropuot": 0.1}, ["config.model.dropuot", "config.model.dropout"]),
        ({"model.dropout": 1.0}, ["config.model.dropout=1.0"]),
        ({"seed": -1}, ["config.seed=-1", "2^32"]),
        ({"sample.seed": -1}, ["config.sample.seed=-1", "2^32"]),
        ({"evaluate.seed": 2**32}, ["config.evaluate.seed=4294967296"]),
        ({"optimizer.learning_rate": float("inf")}, ["config.optimizer.learning_rate=inf"]),
        ({"train.checkpoint_every": 3}, ["config.train.checkpoint_every=3", "log_every=2"]),
        ({"train.steps": 10**11}, ["config.train.steps=100000000000"]),
        ({"law.name": "lognormal"}, ["config.law.curve", "--config.law=\"{'name': 'lognormal'}\""]),
        ({"law.name": [1]}, ["config.law.name=[1]", "polynomial"]),
        ({"train.stesp": 4}, ["config.train.stesp", "did you mean config.train.steps"]),
        ({"lwa": 4}, ["config.lwa", "did you mean config.law"]),
    ],
)
def test_bad_settings_name_the_key_the_value_and_what_is_allowed(overrides, parts):
    message = error(**overrides)
    for part in parts:
        assert part in message


def test_optimizer_options_reach_optax():
    checked = experiment.read(
        tiny.digits_config(
            **{
                "optimizer.name": "adam",
                "optimizer.warmup_steps": 4,
                "optimizer.clip_norm": 1e-3,
                "optimizer.learning_rate": 1.0,
            }
        )
    )
    state = checked.optimizer.init(jnp.zeros(2))
    with jax.numpy_dtype_promotion("standard"):
        update, _ = checked.optimizer.update(jnp.array([3.0, -4.0]), state)
    # Adam's first update is the sign times the learning rate, a quarter of it at the first step.
    assert update.tolist() == pytest.approx([-0.25, 0.25], rel=1e-3)


def test_baseline_is_that_of_the_high_noise_experiments():
    from configs import cifar_lognormal, cifar_poly

    own = experiment.read(cifar_lognormal.get_config())
    assert own.baseline.curriculum == own.objective.curriculum
    assert own.baseline.law == own.objective.law
    assert own.baseline.grid == own.objective.grid
    assert experiment.read(cifar_poly.get_config()).baseline.curriculum == own.baseline.curriculum
