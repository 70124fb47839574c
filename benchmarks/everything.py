"""All benchmarks, one after another, and the page of their results: what `make bench` runs.

    python -m benchmarks.everything [--quick] [--torch-python PATH] [--out benchmarks/RESULTS.md]

Each runs in a process of its own. RESULTS.md holds the machine, the versions and every row, a
median with its quartiles; RESULTS.json holds one line for each row.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from shlex import quote
from typing import Any

from benchmarks import frame

BENCHMARKS = {
    "train_step": "One whole training step, over PyTorch's and over a matrix product's rate",
    "noise_overhead": "A step under each law, curriculum and pacing, over a step at a fixed level",
    "meta_gradient": "Meta-gradients, in units of one plain gradient",
    "loop": "A whole run's time per step, over the bare step's",
    "pipeline": "Images brought to the device, over a PyTorch DataLoader",
    "sampling": "Drawing images, over the forward passes in it",
    "frechet": "The Fréchet distance of 2,048 features, over scipy's square root of a matrix",
    "features": "Inception-v3, over the PyTorch reference",
    "checkpoint": "How long a checkpoint blocks, over Orbax's own save",
    "startup": "From the command to the first step, over importing jax",
    "scaling": "What devices send each other",
}
ARGUMENTS: dict[str, list[list[str]]] = {
    # What takes longest to compile is left out: denoising by DDPM++, and a second level.
    "train_step": [
        ["--objectives", "consistency"],
        ["--objectives", "denoising", "--only", "tiny 8x8", "small 32x32", "dit_tiny 8x8"],
    ],
    "meta_gradient": [["--levels=1"]],
}
"""With what a benchmark is run where that is not its default, so that all end in 40 minutes."""
TAKES_TORCH = ("train_step", "meta_gradient", "pipeline", "features")


def page(machine: dict[str, Any], rows: list[dict[str, Any]], seconds: dict[str, float]) -> str:
    """RESULTS.md."""
    lines = ["# Speed", "", f"Taken on {date.today()} by `make bench`; see docs/speed.md.", ""]
    lines += [f"* {name.replace('_', ' ')}: {value}" for name, value in machine.items() if value]
    lines += ["", "Figures are medians over rounds; in brackets, from quartile to quartile.", ""]
    for name, title in BENCHMARKS.items():
        own = [row for row in rows if row["benchmark"] == name]
        if name not in seconds:
            continue
        commands = [
            f"`{' '.join(['python -m', f'benchmarks.{name}', *map(quote, own)])}`"
            for own in ARGUMENTS.get(name, [[]])
        ]
        lines += [f"## {title}", "", f"{', '.join(commands)}, {seconds[name]:.0f} s", ""]
        lines += table(own) if own else ["It failed."]
        lines.append("")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows of one benchmark in Markdown; a figure that a row has not is left blank."""
    names = list(dict.fromkeys(n for row in rows for n in row if n not in ("benchmark", "case")))
    titles = ["", *(name.replace("_", " ") for name in names)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        cells = [frame.shown(row[n]) if n in row else "" for n in names]
        lines.append("| " + " | ".join([row["case"], *cells]) + " |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, to see that it works")
    parser.add_argument("--torch-python", help="a Python with PyTorch, to compare with")
    parser.add_argument("--out", type=Path, default=frame.ROOT / "benchmarks" / "RESULTS.md")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS)
    flags = parser.parse_args(arguments)
    given = frame.torch_python(flags)
    record = flags.out.with_suffix(".json")
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    if given is None:
        print("no PyTorch here: its columns are left out (see --torch-python)", file=sys.stderr)
    seconds, failed = {}, []
    # Before the first benchmark, which would be what the machine is busy with.
    machine = frame.machine_of(given)
    for name in flags.only or BENCHMARKS:
        command = [sys.executable, "-m", f"benchmarks.{name}", f"--json={record.resolve()}"]
        if flags.quick:
            command.append("--quick")
        if given and name in TAKES_TORCH:
            command.append(f"--torch-python={given}")
        print(f"-- {name}: {BENCHMARKS[name]}", flush=True)
        start = time.perf_counter()
        for own in [[]] if flags.quick else ARGUMENTS.get(name, [[]]):
            if subprocess.run([*command, *own], cwd=frame.ROOT).returncode:
                failed.append(name)
        seconds[name] = time.perf_counter() - start
    lines = record.read_text().splitlines() if record.exists() else []
    rows = [json.loads(line) for line in lines]
    flags.out.write_text(page(machine, rows, seconds))
    print(f"{flags.out} and {record.name}, after {sum(seconds.values()) / 60:.1f} minutes")
    if failed:
        raise SystemExit(f"error: {', '.join(failed)} failed")


if __name__ == "__main__":
    main()
