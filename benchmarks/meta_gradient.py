"""Meta-gradients of a U-Net under Adam: memory, operations and time of "mixed" and "reverse".

Everything is in units of one plain gradient of the same batch: memory is what XLA allots for
intermediate values, operations are XLA's own count, time is that of all threads (which other
processes disturb least), taken in turns. Beside the operations stands the theory for a network of
matrix products and convolutions: 3T - 1/3 with everything kept, (11T - 2)/3 with recomputation.

    python benchmarks/meta_gradient.py                  # tiny on 8x8 digits, batch 64, T = 2 and 4
    python benchmarks/meta_gradient.py --levels=1       # its first level only: compiles faster
    python benchmarks/meta_gradient.py --torch-python=PATH

PATH is a Python with PyTorch, which the project itself does not need. It differentiates the same
network from the same parameters twice (`create_graph=True`), in turns with ours and with as many
threads: as the CPUs that the process may use (`taskset -c 0` for one).
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from jaxnoise.meta import InnerState, meta_gradient
from jaxnoise.models import UNet, preset

RATE = 1e-3
# Not 1e-8: where a gradient is rounding alone, Adam's slope of RATE / EPS multiplies it.
EPS = 1e-4
THEORY = {"mixed": lambda steps: (11 * steps - 2) / 3, "reverse": lambda steps: 3 * steps - 1 / 3}


def _batch(key: jax.Array, *leading: int) -> dict[str, jax.Array]:
    keys = jax.random.split(key, 3)
    return {
        "x0": 0.5 * jax.random.normal(keys[0], (*leading, 8, 8, 1)),
        "noise": jax.random.normal(keys[1], (*leading, 8, 8, 1)),
        "sigma": jnp.exp(jax.random.normal(keys[2], leading)),
    }


class Times:
    """Seconds of runs: of all threads together, and by the clock."""

    def __init__(self) -> None:
        self.cpu: list[float] = []
        self.wall: list[float] = []

    def add(self, cpu: float, wall: float) -> None:
        self.cpu.append(cpu)
        self.wall.append(wall)

    def over(self, other: "Times") -> tuple[float, float]:
        """Medians of the ratios round by round: CPU time, wall time."""
        pairs = (self.cpu, other.cpu), (self.wall, other.wall)
        cpu, wall = (statistics.median(np.divide(mine, theirs)) for mine, theirs in pairs)
        return float(cpu), float(wall)


class Measured(Times):
    """A compiled function with arguments, and the times of its runs."""

    def __init__(self, function: Any, *arguments: Any):
        super().__init__()
        self.compiled = jax.jit(function).lower(*arguments).compile()
        self.arguments = arguments
        self.memory = self.compiled.memory_analysis().temp_size_in_bytes
        self.operations = self.compiled.cost_analysis()["flops"]
        self.result()  # The first run is slower.

    def result(self) -> Any:
        return jax.block_until_ready(self.compiled(*self.arguments))

    def run(self) -> None:
        start = time.process_time(), time.perf_counter()
        self.result()
        self.add(time.process_time() - start[0], time.perf_counter() - start[1])


class Torch:
    """The other process, which has read what is given and timed nothing yet."""

    def __init__(self, python: str, levels: int, steps: list[int], given: dict[str, Any]):
        with tempfile.TemporaryDirectory() as folder:
            np.savez(Path(folder) / "given.npz", **flatten_dict(given, sep="/"))
            script = Path(__file__).with_name("meta_gradient_torch.py")
            self.process = subprocess.Popen(
                [python, script, folder, str(levels), str(RATE), str(EPS), *map(str, steps)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": ""},
            )
            self.about = json.loads(self._line())
            self.found = dict(np.load(Path(folder) / "found.npz"))

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def run(self, steps: int, times: Times) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        times.add(*map(float, self._line().split()))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--levels", type=int, choices=(1, 2), default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=(2, 4))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scan", action="store_true", help="lax.scan over inner steps")
    parser.add_argument("--torch-python", help="a Python with PyTorch, to compare with")
    flags = parser.parse_args()

    network = UNet(**preset("tiny", out_channels=1, channel_mult=(1, 2)[: flags.levels]))

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
    torch = None
    if flags.torch_python:
        given = {"theta": theta, "eta": eta, "outer": outer_batch}
        given |= {f"inner{n}": batch for n, batch in batches.items()}
        torch = Torch(flags.torch_python, flags.levels, list(flags.steps), given)
        ours = np.asarray(jax.jit(output)(theta, outer_batch))
        error = np.abs(torch.found["output"] - ours).max() / np.abs(ours).max()
        print("PyTorch {version}, {threads} threads".format(**torch.about), end=": ")
        print(f"its output is ours to {error:.0e} of the largest value", flush=True)
        assert error < 1e-4

    print(f"{'T':<3}{'mode':<9}{'memory':>8}{'operations':>12}{'theory':>8}{'time':>8}", end="")
    print("   against reverse: memory, operations, time", flush=True)
    for steps in flags.steps:
        rows = {}
        for mode in ("reverse", "mixed"):
            solve = meta_gradient(
                losses, weights, outer, optimizer, mode=mode, unroll=not flags.scan
            )
            rows[mode] = Measured(solve, eta, inner, batches[steps], outer_batch)
        plain.cpu, plain.wall = [], []
        torch_plain, torch_meta = Times(), Times()
        for _ in range(flags.rounds):
            for measured in (plain, *rows.values()):
                measured.run()
            if torch:
                torch.run(0, torch_plain)
                torch.run(steps, torch_meta)
        first = rows["reverse"]
        for mode, row in rows.items():
            print(
                f"{steps:<3}{mode:<9}{row.memory / plain.memory:8.2f}"
                f"{row.operations / plain.operations:12.2f}{THEORY[mode](steps):8.2f}"
                f"{row.over(plain)[0]:8.2f}   {row.memory / first.memory:22.2f}"
                f"{row.operations / first.operations:12.2f}{row.over(first)[0]:6.2f}",
                flush=True,
            )
        if torch:
            gradients = {mode: np.asarray(row.result().gradient) for mode, row in rows.items()}
            size = np.linalg.norm(gradients["mixed"])
            print(f"{steps:<3}PyTorch{torch_meta.over(torch_plain)[0]:38.2f}", end="")
            for mode, gradient in gradients.items():
                error = np.linalg.norm(torch.found[f"gradient{steps}"] - gradient) / size
                print(f"   gradient {error:.0e} from {mode}", end="")
            print("\n   PyTorch over ours, CPU and wall time:", end="")
            for name, theirs, mine in (
                ("plain", torch_plain, plain),
                *((mode, torch_meta, row) for mode, row in rows.items()),
            ):
                print("   {} {:.2f} {:.2f}".format(name, *theirs.over(mine)), end="")
            print(flush=True)
    if torch:
        torch.close()


if __name__ == "__main__":
    main()
