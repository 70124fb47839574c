import importlib
import json
import pickle
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from configs import digits_ect, digits_meanflow, digits_scm
from jaxnoise import experiment, noise, objectives
from jaxnoise.errors import ConfigError, WeightWarning
from jaxnoise.training.records import RunFolder

ROOT = Path(__file__).parent.parent
CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "common")


def error(**overrides):
    with pytest.raises(ConfigError) as caught:
        experiment.read(tiny.digits_config(model={"name": "tiny"}, **overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.takes_a_second
@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_is_valid_and_states_its_claim(name):
    module = importlib.import_module(f"configs.{name}")
    checked = experiment.read(module.get_config())
    for word in ("Command:", "Hardware:", "Paper:", "Ours:", f"configs/{name}.py"):
        assert word in module.__doc__
    assert checked.train.steps % checked.train.checkpoint_every == 0
    assert checked.warnings == ()


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
    # Levels that lie on a grid have no gap of their own.
    assert set(checked.config) == {*experiment.COMMON, *experiment.OF_MODEL} - {"gap"}
    assert checked.config["optimizer"] == {
        "name": "radam",
        "learning_rate": 1e-3,
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
        "warmup_steps": 0,
        "decay": "none",
        "decay_steps": None,
        "clip_norm": None,
    }
    assert checked.config["objective"]["distance"]["elementwise"] is False


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    """A key that came later has its default there; another value is another run."""
    folder = RunFolder(tmp_path, experiment.completed)
    now = experiment.read(tiny.digits_config()).config
    earlier = json.loads(json.dumps(now))
    del earlier["optimizer"]["clip_norm"], earlier["evaluate"]["levels"]
    earlier["sample"]["method"]["sigmas"] = [0.821]
    folder.claim(earlier)
    folder.check_same(now)
    clipped = experiment.read(tiny.digits_config(**{"optimizer.clip_norm": 1.0})).config
    with pytest.raises(ConfigError, match=r"optimizer.clip_norm \(there None, here 1.0\)"):
        folder.check_same(clipped)
    # What cannot be read any more is compared as it is.
    assert experiment.completed({"seed": 0, "gone": 1}) == {"seed": 0, "gone": 1}


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
        ({"objective.teacher_s0": 2}, ["config.objective.teacher_s0: is no key", "curriculum.s0"]),
        ({"objective.source": "iid"}, ["config.objective.source: is no key", "objective.sampling"]),
        ({"optimizer.b0": 0.9}, ["config.optimizer.b0: is no key", "optimizer.b1"]),
        ({"objective.teacher_mu0": 0.9}, ["objective.teacher_mu0=0.9", "objective.teacher='ema'"]),
        ({"evaluate.every": 2, "evaluate.n": 0}, ["evaluate.every=2", "evaluate.n"]),
        (
            {"evaluate.metrics": ("frechet", "kernel"), "evaluate.n": 0},
            ["metrics=('frechet', 'kernel'): must be ('frechet',) where evaluate.n is 0"],
        ),
        (
            {"evaluate.split": "test", "evaluate.n": 0},
            ["config.evaluate.split='test': must be None where evaluate.n is 0"],
        ),
        (
            {"evaluate.few_samples": True, "evaluate.n": 0},
            ["config.evaluate.few_samples=True: must be False where evaluate.n is 0"],
        ),
        (
            {"train.init_weights": "raw"},
            ["config.train.init_weights='raw': must be 'ema' unless train.init_from is given"],
        ),
        (
            {"train.steps": 2**31},
            ["config.train.steps=2147483648", "train.steps + train.further_steps is below 2^31"],
        ),
        ({"train.further_steps": 2**31 - 8}, ["config.train.further_steps=2147483640"]),
        (
            {"evaluate.extractor": "inception"},
            [
                "config.evaluate.extractor='inception': must be a section (a mapping of keys), "
                "as in --config.evaluate.extractor.name='inception'"
            ],
        ),
        ({"rater": "conv"}, ["config.rater='conv': must be a section", "config.rater.name='conv'"]),
        ({"train.steps": {"a": 1}}, ["config.train.steps={'a': 1}: must be an integer"]),
        ({"train.keep_checkpoints": {}}, ["config.train.keep_checkpoints={}: must be an integer"]),
        (
            {"objective.weight": {"name": "uniform"}},
            ["config.objective.weight={'name': 'uniform'}: must be a string"],
        ),
        ({"evaluate.weights": "average"}, ["evaluate.weights='average'", "ema, raw"]),
        ({"evaluate.levels": -1}, ["evaluate.levels=-1", "at least 1"]),
        ({"evaluate.levels": 4, "evaluate.n": 0}, ["evaluate.levels=4", "evaluate.n is 0"]),
        ({"evaluate.split": "test", "evaluate.reference": "a.npz"}, ["evaluate.split='test'"]),
        (
            {"evaluate.split": "a", "evaluate.held_out": "b"},
            ["evaluate.held_out='b'", "None where"],
        ),
        (
            {"train.further_steps": 2, "optimizer.decay": "cosine"},
            ["config.train.further_steps=2", "decayed to 0"],
        ),
        ({"evaluate.metrics": ()}, ["evaluate.metrics=()", "'frechet'"]),
        ({"evaluate.step": 0}, ["evaluate.step=0", "at least 1"]),
        ({"sample.step": -1}, ["sample.step=-1", "at least 1"]),
        ({"data.dataset": 10**9}, ["config.data.dataset=1000000000", "a string"]),
        ({"data.dataset": "10**9"}, ["config.data.dataset='10**9'", "of the form name"]),
        ({"data.data_dir": ""}, ["config.data.data_dir=''", "not empty"]),
        ({"selection": {"name": "rater", "file": float("nan")}}, ["selection.file=nan"]),
        ({"selection": {"name": "rater", "file": "nan"}}, ["selection.file='nan'", ".npz"]),
        ({"objective.sigma_data": 1e-60}, ["config.objective.sigma_data=1e-60", "float32 holds"]),
        ({"objective.sigma_data": 1e-30}, ["config.objective.sigma_data=1e-30", "from 1e-06"]),
        ({"objective.distance.c": float("inf")}, ["config.objective.distance.c=inf"]),
        ({"model.fourier_scale": 0.02}, ["config.model.fourier_scale=0.02", "'positional'"]),
        ({"optimizer.clip_norm": float("inf")}, ["config.optimizer.clip_norm=inf"]),
        ({"optimizer.eps": 1e-50}, ["config.optimizer.eps=1e-50", "float32 holds"]),
        (
            {
                "optimizer": {
                    "name": "momentum_decay",
                    "learning_rate": 1e-3,
                    "b2": None,
                    "eps": 1.0,
                }
            },
            ["optimizer.eps=1.0", "b2"],
        ),
        ({"optimizer.learning_rate": 0.0}, ["config.optimizer.learning_rate=0.0"]),
        ({"optimizer.warmup_steps": -1}, ["config.optimizer.warmup_steps=-1"]),
        ({"optimizer.clip_norm": 0.0}, ["config.optimizer.clip_norm=0.0"]),
        ({"optimizer.eps": 0.0}, ["config.optimizer.eps=0.0"]),
        ({"optimizer.b2": 1.0}, ["config.optimizer.b2=1.0"]),
        ({"ema.rate": 1.0}, ["config.ema.rate=1.0"]),
        ({"data.augment": 1.5}, ["config.data.augment=1.5", "in (0, 1]"]),
        ({"data.augment": 0.1, "data.flip": True}, ["config.data.flip=True", "data.augment"]),
        ({"ema.further_rates": (0.9, 1.0)}, ["config.ema.further_rates=1.0", "in (0, 1)"]),
        ({"ema.further_rates": (0.0,)}, ["config.ema.further_rates=0.0", "in (0, 1)"]),
        ({"ema.further_rates": (0.9, 0.9)}, ["config.ema.further_rates=(0.9, 0.9)", "differ"]),
        (
            {"ema.rate": 0.9, "ema.further_rates": (0.9,)},
            ["ema.further_rates=(0.9,)", "ema.rate=0.9"],
        ),
        ({"ema.rate": 0.0, "ema.further_rates": (0.9,)}, ["ema.further_rates=(0.9,)", "rate is 0"]),
        ({"train.batch": 0}, ["config.train.batch=0"]),
        (
            {"train.steps_per_dispatch": 2, "train.log_every": 3},
            ["config.train.log_every=3", "multiple of train.steps_per_dispatch=2"],
        ),
        ({"train.mapping": "pmaps"}, ["config.train.mapping='pmaps'"]),
        ({"sample.method.sigmas": (0.5, 0.8, 0.6)}, ["config.sample.method.sigmas", "in order"]),
        ({"sample.method.sigmas": (90.0,)}, ["config.sample.method.sigmas", "sigma_max=80.0"]),
        ({"sample.count": 0}, ["config.sample.count=0"]),
        ({"evaluate.n": 1}, ["config.evaluate.n=1"]),
        ({"evaluate.every": -1}, ["config.evaluate.every=-1"]),
        ({"evaluate.metrics": ("frechet", "kerne")}, ["evaluate.metrics", "did you mean 'kernel'"]),
        ({"evaluate.extractor": {"name": "incept"}}, ["evaluate.extractor.name", "inception"]),
        (
            {"evaluate.extractor": {"name": "inception", "resize": "pil"}},
            ["config.evaluate.extractor.resize='pil'", "tf1"],
        ),
        (
            {"train.steps_per_dispatch": 2, "evaluate.every": 3},
            ["config.evaluate.every=3", "train.steps_per_dispatch=2"],
        ),
        ({"selection": {"name": "neares"}}, ["config.selection.name", "did you mean 'nearest'"]),
        ({"selection": {"name": "loss", "order": "high"}}, ["config.selection.order='high'"]),
        ({"selection": {"name": "random", "candidates": 0}}, ["config.selection.candidates=0"]),
        ({"selection": {"name": "random", "plain_share": 2}}, ["selection.plain_share=2.0"]),
        ({"sample.format": "jpg"}, ["config.sample.format='jpg'", "npz"]),
        ({"model.name": "tinny"}, ["config.model.name='tinny'", "did you mean 'tiny'"]),
        ({"model.dtype": "float16"}, ["config.model.dtype='float16'", "bfloat16"]),
        ({"model.dropuot": 0.1}, ["config.model.dropuot", "config.model.dropout"]),
        ({"model.dropout": 1.0}, ["config.model.dropout=1.0"]),
        ({"seed": -1}, ["config.seed=-1", "2^32"]),
        ({"sample.seed": -1}, ["config.sample.seed=-1", "2^32"]),
        ({"evaluate.seed": 2**32}, ["config.evaluate.seed=4294967296"]),
        ({"optimizer.learning_rate": float("inf")}, ["config.optimizer.learning_rate=inf"]),
        ({"train.checkpoint_every": 3}, ["config.train.checkpoint_every=3", "log_every=2"]),
        (
            {"pacing": {"name": "adaptive", "statistic": "gradient"}},
            ["config.pacing.statistic='gradient'", "loss, second_moment, progress"],
        ),
        (
            {"pacing": {"name": "adaptive", "range": (-20.0, 0.0)}},
            ["config.pacing.range=(-20.0, 0.0)", "within the log SNR of the law"],
        ),
        ({"train.steps": 10**11}, ["config.train.steps=100000000000", "below 2^32"]),
        ({"train.batch": 10**400}, ["config.train.batch=1000", "below 2^32"]),
        ({"optimizer.learning_rate": 10**400}, ["learning_rate=1000", "float32 holds"]),
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


def denoising_error(**overrides):
    from configs import digits_laplace

    with pytest.raises(ConfigError) as caught:
        experiment.read(tiny.shrunk(digits_laplace.get_config(), **overrides))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def denoising(name="digits_cosine", **overrides):
    config = importlib.import_module(f"configs.{name}").get_config()
    return experiment.read(tiny.shrunk(config, **overrides))


@pytest.mark.parametrize(
    "overrides, parts",
    [
        ({"law.b": 0.0}, ["config.law.b=0.0", "> 0"]),
        ({"law.name": "laplce"}, ["config.law.name='laplce'", "did you mean 'laplace'"]),
        ({"law.scale": 0.0}, ["config.law.scale=0.0", "> 0"]),
        ({"law.shift": float("nan")}, ["config.law.shift=nan: must be a number, and not nan"]),
        (
            {"law.mixed": "laplace"},
            ["config.law.mixed='laplace': must be a section", "config.law.mixed.name='laplace'"],
        ),
        ({"law.low": 2.0, "law.high": 1.0}, ["config.law.high=1.0", "low=2.0"]),
        ({"law.quantiles": (0.5, 0.2)}, ["config.law.quantiles=(0.5, 0.2)", "ascending"]),
        ({"law.gamma": 1.0}, ["config.law.gamma", "'laplace'"]),
        ({"law.mixed": {"name": "cosine"}}, ["config.law.mixed.share", "must be set"]),
        ({"law.mixed": {"name": "cosine", "share": 1.0}}, ["config.law.mixed.share=1.0"]),
        ({"objective.name": "denoise"}, ["config.objective.name", "did you mean 'denoising'"]),
        ({"objective.target": "z"}, ["config.objective.target='z'", "eps"]),
        ({"objective.sigma_data": -1.0}, ["config.objective.sigma_data=-1.0"]),
        ({"objective.max_ratio": 2.0}, ["config.objective.max_ratio=2.0", "None"]),
        ({"objective.sampling": "idd"}, ["config.objective.sampling='idd'", "'iid'"]),
        ({"objective.weight": "uniform"}, ["config.objective.weight", "section"]),
        ({"objective.weight.space": "z"}, ["config.objective.weight.space='z'", "x0"]),
        ({"objective.weight": {"name": "min_snr", "gamma": 0}}, ["objective.weight.gamma=0.0"]),
        ({"objective.weight": {"name": "density"}}, ["config.objective.weight.law.name=None"]),
        ({"objective.uncertainty": {"name": "fourier", "harmonics": 0}}, ["harmonics=0"]),
        ({"pacing": {"name": "cltz"}}, ["config.pacing.name='cltz'", "did you mean 'clts'"]),
        ({"pacing": {"name": "clts", "sig": 0.0}}, ["config.pacing.sig=0.0"]),
        ({"pacing": {"name": "clts", "ramp_steps": 0}}, ["config.pacing.ramp_steps=0"]),
        ({"pacing": {"name": "difficulty", "clusters": 0}}, ["config.pacing.clusters=0"]),
        ({"pacing": {"name": "difficulty", "partition": "snrs"}}, ["partition='snrs'", "snr"]),
        ({"pacing": {"name": "high_to_low", "width": 0.0}}, ["config.pacing.width=0.0"]),
        ({"pacing": {"name": "adaptive", "floor": 0.0}}, ["config.pacing.floor=0.0"]),
        ({"pacing": {"name": "adaptive", "warmup_steps": 8}}, ["warmup_steps=8", "from 1 to 7"]),
        ({"pacing": {"name": "adaptive", "statistic": "los"}}, ["statistic='los'", "'loss'?"]),
        ({"pacing": {"name": "adaptive"}}, ["config.pacing.range=None", "without ends"]),
        (
            {
                "pacing": {"name": "adaptive", "range": (-2.0, 2.0)},
                "objective.compensation": "importance",
            },
            ["config.pacing.compensate=True", "False with compensation='importance'"],
        ),
        ({"pacing": {"name": "high_to_low", "annealing_steps": 0}}, ["annealing_steps=0"]),
        (
            {"pacing": {"name": "high_to_low", "annealing_steps": 9}},
            ["config.pacing.annealing_steps=9", "from 1 to 8"],
        ),
        ({"law.low": 1000.0, "law.high": 1001.0}, ["config.law.high=1001.0", "mass"]),
        ({"sample.method.sigma_max": 500.0}, ["config.sample.method.sigma_max=500.0", "trained"]),
        ({"sample.method.name": "multistep"}, ["config.sample.method.name", "heun"]),
        ({"sample.guidance": float("inf")}, ["config.sample.guidance=inf"]),
        ({"train.label_dropout": 1.0}, ["config.train.label_dropout=1.0"]),
        ({"curriculum": {"name": "constant"}}, ["config.curriculum"]),
    ],
)
def test_bad_denoising_settings_name_the_key(overrides, parts):
    message = denoising_error(**overrides)
    for part in parts:
        assert part in message


def test_a_weight_that_overflows_under_the_law_is_refused_before_training():
    message = denoising_error(
        **{
            "law": {"name": "cauchy", "mu": 0.0, "gamma": 1.0},
            "objective.target": "x0",
            "objective.weight.space": "eps",
        }
    )
    assert message.startswith("config.objective.weight='eps'")
    assert message.endswith(": truncate the law or predict v")


@pytest.mark.takes_a_second
def test_what_is_warned_of_weights_belongs_to_the_run():
    (line,) = denoising(**{"objective.target": "eps", "objective.weight.space": "v"}).warnings
    assert line.startswith("config.objective: the weights on the error of eps")
    assert denoising().warnings == ()


def test_other_warnings_go_on_whatever_follows():
    said = []

    def read():
        with experiment._weight_warnings() as seen:
            said.append(seen)
            warnings.warn("of a weight", WeightWarning, stacklevel=1)
            warnings.warn("of a module", DeprecationWarning, stacklevel=1)
            raise ConfigError("and an error")

    with pytest.warns(DeprecationWarning, match=r"^of a module$"), pytest.raises(ConfigError):
        read()
    assert said == [["of a weight"]]


@pytest.mark.takes_a_second
def test_laws_are_composed_in_the_order_scale_shift_truncation_window():
    law = {"name": "laplace", "mu": 0.0, "b": 1.0, "scale": 2.0, "shift": 1.0, "low": -3.0}
    checked = denoising(law={**law, "quantiles": (0.0, 0.5)})
    made = noise.Laplace(0.0, 1.0).scaled(2.0).shifted(1.0).truncated(-3.0, float("inf"))
    assert checked.objective.law == noise.window(made, 0.0, 0.5)


@pytest.mark.takes_a_second
def test_a_law_can_be_mixed_with_a_wide_one():
    mixed = {"name": "cauchy", "mu": 0.0, "gamma": 3.0, "share": 0.1}
    checked = denoising("digits_laplace", **{"law.mixed": mixed})
    expected = noise.mixture([noise.Laplace(0.0, 0.5), noise.Cauchy(0.0, 3.0)], [0.9, 0.1])
    assert checked.objective.law == expected


@pytest.mark.takes_a_second
def test_pacing_composes_with_pair_laws():
    pacing = {"name": "difficulty", "clusters": 5, "patience": 2, "partition": "uniform"}
    checked = experiment.read(tiny.digits_config(pacing=pacing, law={"name": "uniform"}))
    # Under the uniform law equal numbers of pairs are equal quantiles, up to whole pairs: 249 / 5.
    boundaries = checked.objective.pacing.partition
    assert boundaries == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1], abs=1 / 249)
    pace = checked.objective.pacing.init()
    key = jax.random.key(0)
    sigma = checked.objective.draw(key, key, jnp.int32(0), 64, pace).sigma_lo
    levels, count = checked.objective.levels(key, jnp.int32(0))
    # Only the noisiest fifth of the pairs.
    assert float(sigma.min()) >= float(levels[round(0.8 * (int(count) - 1)) - 1])


@pytest.mark.takes_a_second
def test_difficulty_is_cut_over_a_grid_of_random_subsets_too():
    pacing = {"name": "difficulty", "clusters": 5, "patience": 2}
    random, nested = (
        experiment.read(tiny.digits_config(pacing=pacing, **{"grid.rule": rule})).objective.pacing
        for rule in ("random", "nested")
    )
    # At the curriculum's peak both hold the whole table.
    assert random == nested


def test_the_teacher_of_consistency_models_has_the_curriculum_s_s0():
    curriculum = {"name": "square_root", "s0": 3, "s1": 20}
    checked = experiment.read(
        tiny.digits_config(curriculum=curriculum, **{"objective.teacher": "ema"})
    )
    # mu = exp(s0 ln(mu0) / N'), N' = 2 pairs at the start.
    assert float(checked.objective.teacher_rate(jnp.int32(0))) == pytest.approx(0.9 ** (3 / 2))


def test_the_last_step_is_the_largest_number_of_steps():
    assert denoising(**{"train.further_steps": 2**31 - 9}).train.last_step == 2**31 - 1


WRONG = (None, float("nan"), float("inf"), -1, 0, 1e-60, 10**5, 1e30, "", [], True, "x")


@pytest.mark.takes_a_second
def test_any_value_in_any_key_is_taken_or_refused_in_one_line():
    refused, seen = {}, set()

    def visit(whole, node, path):
        for key, held in node.items():
            if isinstance(held, dict):
                visit(whole, held, (*path, held.get("name"), key))
            # What configs have in common is tried in the first.
            elif (*path, key) not in seen:
                seen.add((*path, key))
                for value in WRONG:
                    node[key] = value
                    try:
                        experiment.read(whole)
                    except ConfigError as error:
                        refused[(*path, key), repr(value)] = str(error)
                node[key] = held

    for name in ("digits_poly", "digits_edm", "digits_noise_rater"):
        whole = experiment.read(importlib.import_module(f"configs.{name}").get_config()).config
        visit(whole, whole, ())
    assert {key for key, _ in refused} == seen
    assert len(seen) > 150
    assert all(line.startswith("config.") and "\n" not in line for line in refused.values())


@pytest.mark.takes_a_second
def test_momentum_decay_knows_the_length_of_the_run():
    checked = denoising("digits_clts_mdlrc", **{"optimizer.learning_rate": 0.5})
    params = jnp.array([1.0, -1.0])
    state = checked.optimizer.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(8):
            update, state = checked.optimizer.update(params, state)
    # Of the 8 steps the last has tau = 7/8, and a constant gradient is its own mean.
    assert update.tolist() == pytest.approx([-0.5 * (1 - 0.9 * 7 / 8), 0.5 * (1 - 0.9 * 7 / 8)])


@pytest.mark.takes_a_second
def test_twins_differ_in_what_they_claim():
    def changed(name):
        twin = experiment.read(importlib.import_module("configs.digits_cosine").get_config()).config
        own = experiment.read(importlib.import_module(f"configs.{name}").get_config()).config
        return {key for key in own if own[key] != twin[key]}

    assert changed("digits_laplace") == {"law"}
    assert changed("digits_difficulty") == changed("digits_anneal") == {"pacing"}
    assert changed("digits_adaptive") == {"pacing"}
    assert changed("digits_clts_mdlrc") == {"pacing", "optimizer"}
    assert changed("digits_edm") == {"law", "objective"}


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


@pytest.mark.parametrize("teacher", ["student", "ema"])
def test_equal_configs_make_equal_objectives_which_pickle(teacher):
    config = tiny.digits_config(**{"objective.teacher": teacher})
    first, second = (experiment.read(config).objective for _ in range(2))
    assert first == second
    assert pickle.loads(pickle.dumps(first)) == first
    other = tiny.digits_config(**{"objective.teacher": teacher, "objective.distance.c": 0.03})
    assert experiment.read(other).objective != first


def tuned(**settings):
    return experiment.read(tiny.shrunk(digits_ect.get_config(), **settings))


@pytest.mark.takes_a_second
def test_consistency_tuning_samples_what_it_is_trained_on():
    assert [sampler.levels for sampler in tuned().samplers] == [(80.0,), (80.0, 0.821)]
    # Sigma from 1 to e^3 alone.
    narrow = {"law.low": -6.0, "law.high": 0.0}
    with pytest.raises(
        ConfigError, match=r"config.sample.method.sigmas=\(0.821,\): must be in ord"
    ):
        tuned(**narrow)
    within = narrow | {"sample.method.sigmas": (5.0,)}
    one, two = tuned(**within).samplers
    assert one.levels == pytest.approx((np.exp(3),), rel=1e-4)
    assert two.levels[1] == 5.0
    assert tuned(**within, **{"sample.method.sigma_max": 10.0}).samplers[0].levels == (10.0,)
    for sigma_max in (21.0, -1.0):
        with pytest.raises(ConfigError, match=f"config.sample.method.sigma_max={sigma_max}"):
            tuned(**within, **{"sample.method.sigma_max": sigma_max})


@pytest.mark.takes_a_second
def test_what_is_drawn_for_tuning_is_a_law_of_any_kind_and_a_gap_of_one_s_own():
    mixed = {"name": "laplace", "mu": 3.0, "mixed": {"name": "cosine", "share": 0.1}}
    objective = tuned(law=mixed, pacing={"name": "high_to_low"}).objective
    assert objective.law == noise.mixture([noise.Laplace(3.0, 0.5), noise.Cosine()], [0.9, 0.1])
    assert objective.pacing == noise.HighToLow(8, 0.1)
    assert objective.gap == noise.ShrinkingGap(total_steps=8)
    assert pickle.loads(pickle.dumps(tuned().objective)) == tuned().objective
    message = "config.gap.stages=20: must be so few that the last gap"
    with pytest.raises(ConfigError, match=message):
        tuned(**{"gap.stages": 20})


@pytest.mark.takes_a_second
def test_continuous_consistency_takes_laws_pacings_and_an_uncertainty():
    settings = {"law": {"name": "laplace", "mu": 3.0}, "pacing": {"name": "high_to_low"}}
    run = experiment.read(tiny.shrunk(digits_scm.get_config(), **settings))
    assert (run.objective.law, run.objective.pacing) == (
        noise.Laplace(3.0, 0.5),
        noise.HighToLow(8, 0.1),
    )
    assert run.objective.uncertainty == objectives.LearnedUncertainty()
    assert run.baseline.law == noise.Normal(mean=2.0, std=2.8)
    plain = experiment.read(tiny.shrunk(digits_scm.get_config()))
    assert [sampler.levels for sampler in plain.samplers] == [(80.0,), (80.0, 0.821)]
    assert pickle.loads(pickle.dumps(run.objective)) == run.objective
    for key, value, said in (
        ("objective.normalization", 0.0, "config.objective.normalization=0.0: must be"),
        ("objective.warmup_steps", -1, "config.objective.warmup_steps=-1: must be"),
        ("gap", {"name": "shrinking"}, "config.gap"),
        ("objective.weight", "uniform", "config.objective.weight"),
    ):
        with pytest.raises(ConfigError, match=said):
            experiment.read(tiny.shrunk(digits_scm.get_config(), **{key: value}))


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    ("base", "settings", "said"),
    [
        (digits_scm, {"model": {"name": "dit_tiny"}}, "config.model.name='dit_tiny': the network"),
        (
            digits_meanflow,
            {"model": {"name": "ncsnpp"}},
            "config.model.fourier_scale=None: ",
        ),
        (digits_scm, {"model": {"name": "ncsnpp", "fourier_scale": 0.02}}, None),
        (digits_scm, {"model": {"name": "tiny", "dtype": "bfloat16"}}, None),
        (
            digits_scm,
            {"objective.warmup_steps": 14},
            "config.objective.warmup_steps=14: ",
        ),
        (digits_ect, {"model": {"name": "dit_tiny"}}, None),
        (
            digits_ect,
            {"model": {"name": "tiny", "dtype": "bfloat16"}},
            "config.model.dtype='bf",
        ),
    ],
)
def test_settings_that_do_not_suit_each_other_are_warned_of(base, settings, said):
    first = {"objective.warmup_steps": 7} if base is digits_scm else {}
    found = experiment.read(tiny.shrunk(base.get_config(), **first | settings)).warnings
    assert [line[: len(said or "")] for line in found] == ([] if said is None else [said])
    if said and "warmup" in said:
        assert found[0].endswith(
            "the 8 updates of training, at whose end the derivative counts by 0.5 and not in full"
        )
