"""Meta-gradients of a U-Net under Adam: memory, operations and time of "mixed" and "reverse".

Everything is in units of one plain gradient of the same batch: memory is what XLA allots for
intermediate values, operations are XLA's own count, time is that of all threads (which other
processes disturb least), taken in turns. Beside the operations stands the theory for a network of
matrix products and convolutions: 3T - 1/3 with everything kept, (11T - 2)/3 with recomputation.

    python benchmarks/meta_gradient.py                  # tiny on 8x8 digits, batch 64, T = 2 and 4
    python benchmarks/meta_gradient.py --levels=1       # its first level only: compiles faster
"""

import argparse
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnoise.meta import InnerState, meta_gradient
from jaxnoise.models import UNet, preset

THEORY = {"mixed": lambda steps: (11 * steps - 2) / 3, "reverse": lambda steps: 3 * steps - 1 / 3}


def _batch(key: jax.Array, *leading: int) -> dict[str, jax.Array]:
    keys = jax.random.split(key, 3)
    return {
        "x0": 0.5 * jax.random.normal(keys[0], (*leading, 8, 8, 1)),
        "noise": jax.random.normal(keys[1], (*leading, 8, 8, 1)),
        "sigma": jnp.exp(jax.random.normal(keys[2], leading)),
    }


class Measured:
    """A compiled function with arguments, and the times of its runs."""

    def __init__(self, function: Any, *arguments: Any):
        self.compiled = jax.jit(function).lower(*arguments).compile()
        self.arguments = arguments
        self.memory = self.compiled.memory_analysis().temp_size_in_bytes
        self.operations = self.compiled.cost_analysis()["flops"]
        self.times: list[float] = []

    def run(self) -> None:
        start = time.process_time()
        jax.block_until_ready(self.compiled(*self.arguments))
        self.times.append(time.process_time() - start)

    @property
    def time(self) -> float:
        return statistics.median(self.times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--levels", type=int, choices=(1, 2), default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=(2, 4))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scan", action="store_true", help="lax.scan over inner steps")
    flags = parser.parse_args()

    network = UNet(**preset("tiny", out_channels=1, channel_mult=(1, 2)[: flags.levels]))

    def losses(theta: Any, batch: dict[str, jax.Array]) -> jax.Array:
        sigma = batch["sigma"][:, None, None, None]
        x = (batch["x0"] + sigma * batch["noise"]) / jnp.sqrt(sigma**2 + 0.25)
        error = network.apply({"params": theta}, x, jnp.log(batch["sigma"]) / 4) - batch["noise"]
        return jnp.mean(error**2, axis=(1, 2, 3))

    def weights(eta: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
        return jax.nn.softmax(jnp.einsum("bhwc,hwc->b", batch["noise"], eta))

    def outer(theta: Any, batch: dict[str, jax.Array]) -> jax.Array:
        return jnp.mean(losses(theta, batch))

    key = jax.random.key(0)
    outer_batch = _batch(key, flags.batch)
    theta = jax.jit(network.init)(key, outer_batch["x0"], outer_batch["sigma"])["params"]
    optimizer = optax.adam(1e-3)
    inner = InnerState(theta, optimizer.init(theta))
    eta = 0.1 * jax.random.normal(key, (8, 8, 1))

    plain = Measured(jax.grad(outer), theta, outer_batch)
    print(f"plain gradient: {plain.memory / 2**20:.1f} MiB, {plain.operations / 1e9:.2f} GFLOP")
    print(f"{'T':<3}{'mode':<9}{'memory':>8}{'operations':>12}{'theory':>8}{'time':>8}", end="")
    print("   against reverse: memory, operations, time", flush=True)
    for steps in flags.steps:
        batches = _batch(jax.random.key(1), steps, flags.batch)
        rows = {}
        for mode in ("reverse", "mixed"):
            solve = meta_gradient(
                losses, weights, outer, optimizer, mode=mode, unroll=not flags.scan
            )
            rows[mode] = Measured(solve, eta, inner, batches, outer_batch)
        for _ in range(flags.rounds):
            for measured in (plain, *rows.values()):
                measured.run()
        first = rows["reverse"]
        for mode, row in rows.items():
            print(
                f"{steps:<3}{mode:<9}{row.memory / plain.memory:8.2f}"
                f"{row.operations / plain.operations:12.2f}{THEORY[mode](steps):8.2f}"
                f"{row.time / plain.time:8.2f}   {row.memory / first.memory:22.2f}"
                f"{row.operations / first.operations:12.2f}{row.time / first.time:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
