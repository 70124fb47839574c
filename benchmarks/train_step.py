"""One whole training step, ours against an equal one in PyTorch and against the machine's ceiling.

A step draws its batch, levels and noise, asks student and teacher, takes the gradient, updates by
RAdam and moves the average. PyTorch's (channels last, eager and by torch.compile) starts from the
same parameters, and its loss and gradient must be ours to 1e-4 before anything is timed.

    python -m benchmarks.train_step [--torch-python PATH] [--dtype bfloat16]
    python -m benchmarks.train_step --only "tiny 8x8" "small 32x32" --objectives denoising
    python -m benchmarks.train_step --dispatch 1 10 50    # steps of one call, without PyTorch

`speed` is PyTorch's time over ours (above 1: ours is faster), `cpu` the same of CPU time; `share`
is operations a second over those of a large product of matrices in the same dtype and run.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import frame, steps
from jaxnoise.run.model import OpenModel
from jaxnoise.training.parallel import use_all_cores

ON_GPU = {
    "ddpmpp": steps.Setting("ddpmpp", 32, 3, 128),
    "small 32x32": steps.Setting("small", 32, 3, 256),
    "dit_s_2 32x32": steps.Setting("dit_s_2", 32, 3, 256),
}
AGREE = 1e-4


def settings_of(flags: argparse.Namespace) -> dict[str, steps.Setting]:
    """The networks to time."""
    if flags.quick:
        known = steps.QUICK
    else:
        known = steps.SETTINGS if jax.default_backend() == "cpu" else ON_GPU
    for name in flags.only or ():
        if name not in known:
            raise frame.refused(f"--only={name!r}: must be among {', '.join(known)}")
    return {name: s for name, s in known.items() if name in (flags.only or known)}


def memory_of(job: steps.StepJob) -> int | None:
    """Bytes of a step beyond what lies in memory between steps."""
    if jax.default_backend() == "cpu":
        return frame.step_memory(job.run)
    return job.compiled.memory_analysis().temp_size_in_bytes


def agreed(name: str, ours: tuple[float, float], theirs: dict[str, Any]) -> float:
    """How far PyTorch's loss and gradient are from ours; ends where they differ."""
    pairs = zip(ours, (theirs["loss"], theirs["norm"]), strict=True)
    error = max(abs(a - b) / abs(a) for a, b in pairs)
    if not error < AGREE:
        found = theirs["loss"], theirs["norm"]
        raise SystemExit(f"error: {name}: loss and gradient {ours}, PyTorch's {found}")
    return error


def compare(
    report: frame.Report,
    name: str,
    model: OpenModel,
    exact: OpenModel,
    other: frame.Other | None,
    peak: float,
    rounds: int,
    compiled: bool,
) -> None:
    """One row for ours, and one for each of PyTorch's ways, whose loss is that of `exact`."""
    job = steps.StepJob(model)
    jobs = {"ours": frame.here(job.run)}
    memory, found = {"ours": memory_of(job)}, {}
    if other:
        with tempfile.TemporaryDirectory() as folder:
            given, path = steps.Given.of(exact), str(Path(folder) / "given.npz")
            given.save(path, exact)
            found = other.ask(
                do="load",
                name=name,
                compiled=compiled,
                path=path,
                heads=getattr(model.network, "num_heads", 0),
                batch=model.run.train.batch,
                dtype=str(jnp.dtype(model.network.dtype)),
            )
            error = agreed(name, given.loss(exact), found)
        for way in ("eager", "compiled"):
            if way == "eager" or "compiling" in found:
                jobs[way] = other.once(do="step", name=f"{name} {way}")
                memory[way] = other.ask(do="memory", name=f"{name} {way}")
        if "refused" in found:
            print(f"{name}: torch.compile: {found['refused']}", file=sys.stderr)
    times = frame.in_turns(jobs, rounds)
    for way, taken in times.items():
        size = memory[way]
        others: dict[str, Any] = {}
        if way != "ours":
            others = {
                "speed": taken.over(times["ours"]),
                "cpu": taken.cpu_over(times["ours"]),
                "differs": error,
            }
        report.row(
            f"{name}, {'ours' if way == 'ours' else 'PyTorch ' + way}",
            images_per_second=job.images / taken.seconds,
            cpu_seconds=frame.Spread.of(taken.cpu).median,
            memory_mib=None if size is None else round(size / 2**20, 1),
            share=job.operations / taken.seconds / peak,
            **others,
        )


def main(arguments: list[str] | None = None) -> None:
    parser = frame.parser(__doc__)
    parser.add_argument("--only", nargs="+", help="names of networks")
    parser.add_argument("--objectives", nargs="+", choices=steps.OBJECTIVES)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--batch", type=int, help="images a step")
    parser.add_argument("--dispatch", type=int, nargs="+", help="steps of one call, compared")
    flags = parser.parse_args(arguments)
    use_all_cores(64)
    report, rounds = frame.Report("train_step", flags), frame.rounds_of(flags, 8)
    cpu, settings = jax.default_backend() == "cpu", settings_of(flags)
    python = None if flags.dispatch else frame.torch_python(flags)
    size = 64 if flags.quick else 1024 if cpu else 8192
    peak = frame.matrix_rate(jnp.dtype(flags.dtype), size)
    report.row(f"matrix product, {flags.dtype}", tera_operations_per_second=peak / 1e12)
    other = frame.Other(python, "benchmarks.torch_steps") if python else None
    for name, setting in settings.items():
        if flags.batch:
            setting = steps.replace(setting, batch=flags.batch)
        for objective in flags.objectives or steps.OBJECTIVES:
            model = steps.opened(setting.config(objective, flags.dtype), setting)
            exact = steps.opened(setting.config(objective), setting)
            case = f"{name} {objective} {flags.dtype}"
            if not flags.dispatch:
                compare(report, case, model, exact, other, peak, rounds, compiled=not flags.quick)
                continue
            jobs = {n: steps.StepJob(model, n) for n in flags.dispatch}
            times = frame.in_turns({str(n): frame.here(j.run) for n, j in jobs.items()}, rounds)
            for n, job in jobs.items():
                report.row(
                    f"{case}, {n} a call",
                    images_per_second=job.images / times[str(n)].seconds,
                    share=n * job.operations / times[str(n)].seconds / peak,
                )
    if other:
        other.close()


if __name__ == "__main__":
    main()
