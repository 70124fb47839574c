"""Ratios of one consistency training step of a U-Net: which implementation choices pay.

A step is the gradient of a pseudo-Huber consistency loss (student, and teacher without gradient
under the same dropout masks) and a RAdam update. All variants live in one process and take turns,
because absolute times on a shared machine drift; a row shows the median wall time, the CPU time of
all threads (which other processes disturb least), and the speed relative to the first row.

    python benchmarks/unet_step.py                 # tiny on 8x8 digits, batch 128
    python benchmarks/unet_step.py --net=ddpmpp    # DDPM++ with 32 channels on 32x32x3, batch 16
    python benchmarks/unet_step.py --net=batch     # tiny, images/s at several batch sizes
    python benchmarks/unet_step.py --net=loop      # four gradient steps inside lax.scan
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnoise.models import UNet, preset

Run = Callable[[], None]


def _loss(network: UNet, params: Any, batch: tuple[jax.Array, ...]) -> jax.Array:
    x0, noise, sigma, keys = batch

    def denoise(params: Any, sigma: jax.Array) -> jax.Array:
        s = sigma[:, None, None, None]
        c_in = 1 / jnp.sqrt(s**2 + 0.25)
        c_skip = 0.25 / ((s - 0.002) ** 2 + 0.25)
        x = x0 + s * noise
        f = network.apply({"params": params}, c_in * x, jnp.log(sigma) / 4, dropout_keys=keys)
        return c_skip * x + 0.5 * (s - 0.002) * c_in * f

    teacher = jax.lax.stop_gradient(denoise(jax.lax.stop_gradient(params), 0.8 * sigma))
    error = jnp.sum((denoise(params, sigma) - teacher) ** 2, axis=(1, 2, 3))
    return jnp.mean((jnp.sqrt(error + 1e-4) - 1e-2) / (0.2 * sigma))


def _setting(network: UNet, batch_size: int, side: int) -> tuple[Any, tuple[jax.Array, ...]]:
    shape = (batch_size, side, side, network.out_channels)
    key = jax.random.key(0)
    x0, noise = jax.random.normal(key, (2, *shape))
    sigma = jnp.exp(jax.random.normal(key, (batch_size,)))
    params = jax.jit(network.init)(key, x0[:1], sigma[:1])["params"]
    return params, (0.5 * x0, noise, sigma, jax.random.split(key, batch_size))


def step(network: UNet, batch_size: int, side: int) -> Run:
    """A compiled, warmed-up training step that keeps its own state."""
    optimizer = optax.radam(1e-3)
    params, batch = _setting(network, batch_size, side)
    state = (params, optimizer.init(params))

    @jax.jit
    def update(state: Any, batch: tuple[jax.Array, ...]) -> Any:
        params, moments = state
        grads = jax.grad(lambda p: _loss(network, p, batch))(params)
        updates, moments = optimizer.update(grads, moments, params)
        return optax.apply_updates(params, updates), moments

    def run() -> None:
        nonlocal state
        state = jax.block_until_ready(update(state, batch))

    run()
    return run


def loop(network: UNet, batch_size: int, side: int) -> Run:
    """Four gradient-descent steps inside one `lax.scan`."""
    params, batch = _setting(network, batch_size, side)

    @jax.jit
    def descend(params: Any, batch: tuple[jax.Array, ...]) -> Any:
        def body(params: Any, _: None) -> tuple[Any, None]:
            grads = jax.grad(lambda p: _loss(network, p, batch))(params)
            return jax.tree.map(lambda p, g: p - 1e-3 * g, params, grads), None

        return jax.lax.scan(body, params, None, length=4)[0]

    def run() -> None:
        jax.block_until_ready(descend(params, batch))

    run()
    return run


def compare(runs: Mapping[str, Run], images: Mapping[str, int], rounds: int) -> None:
    """Times the variants in turn and prints one row each."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start, used = time.perf_counter(), time.process_time()
            run()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - used)
    first = next(iter(runs))
    pace = {name: statistics.median(wall[name]) / images[name] for name in runs}
    work = {name: statistics.median(cpu[name]) / images[name] for name in runs}
    print(f"{'variant':<22}{'ms':>9}{'cpu ms':>9}{'images/s':>10}{'speed':>8}{'by cpu':>8}")
    for name in runs:
        print(
            f"{name:<22}{1e3 * statistics.median(wall[name]):9.1f}"
            f"{1e3 * statistics.median(cpu[name]):9.1f}{1 / pace[name]:10.0f}"
            f"{pace[first] / pace[name]:8.2f}{work[first] / work[name]:8.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=("tiny", "ddpmpp", "batch", "loop"), default="tiny")
    parser.add_argument("--rounds", type=int, default=10)
    flags = parser.parse_args()

    name, side, size, make, images = "tiny", 8, 128, step, 1
    fields: dict[str, Any] = {"out_channels": 1}
    if flags.net == "ddpmpp":
        name, side, size = "ddpmpp", 32, 16
        fields = {"out_channels": 3, "model_channels": 32}
    elif flags.net == "loop":
        size, make, images = 16, loop, 4
    if flags.net == "batch":
        sizes = {f"batch {n}": n for n in (128, 32, 512)}
        network = UNet(**preset(name, **fields))
        compare({k: step(network, n, side) for k, n in sizes.items()}, sizes, flags.rounds)
        return
    variants = {
        "plain backward": {"fused": False, "dropout": 0.1},
        "fused backward": {"dropout": 0.1},
        "fused, no dropout": {},
    }
    runs = {k: make(UNet(**preset(name, **fields, **v)), size, side) for k, v in variants.items()}
    compare(runs, dict.fromkeys(runs, images * size), flags.rounds)


if __name__ == "__main__":
    main()
