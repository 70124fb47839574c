"""What devices send each other in a training step, and what that would cost on many accelerators.

    python -m benchmarks.scaling

On 1, 2, 4 and 8 host devices the step is compiled with as many images on each, and its collectives
are read from the program. What 8 to 1,024 accelerators would do is a model, not a measurement: its
assumptions are printed with it. On this machine all devices share the same cores, so what the
mapping itself costs is `cpu per image`: CPU time per image, over that of one device.
"""

import math
import os
from dataclasses import dataclass, replace
from typing import Any

import jax

from benchmarks import frame, steps
from benchmarks.collectives import collectives


@dataclass(frozen=True)
class Cluster:
    """What the model assumes of accelerators and of what connects them.

    Attributes:
      per_host: accelerators in one host.
      inside: bytes a second that an accelerator sends within its host (NVLink 4: 450e9).
      between: bytes a second that it sends to other hosts (one 400 Gb/s port each: 50e9).
      latency: seconds of one message.
      seconds: of a step on one accelerator.
    """

    seconds: float
    per_host: int = 8
    inside: float = 450e9
    between: float = 50e9
    latency: float = 5e-6

    def exchange(self, count: int, size: float) -> float:
        """Seconds of summing `size` bytes over `count` accelerators.

        Within a host and then between hosts, each by a ring: 2 (n - 1) / n of the bytes at each
        stage, and 2 (n - 1) messages within a host, 2 log2(n) between hosts (a tree).
        """
        local = min(count, self.per_host)
        hosts = math.ceil(count / self.per_host)

        def ring(n: int, part: float, rate: float) -> float:
            return 2 * (n - 1) / n * part / rate

        seconds = ring(local, size, self.inside) + 2 * (local - 1) * self.latency
        if hosts > 1:
            # Each of a host's accelerators carries its share of the bytes.
            seconds += ring(hosts, size / local, self.between)
            seconds += 2 * math.log2(hosts) * self.latency
        return seconds

    def efficiency(self, count: int, size: float) -> tuple[float, float]:
        """Images a second of `count` over `count` times one's: nothing and all of it hidden.

        Hidden means that it runs beside the backward pass, two thirds of a step.
        """
        sent = self.exchange(count, size)
        exposed = max(0.0, sent - 2 / 3 * self.seconds)
        return self.seconds / (self.seconds + sent), self.seconds / (self.seconds + exposed)


def on_devices(setting: steps.Setting, count: int, objective: str) -> steps.StepJob:
    """The step on so many devices, with the setting's batch on each."""
    larger = replace(setting, batch=setting.batch * count, devices=count)
    return steps.StepJob(steps.opened(larger.config(objective), larger))


def main(arguments: list[str] | None = None) -> None:
    parser = frame.parser(__doc__)
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.1,
        help="of a step on one accelerator, for the model (say what train_step measured there)",
    )
    parser.add_argument("--parameters", type=float, default=55.7e6, help="of the model's network")
    flags = parser.parse_args(arguments)
    option, own = "--xla_force_host_platform_device_count", os.environ.get("XLA_FLAGS", "")
    # Read when something first asks for devices.
    if option not in own:
        os.environ["XLA_FLAGS"] = f"{own} {option}=8".strip()
    report, rounds = frame.Report("scaling", flags), frame.rounds_of(flags, 5)
    setting = steps.SMALLEST if flags.quick else steps.SETTINGS["tiny 8x8"]
    counts = (1, 2) if flags.quick else (1, 2, 4, 8)
    jobs = {n: on_devices(setting, n, "consistency") for n in counts}
    times = frame.in_turns({str(n): frame.here(job.run) for n, job in jobs.items()}, rounds)
    for n, job in jobs.items():
        sent = collectives(job.compiled.as_text())
        params = job.model.new_state.eval_shape().params
        gradient = sum(4 * x.size for x in jax.tree.leaves(params))
        cpu = times[str(n)].cpu_over(times["1"])
        others: dict[str, Any] = {}
        if n > 1:
            others["over_gradient"] = round(sum(c.bytes for c in sent) / gradient, 4)
        report.row(
            f"{n} host device{'s' if n > 1 else ''}",
            collectives=len(sent),
            bytes=sum(c.bytes for c in sent),
            cpu_per_image=frame.Spread(*(x / n for x in cpu)),
            **others,
        )
    cluster, size = Cluster(flags.seconds), 4 * flags.parameters
    print(
        f"model: {flags.parameters / 1e6:.1f}M parameters in float32, {flags.seconds} s a step on "
        f"one accelerator, {cluster.per_host} to a host at {cluster.inside / 1e9:.0f} GB/s, each "
        f"{cluster.between / 1e9:.0f} GB/s between hosts, {cluster.latency * 1e6:.0f} us a message"
    )
    for count in (8, 16, 64, 256, 1024):
        plain, hidden = cluster.efficiency(count, size)
        report.row(
            f"model: {count} accelerators",
            exchange_milliseconds=1e3 * cluster.exchange(count, size),
            efficiency=plain,
            efficiency_if_hidden=hidden,
        )


if __name__ == "__main__":
    main()
