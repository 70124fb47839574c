"""From the command to the first step: imports, and what is compiled, at first and again.

    python -m benchmarks.startup

Processes of their own, each timed from its start to its end. `over jax` is the time over that of
importing jax, flax and optax alone, in the same round.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import frame

LIBRARIES = "import jax, flax.linen, optax; jax.devices()"


def first_step(quick: bool, cache: str) -> None:
    """What the child does: one training step, its programs kept in a folder."""
    from benchmarks import steps
    from jaxnoise.compilation import keep_programs
    from jaxnoise.training.parallel import use_all_cores

    use_all_cores(64)
    keep_programs(Path(cache))
    setting = steps.SMALLEST if quick else steps.SETTINGS["tiny 8x8"]
    steps.StepJob(steps.opened(setting.config("consistency"), setting)).run()


def process(*arguments: str) -> Callable[[], None]:
    """Runs Python once; its CPU time is its own, so only the clock counts."""
    env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    return lambda: subprocess.run([sys.executable, *arguments], check=True, cwd=frame.ROOT, env=env)


def main(arguments: list[str] | None = None) -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    flags = parser.parse_args(arguments)
    if flags.child:
        first_step(flags.quick, flags.child)
        return
    quick = ["--quick"] if flags.quick else []
    with tempfile.TemporaryDirectory() as folder:
        child = ("-m", "benchmarks.startup", *quick, "--child")
        number = 0

        def cold() -> None:
            nonlocal number
            number += 1
            process(*child, str(Path(folder) / str(number)))()

        cold()
        runs = {
            "jax, flax and optax": process("-c", LIBRARIES),
            "import jaxnoise": process("-c", "import jaxnoise, jax; jax.devices()"),
            "first step, nothing compiled before": cold,
            "first step, programs kept": process(*child, str(Path(folder) / "1")),
        }
        jobs = {name: (lambda run=run: frame.once(run)) for name, run in runs.items()}
        times = frame.in_turns(jobs, frame.rounds_of(flags, 2))
    report = frame.Report("startup", flags)
    for name, taken in times.items():
        report.row(name, seconds=taken.seconds, over_jax=taken.over(times["jax, flax and optax"]))


if __name__ == "__main__":
    main()
