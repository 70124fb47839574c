"""What a compensated adaptive law does to the gradient of a trained run, by band of noise.

    python benchmarks/gradient_variance.py --workdir RUN [--step N] [--examples 1024]

A law p that is compensated by r = b / p, with b the law that it paces, leaves the gradient's
expectation and changes its second moment. Examples are drawn from p, and their gradients g of the
loss without r taken one by one at the run's own weights, so that

    E_b |g|^2 = E_p r |g|^2           and           E_b r |g|^2 = E_p r^2 |g|^2

are the trace of the second moment under b alone and under p. Their ratio is below 1 where the law
does what it is compensated for. A band's rows say how often it is drawn under p over b, and which
part it has of either trace.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from jaxnoise.noise.bands import BAND_NAMES, band_of  # noqa: E402

Floats = NDArray[np.floating[Any]]


class Row(NamedTuple):
    """What the examples of a band tell.

    Attributes:
      band: of sigma; "all" for all of them.
      drawn: how often it is drawn, over how often the law that is paced draws it.
      loss: mean under the law that is paced.
      plain: the band's part of the trace under that law.
      compensated: that of the trace under the adaptive law, in the same unit; for "all" the ratio.
    """

    band: str
    drawn: float
    loss: float
    plain: float
    compensated: float


def rows_of(sigma: Floats, importance: Floats, losses: Floats, squares: Floats) -> list[Row]:
    """A row for each band that was drawn, cleanest first, and one for all.

    Args:
      sigma: float[n], levels drawn from the adaptive law.
      importance: float[n], r at these levels.
      losses: float[n], without r.
      squares: float[n], the squared norm of each loss's gradient.
    """
    whole = np.mean(importance * squares)
    bands = band_of(sigma)
    chosen = [(BAND_NAMES[i], bands == i) for i in np.unique(bands)]
    rows = []
    for name, inside in [*chosen, ("all", np.full(len(sigma), True))]:
        r, square = importance[inside], squares[inside]
        rows.append(
            Row(
                name,
                float(len(r) / np.sum(r)),
                float(np.sum(r * losses[inside]) / np.sum(r)),
                float(np.sum(r * square) / len(sigma) / whole),
                float(np.sum(r**2 * square) / len(sigma) / whole),
            )
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, type=Path, help="folder of a trained run")
    parser.add_argument("--step", type=int, help="of the checkpoint; the newest")
    parser.add_argument("--examples", type=int, default=1024)
    given = parser.parse_args(arguments)
    if not (given.workdir / "config.json").is_file():
        parser.error(f"--workdir={given.workdir}: must be the folder of a run")
    if given.examples < 1:
        parser.error(f"--examples={given.examples}: must be at least 1")
    print("band      drawn    loss  trace under b  trace under p")
    for row in rows_of(*measured(given.workdir, given.step, given.examples)):
        print("{:8} {:6.2f} {:7.3f} {:14.3f} {:14.3f}".format(*row))


def measured(workdir: Path, step: int | None, examples: int) -> tuple[Floats, ...]:
    """The arguments of `rows_of`, taken from a checkpoint of a run."""
    import jax

    from jaxnoise import experiment
    from jaxnoise.run.model import open_model
    from jaxnoise.run.trained import trained_state
    from jaxnoise.training.drawing import to_float
    from jaxnoise.training.records import RunFolder

    folder = RunFolder(workdir)
    run = experiment.read(json.loads((workdir / "config.json").read_text()))
    model = open_model(run, scored=False)
    state = trained_state(model, folder, step)
    keys = jax.random.split(model.key, 4)
    rows = jax.random.randint(keys[0], (examples,), 0, model.images.num_examples)
    pixels, labels = model.images.load(np.asarray(rows))
    x0 = to_float(jax.numpy.asarray(pixels))
    eps = jax.random.normal(keys[1], x0.shape)
    levels = run.objective.draw(keys[2], keys[3], state.step, examples, state.pace)
    if levels.importance is None:
        raise SystemExit(f"error: --workdir={workdir}: its pacing must be compensated")
    plain = levels.replace(importance=None)

    gradient = loss_and_square(model, state)
    found = []
    for i in range(examples):
        one = jax.tree.map(lambda x, i=i: x[i : i + 1], (x0, eps, labels, plain))
        found.append([float(x) for x in gradient(*one)])
    losses, squares = np.array(found).T
    sigma = np.exp(-np.asarray(levels.lam) / 2)
    return sigma, np.asarray(levels.importance, np.float64), losses, squares


def loss_and_square(model: Any, state: Any) -> Callable[..., Any]:
    """`(x0, eps, labels, levels)` of one example -> its loss and its gradient's squared norm."""
    import jax
    import optax

    def loss(params: Any, x0: Any, eps: Any, labels: Any, levels: Any) -> Any:
        def network(of: Any) -> Any:
            shown = labels if model.conditional else None
            return lambda x, c: model.apply(of["network"], x, c, shown)

        teacher = params if state.teacher is None else state.teacher
        own = params["objective"]
        objective = model.run.objective
        return objective.losses(network(params), network(teacher), own, x0, eps, levels)[0]

    @jax.jit
    def both(*example: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(state.params, *example)
        return value, optax.tree.norm(gradient, squared=True)

    return both


if __name__ == "__main__":
    main()
