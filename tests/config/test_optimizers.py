"""Learning rates over the steps of a run, and the optimizers that a config can name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from jaxnoise import experiment
from jaxnoise.config.optimizers import learning_rates
from jaxnoise.errors import ConfigError

STEPS = np.arange(0, 60, 7)


def warm(k, warmup):
    return np.minimum(1, (1 + k * (1 - 1 / warmup)) / warmup) if warmup else np.ones(len(k))


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize(
    ("decay", "decay_steps", "factor"),
    [
        ("cosine", None, lambda k: (1 + np.cos(np.pi * np.minimum(1, k / 50))) / 2),
        ("cosine", 20, lambda k: (1 + np.cos(np.pi * np.minimum(1, k / 20))) / 2),
        ("inverse_sqrt", 20, lambda k: 1 / np.sqrt(np.maximum(1, k / 20))),
    ],
)
def test_rates_are_those_of_their_formula(warmup, decay, decay_steps, factor):
    rate = learning_rates(0.3, warmup, decay, decay_steps, total_steps=50)
    with jax.numpy_dtype_promotion("standard"):
        found = jax.vmap(rate)(jnp.asarray(STEPS))
    np.testing.assert_allclose(found, 0.3 * warm(STEPS, warmup) * factor(STEPS), atol=1e-7)


def test_without_decay_the_rate_is_a_number():
    assert learning_rates(0.3, 0, "none", None, 50) == 0.3


def test_the_optimizers_of_a_config_follow_their_rates():
    """Of a constant gradient, Adam's update is the learning rate, AdamW's moves to 0 beside it."""
    decay = {"learning_rate": 0.1, "decay": "cosine"}
    config = tiny.digits_config(optimizer={"name": "adamw", "weight_decay": 0.5, **decay})
    adamw = experiment.read(config).optimizer
    adam = experiment.read(tiny.digits_config(optimizer={"name": "adam", **decay})).optimizer
    parameter = jnp.asarray([2.0])
    rates = 0.1 * (1 + np.cos(np.pi * np.arange(8) / 8)) / 2
    for optimizer, extra in ((adam, 0.0), (adamw, 0.5 * 2.0)):
        state, moved = optimizer.init(parameter), []
        for _ in range(8):
            with jax.numpy_dtype_promotion("standard"):
                update, state = optimizer.update(jnp.ones(1), state, parameter)
            moved.append(float(optax.tree.sum(update)))
        np.testing.assert_allclose(moved, -rates * (1 + extra), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"decay": "cosin"}, "config.optimizer.decay='cosin': must be one of none, cosine"),
        ({"decay": "cosine", "decay_steps": 0}, "config.optimizer.decay_steps=0: must be at least"),
        ({"decay_steps": 5}, "config.optimizer.decay_steps=5: must be None without"),
        ({"decay": "inverse_sqrt"}, "config.optimizer.decay_steps=None: must be at least 1 for"),
        ({"weight_decay": 0.1}, "config.optimizer.weight_decay: unknown key"),
        ({"name": "adamw", "weight_decay": -0.1}, "config.optimizer.weight_decay=-0.1: must be a"),
    ],
)
def test_bad_settings_are_one_line(given, said):
    config = tiny.digits_config(optimizer={"name": "adam", "learning_rate": 0.1, **given})
    with pytest.raises(ConfigError) as refused:
        experiment.read(config)
    assert str(refused.value).startswith(said)
