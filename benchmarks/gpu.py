"""What a GPU has to show, within nine minutes a call: `make bench-gpu PYTHON=python3 OUT=folder`.

Uses the interpreter as it stands: no network, no environment of its own. Parts come in the order of
what decides most, each in a process of its own; one that does not fit into the time left waits for
the next call, which takes up where this one stopped. In OUT: bench.md (the page), bench.json (one
record of all), log.txt, tests.txt, and pictures of a run on CIFAR images where --data names some.

    python -m benchmarks.gpu --out FOLDER [--data FOLDER_OR_TAR] [--quick]

On a CPU it runs too; --quick makes everything small, to see that it works.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import frame
from benchmarks.everything import table

KEPT = frame.ROOT / ".cache" / "bench_gpu"
"""Where the record and compiled programs stay between calls, should OUT be emptied."""
HOPPER = (
    "--xla_gpu_enable_latency_hiding_scheduler=true",
    "--xla_gpu_triton_gemm_any=true",
)
"""Flags that XLA's documentation names for GPUs of this kind; the last part leaves them out."""
TESTS = (
    "tests/models/test_fused.py",
    "tests/models/test_unet.py",
    "tests/models/test_dit.py",
    "tests/training/test_step.py",
    "tests/training/test_adaptive.py",
    "tests/meta/test_unroll.py",
    "tests/sampling/test_samplers.py",
)
"""Tests of what a device computes; the others see files, numpy, or several devices."""
MOST_FILES = 8


@dataclass(frozen=True)
class Part:
    """A piece of the record.

    Attributes:
      name: in the record.
      command: a module of the benchmarks and its flags.
      least: seconds that must be left for it to begin.
      flags: whether XLA's flags are set.
    """

    name: str
    command: Sequence[str]
    least: int = 40
    flags: bool = True


def parts(flags: argparse.Namespace, out: Path) -> list[Part]:
    """In the order of what decides most."""
    quick, gpu = flags.quick, not flags.quick and flags.platform != "cpu"
    net = ("--only", "ddpmpp") if gpu else ("--only", "dit 4x4") if quick else ()
    dispatch = ("--dispatch", "1", "2") if quick else ("--dispatch", "1", "10", "50")
    one = ("--objectives", "consistency")
    found = [
        Part("bfloat16", ("train_step", "--dtype", "bfloat16", *net, *one)),
        Part("float32", ("train_step", *net, *one)),
        Part(
            "steps a call",
            ("train_step", "--dtype", "bfloat16", *net, *one, *dispatch, "--rounds", "3"),
        ),
    ]
    if flags.data or quick:
        data = (f"--data={flags.data}",) if flags.data else ()
        found.append(
            Part("cifar_poly", ("cifar_run", *data, "--seconds", "60", f"--out={out}"), least=100)
        )
    found += [
        Part("meta_gradient", ("meta_gradient",)),
        Part("sampling", ("sampling",)),
        Part("tests", ("tests",), least=60),
    ]
    if gpu:
        others = ("--only", "small 32x32", "dit_s_2 32x32", "--dtype", "bfloat16")
        found += [
            Part("other networks", ("train_step", *others)),
            Part(
                "denoising",
                ("train_step", "--dtype", "bfloat16", *net, "--objectives", "denoising"),
            ),
            Part("without XLA's flags", found[0].command, flags=False),
        ]
    return found


class Record:
    """What is known so far, in OUT and in the checkout."""

    def __init__(self, out: Path, about: dict[str, Any]):
        self.paths = (out / "bench.json", KEPT / f"bench{'_quick' if about['quick'] else ''}.json")
        self.held: dict[str, Any] = {"about": about, "parts": {}}
        for path in self.paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and self._same(held := json.loads(path.read_text())):
                self.held = held
                break

    def _same(self, held: dict[str, Any]) -> bool:
        """Whether a record is of this machine, these versions and this code."""
        own = self.held["about"]
        return all(held["about"].get(k) == v for k, v in own.items() if k != "load")

    def keep(self, name: str, found: dict[str, Any]) -> None:
        """Adds a part and writes all."""
        self.held["parts"][name] = found
        for path in self.paths:
            path.write_text(json.dumps(self.held, indent=1) + "\n")

    def page(self) -> str:
        """bench.md."""
        lines = ["# On this machine", ""]
        about = self.held["about"]
        lines += [f"* {name.replace('_', ' ')}: {value}" for name, value in about.items() if value]
        lines += [
            "",
            "Figures are medians over rounds; in brackets, from quartile to quartile.",
            "",
        ]
        for name, part in self.held["parts"].items():
            lines += [f"## {name}", "", f"`{part['command']}`, {part['seconds']:.0f} s", ""]
            lines += table(part["rows"]) if part["rows"] else []
            lines += [f"It failed: {part['failed']}"] if part["failed"] else []
            lines.append("")
        return "\n".join(lines)


def probe(flags: Sequence[str]) -> dict[str, Any] | None:
    """The machine under some of XLA's flags; None where this build does not know one of them."""
    code = "import json; from benchmarks import frame; print(json.dumps(frame.machine()))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=frame.ROOT,
        capture_output=True,
        text=True,
        env=environment(flags),
    )
    return json.loads(found.stdout.splitlines()[-1]) if found.returncode == 0 else None


def environment(flags: Sequence[str]) -> dict[str, str]:
    """What parts run under: room for PyTorch beside us, and programs that are kept."""
    own = os.environ.get("XLA_FLAGS", "")
    return {
        **os.environ,
        "XLA_FLAGS": " ".join([own, *flags]).strip(),
        "XLA_PYTHON_CLIENT_MEM_FRACTION": ".45",
        "JAX_COMPILATION_CACHE_DIR": str(KEPT / "programs"),
        "PYTHONUNBUFFERED": "1",
    }


def measure(
    part: Part, left: float, flags: Sequence[str], out: Path, quick: bool, platform: str
) -> dict[str, Any] | None:
    """A part's rows, or None where its time ran out."""
    rows = KEPT / "rows.json"
    rows.unlink(missing_ok=True)
    module, *given = part.command
    shown = f"python -m benchmarks.{' '.join(part.command)}"
    env = environment(flags if part.flags else ())
    log = out / "log.txt"
    if module == "tests":
        log, env["JAXNOISE_TEST_PLATFORM"] = out / "tests.txt", platform
        env["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
        tests = TESTS[:1] if quick else TESTS
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests]
        shown = " ".join(["python", *command[1:]])
    else:
        command = [sys.executable, "-m", f"benchmarks.{module}", *given, f"--json={rows}"]
        command += ["--quick"] if quick else []
    start = time.monotonic()
    with log.open("a") as file:
        print(f"-- {part.name}: {' '.join(command)}", file=file, flush=True)
        try:
            code = subprocess.run(
                command, cwd=frame.ROOT, env=env, stdout=file, stderr=file, timeout=left
            ).returncode
        except subprocess.TimeoutExpired:
            print(f"-- {part.name}: no time left", file=file)
            return None
    lines = log.read_text().strip().splitlines()
    found = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    if module == "tests":
        found = [{"benchmark": "tests", "case": lines[-1].strip("= ")}]
    return {
        "command": shown,
        "seconds": time.monotonic() - start,
        "rows": found,
        "failed": lines[-1][:200] if code else "",
    }


def main(arguments: list[str] | None = None) -> None:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of what comes back")
    parser.add_argument("--data", type=Path, help="a folder of CIFAR images, or a tar of one")
    parser.add_argument("--seconds", type=float, default=520, help="after which it ends")
    parser.add_argument("--quick", action="store_true", help="small, to see that it works")
    flags = parser.parse_args(arguments)
    if flags.data and not flags.data.exists():
        raise frame.refused(f"--data={flags.data}: is not there")
    flags.out = flags.out.resolve()
    flags.out.mkdir(parents=True, exist_ok=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    xla = HOPPER
    machine = probe(xla)
    if machine is None:
        xla = ()
        machine = probe(xla)
    if machine is None:
        raise frame.refused(f"{sys.executable}: cannot import jax and see a device")
    flags.platform = machine["platform"]
    record = Record(flags.out, {**machine, "quick": flags.quick, "commit": commit()})
    waiting = []
    for part in parts(flags, flags.out):
        if part.name in record.held["parts"]:
            continue
        left = flags.seconds - (time.monotonic() - began)
        least = 0 if flags.quick else part.least
        found = None
        if left > least:
            found = measure(part, left, xla, flags.out, flags.quick, flags.platform)
        if found is None:
            waiting.append(part.name)
            continue
        record.keep(part.name, found)
        print(f"{part.name}: {found['failed'] or 'done'}, {found['seconds']:.0f} s", flush=True)
        (flags.out / "bench.md").write_text(record.page())
    (flags.out / "bench.md").write_text(record.page())
    for path in record.paths:
        path.write_text(json.dumps(record.held, indent=1) + "\n")
    print((flags.out / "bench.md").read_text())
    extra = sorted(p.name for p in flags.out.iterdir())[MOST_FILES:]
    if extra:
        print(f"more than {MOST_FILES} files in {flags.out}: {', '.join(extra)}", file=sys.stderr)
    if waiting:
        print(f"the same command goes on with: {', '.join(waiting)}")


def commit() -> str:
    """Which code is measured; "" outside a repository."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, cwd=frame.ROOT, capture_output=True, text=True)
    except OSError:
        return ""
    return found.stdout.strip()


if __name__ == "__main__":
    main()
