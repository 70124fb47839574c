"""The Fréchet distance of Inception's 2,048 features: ours over scipy's square root of a matrix.

    python -m benchmarks.frechet

Covariances of 50,000 vectors with a spectrum that falls by 1e4, as features' do; the reference is
decomposed once. `differs` is the difference of the distances over the sum of the traces.
"""

from collections.abc import Callable

import numpy as np
import scipy.linalg

from benchmarks import frame
from jaxnoise.evaluation import FrechetReference, frechet_distance


def moments(seed: int, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """A mean and a covariance of correlated features."""
    draws = np.random.RandomState(seed)
    # Both sets share most of their axes, as real and generated images do.
    axes = np.linalg.qr(np.random.RandomState(0).standard_normal((dimension, dimension)))[0]
    values = 10 ** np.linspace(0, -4, dimension) * draws.uniform(0.5, 1.5, dimension)
    turned = axes + 0.01 * draws.standard_normal((dimension, dimension))
    return draws.standard_normal(dimension) * 0.1, (turned * values) @ turned.T


def by_square_root(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> float:
    """As the usual code takes it."""
    cross = scipy.linalg.sqrtm(first[1] @ second[1])
    traces = np.trace(first[1]) + np.trace(second[1]) - 2 * np.trace(cross).real
    return float(np.sum((first[0] - second[0]) ** 2) + traces)


def main(arguments: list[str] | None = None) -> None:
    flags = frame.parser(__doc__).parse_args(arguments)
    dimension = 32 if flags.quick else 2048
    real, generated = moments(1, dimension), moments(2, dimension)
    reference = FrechetReference.of(*real)
    ways: dict[str, Callable[[], float]] = {
        "reference decomposed once": lambda: reference.distance(*generated),
        "from two covariances": lambda: frechet_distance(*real, *generated),
        "scipy's sqrtm": lambda: by_square_root(real, generated),
    }
    found: dict[str, float] = {}

    def run(name: str) -> None:
        found[name] = ways[name]()

    jobs = {name: (lambda name=name: frame.once(lambda: run(name))) for name in ways}
    times = frame.in_turns(jobs, frame.rounds_of(flags, 2))
    last, report = list(ways)[-1], frame.Report("frechet", flags)
    size = np.trace(real[1]) + np.trace(generated[1])
    for name, taken in times.items():
        report.row(
            f"{dimension} features, {name}",
            seconds=taken.seconds,
            speed=times[last].over(taken),
            cpu=times[last].cpu_over(taken),
            differs=float(abs(found[name] - found[last]) / size),
        )


if __name__ == "__main__":
    main()
