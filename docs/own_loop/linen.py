"""Consistency training on the 8x8 digits in a loop of one's own, with flax linen."""

import argparse
import json
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnoise.data import open_images
from jaxnoise.evaluation import image_moments, raw_pixels, reference_from
from jaxnoise.noise import PolynomialPairs, PredefinedGrid, sinusoidal
from jaxnoise.objectives import ConsistencyObjective, inverse_gap, pseudo_huber
from jaxnoise.optim import debiased_ema
from jaxnoise.sampling import image_noise, multistep, one_step, to_uint8

BATCH, EMA_RATE, OPTIMIZER = 128, 0.998, optax.radam(1e-3)


class Network(nn.Module):
    """F(x, c_noise): a residual MLP whose blocks are scaled and shifted by the noise level."""

    width: int = 256
    blocks: int = 4

    @nn.compact
    def __call__(self, x, c_noise, train=False):
        angles = c_noise[:, None] * 2.0 ** jnp.arange(-2, 4, dtype=c_noise.dtype)[None]
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
        level = nn.silu(nn.Dense(self.width)(waves.astype(x.dtype)))
        h = nn.Dense(self.width)(x.reshape(len(x), -1))
        for _ in range(self.blocks):
            scale, shift = jnp.split(nn.Dense(2 * self.width)(level), 2, axis=1)
            inner = nn.silu(nn.LayerNorm()(h) * (1 + scale) + shift)
            inner = nn.Dropout(0.05, deterministic=not train)(nn.silu(nn.Dense(self.width)(inner)))
            h = h + nn.Dense(self.width)(inner)
        return nn.Dense(x[0].size)(nn.silu(nn.LayerNorm()(h))).reshape(x.shape)


NETWORK = Network()


class State(NamedTuple):
    step: jax.Array
    params: Any
    opt_state: Any
    ema: Any


def losses(params, objective, x0, eps, levels, key):
    def network(x, c_noise):
        # One key for both calls: student and teacher share a dropout mask.
        return NETWORK.apply(params, x, c_noise, train=True, rngs={"dropout": key})

    return objective.losses(network, network, {}, x0, eps, levels)


def make_step(objective, grid_key):
    @jax.jit
    def step(state, data, key):
        keys = jax.random.split(jax.random.fold_in(key, state.step), 4)
        x0 = data[jax.random.randint(keys[0], (BATCH,), 0, len(data))]
        eps = jax.random.normal(keys[1], x0.shape)
        levels = objective.draw(keys[2], grid_key, state.step, BATCH)

        def mean_loss(params):
            return losses(params, objective, x0, eps, levels, keys[3]).mean()

        loss, gradient = jax.value_and_grad(mean_loss)(state.params)
        updates, opt_state = OPTIMIZER.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        count = state.step + 1
        ema = debiased_ema(params, state.ema, EMA_RATE, count)
        return State(count, params, opt_state, ema), loss

    return step


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    steps = parser.parse_args(argv).steps
    images = open_images("digits")
    pixels, _ = images.load(np.arange(images.num_examples))
    data = jnp.asarray(pixels / 127.5 - 1, jnp.float32)
    init_key, grid_key, train_key, sample_key = jax.random.split(jax.random.key(0), 4)

    objective = ConsistencyObjective(
        grid=PredefinedGrid(),
        law=PolynomialPairs(curve=4.0),
        curriculum=sinusoidal(s0=20, s1=250, total_steps=steps),
        distance=pseudo_huber,
        weight=inverse_gap,
    )
    params = NETWORK.init(init_key, data[:1], jnp.zeros(1))
    state = State(jnp.int32(0), params, OPTIMIZER.init(params), ema=params)
    step = make_step(objective, grid_key)
    for _ in range(steps):
        state, _ = step(state, data, train_key)

    reference = reference_from(raw_pixels(), images, len(data) // 2, "half of the digits")
    keys = jax.random.split(sample_key, reference.n)
    start = image_noise(keys, images.image_shape, draw_index=0)
    low, high = objective.sigma_min, objective.sigma_max

    def score(samples):
        moments = image_moments(to_uint8(samples))
        return reference.frechet.distance(moments.mean, moments.covariance)

    def denoiser(params):
        return objective.denoiser(lambda x, c: jnp.asarray(NETWORK.apply(params, x, c)))

    untrained, trained = denoiser(params), denoiser(state.ema)
    twice = multistep(trained, start, (0.821,), keys, sigma_min=low, sigma_max=high)
    scores = {
        "frechet_1step": score(one_step(trained, start, high)),
        "frechet_2step": score(twice),
        "untrained": score(one_step(untrained, start, high)),
        "floor": reference.floor["frechet_floor"],
    }
    print(json.dumps({name: round(value, 3) for name, value in scores.items()}))


if __name__ == "__main__":
    main()
