"""What share of a draw's value can be told, and by whom: a rater, its loss, what the network sees.

    python benchmarks/value_of_noise.py --workdir RATER_RUN [--examples 2048]

The value of an example (x0, eps, lam) is what more weight on it does to the outer loss after a step
of an inner model of that run, the oldest one of its newest checkpoint:

    v_i = -B d outer_loss / d w_i   at   w = 1 / B

with an outer loss over --repeats times as many draws of noise for held-out images.

The first row is the share of its variance that lies between levels. Within levels, of which there
are 16 strata with mean and variance of v made 0 and 1, the others are squared correlations, with a
minus where what scores high is worth less, and shares that a kernel ridge regression tells of
images that it was not fitted to, about 0 where it tells nothing: lower bounds of what is there, of
which "image and noise" would be 1 for a regression that knew the inner model. A neutral rater can
tell no more than what the noisy image and its level tell.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

Floats = NDArray[np.floating[Any]]
STRATA = 16
WIDTHS = (0.03, 0.1, 0.3, 1.0)
RIDGES = tuple(10.0**k for k in np.arange(-3, 3.5, 0.5))
COMPONENTS = 400


class Values(NamedTuple):
    """Examples of one inner step, and what they are worth.

    Attributes:
      value: float[n].
      lam: float[n], log SNR.
      score: float[n], the rater's.
      loss: float[n].
      x0: float[n, d].
      eps: float[n, d].
      noisy: float[n, d], what the network sees.
      image: int[n], which image it is.
    """

    value: Floats
    lam: Floats
    score: Floats
    loss: Floats
    x0: Floats
    eps: Floats
    noisy: Floats
    image: NDArray[np.integer[Any]]


def strata_of(lam: Floats, count: int) -> NDArray[np.integer[Any]]:
    """Int[n], equally many examples in each stratum of neighbouring levels."""
    ranks = np.argsort(np.argsort(lam, kind="stable"))
    return ranks * count // len(lam)


def within(x: Floats, strata: NDArray[np.integer[Any]]) -> Floats:
    """Numbers with the mean of their stratum taken off, over its standard deviation."""
    found = np.zeros(len(x))
    for stratum in np.unique(strata):
        own = strata == stratum
        spread = np.std(x[own])
        found[own] = (x[own] - np.mean(x[own])) / (spread if spread else 1)
    return found


def signed_share(x: Floats, value: Floats) -> float:
    """The squared correlation of two numbers of mean 0, with the correlation's sign."""
    scale = np.mean(x**2) * np.mean(value**2)
    correlation = float(np.mean(x * value) / np.sqrt(scale)) if scale else 0.0
    return correlation * abs(correlation)


def told_by(features: Floats, value: Floats, image: NDArray[np.integer[Any]]) -> float:
    """1 - mean square error / variance of a kernel ridge regression on images held out from it.

    Args:
      features: float[n, d].
      value: float[n].
      image: int[n]; no image is both fitted to and predicted.
    """
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold

    x = (features - features.mean(0)) / np.maximum(features.std(0), 1e-12)
    predicted = np.zeros(len(value))
    for fitted, rest in GroupKFold(5).split(x, groups=image):
        best = -np.inf
        # Width and ridge by leaving out one example after the other.
        for width in WIDTHS:
            kernel = Nystroem(gamma=width / x.shape[1], n_components=COMPONENTS, random_state=0)
            basis = kernel.fit_transform(x[fitted])
            ridge = RidgeCV(alphas=RIDGES).fit(basis, value[fitted])
            if ridge.best_score_ > best:
                best = ridge.best_score_
                predicted[rest] = ridge.predict(kernel.transform(x[rest]))
    return 1 - float(np.mean((value - predicted) ** 2) / np.var(value))


def shares_of(found: Values) -> dict[str, float]:
    """The rows of the table."""
    strata = strata_of(found.lam, STRATA)
    value, lam = within(found.value, strata), found.lam[:, None]
    means = np.array([np.mean(found.value[strata == stratum]) for stratum in range(STRATA)])
    return {
        "levels, of the whole variance": float(np.var(means) / np.var(found.value)),
        "the rater's score": signed_share(within(found.score, strata), value),
        "the loss": signed_share(within(found.loss, strata), value),
        "the image": told_by(np.hstack([found.x0, lam]), value, found.image),
        "the noise": told_by(np.hstack([found.eps, lam]), value, found.image),
        "the noisy image": told_by(np.hstack([found.noisy, lam]), value, found.image),
        "image and noise": told_by(np.hstack([found.x0, found.eps, lam]), value, found.image),
    }


def measured(workdir: Path, examples: int, repeats: int) -> Values:
    """Values of examples, taken from the newest checkpoint of a rater's run."""
    from dataclasses import replace

    import jax
    import jax.numpy as jnp

    from jaxnoise import experiment
    from jaxnoise.meta import meta_gradient
    from jaxnoise.noise_rater.population import meta_indices
    from jaxnoise.noise_rater.probes import oldest
    from jaxnoise.run.rater import open_rater
    from jaxnoise.training.checkpoints import Checkpoints
    from jaxnoise.training.drawing import AXIS
    from jaxnoise.training.records import RunFolder
    from jaxnoise.training.shown import network_input
    from jaxnoise.training.streams import stream_key

    run = experiment.read(json.loads((workdir / "config.json").read_text()))
    if not isinstance(run, experiment.RaterRun):
        raise SystemExit(f"error: --workdir={workdir}: must be the folder of a rater's run")
    rater = open_rater(run)
    state = Checkpoints(RunFolder(workdir).checkpoints).restore(
        rater.abstract_state, set_aside=False, check_meta=rater.check_meta
    )
    if state is None:
        raise SystemExit(f"error: --workdir={workdir}: holds no checkpoint; train first")
    task = replace(rater.inner_training.task, global_batch=examples, candidates=None, dropout=False)
    training = replace(rater.inner_training, task=task, outer_batch=repeats * examples)

    # The same split of the images as in training, dealt out once more.
    parts = meta_indices(
        run.seed,
        rater.images.num_examples,
        round(run.meta.held_out * rater.images.num_examples),
        int(state.step),
        population=1,
        inner_steps=1,
        batch=examples,
        outer_batch=repeats * examples,
    )[:, 0].T
    pixels, labels = rater.images.load(parts.reshape(-1))
    pixels, labels = (np.asarray(x).reshape(*parts.shape, *x.shape[1:]) for x in (pixels, labels))

    def uniform(eta: Any, drawn: Any) -> Any:
        return jnp.full(drawn.x0.shape[0], 1 / examples)

    solve = meta_gradient(task.losses, uniform, task.outer_loss, run.optimizer, axis_name=AXIS)

    def values(pixels: Any, labels: Any) -> Any:
        member, inner, age = oldest(state)
        life = training.population.key(rater.key, member, state.step)
        made, grid_key = age * training.inner_steps, stream_key(life, "grid")
        key = stream_key(life, "signal")
        drawn = task.draw(key, grid_key, made, pixels[0], labels[0])
        outer = task.draw_outer(key, grid_key, made + 1, pixels[1:], labels[1:])
        found = solve((), inner, jax.tree.map(lambda x: x[None], drawn), outer)
        own = task.objective.init(jax.random.key(0))
        noisy = network_input(task.objective, own, drawn.x0, drawn.eps, drawn.levels)
        score = training.scores(state.eta, drawn)
        slopes, losses = -examples * found.weight_gradients[0], found.losses[0]
        return slopes, drawn.levels.lam, score, losses, drawn.x0, drawn.eps, noisy

    arrays = jax.jit(jax.vmap(values, axis_name=AXIS))(pixels[None], labels[None])
    flat = [np.asarray(x[0], np.float64).reshape(examples, -1) for x in arrays]
    return Values(*(x[:, 0] for x in flat[:4]), *flat[4:], parts[0])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, type=Path, help="folder of a rater's run")
    parser.add_argument("--examples", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=4)
    given = parser.parse_args(arguments)
    if not (given.workdir / "config.json").is_file():
        parser.error(f"--workdir={given.workdir}: must be the folder of a run")
    if given.examples < 8 * STRATA:
        parser.error(f"--examples={given.examples}: must be at least {8 * STRATA}")
    if given.repeats < 1:
        parser.error(f"--repeats={given.repeats}: must be at least 1")
    for name, share in shares_of(measured(given.workdir, given.examples, given.repeats)).items():
        print(f"{name:32} {share:7.3f}")


if __name__ == "__main__":
    main()
