"""Probes of meta-training: signal to noise of the values of draws, stability of scores."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnoise.errors import ArgumentError
from jaxnoise.meta.unroll import InnerState, meta_gradient
from jaxnoise.noise_rater.inner_task import InnerTask
from jaxnoise.noise_rater.inner_training import InnerTraining
from jaxnoise.noise_rater.step import RaterState
from jaxnoise.training.drawing import AXIS, Batch


class NoiseSignal(NamedTuple):
    """How much of a derivative by a weight is due to the noise that it weighs.

    Args:
      ratio: float[...], variance due to the draw of noise, over the variance that remains in one
        measurement. Unbiased but for the division, so below 0 now and then where there is none.
      f: float[...], F-ratio: 1 + R ratio. What it is without a signal, `signal_test` tells: images
        and draws share the error of an outer batch, so that tables of the F law do not apply.
    """

    ratio: jax.Array
    f: jax.Array


class SignalTest(NamedTuple):
    """Whether the F-ratios of many images are more than chance.

    Args:
      f: float[], their mean.
      without_signal: float[], what the mean would be without a signal.
      p: float[], share of sign patterns whose mean is at least `f`: in [2^(1-R), 1].
    """

    f: jax.Array
    without_signal: jax.Array
    p: jax.Array


def signal_to_noise(slopes: jax.Array) -> NoiseSignal:
    """Whether d value / d w tells draws of noise apart, at a fixed image and level.

      s_kr = m + a_k + b_r + e_kr     draw of noise k = 1..K, measured on outer batch r = 1..R
      f = [R sum_k (s_k. - s_..)^2 / (K-1)] / [sum_kr (s_kr - s_k. - s_.r + s_..)^2 / ((K-1)(R-1))]
      ratio = (f - 1) / R,            which estimates var(a) / var(e)

    What an outer batch does to all draws alike, b_r, is taken out, since a softmax over draws
    cancels it. At a ratio near 0 a rater has nothing to learn from one image and level; the mean of
    R measurements has the ratio R times as large.

    Args:
      slopes: float[..., K, R], K >= 2, R >= 2, e.g. from `make_signal_probe`.

    Returns:
      NoiseSignal of float[...].

    Raises:
      ArgumentError: fewer than two draws or measurements.

    Example:
      >>> signal = signal_to_noise(jnp.array([[1.0, 1.5], [3.0, 2.5], [5.0, 5.0]]))
      >>> print(f"{signal.ratio:.1f} {signal.f:.1f}")
      28.0 57.0

    Reference: two-way analysis of variance without replication; asking it here is our choice.
    """
    draws, repeats = slopes.shape[-2:]
    if min(draws, repeats) < 2:
        raise ArgumentError("slopes", slopes.shape, "of shape [..., K, R] with K, R >= 2")
    whole = jnp.mean(slopes, axis=(-2, -1), keepdims=True)
    by_draw = jnp.mean(slopes, axis=-1, keepdims=True) - whole
    by_batch = jnp.mean(slopes, axis=-2, keepdims=True) - whole
    rest = slopes - whole - by_draw - by_batch
    f = repeats * (repeats - 1) * jnp.sum(by_draw**2, axis=(-2, -1)) / jnp.sum(rest**2, (-2, -1))
    return NoiseSignal(ratio=(f - 1) / repeats, f=f)


def signal_test(slopes: jax.Array) -> SignalTest:
    """Tests whether draws of noise differ in their slopes, against chance.

      c_bkr = s_bkr - mean_k s_bkr,     F_b(e) the F-ratio of e_r c_bkr,     e_r = +1 or -1

    Without a signal the contrasts c of an outer batch are as likely as their negatives, all images
    and draws at once, since what they have in common is one gradient of that outer batch. So the
    signs of whole outer batches are flipped: all 2^(R-1) patterns for R up to 10, else 512 of them.
    With few outer batches no p can be small: 1/8 at R = 4, 1/128 at R = 8.

    Args:
      slopes: float[B, K, R], K >= 2, R >= 2, as for `signal_to_noise`, of one model at one moment.

    Returns:
      SignalTest of float[].

    Raises:
      ArgumentError: fewer than two draws or measurements, or no axis of images.

    Example:
      >>> draws = jnp.arange(5.0)[None, :, None] + 0.01 * jnp.cos(jnp.arange(40.0)).reshape(2, 5, 4)
      >>> print(signal_test(draws).p)
      0.125

    Reference: sign flips of exchangeable units, as in Winkler et al., "Permutation inference for
    the general linear model" (2014); asking it here is our choice.
    """
    chex.assert_rank(slopes, 3)
    draws, repeats = slopes.shape[1:]
    if min(draws, repeats) < 2:
        raise ArgumentError("slopes", slopes.shape, "of shape [B, K, R] with K, R >= 2")
    if repeats <= 10:
        # A pattern and its negative give the same F.
        signs = [(1, *rest) for rest in itertools.product((1, -1), repeat=repeats - 1)]
    else:
        random = np.random.RandomState(0).choice((1, -1), (511, repeats))
        signs = [(1,) * repeats, *random.tolist()]
    contrasts = slopes - jnp.mean(slopes, axis=1, keepdims=True)
    flips = jnp.asarray(signs, slopes.dtype)
    flipped = contrasts[None] * flips[:, None, None, :]
    means = jnp.mean(flipped, axis=3, keepdims=True)
    due = repeats * jnp.sum(means**2, axis=(2, 3))
    rest = jnp.sum((flipped - means) ** 2, axis=(2, 3))
    f = jnp.mean((repeats - 1) * due / rest, axis=1)
    # A few roundings below the observed one is still a tie.
    return SignalTest(f[0], jnp.mean(f), jnp.mean((f >= f[0] * (1 - 1e-5)).astype(f.dtype)))


def gradient_cosine(a: Any, b: Any) -> jax.Array:
    """Cosine of the angle between two gradients, e.g. the exact and the first-order one.

    Args:
      a: pytree of float arrays.
      b: the same.

    Returns:
      float[] in [-1, 1]; nan if either is 0.

    Example:
      >>> one, other = {"w": jnp.array([3.0, 0.0])}, {"w": jnp.array([3.0, 4.0])}
      >>> print(f"{gradient_cosine(one, other):.2f}")
      0.60
    """
    return optax.tree.vdot(a, b) / (optax.tree.norm(a) * optax.tree.norm(b))


def score_autocorrelation(before: jax.Array, after: jax.Array) -> jax.Array:
    """Pearson's correlation of a rater's scores of fixed examples at two meta-steps.

    Args:
      before: float[N].
      after: float[N], scores of the same examples later.

    Returns:
      float[] in [-1, 1]; nan if either is constant.

    Example:
      >>> print(f"{score_autocorrelation(jnp.array([1.0, 2.0, 3.0]), jnp.array([3.0, 5.0, 7.0])):.2f}")
      1.00
    """  # noqa: E501
    chex.assert_rank([before, after], 1)
    return gradient_cosine(before - jnp.mean(before), after - jnp.mean(after))


def oldest(state: RaterState) -> tuple[jax.Array, InnerState, jax.Array]:
    """The inner model that has trained longest: its number, its state and its age in meta-steps.

    A model that was just begun has steep slopes that say little of training.
    """
    member = jnp.argmax(state.age)
    inner, age = jax.tree.map(lambda x: x[member], (state.inner, state.age))
    return member, inner, age


def make_order_probe(
    training: InnerTraining,
) -> Callable[[RaterState, Batch, jax.Array], jax.Array]:
    """Builds the per-device probe of how good the first-order meta-gradient would be.

    Args:
      training: what inner models do in a meta-step.

    Returns:
      `(state, batch, key) -> float[]`: the cosine of the first-order to the exact meta-gradient of
      the oldest inner model over the axis "data", on the batch of the next meta-step; nan where
      either is 0.
    """
    exact, first_order = (training.solver(mode) for mode in ("mixed", "first_order"))

    def probe(state: RaterState, batch: Batch, key: jax.Array) -> jax.Array:
        images, labels = training.by_member(*batch.read())
        member, inner, age = oldest(state)
        own = training.population.key(key, member, state.step)
        examples = training.draw(own, age, images[member], labels[member])
        given = (state.eta, inner, *examples)
        return gradient_cosine(first_order(*given).gradient, exact(*given).gradient)

    return probe


def make_signal_probe(
    task: InnerTask,
    optimizer: optax.GradientTransformation,
    *,
    draws: int,
    repeats: int,
) -> Callable[[InnerState, jax.Array, Batch, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Builds the per-device probe that measures slopes for `signal_to_noise`.

      slopes_bkr = d value_r / d w_bk   at   w = 1 / (B K),   after one inner step (T = 1),

    for K draws of noise of each of B images at one level, and R outer batches.

    Args:
      task: what inner models train on; B is its global batch.
      optimizer: of the inner model.
      draws: K, at least 2.
      repeats: R, at least 2.

    Returns:
      `(inner, step, batch, key, grid_key) -> (slopes float[B, K, R], sigma float[B])`, replicated,
      for one inner model that has made `step` steps at the levels of `grid_key`, over the axis
      "data". The batch holds [b, 1, 1 + R] examples: `meta_indices(..., population=1,
      inner_steps=1, outer_batch=R * B)`.

    Raises:
      ArgumentError: an argument out of range.
    """
    for name, value in (("draws", draws), ("repeats", repeats)):
        if value < 2:
            raise ArgumentError(name, value, "at least 2")
    task = replace(task, candidates=draws)
    count = task.global_batch * draws

    def uniform(eta: Any, examples: Any) -> jax.Array:
        del eta
        return jnp.full(examples.x0.shape[0], 1 / count, examples.x0.dtype)

    solve = meta_gradient(task.losses, uniform, task.outer_loss, optimizer, axis_name=AXIS)

    def probe(
        inner: InnerState, step: jax.Array, batch: Batch, key: jax.Array, grid_key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        images, labels = (jnp.moveaxis(x[:, 0], 0, 1) for x in batch.read())
        if images.shape[0] != 1 + repeats:
            raise ArgumentError("batch", images.shape, f"examples [{1 + repeats}, b, ...]")
        examples = task.draw(key, grid_key, step, images[0], labels[0])
        steps = jax.tree.map(lambda x: x[None], examples)
        slopes = []
        for r in range(1, 1 + repeats):
            outer_key = jax.random.fold_in(key, r)
            measured = images[r : r + 1], labels[r : r + 1]
            outer = task.draw_outer(outer_key, grid_key, step + 1, *measured)
            slopes.append(solve((), inner, steps, outer).weight_gradients[0])
        found = jnp.stack(slopes, axis=1).reshape(-1, draws, repeats)
        sigma = examples.levels.sigma[::draws]
        return jax.lax.all_gather((found, sigma), AXIS, tiled=True)

    return probe
