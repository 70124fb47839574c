"""Strict numerics for every test: no silent broadcasting, no silent promotion."""

import os

# Eight host devices let one process check that the number of devices changes nothing.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest


def pytest_configure(config: pytest.Config) -> None:
    # A GPU is only asked to compute where `make bench-gpu` says so.
    platform = os.environ.get("JAXNOISE_TEST_PLATFORM", "cpu")
    jax.config.update("jax_platforms", {"gpu": "cuda"}.get(platform, platform))
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    # Compiling takes longer than running here, and less of it without optimisations.
    jax.config.update("jax_disable_most_optimizations", platform == "cpu")
    # A user's own digests and statistics are neither read nor written.
    os.environ["JAXNOISE_CACHE"] = tempfile.mkdtemp(prefix="jaxnoise_cache_")
    config.add_cleanup(lambda: shutil.rmtree(os.environ["JAXNOISE_CACHE"], ignore_errors=True))
    cache = Path(config.rootpath) / ".cache" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Many examples of docstrings compile, and no mark can stand beside a single one.
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker("takes_a_second")


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_programs() -> Iterator[None]:
    """Files of tests share up to 2.5 gigabytes; a whole suite would take many."""
    yield
    if resident_bytes() > 2.5e9:
        jax.clear_caches()


def resident_bytes() -> float:
    """Memory that this process holds now, or has held at most where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return float(pages * os.sysconf("SC_PAGESIZE"))
