"""How programs are compiled: what runs once in a hurry, and what is kept for the next process."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

_KEPT = {
    "jax_compilation_cache_max_size": 2 * 10**9,
    "jax_persistent_cache_min_compile_time_secs": 0.1,
}
_LOCK_SECONDS = 2


def quick_options() -> dict[str, Any]:
    """Compiler options for a program that runs once: a CPU's compiler does not optimise it."""
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}


def run_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives, as one program instead of one for each of its operations."""
    return jax.jit(function, compiler_options=quick_options())(*arguments)


def keep_programs(folder: Path) -> None:
    """Keeps what is compiled in a folder of at most 2 GB, from where later processes read it.

    A lock lets processes share the folder at once. jax's own settings win: nothing changes where
    $JAX_COMPILATION_CACHE_DIR names another folder; $JAX_ENABLE_COMPILATION_CACHE=0 turns it off.

    Args:
      folder: made if it is not there.
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None:
        return
    config.update("jax_compilation_cache_dir", str(folder))
    for name, value in _KEPT.items():
        if name.upper() not in os.environ:
            config.update(name, value)
    _drop_half_written(folder)


def _drop_half_written(folder: Path) -> None:
    """Removes programs without a time of use: jax stops evicting at one that a kill left so."""
    config: Any = jax.config
    # Without a largest size nothing is evicted, and no times of use are kept.
    if not folder.is_dir() or config.jax_compilation_cache_max_size == -1:
        return
    # Only what keeps programs needs it.
    from filelock import FileLock, Timeout

    # Under jax's own lock none is being written.
    # A folder that cannot be written to is read all the same.
    with (
        contextlib.suppress(Timeout, OSError),
        FileLock(folder / ".lockfile", timeout=_LOCK_SECONDS),
    ):
        for program in folder.glob("*-cache"):
            used = program.with_name(program.name.removesuffix("-cache") + "-atime")
            if not used.exists():
                program.unlink(missing_ok=True)
