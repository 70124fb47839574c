"""Runs the command line as a user does."""

import os
import subprocess
import sys
from pathlib import Path

from small_network import MODEL

ROOT = Path(__file__).parents[1]

SHRUNK = (
    f"--config.model={MODEL | {'class_conditional': True}}",
    "--config.train.steps=8",
    "--config.train.batch=16",
    "--config.train.log_every=2",
    "--config.train.checkpoint_every=4",
    "--config.train.sample_every=8",
    "--config.sample.batch=449",
)


def environment(**extra: str) -> dict[str, str]:
    """The environment of a user's shell: one device, compilations kept."""
    cache = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        # As in this process, so that numbers compare.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return {**os.environ, **cache, **extra}


def start(*arguments: str, script: Path = ROOT / "run.py", **extra: str) -> subprocess.Popen[str]:
    """Starts a script of the repository."""
    return subprocess.Popen(
        [sys.executable, str(script), *arguments],
        cwd=ROOT,
        env=environment(**extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def run(*arguments: str, script: Path = ROOT / "run.py", **extra: str) -> tuple[int, str, str]:
    """Runs a script of the repository to its end."""
    return finish(start(*arguments, script=script, **extra))
