"""What drawing noise costs: a whole training step under each law, curriculum and pacing.

    python -m benchmarks.noise_overhead [--rounds N]

Each row is a step of the digits' U-Net (network, gradient, optimizer, average) over the same step
with every noise level a constant, in turns; `operations` is the same for XLA's count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from benchmarks import frame, steps
from jaxnoise.config import noise as choices
from jaxnoise.objectives import ConsistencyObjective, LogSnrLevels, Pairs
from jaxnoise.training.parallel import use_all_cores

NEEDED: dict[str, dict[str, Any]] = {
    "beta": {"a": 1.5, "b": 5.0},
    "tabulated": {"lam": (-8.0, 0.0, 8.0), "density": (0.1, 1.0, 0.1)},
    # Laws whose tails would overflow the weight are cut.
    **{name: {"low": -15.0, "high": 15.0} for name in ("cauchy", "linear_path", "normal")},
    "adaptive": {"range": (-10.0, 10.0)},
    "asymmetric": {"boundary": 0.642},
}
"""What a law or pacing must be told beside its name."""


@dataclass(frozen=True)
class FixedLevel:
    """An objective whose every example has the same noise."""

    objective: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    def draw(self, key: Any, fixed_key: Any, step: Any, count: int, pace: Any = ()) -> Any:
        ones = jnp.ones(count, jnp.float32)
        if isinstance(self.objective, ConsistencyObjective):
            return Pairs(sigma_lo=0.9 * ones, sigma_hi=ones, log_prob=0 * ones)
        return LogSnrLevels(lam=0 * ones, log_prob=0 * ones)

    def metrics(self, step: Any, pace: Any = ()) -> dict[str, Any]:
        return {}


def _named(name: str) -> dict[str, Any]:
    return {"name": name, **NEEDED.get(name, {})}


def cases(setting: steps.Setting, quick: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """A config for every law, curriculum and pacing that a config can name."""
    pairs, snr = setting.config("consistency"), setting.config("denoising")
    if quick:
        yield "pacing: adaptive", snr | {"pacing": _named("adaptive")}
        return
    for name in choices.PAIR_LAWS:
        yield f"law over pairs: {name}", pairs | {"law": _named(name)}
    for name in choices.CURRICULA:
        own = {} if name == "constant" else {"s0": 20, "s1": 250}
        yield f"curriculum: {name}", pairs | {"curriculum": {"name": name, **own}}
    predefined = {"grid": {"name": "predefined", "rule": "nested", "table_size": 251}}
    sinusoidal = {"curriculum": {"name": "sinusoidal", "s0": 20, "s1": 250}}
    yield "predefined levels, sinusoidal", pairs | predefined | sinusoidal
    for name in choices.LOG_SNR_LAWS:
        yield f"law over log SNR: {name}", snr | {"law": _named(name)}
    mixed = {"name": "laplace", "mixed": {"name": "cosine", "share": 0.1}}
    yield "laplace with 10% cosine", snr | {"law": mixed}
    for name in choices.PACINGS:
        if name != "none":
            yield f"pacing: {name}", snr | {"pacing": _named(name)}


def main(arguments: list[str] | None = None) -> None:
    flags = frame.parser(__doc__).parse_args(arguments)
    use_all_cores(64)
    report, rounds = frame.Report("noise_overhead", flags), frame.rounds_of(flags, 16)
    setting = steps.SMALLEST if flags.quick else steps.SETTINGS["tiny 8x8"]
    fixed: dict[str, steps.StepJob] = {}
    for case, config in cases(setting, flags.quick):
        model = steps.opened(config, setting)
        kind = config["objective"]["name"]
        if kind not in fixed:
            plain = steps.opened(setting.config(kind), setting)
            fixed[kind] = steps.StepJob(plain, objective=FixedLevel(plain.run.objective))
        own = steps.StepJob(model)
        jobs = {"own": frame.here(own.run), "fixed": frame.here(fixed[kind].run)}
        times = frame.in_turns(jobs, rounds)
        report.row(
            case,
            milliseconds=1e3 * times["own"].seconds,
            time=times["own"].over(times["fixed"]),
            cpu=times["own"].cpu_over(times["fixed"]),
            operations=round(own.operations / fixed[kind].operations, 5),
        )


if __name__ == "__main__":
    main()
