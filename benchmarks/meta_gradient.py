"""Meta-gradients of a U-Net under Adam: memory, operations and time of "mixed" and "reverse".

Everything is in units of one plain gradient of the same batch: memory is what XLA allots for
intermediate values, operations are XLA's own count, time is that of all threads (which other
processes disturb least), taken in turns. Beside the operations stands the theory for a network of
matrix products and convolutions: 3T - 1/3 with everything kept, (11T - 2)/3 with recomputation.

    python -m benchmarks.meta_gradient                  # tiny on 8x8 digits, batch 64, T = 2 and 4
    python -m benchmarks.meta_gradient --levels=1       # its first level only: compiles faster
    python -m benchmarks.meta_gradient --torch-python=PATH

PATH is a Python with PyTorch, which the project itself does not need. It differentiates the same
network from the same parameters twice (`create_graph=True`), in turns with ours and with as many
threads: as the CPUs that the process may use (`taskset -c 0` for one).
"""

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from benchmarks import frame
from jaxnoise.meta import InnerState, meta_gradient
from jaxnoise.models import UNet, preset

RATE = 1e-3
# Not 1e-8: where a gradient is rounding alone, Adam's slope of RATE / EPS multiplies it.
EPS = 1e-4
THEORY = {"reverse": lambda steps: 3 * steps - 1 / 3, "mixed": lambda steps: (11 * steps - 2) / 3}


def _batch(key: jax.Array, *leading: int) -> dict[str, jax.Array]:
    keys = jax.random.split(key, 3)
    return {
        "x0": 0.5 * jax.random.normal(keys[0], (*leading, 8, 8, 1)),
        "noise": jax.random.normal(keys[1], (*leading, 8, 8, 1)),
        "sigma": jnp.exp(jax.random.normal(keys[2], leading)),
    }


class Measured:
    """A compiled function with arguments, and what XLA says of it."""

    def __init__(self, function: Any, *arguments: Any):
        self.compiled = jax.jit(function).lower(*arguments).compile()
        self.arguments = arguments
        self.memory = self.compiled.memory_analysis().temp_size_in_bytes
        self.operations = self.compiled.cost_analysis()["flops"]
        self.once = frame.here(self.result)

    def result(self) -> Any:
        return jax.block_until_ready(self.compiled(*self.arguments))


def beside(python: str, steps: list[int], given: dict[str, Any]) -> tuple[frame.Other, Any]:
    """PyTorch's process, and what it finds."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "given.npz", **flatten_dict(given, sep="/"))
        numbers = map(str, (RATE, EPS, *steps))
        other = frame.Other(python, "benchmarks.meta_gradient_torch", folder, *numbers)
        about = other.ask()
        print("PyTorch {version}, {threads} threads".format(**about), flush=True)
        return other, dict(np.load(Path(folder) / "found.npz"))


def main(arguments: list[str] | None = None) -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--levels", type=int, choices=(1, 2), default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=(2, 4))
    parser.add_argument("--scan", action="store_true", help="lax.scan over inner steps")
    flags = parser.parse_args(arguments)
    report, rounds = frame.Report("meta_gradient", flags), frame.rounds_of(flags, 5)
    small: dict[str, Any] = {}
    if flags.quick:
        flags.levels, flags.batch, flags.steps, small = 1, 4, (1,), {"model_channels": 8}
    fields = {"out_channels": 1, "channel_mult": (1, 2)[: flags.levels], **small}
    network = UNet(**preset("tiny", **fields))

    def output(theta: Any, batch: dict[str, jax.Array]) -> jax.Array:
        sigma = batch["sigma"][:, None, None, None]
        x = (batch["x0"] + sigma * batch["noise"]) / jnp.sqrt(sigma**2 + 0.25)
        return network.apply({"params": theta}, x, jnp.log(batch["sigma"]) / 4)

    def losses(theta: Any, batch: dict[str, jax.Array]) -> jax.Array:
        return jnp.mean((output(theta, batch) - batch["noise"]) ** 2, axis=(1, 2, 3))

    def weights(eta: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
        return jax.nn.softmax(jnp.einsum("bhwc,hwc->b", batch["noise"], eta))

    def outer(theta: Any, batch: dict[str, jax.Array]) -> jax.Array:
        return jnp.mean(losses(theta, batch))

    key = jax.random.key(0)
    outer_batch = _batch(key, flags.batch)
    batches = {n: _batch(jax.random.key(1), n, flags.batch) for n in flags.steps}
    theta = jax.jit(network.init)(key, outer_batch["x0"], outer_batch["sigma"])["params"]
    # Away from the zeros of the start, or agreement of two networks would say nothing.
    draws = np.random.RandomState(0)
    theta = jax.tree.map(lambda x: x + 0.05 * draws.randn(*x.shape).astype(np.float32), theta)
    optimizer = optax.adam(RATE, eps=EPS)
    inner = InnerState(theta, optimizer.init(theta))
    eta = 0.1 * jax.random.normal(key, (8, 8, 1))

    plain = Measured(jax.grad(outer), theta, outer_batch)
    print(f"plain gradient: {plain.memory / 2**20:.1f} MiB, {plain.operations / 1e9:.2f} GFLOP")
    python, other, found = frame.torch_python(flags), None, {}
    if python:
        given = {"theta": theta, "eta": eta, "outer": outer_batch}
        given |= {f"inner{n}": batch for n, batch in batches.items()}
        other, found = beside(python, list(flags.steps), given)
        ours = np.asarray(jax.jit(output)(theta, outer_batch))
        error = np.abs(found["output"] - ours).max() / np.abs(ours).max()
        if not error < 1e-4:
            raise SystemExit(f"error: PyTorch's output differs by {error:.0e} of the largest value")

    for steps in flags.steps:
        rows = {}
        for mode in ("mixed",) if flags.quick else THEORY:
            solve = meta_gradient(
                losses, weights, outer, optimizer, mode=mode, unroll=not flags.scan
            )
            rows[mode] = Measured(solve, eta, inner, batches[steps], outer_batch)
        jobs = {"plain": plain.once, **{mode: row.once for mode, row in rows.items()}}
        if other:
            jobs |= {"torch plain": other.once(steps=0), "torch": other.once(steps=steps)}
        times = frame.in_turns(jobs, rounds)
        for mode, row in rows.items():
            report.row(
                f"T={steps}, {mode}",
                memory=row.memory / plain.memory,
                operations=row.operations / plain.operations,
                theory=THEORY[mode](steps),
                cpu=times[mode].cpu_over(times["plain"]),
                time=times[mode].over(times["plain"]),
            )
        if not other:
            continue
        gradient = np.asarray(rows["mixed"].result().gradient)
        error = np.linalg.norm(found[f"gradient{steps}"] - gradient) / np.linalg.norm(gradient)
        report.row(
            f"T={steps}, PyTorch",
            cpu=times["torch"].cpu_over(times["torch plain"]),
            time=times["torch"].over(times["torch plain"]),
            differs=float(error),
            speed=times["torch"].over(times["mixed"]),
            speed_of_plain=times["torch plain"].over(times["plain"]),
            cpu_speed=times["torch"].cpu_over(times["mixed"]),
        )
    if other:
        other.close()


if __name__ == "__main__":
    main()
