"""Configs that train a rater, and configs that select by its file."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from jaxnoise import experiment, noise
from jaxnoise.config import overrides
from jaxnoise.config.optimizers import meta_adamw
from jaxnoise.config.settings import MetaSettings
from jaxnoise.errors import ConfigError
from jaxnoise.models.rater import ConvRater, FeatureRater, LawRater, LevelRater, NoisyRater


def read(name, **settings):
    """A shipped config with dotted keys set, as the command line sets them."""
    config = importlib.import_module(f"configs.{name}").get_config().to_dict()
    return experiment.read(overrides.apply(config, {k: repr(v) for k, v in settings.items()}))


def rating_of(name, **settings):
    """Another shipped config, with a rater to train."""
    config = common.rating(importlib.import_module(f"configs.{name}").get_config()).to_dict()
    meta = {"outer_batch": 64, "lifetime": 300, "inner_steps": 3}
    added = {"rater": {"name": "conv"}, "meta": meta} | settings
    return experiment.read(overrides.apply(config, {k: repr(v) for k, v in added.items()}))


def error(make, *arguments, **settings):
    with pytest.raises(ConfigError) as caught:
        make(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.takes_a_second
def test_a_rater_config_is_read_into_its_objects():
    checked = read("digits_noise_rater")
    assert checked.rater == ConvRater(width=8, depth=1, dtype=jnp.dtype("float32"))
    assert checked.meta == MetaSettings(
        outer_batch=64, population=2, lifetime=390, candidates=4, probe_every=200
    )
    assert checked.schedule_steps == 390 * 2
    # Two models of two inner steps of 16 images and an outer batch of 64.
    assert checked.images_per_step == 2 * (2 * 16 + 64)
    assert isinstance(checked, experiment.RaterRun)
    assert isinstance(read("digits_noise_plain"), experiment.ModelRun)


def test_defaults_are_those_of_datarater():
    checked = read("digits_noise_rater", meta={"outer_batch": 64})
    meta = checked.meta
    assert (meta.inner_steps, meta.population, meta.averaging) == (2, 8, "updates")
    assert (meta.candidates, meta.temperature, meta.mode) == (None, 1.0, "mixed")
    own = checked.config["meta"]["optimizer"]
    assert (own["weight_decay"], own["warmup_steps"], own["clip_norm"]) == (0.1, 100, 0.01)


@pytest.mark.parametrize(
    "config, given, made",
    [
        ("digits_noise_rater", {"name": "conv"}, ConvRater(dtype=jnp.dtype("float32"))),
        (
            "digits_noise_rater_batch",
            {"name": "level", "width": 8},
            LevelRater(8, dtype=jnp.dtype("float32")),
        ),
        (
            "digits_noise_rater",
            {"name": "feature", "bands": 2, "dtype": "bfloat16"},
            FeatureRater(bands=2, dtype=jnp.dtype("bfloat16")),
        ),
        (
            "digits_noise_neutral_rater",
            {"name": "noisy", "class_conditional": True},
            NoisyRater(num_classes=1, dtype=jnp.dtype("float32")),
        ),
    ],
)
def test_every_rater_can_be_named(config, given, made):
    assert read(config, rater=given).rater == made


def test_resolved_rater_config_holds_every_setting_and_reads_as_itself():
    once = read("digits_noise_rater").config
    # Denoising has no pairs, and so no grid, no curriculum and no gap.
    kept = {*experiment.COMMON, *experiment.OF_RATER} - {"grid", "curriculum", "gap"}
    assert set(once) == kept
    assert set(once["meta"]) == {*MetaSettings.__dataclass_fields__, "optimizer"}
    assert experiment.read(once).config == once


def adamw(gradients, parameter, rate, warmup, decay, clip):
    """The parameter after AdamW, by hand, in float64."""
    m = v = 0.0
    for k, g in enumerate(gradients):
        g = g if clip is None else g * min(1.0, clip / abs(g))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        direction = m / (1 - 0.9 ** (k + 1)) / (np.sqrt(v / (1 - 0.999 ** (k + 1))) + 1e-8)
        now = rate if warmup == 0 else rate * min(1.0, (1 + k * (1 - 1 / warmup)) / warmup)
        parameter -= now * (direction + decay * parameter)
    return parameter


@pytest.mark.parametrize(
    "given, rate, warmup, decay, clip",
    [
        ({}, 1e-3, 100, 0.1, 0.01),
        (
            {"learning_rate": 0.2, "warmup_steps": 0, "weight_decay": 0.5, "clip_norm": None},
            0.2,
            0,
            0.5,
            None,
        ),
        ({"learning_rate": 0.1, "warmup_steps": 4, "clip_norm": 2.0}, 0.1, 4, 0.1, 2.0),
    ],
)
def test_meta_optimizer_is_a_warmed_up_clipped_adamw(given, rate, warmup, decay, clip):
    optimizer = meta_adamw(**given)
    # Both sides of the clip, or Adam would not show it.
    gradients = [(clip or 1.0) * g for g in (500.0, -0.4, 0.8, -500.0, 0.5, 0.3)]
    parameter = jnp.asarray([0.5])
    state = optimizer.init(parameter)

    @jax.jit
    def step(parameter, state, gradient):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, parameter)
        return optax.apply_updates(parameter, updates), state

    for gradient in gradients:
        parameter, state = step(parameter, state, jnp.asarray([gradient]))
    moved = adamw(gradients, 0.5, rate, warmup, decay, clip) - 0.5
    np.testing.assert_allclose(parameter[0] - 0.5, moved, rtol=1e-2)
    for other in ((decay, 1.0 if clip is None else None), (0.0, clip)):
        assert abs(adamw(gradients, 0.5, rate, warmup, *other) - 0.5 - moved) > 0.04 * abs(moved)


def test_the_warm_up_of_the_default_ends_after_100_updates():
    optimizer = meta_adamw(weight_decay=0.0)
    parameter = jnp.asarray([0.0])
    state = optimizer.init(parameter)

    def step(state, gradient):
        with jax.numpy_dtype_promotion("standard"):
            update, state = optimizer.update(gradient, state, parameter)
        return state, update[0]

    # Of a constant gradient Adam makes 1.
    _, rates = jax.jit(lambda state: jax.lax.scan(step, state, jnp.ones((120, 1))))(state)
    expected = 1e-3 * np.minimum(1, (1 + 0.99 * np.arange(120)) / 100)
    np.testing.assert_allclose(-rates, expected, rtol=1e-3)


def test_schedules_of_inner_models_are_laid_out_over_their_lives():
    checked = rating_of("digits_poly")
    life = 300 * 3
    assert checked.train.steps == 2200
    assert checked.objective.curriculum == noise.sinusoidal(s0=20, s1=250, total_steps=life)
    assert checked.baseline.curriculum == noise.doubling(s0=20, s1=250, total_steps=life)
    assert rating_of("digits_clts_mdlrc").objective.pacing == noise.CLTS(life, 0.3, 0.2, 0.5)
    assert rating_of("digits_anneal", **{"pacing.annealing_steps": None}).objective.pacing == (
        noise.HighToLow(life, 0.1)
    )


@pytest.mark.parametrize(
    "settings, parts",
    [
        ({"meta.outer_batch": 24}, ["config.meta.outer_batch=24", "multiple", "16"]),
        ({"meta.outer_batch": 0}, ["config.meta.outer_batch=0"]),
        ({"meta": {}}, ["config.meta.outer_batch: must be set"]),
        ({"meta": None}, ["config.meta=None: must be a section (a mapping of keys)"]),
        (
            {"meta.outer_law": "cosine"},
            ["config.meta.outer_law='cosine': must be a section", "meta.outer_law.name='cosine'"],
        ),
        (
            {"meta.optimizer": "adam"},
            ["config.meta.optimizer='adam': must be a section (a mapping of keys)"],
        ),
        ({"rater": "conv"}, ["config.rater='conv': must be a section", "config.rater.name='conv'"]),
        ({"rater": None}, ["config.rater=None: must be a section (a mapping of keys)"]),
        ({"meta.held_out": 1.0}, ["config.meta.held_out=1.0", "(0, 1)"]),
        ({"meta.candidates": 1}, ["config.meta.candidates=1", "at least 2"]),
        ({"meta.temperature": 0}, ["config.meta.temperature=0.0", "> 0"]),
        ({"meta.mode": "first_oder"}, ["config.meta.mode='first_oder'", "mean 'first_order'"]),
        ({"meta.averaging": "update"}, ["config.meta.averaging='update'", "'updates'"]),
        ({"meta.lifetime": 0}, ["config.meta.lifetime=0"]),
        ({"meta.population": 0}, ["config.meta.population=0"]),
        ({"meta.inner_steps": 0}, ["config.meta.inner_steps=0"]),
        ({"meta.probe_every": -1}, ["config.meta.probe_every=-1"]),
        ({"meta.probe_draws": 1}, ["config.meta.probe_draws=1"]),
        ({"meta.probe_repeats": 1}, ["config.meta.probe_repeats=1"]),
        ({"meta.unroll": 1}, ["config.meta.unroll=1", "True or False or None"]),
        (
            {"train.steps_per_dispatch": 2, "meta.probe_every": 3},
            ["config.meta.probe_every=3", "train.steps_per_dispatch=2"],
        ),
        ({"meta.optimizer.weight_decay": -1}, ["config.meta.optimizer.weight_decay=-1.0"]),
        ({"meta.optimizer.learning_rate": 0}, ["config.meta.optimizer.learning_rate=0.0"]),
        ({"meta.optimizer.warmup_steps": -1}, ["config.meta.optimizer.warmup_steps=-1"]),
        ({"meta.optimizer.clip_norm": 0}, ["config.meta.optimizer.clip_norm=0.0"]),
        ({"meta.optimizer.b1": 1.0}, ["config.meta.optimizer.b1=1.0"]),
        ({"meta.optimizer.eps": 0}, ["config.meta.optimizer.eps=0.0"]),
        ({"meta.optimizer.warmup": 5}, ["config.meta.optimizer.warmup:", "warmup_steps"]),
        ({"meta.optimiser": {}}, ["config.meta.optimiser", "did you mean config.meta.optimizer"]),
        ({"data.augment": 0.1}, ["config.data.augment=0.1: must be 0 where a rater is trained"]),
        ({"sample": {"count": 4}}, ["config.sample: has no use where a rater of noise is trained"]),
        ({"ema": {"rate": 0.9}}, ["config.ema: has no use"]),
        ({"evaluate": {"n": 64}}, ["config.evaluate: has no use"]),
        ({"selection": {"name": "random"}}, ["config.selection: has no use"]),
        (
            {"pacing": {"name": "difficulty"}},
            ["config.pacing.name='difficulty': must be one that no"],
        ),
        ({"rater": {"name": "level"}}, ["config.meta.candidates=4: must be None for rater.name="]),
        (
            {"rater.name": "noisy"},
            ["config.meta.candidates=4: must be None for rater.name='noisy', since draws of"],
        ),
        (
            {"rater": {"name": "law"}},
            ["config.meta.candidates=4: must be None for"],
        ),
        (
            {"rater": {"name": "law"}, "meta.candidates": None, "meta.temperature": 2.0},
            ["config.meta.temperature=2.0: must be 1 for rater.name='law'"],
        ),
        (
            {"rater": {"name": "law"}, "meta.candidates": None, "meta.floor": 0.1},
            ["config.meta.floor=0.1: must be 0 for rater.name='law'"],
        ),
        (
            {
                "rater": {"name": "law"},
                "meta.candidates": None,
                "objective.compensation": "importance",
                "objective.max_ratio": 5.0,
            },
            ["config.objective.compensation='importance': must be 'none' for rater.name='law'"],
        ),
        (
            {"rater": {"name": "law", "b": 0.0}, "meta.candidates": None},
            ["config.rater.b=0.0: must be a finite number > 0"],
        ),
        ({"rater": {"name": "noisy", "num_classes": 3}}, ["config.meta.candidates=4"]),
        (
            {"rater": {"name": "noisy", "num_classes": 3}, "meta.candidates": None},
            ["config.rater.num_classes: unknown key", "class_conditional, depth, dtype, width"],
        ),
        ({"meta.floor": 1.0}, ["config.meta.floor=1.0: must be a number in [0, 1)"]),
        (
            {"meta.outer_law": {"name": "laplce"}},
            ["config.meta.outer_law.name='laplce'"],
        ),
        ({"meta.outer_law": {"name": "laplace", "b": 0}}, ["config.meta.outer_law.b=0.0"]),
        ({"train.label_dropout": 0.1}, ["config.train.label_dropout=0.1", "must be 0"]),
        ({"rater": {}}, ["config.rater.name=None", "conv, level, feature"]),
        ({"rater.name": "convv"}, ["config.rater.name='convv'", "did you mean 'conv'"]),
        ({"rater.width": 2}, ["config.rater.width=2"]),
        ({"rater.bands": 3}, ["config.rater.bands", "depth, dtype, width"]),
        ({"rater.dtype": "float64"}, ["config.rater.dtype='float64'", "bfloat16"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_values_name_their_key(settings, parts):
    message = error(read, "digits_noise_rater", **settings)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("name", ["digits_noise_plain", "digits_poly"])
def test_meta_needs_a_rater(name):
    message = error(read, name, meta={"outer_batch": 64})
    assert message.startswith("config.meta: needs config.rater")


def test_a_teacher_with_a_state_of_its_own_teaches_no_rater():
    message = error(rating_of, "digits_poly", **{"objective.teacher": "ema"})
    assert message == "config.objective.teacher='ema': must be 'student' for a rater"


def test_a_schedule_longer_than_a_life_is_refused():
    message = error(rating_of, "digits_anneal", **{"pacing.annealing_steps": 901})
    assert message.startswith("config.pacing.annealing_steps=901: must be from 1 to ")
    assert "900" in message
    rating_of("digits_anneal", **{"pacing.annealing_steps": 900})


@pytest.mark.parametrize(
    "name, settings, parts",
    [
        ("rater", {"candidates": 0}, ["config.selection.candidates=0", "at least 1"]),
        ("rater", {"file": None}, ["config.selection.file=None", "a string"]),
        ("rater", {"plain_share": 2}, ["config.selection.plain_share=2.0", "[0, 1]"]),
        ("rater", {"anneal_steps": 0}, ["config.selection.anneal_steps=0"]),
        ("rater", {"anneal_steps": 1001}, ["config.selection.anneal_steps=1001", "1..1000"]),
        ("rater", {"bins": 2}, ["config.selection.bins", "anneal_steps, candidates, file"]),
        ("rater_shuffled", {"bins": 0}, ["config.selection.bins=0", "at least 1"]),
        ("rater_shuffled", {"candidates": 0}, ["config.selection.candidates=0"]),
        ("rater_pool", {"bins": 0}, ["config.selection.bins=0", "at least 1"]),
        ("rater_pool", {"candidates": 0}, ["config.selection.candidates=0"]),
        ("rater_pool", {"plain_share": 0.5}, ["config.selection.plain_share", "bins, candidates"]),
        ("rater_softmax", {"floor": 1}, ["config.selection.floor=1.0", "[0, 1)"]),
        ("rater_softmax", {"temperature": 0}, ["config.selection.temperature=0.0"]),
        ("rater_softmax", {"inverse_probability": 1}, ["config.selection.inverse_probability=1"]),
        ("neutral_pool", {"share": 0}, ["config.selection.share=0.0", "(0, 1]"]),
        ("neutral_pool", {"bins": 0}, ["config.selection.bins=0", "at least 1"]),
        ("neutral_pool", {"candidates": 4}, ["config.selection.candidates", "bins, file, floor"]),
        ("neutral_weights", {"floor": -1}, ["config.selection.floor=-1.0"]),
        ("neutral_weights", {"axis_name": "a"}, ["config.selection.axis_name: unknown key"]),
        ("rater_poll", {}, ["config.selection.name='rater_poll'", "'rater_pool'"]),
    ],
    ids=str,
)
def test_bad_selections_name_their_key(name, settings, parts):
    section = {"name": name, "file": "rater.npz", **settings}
    message = error(read, "digits_noise_plain", selection=section)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "name",
    [
        "rater",
        "rater_shuffled",
        "rater_pool",
        "rater_softmax",
        "neutral_pool",
        "neutral_weights",
    ],
)
def test_selection_by_a_rater_needs_a_file(name):
    message = error(read, "digits_noise_plain", selection={"name": name})
    assert message == "config.selection.file: must be set"


def test_the_file_is_looked_for_later():
    checked = read("digits_noise_plain", selection={"name": "rater", "file": "no/such/file.npz"})
    assert checked.config["selection"] == {
        "name": "rater",
        "file": "no/such/file.npz",
        "candidates": 4,
        "plain_share": 0.0,
        "anneal_steps": None,
    }


@pytest.mark.parametrize(
    "name, networks, kept",
    [
        ("digits_noise_neutral", NoisyRater(8, 1, dtype=jnp.dtype("float32")), 64),
        ("cifar_noise_neutral", NoisyRater(dtype=jnp.dtype("float32")), 512),
    ],
)
def test_neutral_pairs(name, networks, kept):
    """Stage 2 makes steps of the size of its twin without selection, by the file of stage 1."""
    first, second = read(f"{name}_rater"), read(name)
    assert (first.rater, first.meta.candidates, first.meta.floor) == (networks, None, 0.1)
    assert second.config["selection"]["file"] == f"runs/{name}_rater/rater.npz"
    assert second.config["selection"]["name"] == "neutral_pool"
    assert second.train.batch * second.config["selection"]["share"] == kept


def test_a_law_to_learn_is_judged_by_a_law_of_its_own():
    checked = read("digits_law_learned")
    assert checked.rater == LawRater(3.0, 0.5, jnp.dtype("float32"))
    assert checked.outer.law == noise.Cosine() == checked.objective.law
    moved = read("digits_law_learned", **{"meta.outer_law": {"name": "laplace", "mu": 1.0}})
    assert moved.outer.law == noise.Laplace(1.0, 0.5)
    assert moved.objective.law == noise.Cosine()
    assert read("digits_noise_rater").outer is None


def test_laws_over_pairs_are_not_learned():
    message = error(rating_of, "digits_poly", rater={"name": "law"})
    assert message.startswith("config.rater.name='law': must be another for objective.name='consis")
    outer = {"meta.outer_law": {"name": "cosine"}}
    message = error(rating_of, "digits_poly", **outer)
    assert message.startswith(
        "config.meta.outer_law: has no use where objective.name='consistency'"
    )


def test_a_rater_of_pairs_without_a_grid_may_be_judged_by_another_law():
    settings = {"objective": {"name": "ect"}, "law": {"name": "normal", "mean": 2.2, "std": 4.0}}
    outer = read("digits_noise_rater", **settings, **{"meta.outer_law": {"name": "cosine"}}).outer
    assert (outer.law, outer.gap.total_steps) == (noise.Cosine(), outer.total_steps)
    settings["objective"] = {"name": "scm", "warmup_steps": 5}
    outer = read("digits_noise_rater", **settings, **{"meta.outer_law": {"name": "cosine"}}).outer
    assert (outer.law, outer.warmup_steps) == (noise.Cosine(), 5)
    message = error(read, "digits_law_learned", objective={"name": "ect"})
    assert message.startswith("config.rater.name='law': must be another for objective.name='ect'")


def test_an_optimizer_without_a_derivative_trains_no_rater():
    optimizer = {"name": "optax:lion", "learning_rate": 1e-3}
    message = error(read, "digits_noise_rater", optimizer=optimizer)
    assert message.startswith("config.optimizer.name='optax:lion': must be one whose update has")
