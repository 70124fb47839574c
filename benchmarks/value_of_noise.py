"""What share of a draw's value can be told, and by whom: a rater, its loss, what the network sees.

    python benchmarks/value_of_noise.py --workdir RATER_RUN [--examples 1024]

The value of an example (x0, eps, lam, label) is what more weight on it does to the outer loss after
a step of an inner model of that run, the oldest one of its newest checkpoint:

    v_i = -B d outer_loss / d w_i   at   w = 1 / B

with an outer loss over --repeats times as many draws of noise for held-out images.

The first row is the share of its variance that lies between levels. Within levels, of which there
are 16 strata with mean and variance of v made 0 and 1, the others are

* squared correlations, with a minus where what scores high is worth less;
* shares that a kernel ridge regression, given level and label too, tells of images that it was not
  fitted to, about 0 where it tells nothing: lower bounds of what can be told of new images, of
  which "image and noise" would be 1 for a regression that knew the inner model;
* for squared errors, what the noisy image, level and label tell where the inner model and all its
  images are known: the variance of E[v | x, lam, label] over those images, the upper bound of any
  neutral rater of them; in all, and by quarters of the levels.

As v is linear in x0 where x is given, that mean is the value at x0 = E[x0 | x, lam, label].
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
      label: float[n, classes], one of them 1; no columns where the network sees no labels.
      expected: float[n], the mean of `value` over the images of training where noisy image, level
        and label are given; None but for squared errors.
    """

    value: Floats
    lam: Floats
    score: Floats
    loss: Floats
    x0: Floats
    eps: Floats
    noisy: Floats
    image: NDArray[np.integer[Any]]
    label: Floats
    expected: Floats | None


class Step(NamedTuple):
    """An inner model, a batch that it may train on, and what the step is judged by.

    Attributes:
      task: an `InnerTask`.
      optimizer: of the inner model.
      inner: its `InnerState`.
      drawn: the batch's `Examples`.
      outer: the examples of the outer loss.
      score: float[n], the rater's.
      noisy: float[n, ...], what the network sees.
      image: int[n], which image each example is of.
      pool: all images that inner models see, float[p, ...] in [-1, 1], and labels, int[p].
    """

    task: Any
    optimizer: Any
    inner: Any
    drawn: Any
    outer: Any
    score: Any
    noisy: Any
    image: NDArray[np.integer[Any]]
    pool: tuple[Floats, NDArray[np.integer[Any]]]


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
        best, components = -np.inf, min(COMPONENTS, len(fitted))
        # Width and ridge by leaving out one example after the other.
        for width in WIDTHS:
            kernel = Nystroem(gamma=width / x.shape[1], n_components=components, random_state=0)
            basis = kernel.fit_transform(x[fitted])
            ridge = RidgeCV(alphas=RIDGES).fit(basis, value[fitted])
            if ridge.best_score_ > best:
                best = ridge.best_score_
                predicted[rest] = ridge.predict(kernel.transform(x[rest]))
    return 1 - float(np.mean((value - predicted) ** 2) / np.var(value))


def known(found: Values, strata: NDArray[np.integer[Any]]) -> Floats:
    """Float[strata], the share of the variance of v in each stratum that `expected` tells."""
    assert found.expected is not None
    left = found.value - found.expected
    parts = [strata == stratum for stratum in np.unique(strata)]
    # Where all values are the same there is nothing to tell.
    floor = np.finfo(float).tiny
    return np.array([1 - np.var(left[own]) / (np.var(found.value[own]) + floor) for own in parts])


def shares_of(found: Values) -> dict[str, float]:
    """The rows of the table."""
    strata = strata_of(found.lam, STRATA)
    value, given = within(found.value, strata), np.hstack([found.lam[:, None], found.label])
    parts = [found.value[strata == stratum] for stratum in range(STRATA)]
    # Means of n / 16 examples differ by chance too.
    chance = np.mean([np.var(part, ddof=1) / len(part) for part in parts]) * (1 - 1 / STRATA)
    between = np.var([np.mean(part) for part in parts]) - chance
    rows = {
        "levels, of the whole variance": float(between / np.var(found.value)),
        "the rater's score": signed_share(within(found.score, strata), value),
        "the loss": signed_share(within(found.loss, strata), value),
        "the image": told_by(np.hstack([found.x0, given]), value, found.image),
        "the noise": told_by(np.hstack([found.eps, given]), value, found.image),
        "the noisy image": told_by(np.hstack([found.noisy, given]), value, found.image),
        "image and noise": told_by(np.hstack([found.x0, found.eps, given]), value, found.image),
    }
    if found.expected is None:
        return rows
    quarters = known(found, strata).reshape(4, -1)
    means = [np.mean(found.lam[strata * 4 // STRATA == quarter]) for quarter in range(4)]
    rows["noisy image, images known"] = float(np.mean(quarters))
    return rows | {
        f"  at log SNR {mean:.1f}": float(np.mean(each))
        for mean, each in zip(means, quarters, strict=True)
    }


def read_step(workdir: Path, examples: int, repeats: int) -> Step:
    """The oldest inner model of the newest checkpoint of a rater's run, and a step of it."""
    from dataclasses import replace

    import jax
    import jax.numpy as jnp

    from jaxnoise import experiment
    from jaxnoise.noise_rater.population import meta_indices
    from jaxnoise.noise_rater.probes import oldest
    from jaxnoise.run.rater import open_rater
    from jaxnoise.training.checkpoints import Checkpoints
    from jaxnoise.training.drawing import AXIS, to_float
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
    plain = {"global_batch": examples, "candidates": None, "dropout": False, "flip": False}
    task = replace(rater.inner_training.task, **plain)
    training = replace(rater.inner_training, task=task, outer_batch=repeats * examples)
    held_out = round(run.meta.held_out * rater.images.num_examples)

    def indices(step: int, batch: int, outer_batch: int) -> NDArray[np.integer[Any]]:
        """The same split of the images as in training, dealt out once more."""
        return meta_indices(
            run.seed,
            rater.images.num_examples,
            held_out,
            step,
            population=1,
            inner_steps=1,
            batch=batch,
            outer_batch=outer_batch,
        )[:, 0].T

    inner_images = rater.images.num_examples - held_out
    if examples > inner_images:
        # Or the regressions are tuned on images that they know.
        raise SystemExit(f"error: --examples={examples}: must be at most {inner_images}, one each")
    # The first pass over them.
    pixels, labels = rater.images.load(indices(0, inner_images, inner_images)[0])
    pool = np.asarray(to_float(jnp.asarray(pixels)), np.float64), np.asarray(labels)
    if rater.inner_training.task.flip:
        pool = np.concatenate([pool[0], pool[0][:, :, ::-1]]), np.tile(pool[1], 2)
    # A batch in which a later pass ends may have an image twice.
    parts = indices(0, examples, repeats * examples)
    pixels, labels = rater.images.load(parts.reshape(-1))
    pixels, labels = (np.asarray(x).reshape(*parts.shape, *x.shape[1:]) for x in (pixels, labels))
    member, inner, age = oldest(state)

    def draw(pixels: Any, labels: Any) -> Any:
        life = training.population.key(rater.key, member, state.step)
        made, grid_key = age * training.inner_steps, stream_key(life, "grid")
        key = stream_key(life, "signal")
        drawn = task.draw(key, grid_key, made, pixels[0], labels[0])
        outer = task.draw_outer(key, grid_key, made + 1, pixels[1:], labels[1:])
        own = task.objective.init(jax.random.key(0))
        noisy = network_input(task.objective, own, drawn.x0, drawn.eps, drawn.levels)
        return drawn, outer, training.scores(state.eta, drawn), noisy

    drawn = jax.jit(jax.vmap(draw, axis_name=AXIS))(pixels[None], labels[None])
    drawn, outer, score, noisy = jax.tree.map(lambda x: x[0], drawn)
    return Step(task, run.optimizer, inner, drawn, outer, score, noisy, parts[0], pool)


def is_squared(objective: Any) -> bool:
    """Whether losses are squared errors, times what neither image nor noise has a part in."""
    from jaxnoise.objectives import DenoisingObjective

    return isinstance(objective, DenoisingObjective) and not objective.uncertainty


def expected_of(step: Step) -> Any:
    """The same examples with E[x0 | x, lam, label] over the pool for x0, x as it was."""
    import jax.numpy as jnp

    drawn, (images, labels) = step.drawn, step.pool
    x0, eps = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (drawn.x0, drawn.eps))
    images = images.reshape(len(images), -1)
    # Noisy images of unit noise: x0 exp(lam / 2) + eps.
    signal = np.exp(np.asarray(drawn.levels.lam, np.float64) / 2)[:, None]
    noisy = signal * x0 + eps
    likely = signal * (noisy @ images.T) - signal**2 * np.sum(images**2, axis=1) / 2
    if drawn.labels is not None:
        likely = np.where(np.asarray(drawn.labels)[:, None] == labels, likely, -np.inf)
    share = np.exp(likely - likely.max(axis=1, keepdims=True))
    mean = share / share.sum(axis=1, keepdims=True) @ images
    shape, dtype = drawn.x0.shape, drawn.x0.dtype
    rest = jnp.asarray((noisy - signal * mean).reshape(shape), dtype)
    return drawn.replace(x0=jnp.asarray(mean.reshape(shape), dtype), eps=rest)


def values_of(step: Step) -> Values:
    """What the examples of a step are worth to it."""
    import jax
    import jax.numpy as jnp

    from jaxnoise.meta import meta_gradient

    examples, squared = len(step.image), is_squared(step.task.objective)
    drawn, batch = step.drawn, step.drawn
    if squared:
        # Without weight they take no part in the step, and have a value all the same.
        batch = jax.tree.map(lambda *x: jnp.concatenate(x), drawn, expected_of(step))

    def weights(eta: Any, batch: Any) -> Any:
        return jnp.where(jnp.arange(len(batch.x0)) < examples, 1 / examples, 0.0)

    task = step.task
    solve = jax.jit(meta_gradient(task.losses, weights, task.outer_loss, step.optimizer))
    found = solve((), step.inner, jax.tree.map(lambda x: x[None], batch), step.outer)
    slopes = np.asarray(-examples * found.weight_gradients[0], np.float64)
    arrays = slopes[:examples], drawn.levels.lam, step.score, found.losses[0][:examples]
    flat = [np.asarray(x, np.float64) for x in arrays]
    shaped = [np.asarray(x, np.float64).reshape(examples, -1) for x in (drawn.x0, drawn.eps)]
    labels = np.zeros((examples, 0))
    if drawn.labels is not None:
        labels = np.eye(int(step.task.num_classes))[np.asarray(drawn.labels)]
    noisy = np.asarray(step.noisy, np.float64).reshape(examples, -1)
    expected = slopes[examples:] if squared else None
    return Values(*flat, *shaped, noisy, step.image, labels, expected)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, type=Path, help="folder of a rater's run")
    parser.add_argument("--examples", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=4)
    given = parser.parse_args(arguments)
    if not (given.workdir / "config.json").is_file():
        parser.error(f"--workdir={given.workdir}: must be the folder of a run")
    if given.examples < 8 * STRATA:
        parser.error(f"--examples={given.examples}: must be at least {8 * STRATA}")
    if given.repeats < 1:
        parser.error(f"--repeats={given.repeats}: must be at least 1")
    found = values_of(read_step(given.workdir, given.examples, given.repeats))
    for name, share in shares_of(found).items():
        print(f"{name:32} {share:7.3f}")


if __name__ == "__main__":
    main()
