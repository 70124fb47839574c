"""Compiled programs that are kept for the next process."""

import os
import subprocess
import sys

import command_line
import pytest
from filelock import FileLock

PROGRAM = """
import sys
from pathlib import Path
import jax
import jax.numpy as jnp
from jaxnoise.compilation import keep_programs
events = []
jax.monitoring.register_event_listener(lambda name, **given: events.append(name))
keep_programs(Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(float(jax.jit(lambda x: jnp.sort(jnp.sin(x)) @ x)(jnp.arange(4.0))))
print(sum("compilation_cache/cache_hits" in name for name in events))
print(jax.config.jax_compilation_cache_max_size)
"""


def start(folder, **extra):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX")}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=command_line.ROOT,
        env={**environment, "JAX_PLATFORMS": "cpu", **extra},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed(process):
    code, out, err = command_line.finish(process)
    assert code == 0, err
    assert err == ""
    return out.split()


def value_and_hits(process):
    value, hits, _ = printed(process)
    return float(value), int(hits)


@pytest.mark.takes_a_second
def test_processes_share_programs_also_at_once(tmp_path):
    folder = tmp_path / "programs"
    # Started together, they find an empty folder and write the same programs.
    together = [value_and_hits(process) for process in [start(folder) for _ in range(3)]]
    assert any(folder.iterdir())
    value, hits = value_and_hits(start(folder))
    assert hits > 0
    assert {found for found, _ in together} == {value}


@pytest.mark.takes_a_second
def test_jax_s_own_settings_win(tmp_path):
    folder, own = tmp_path / "programs", tmp_path / "own"
    _, hits = value_and_hits(start(folder, JAX_ENABLE_COMPILATION_CACHE="0"))
    assert hits == 0
    assert not folder.exists() or not any(folder.iterdir())
    value_and_hits(start(folder, JAX_COMPILATION_CACHE_DIR=str(own)))
    assert any(own.iterdir())
    assert not folder.exists() or not any(folder.iterdir())
    *_, size = printed(start(folder, JAX_COMPILATION_CACHE_MAX_SIZE="100000000"))
    assert size == "100000000"


@pytest.mark.takes_a_second
def test_what_a_kill_left_half_written_is_dropped(tmp_path):
    folder = tmp_path / "programs"
    value_and_hits(start(folder))
    whole = {path.name for path in folder.glob("*-cache")}
    (folder / "half-cache").write_bytes(b"0" * 1000)
    _, hits = value_and_hits(start(folder))
    assert hits > 0
    assert {path.name for path in folder.glob("*-cache")} == whole


@pytest.mark.takes_a_second
def test_without_a_largest_size_nothing_is_dropped(tmp_path):
    """No times of use are kept then, so that all programs look half written."""
    folder = tmp_path / "programs"
    for hits in (False, True):
        _, found = value_and_hits(start(folder, JAX_COMPILATION_CACHE_MAX_SIZE="-1"))
        assert (found > 0) == hits
    assert list(folder.glob("*-cache"))
    assert not list(folder.glob("*-atime"))


@pytest.mark.takes_a_second
def test_a_process_that_writes_is_not_disturbed(tmp_path):
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "being_written-cache"
    program.write_bytes(b"0" * 1000)
    environment = {"JAX_ENABLE_COMPILATION_CACHE": "0"}
    with FileLock(folder / ".lockfile"):
        value_and_hits(start(folder, **environment))
    assert program.exists()
    value_and_hits(start(folder, **environment))
    assert not program.exists()
