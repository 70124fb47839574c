"""Consistency training on the 8x8 digits in a loop of one's own, with flax NNX."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnoise.data import open_images
from jaxnoise.evaluation import image_moments, raw_pixels, reference_from
from jaxnoise.noise import PolynomialPairs, PredefinedGrid, sinusoidal
from jaxnoise.objectives import ConsistencyObjective, inverse_gap, pseudo_huber
from jaxnoise.optim import debiased_ema
from jaxnoise.sampling import image_noise, multistep, one_step, to_uint8

BATCH, EMA_RATE, OPTIMIZER = 128, 0.998, optax.radam(1e-3)


class Block(nnx.Module):
    def __init__(self, width, rngs):
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.film = nnx.Linear(width, 2 * width, rngs=rngs)
        self.up, self.down = (nnx.Linear(width, width, rngs=rngs) for _ in range(2))
        # Without a stream of its own: masks come from the streams that a call is given.
        self.dropout = nnx.Dropout(0.05)

    def __call__(self, h, level, rngs):
        scale, shift = jnp.split(self.film(level), 2, axis=1)
        inner = nnx.silu(self.up(nnx.silu(self.norm(h) * (1 + scale) + shift)))
        return h + self.down(self.dropout(inner, deterministic=rngs is None, rngs=rngs))


class Network(nnx.Module):
    """F(x, c_noise): a residual MLP whose blocks are scaled and shifted by the noise level."""

    def __init__(self, rngs, pixels=64, width=256, blocks=4):
        self.level = nnx.Linear(12, width, rngs=rngs)
        self.first = nnx.Linear(pixels, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(blocks)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.last = nnx.Linear(width, pixels, rngs=rngs)

    def __call__(self, x, c_noise, rngs=None):
        angles = c_noise[:, None] * 2.0 ** jnp.arange(-2, 4, dtype=c_noise.dtype)[None]
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
        level = nnx.silu(self.level(waves.astype(x.dtype)))
        h = self.first(x.reshape(len(x), -1))
        for block in self.blocks:
            h = block(h, level, rngs)
        return self.last(nnx.silu(self.norm(h))).reshape(x.shape)


def losses(network, objective, x0, eps, levels, key):
    def masked(x, c_noise):
        # Streams made anew from one key in both calls: student and teacher share a dropout mask.
        return network(x, c_noise, nnx.Rngs(dropout=key))

    return objective.losses(masked, masked, {}, x0, eps, levels)


def make_step(objective, grid_key):
    @nnx.jit
    def step(network, average, optimizer, data, key):
        count = optimizer.step[...].astype(jnp.int32)
        keys = jax.random.split(jax.random.fold_in(key, count), 4)
        x0 = data[jax.random.randint(keys[0], (BATCH,), 0, len(data))]
        eps = jax.random.normal(keys[1], x0.shape)
        levels = objective.draw(keys[2], grid_key, count, BATCH)

        def mean_loss(network):
            return losses(network, objective, x0, eps, levels, keys[3]).mean()

        loss, gradient = nnx.value_and_grad(mean_loss)(network)
        optimizer.update(network, gradient)
        new, old = (nnx.state(module, nnx.Param) for module in (network, average))
        nnx.update(average, debiased_ema(new, old, EMA_RATE, count + 1))
        return loss

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
    network = Network(nnx.Rngs(init_key))
    # Clones, since a state that is split off shares the variables that training overwrites.
    untrained, average = nnx.clone(network), nnx.clone(network)
    optimizer = nnx.Optimizer(network, OPTIMIZER, wrt=nnx.Param)
    step = make_step(objective, grid_key)
    for _ in range(steps):
        step(network, average, optimizer, data, train_key)

    reference = reference_from(raw_pixels(), images, len(data) // 2, "half of the digits")
    keys = jax.random.split(sample_key, reference.n)
    start = image_noise(keys, images.image_shape, draw_index=0)
    low, high = objective.sigma_min, objective.sigma_max

    def score(samples):
        moments = image_moments(to_uint8(samples))
        return reference.frechet.distance(moments.mean, moments.covariance)

    trained = objective.denoiser(average)
    twice = multistep(trained, start, (0.821,), keys, sigma_min=low, sigma_max=high)
    scores = {
        "frechet_1step": score(one_step(trained, start, high)),
        "frechet_2step": score(twice),
        "untrained": score(one_step(objective.denoiser(untrained), start, high)),
        "floor": reference.floor["frechet_floor"],
    }
    print(json.dumps({name: round(value, 3) for name, value in scores.items()}))


if __name__ == "__main__":
    main()
