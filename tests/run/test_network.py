"""In which form a teacher is asked whose derivative is taken."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from configs import digits_noise_rater, digits_scm
from jaxnoise import experiment
from jaxnoise.errors import ArgumentError, ConfigError
from jaxnoise.models import DiT, UNet, preset
from jaxnoise.objectives.derivative import forward_derivative
from jaxnoise.run.model import open_model
from jaxnoise.run.network import applied, derivable
from jaxnoise.run.rater import open_rater


class Own(nn.Module):
    """A user's network, whose field of the same name means something else."""

    out_channels: int
    num_classes: int = 0
    dtype: str = "narrow"

    @nn.compact
    def __call__(self, x, c_noise, labels, dropout_keys):
        return nn.Dense(self.out_channels)(x)


@pytest.mark.takes_a_second
@pytest.mark.parametrize(
    "network",
    [
        UNet(**preset("tiny", out_channels=1) | {"model_channels": 8}, dtype=jnp.bfloat16),
        DiT(out_channels=1, hidden_size=16, depth=1, num_heads=2, dtype=jnp.bfloat16),
    ],
)
def test_ours_is_derived_in_float32(network):
    x, c_noise = jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jnp.array([0.1, -0.5])
    params = network.init(jax.random.key(0), x, c_noise)
    params = jax.tree.map(lambda p: p + 0.1, params)

    def asked(x, c_noise):
        return applied(derivable(network), params, x, c_noise)

    along = jnp.ones_like(x), jnp.ones_like(c_noise)
    value, rise = jax.jvp(asked, (x, c_noise), along)
    assert value.dtype == rise.dtype == jnp.float32
    wide = network.clone(dtype=jnp.float32).apply(params, x, c_noise)
    np.testing.assert_allclose(value, wide, rtol=1e-5, atol=1e-5)
    up, down = (asked(x + h, c_noise + h) for h in (2e-4, -2e-4))
    np.testing.assert_allclose(rise, (up - down) / 4e-4, atol=0.02 * float(jnp.abs(rise).max()))


def test_a_users_own_stays_as_it_is():
    assert derivable(Own(out_channels=1)) == Own(out_channels=1)


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))


class Fused(nn.Module):
    """A user's network with a hand-written backward pass, which a field puts aside or nothing."""

    out_channels: int
    num_classes: int = 0
    dropout: float = 0.0
    fused: bool = True
    always: bool = False
    in_dropout: bool = False

    @nn.compact
    def __call__(self, x, c_noise, labels, dropout_keys):
        by_hand = self.always or self.fused
        if self.in_dropout:
            by_hand = dropout_keys is not None
        x = nn.Dense(self.out_channels)(x) * c_noise.reshape(-1, 1, 1, 1)
        return doubled(x) if by_hand else 2 * x


def opened(**model):
    config = digits_scm.get_config()
    settings = {"name": f"{__name__}:Fused", **model}
    settings = {"model": settings, "objective.warmup_steps": 2, "train.init_from": None}
    return open_model(experiment.read(tiny.shrunk(config, **settings)), scored=False, selects=True)


@pytest.mark.parametrize("model", [{"always": True}, {"in_dropout": True, "dropout": 0.5}])
def test_a_users_network_without_a_derivative_is_refused_beforehand(model):
    with pytest.raises(ConfigError, match=r"^config.model.name=.*Fused': must be.*custom_vjp"):
        opened(**model)


def test_a_users_network_may_put_its_backward_pass_aside():
    found = opened()
    assert found.network.fused
    params = jax.eval_shape(found.init, found.key)["network"]
    x, c_noise = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32), jnp.zeros(2)

    def ask(params, x):
        asked = partial(found.teacher_network, params)
        return forward_derivative(asked, (x, c_noise), (x, c_noise), x)

    assert [leaf.shape for leaf in jax.eval_shape(ask, params, x)] == [x.shape, x.shape]


@pytest.mark.takes_a_second
def test_inner_models_of_a_rater_are_asked_alike():
    config = digits_noise_rater.get_config().to_dict()
    config["model"] = {"name": "tiny", "model_channels": 8, "channel_mult": (1,), "num_blocks": 1}
    config["objective"] = {"name": "scm", "warmup_steps": 2}
    rater = open_rater(experiment.read(config))
    task = rater.inner_training.task
    params = jax.eval_shape(rater.init, rater.key)["network"]
    x, c_noise = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32), jnp.zeros(2)

    def ask(network, params, x):
        asked = partial(network, params)
        return forward_derivative(asked, (x, c_noise), (x, c_noise), x)

    jax.eval_shape(partial(ask, task.teacher_network), params, x)
    with pytest.raises(ArgumentError, match=r"^teacher=one with a custom_vjp"):
        jax.eval_shape(partial(ask, task.network), params, x)


def test_products_of_the_derivative_keep_all_bits():
    program = jax.make_jaxpr(
        lambda x, w: forward_derivative(lambda x, c: x @ w, (x, x[:, 0]), (x, x[:, 0]), x)
    )(jnp.ones((2, 2)), jnp.ones((2, 2)))
    products = [eqn for eqn in program.jaxpr.eqns if eqn.primitive.name == "dot_general"]
    assert len(products) == 2
    assert all("HIGHEST" in str(eqn.params["precision"]) for eqn in products)
