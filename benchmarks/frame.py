"""What the benchmarks of speed share: runs in turns, ratios with their spread, memory, the record.

Absolute times drift on a shared machine, so whatever is compared runs in turns in one program, and
a figure is the median over rounds of a ratio, with its quartiles. Every benchmark is run as

    python -m benchmarks.NAME [--quick] [--rounds N] [--json FILE] [--torch-python PATH]

--quick is small enough for a test and says nothing about speed; --json appends a line for each row;
PATH is a Python with PyTorch, by default the same one if it has it.
"""

import argparse
import ctypes
import gc
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
Once = Callable[[], tuple[float, float]]
"""Runs something once: its seconds on all threads together, and by the clock."""


class Spread(NamedTuple):
    """A median between its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """The quartiles of some values."""
        low, median, high = np.quantile(list(values), (0.25, 0.5, 0.75))
        return cls(float(median), float(low), float(high))


@dataclass
class Times:
    """Seconds of runs, a round each: of all threads together, which other processes disturb least,
    and by the clock."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def add(self, cpu: float, wall: float) -> None:
        """Adds a round."""
        self.cpu.append(cpu)
        self.wall.append(wall)

    @property
    def seconds(self) -> float:
        """The median by the clock."""
        return statistics.median(self.wall)

    def over(self, other: "Times") -> Spread:
        """How many times as long it takes by the clock, round by round."""
        return Spread.of(np.divide(self.wall, other.wall))

    def cpu_over(self, other: "Times") -> Spread:
        """How many times the CPU time it takes, round by round."""
        # The clock of CPU time may not have moved during a very short run.
        return Spread.of(np.divide(np.maximum(self.cpu, 1e-9), np.maximum(other.cpu, 1e-9)))


def once(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of a run that waits for its results: CPU time, wall time."""
    start = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - start[0], time.perf_counter() - start[1]


def here(run: Callable[[], Any]) -> Once:
    """A function of this process, to run in turns; it ran once before, since that is slower."""
    run()
    return lambda: once(run)


def in_turns(jobs: Mapping[str, Once], rounds: int) -> dict[str, Times]:
    """Runs each once a round, every second round backwards, so that none always comes first."""
    times = {name: Times() for name in jobs}
    for i in range(rounds):
        for name in list(jobs)[:: -1 if i % 2 else 1]:
            times[name].add(*jobs[name]())
    return times


def step_memory(run: Callable[[], Any]) -> int | None:
    """Bytes that a run needs beyond what lies in memory before it; None on other than Linux."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def resident(which: str) -> int:
        return int(status.read_text().split(f"{which}:")[1].split()[0]) * 1024

    try:
        gc.collect()
        # What the allocator kept of earlier runs would hide what this one takes.
        ctypes.CDLL(None).malloc_trim(0)
        reset.write_text("5")
        before = resident("VmRSS")
        run()
        return max(resident("VmHWM") - before, 0)
    except (OSError, AttributeError, IndexError):
        return None


class Other:
    """Another process, a module of the benchmarks under another Python, that answers lines."""

    def __init__(self, python: str, module: str, *arguments: str):
        self.name = f"{python} -m {module}"
        self.process = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            # Another Python must not see this one's packages.
            env={**os.environ, **({} if python == sys.executable else {"PYTHONPATH": ""})},
        )

    def ask(self, **question: Any) -> Any:
        """The answer to a question, both JSON."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.name} ended with {self.process.wait()}")
        return json.loads(line)

    def once(self, **question: Any) -> Once:
        """A run over there, to be taken in turns with others."""
        return lambda: tuple(self.ask(**question))

    def close(self) -> None:
        """Lets it end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def answer(function: Callable[..., Any]) -> None:
    """The other process's side: one answer for each line read."""
    for line in sys.stdin:
        print(json.dumps(function(**json.loads(line))), flush=True)


def threads() -> int:
    """The CPUs that this process may use: what both sides of a comparison get."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def refused(message: str) -> SystemExit:
    """Says in one line what cannot be taken; to be raised."""
    print(f"error: {message}", file=sys.stderr)
    return SystemExit(2)


def parser(document: str) -> argparse.ArgumentParser:
    """The flags that all benchmarks take."""
    flags = argparse.ArgumentParser(description=document.splitlines()[0])
    flags.add_argument("--quick", action="store_true", help="small, to see that it works")
    flags.add_argument("--rounds", type=int, help="timed rounds of each")
    flags.add_argument("--json", type=Path, help="a file that gets a JSON line for each row")
    flags.add_argument("--torch-python", help="a Python with PyTorch, to compare with")
    return flags


def rounds_of(flags: argparse.Namespace, usual: int) -> int:
    """How many rounds are timed."""
    if flags.rounds is not None and flags.rounds < 1:
        raise refused(f"--rounds={flags.rounds}: must be at least 1")
    return flags.rounds or (2 if flags.quick else usual)


def torch_python(flags: argparse.Namespace) -> str | None:
    """The Python to compare with: the one named, or this one if it has PyTorch."""
    if flags.torch_python is None:
        return sys.executable if importlib.util.find_spec("torch") else None
    code = "import importlib.util as u; exit(u.find_spec('torch') is None)"
    try:
        found = subprocess.run([flags.torch_python, "-c", code]).returncode
    except OSError as error:
        raise refused(f"--torch-python={flags.torch_python}: {error.strerror}") from error
    if found:
        raise refused(f"--torch-python={flags.torch_python}: has no PyTorch")
    return str(flags.torch_python)


def matrix_rate(dtype: Any, size: int) -> float:
    """Operations a second of a large product of matrices, which no network exceeds by much.

    The best of ten products of two `size` x `size` matrices of random numbers, 2 size^3 operations
    each.
    """
    import jax
    import jax.numpy as jnp

    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.float32).astype(dtype)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(a, b))
    best = min(once(lambda: jax.block_until_ready(product(a, b)))[1] for _ in range(10))
    return 2 * size**3 / best


def machine() -> dict[str, Any]:
    """What the figures hold for: processor, accelerator, versions, and how busy it was."""
    import jax

    cpu = platform.machine()
    with_model = Path("/proc/cpuinfo")
    if with_model.exists():
        models = [x for x in with_model.read_text().splitlines() if x.startswith("model name")]
        cpu = models[0].partition(":")[2].strip() if models else cpu
    device = jax.devices()[0]
    return {
        "cpu": cpu,
        "cores": threads(),
        "load": round(os.getloadavg()[0], 1),
        "device": f"{jax.device_count()} x {device.device_kind}",
        "platform": device.platform,
        "python": platform.python_version(),
        **{name: _version(name) for name in ("jax", "jaxlib", "numpy", "torch")},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def machine_of(torch: str | None) -> dict[str, Any]:
    """`machine`, asked in a process of its own, which leaves an accelerator's memory alone."""

    def ask(python: str, code: str) -> str:
        return subprocess.run(
            [python, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    code = "import json; from benchmarks import frame; print(json.dumps(frame.machine()))"
    found: dict[str, Any] = json.loads(ask(sys.executable, code))
    if torch:
        found["torch"] = ask(torch, "import torch; print(torch.__version__)")
    return found


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


class Report:
    """Prints the rows of a benchmark, and keeps them where --json says."""

    def __init__(self, benchmark: str, flags: argparse.Namespace):
        self.benchmark = benchmark
        self.path: Path | None = flags.json
        self.rows: list[dict[str, Any]] = []

    def row(self, case: str, **figures: float | int | str | Spread | None) -> None:
        """One line of the table; a figure that could not be taken is left out."""
        found = {name: value for name, value in figures.items() if value is not None}
        self.rows.append({"benchmark": self.benchmark, "case": case, **found})
        cells = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in found.items()]
        print(f"{case:<36}", "  ".join(cells), flush=True)
        if self.path:
            with self.path.open("a") as file:
                print(json.dumps(self.rows[-1]), file=file)


def shown(value: Any) -> str:
    """A figure for a person: four digits; a spread as median (quartile to quartile)."""
    if isinstance(value, list | tuple):
        median, low, high = map(shown, value)
        return f"{median} ({low} to {high})"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
