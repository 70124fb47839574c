"""Consistency training on the 8x8 digits in a loop of one's own, with equinox."""

import argparse
import json
from typing import Any, NamedTuple

import equinox as eqx
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


class Block(eqx.Module):
    norm: eqx.nn.LayerNorm
    film: eqx.nn.Linear
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    def __init__(self, width, key):
        film, up, down = jax.random.split(key, 3)
        self.norm, self.dropout = eqx.nn.LayerNorm(width), eqx.nn.Dropout(0.05)
        self.film = eqx.nn.Linear(width, 2 * width, key=film)
        self.up, self.down = (eqx.nn.Linear(width, width, key=k) for k in (up, down))

    def __call__(self, h, level, key):
        scale, shift = jnp.split(self.film(level), 2)
        inner = jax.nn.silu(self.up(jax.nn.silu(self.norm(h) * (1 + scale) + shift)))
        return h + self.down(self.dropout(inner, key=key, inference=key is None))


class Network(eqx.Module):
    """F(x, c_noise) of ONE image: a residual MLP, scaled and shifted by the noise level."""

    level: eqx.nn.Linear
    first: eqx.nn.Linear
    blocks: list[Block]
    norm: eqx.nn.LayerNorm
    last: eqx.nn.Linear

    def __init__(self, key, pixels=64, width=256, blocks=4):
        level, first, last, *inner = jax.random.split(key, 3 + blocks)
        self.level = eqx.nn.Linear(12, width, key=level)
        self.first = eqx.nn.Linear(pixels, width, key=first)
        self.blocks, self.norm = [Block(width, k) for k in inner], eqx.nn.LayerNorm(width)
        self.last = eqx.nn.Linear(width, pixels, key=last)

    def __call__(self, x, c_noise, key=None):
        angles = c_noise * 2.0 ** jnp.arange(-2, 4, dtype=c_noise.dtype)
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])
        level = jax.nn.silu(self.level(waves.astype(x.dtype)))
        h = self.first(x.reshape(-1))
        for i, block in enumerate(self.blocks):
            h = block(h, level, None if key is None else jax.random.fold_in(key, i))
        return self.last(jax.nn.silu(self.norm(h))).reshape(x.shape)


class State(NamedTuple):
    step: jax.Array
    params: Network
    opt_state: Any
    ema: Network


def losses(network, objective, x0, eps, levels, key):
    def masked(x, c_noise):
        # The same key for an image in both calls: student and teacher share a dropout mask.
        return jax.vmap(network)(x, c_noise, jax.random.split(key, len(x)))

    return objective.losses(masked, masked, {}, x0, eps, levels)


def make_step(objective, grid_key, static):
    @jax.jit
    def step(state, data, key):
        keys = jax.random.split(jax.random.fold_in(key, state.step), 4)
        x0 = data[jax.random.randint(keys[0], (BATCH,), 0, len(data))]
        eps = jax.random.normal(keys[1], x0.shape)
        levels = objective.draw(keys[2], grid_key, state.step, BATCH)

        def mean_loss(params):
            network = eqx.combine(params, static)
            return losses(network, objective, x0, eps, levels, keys[3]).mean()

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
    # Dropout rates and flags are leaves of an equinox module: only arrays of floats are averaged.
    params, static = eqx.partition(Network(init_key), eqx.is_inexact_array)
    state = State(jnp.int32(0), params, OPTIMIZER.init(params), ema=params)
    step = make_step(objective, grid_key, static)
    for _ in range(steps):
        state, _ = step(state, data, train_key)

    reference = reference_from(raw_pixels(), images, len(data) // 2, "half of the digits")
    keys = jax.random.split(sample_key, reference.n)
    start = image_noise(keys, images.image_shape, draw_index=0)
    low, high = objective.sigma_min, objective.sigma_max

    def score(samples):
        moments = image_moments(to_uint8(samples))
        return reference.frechet.distance(moments.mean, moments.covariance)

    untrained = objective.denoiser(jax.vmap(eqx.combine(params, static)))
    trained = objective.denoiser(jax.vmap(eqx.combine(state.ema, static)))
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
