"""Selecting the noise that is trained on: the best of several candidates, or an assignment.

A selection stands where a training step draws its noise:

    eps, source, info = selection.select(keys, x0, lam, step, losses)

Images and levels are drawn before; nothing is differentiated. What is selected is not N(0, I) any
more: along the direction of a linear score, the best of 4 has mean 1.03 and variance .49. So `info`
tells the moments of the noise, and `plain_share` and `anneal_steps` take the bias back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxnoise.errors import (
    ArgumentError,
    check_callable,
    check_count,
    check_numbers,
    check_shape,
    describe,
    is_traced,
)
from jaxnoise.meta.candidates import SCORE, Candidates, Losses, Score, draw_candidates, named_keys
from jaxnoise.meta.checks import check_batch, check_images, check_result, check_step
from jaxnoise.models.fused import at_least_float32

Info = dict[str, jax.Array]


class Selected(NamedTuple):
    """What to train on.

    Attributes:
      eps: float[B, ...], noise, in the dtype of the images.
      source: int32[B], the example of the batch whose image and level (and label and dropout mask)
        each noise belongs to; None: to its own.
      info: scalars for a record, each a mean over these B examples: over devices with equal parts
        of a batch, `pmean` them.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import NoiseSelection, RandomScore
      >>> keys, x0 = jax.random.split(jax.random.key(0), 3), jnp.ones((3, 4))
      >>> eps, source, info = NoiseSelection(RandomScore(), 2).select(keys, x0, jnp.zeros(3), 0)
      >>> eps.shape, source, sorted(info)[:2]
      ((3, 4), None, ['candidates_in_use', 'changed_share'])
    """

    eps: jax.Array
    source: jax.Array | None
    info: Info


class Weighted(NamedTuple):
    """What to train on, and how much each of it counts.

    Attributes:
      eps: as in `Selected`.
      source: as in `Selected`.
      info: as in `Selected`.
      weight: float[B] >= 0, by which each loss is multiplied before the mean over B is taken.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import Weighted
      >>> Weighted(jnp.ones((2, 4)), None, {}, weight=jnp.asarray([0.5, 1.5])).weight.mean().item()
      1.0
    """

    eps: jax.Array
    source: jax.Array | None
    info: Info
    weight: jax.Array


class Selection(Protocol):
    """Draws the noise of a batch: anything with such a method `select` is one.

    One that has a further parameter `shown` is handed what the network is shown of examples, as
    `NeutralPool` is.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import Selected, Selection
      >>> class Plain:
      ...     def select(self, keys, x0, lam, step, losses=None):
      ...         eps = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:], x0.dtype))(keys)
      ...         return Selected(eps, None, {})
      >>> selection: Selection = Plain()
      >>> keys, x0 = jax.random.split(jax.random.key(0), 3), jnp.ones((3, 8, 8, 1))
      >>> selection.select(keys, x0, jnp.zeros(3), step=0).eps.shape
      (3, 8, 8, 1)
    """

    def select(
        self,
        keys: jax.Array,
        x0: jax.Array,
        lam: jax.Array,
        step: ArrayLike,
        losses: Losses | None = None,
    ) -> Selected | Weighted:
        """B noises, or fewer with their `source`, and the example that each belongs to.

        Args:
          keys: key[B], each example's own; without selection its noise is `normal(key)`.
          x0: float[B, ...], clean images in [-1, 1].
          lam: float[B], log SNR, -2 ln sigma for a noise level sigma.
          step: training step k, an integer; may be traced.
          losses: `(x0, eps) -> float[B]`, the student's losses at the levels of this batch; only
            scores by loss ask for it.

        Returns:
          What to train on.
        """
        ...


def noise_moments(x0: jax.Array, eps: jax.Array) -> Info:
    """Moments of noise by which N(0, I) can be told from what was selected.

    Args:
      x0: float[B, ...], images of D pixels.
      eps: float[B, ...], their noise.

    Returns:
      Scalars, means over the batch, with their values under N(0, I): `noise_mean`, mean over the
      pixels (0); `noise_variance`, unbiased variance over the pixels (1), if there are several;
      `noise_square`, ||eps||^2 / D (1); `noise_along_image`, <x0, eps> / ||x0||, 0 for a black
      image (0).

    Raises:
      ArgumentError: arrays that are not float[B, ...] of one shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import noise_moments
      >>> info = noise_moments(jnp.ones((1, 2)), jnp.asarray([[1.0, 3.0]]))
      >>> {name: round(float(value), 3) for name, value in info.items()}
      {'noise_mean': 2.0, 'noise_variance': 2.0, 'noise_square': 5.0, 'noise_along_image': 2.828}
    """
    _check_pair(x0, eps)
    wide = at_least_float32(eps.dtype)
    x0, eps = (x.reshape(x.shape[0], -1).astype(wide) for x in (x0, eps))
    norm = jnp.linalg.norm(x0, axis=1)
    inner = jnp.sum(x0 * eps, axis=1)
    moments = {"noise_mean": jnp.mean(eps)}
    if eps.shape[1] > 1:
        moments["noise_variance"] = jnp.mean(jnp.var(eps, axis=1, ddof=1))
    return {
        **moments,
        "noise_square": jnp.mean(eps * eps),
        "noise_along_image": jnp.mean(inner / jnp.where(norm > 0, norm, 1)),
    }


def _check_pair(x0: jax.Array, eps: jax.Array) -> None:
    check_images("x0", x0)
    check_images("eps", eps)
    check_shape("eps", eps, x0.shape, "as x0")


@dataclass(frozen=True)
class NoiseSelection:
    """Best of M: `eps_b = eps_{b,m*}`, `m* = argmax_{m <= m(k)} score_{b,m}`.

    Candidate 1 is the draw of training without selection, and the first of equal scores wins; so
    M = 1, a constant score and a finished annealing all train on the very same noise.

    Annealing takes candidates away one by one, `m(k) = max(1, M - floor(M k / K))`: each number
    from M to 1 stays for K / M steps. All M are drawn and scored all the while.

    A NaN among the scores is selected and makes `score_margin` NaN.

    Args:
      score: `Candidates -> float[B, M]`; not called if M = 1.
      candidates: M, at least 1.
      plain_share: probability that an example keeps candidate 1, in [0, 1], drawn by its own key.
      anneal_steps: K, at least 1; None keeps M.

    Raises:
      ArgumentError: an argument is of another kind or outside its range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import NearestScore, NoiseSelection
      >>> keys, x0 = jax.random.split(jax.random.key(0), 100), jnp.full((100, 4), 0.5)
      >>> selection = NoiseSelection(NearestScore(), candidates=4)
      >>> eps, _, info = selection.select(keys, x0, jnp.zeros(100), step=0)
      >>> eps.shape, bool(info["noise_along_image"] > 0.5)
      ((100, 4), True)

    Reference: NoiseRater (https://arxiv.org/abs/2605.08144), second stage, known to us by its
    abstract; `plain_share` and the annealing are our choice.
    """

    score: Score
    candidates: int = 4
    plain_share: float = 0.0
    anneal_steps: int | None = None

    def __post_init__(self) -> None:
        check_callable("score", self.score, SCORE)
        check_count("candidates", self.candidates)
        share, allowed = self.plain_share, "a number in [0, 1]"
        if is_traced(share) or np.shape(share):
            raise ArgumentError("plain_share", describe(share), allowed)
        check_numbers("plain_share", share, lambda x: (x >= 0) & (x <= 1), allowed)
        if self.anneal_steps is not None:
            check_count("anneal_steps", self.anneal_steps)

    def in_use(self, step: ArrayLike) -> jax.Array:
        """m(k), how many candidates compete.

        Args:
          step: training step k, an integer; may be traced.

        Returns:
          int32[].

        Raises:
          ArgumentError: `step` is no integer.
        """
        check_step(step)
        everyone = jnp.asarray(self.candidates, jnp.int32)
        if self.anneal_steps is None:
            return everyone
        # The steps at which M k / K passes 1, 2, ...: integers, so that no rounding moves them.
        ends = -(np.arange(1, self.candidates) * -self.anneal_steps // self.candidates)
        return everyone - jnp.sum(
            jnp.asarray(ends, jnp.int32) <= jnp.asarray(step, jnp.int32), dtype=jnp.int32
        )

    def select(
        self,
        keys: jax.Array,
        x0: jax.Array,
        lam: jax.Array,
        step: ArrayLike,
        losses: Losses | None = None,
    ) -> Selected:
        """The best noise of each example.

        Beside `noise_moments`, `info` has `changed_share`, the examples whose noise is not
        candidate 1; `score_margin`, the score of the selected candidate above the mean of those
        that competed; `candidates_in_use`, m(k).

        Args:
          keys: key[B], each example's own; candidate 1 is `normal(key)`.
          x0: float[B, ...], clean images in [-1, 1].
          lam: float[B], log SNR, -2 ln sigma for a noise level sigma; a sigma in its
            place has the same shape, and is not told apart.
          step: training step k, an integer; may be traced.
          losses: `(x0, eps) -> float[B]`, the student's losses at the levels of this batch, for
            scores by loss.

        Returns:
          Selected: eps of the shape and dtype of x0, no `source` and `info`.

        Raises:
          ArgumentError: arguments that are not of one batch, a concrete `lam` that is not finite,
            or a score of another shape.
        """
        check_batch(keys, x0, lam, step, losses)
        eps = draw_candidates(keys, self.candidates, x0.shape[1:], x0.dtype)
        count = self.in_use(step)
        if self.candidates == 1:
            selected, margin = eps[:, 0], jnp.zeros_like(lam)
            index = jnp.zeros(lam.shape, jnp.int32)
        else:
            seen = Candidates(x0, eps, lam, named_keys(keys, "score"), losses)
            scored = self.score(seen)
            check_result("score", scored, eps.shape[:2], SCORE)
            scores = jax.lax.stop_gradient(scored)
            competes = jnp.broadcast_to(
                jnp.arange(self.candidates, dtype=jnp.int32)[None] < count, scores.shape
            )
            index = jnp.argmax(jnp.where(competes, scores, -jnp.inf), axis=1)
            if self.plain_share:
                index = jnp.where(self._stays_plain(keys), 0, index)
            selected, score = jax.vmap(lambda x, s, i: (x[i], s[i]))(eps, scores, index)
            margin = score - jnp.mean(scores, axis=1, where=competes)
        info = {
            **noise_moments(x0, selected),
            "changed_share": jnp.mean((index > 0).astype(jnp.float32)),
            "score_margin": jnp.mean(margin),
            "candidates_in_use": count.astype(jnp.float32),
        }
        return Selected(selected, None, info)

    def _stays_plain(self, keys: jax.Array) -> jax.Array:
        u = jax.vmap(lambda key: jax.random.uniform(key))(named_keys(keys, "plain"))
        return u < self.plain_share


def optimal_assignment(x0: jax.Array, eps: jax.Array) -> jax.Array:
    """The permutation that brings noise and images nearest: `argmin_p sum ||x0_b - eps_p(b)||^2`.

    Norms do not depend on the permutation, so `sum <x0_b, eps_p(b)>` is maximised, by the Hungarian
    algorithm on the device: O(B^3) and sequential, a control for batches of some hundred. Within
    `jax.shard_map` it needs `check_vma=False`, since optax's loops do.

    Args:
      x0: float[B, ...], images.
      eps: float[B, ...], noise.

    Returns:
      int32[B]: image b gets `eps[p[b]]`.

    Raises:
      ArgumentError: arrays that are not float[B, ...] of one shape.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import optimal_assignment
      >>> x0 = jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
      >>> print(optimal_assignment(x0, x0[::-1]))
      [1 0]

    Reference: Immiscible Diffusion (https://arxiv.org/abs/2406.12303), by its abstract.
    """
    _check_pair(x0, eps)
    rows, columns = (x.reshape(x.shape[0], -1) for x in (x0, eps))
    inner = jnp.matmul(rows, columns.T, precision=jax.lax.Precision.HIGHEST)
    image, noise = optax.assignment.hungarian_algorithm(jax.lax.stop_gradient(-inner))
    return jnp.zeros(x0.shape[0], jnp.int32).at[image].set(noise.astype(jnp.int32))


@dataclass(frozen=True)
class NoiseAssignment:
    """Control: every example draws its noise as without selection; then the batch hands it around.

    `eps_b = eps_{p(b)}` with p from `optimal_assignment`. The batch as a whole keeps exactly its
    noise; only what belongs to what changes.

    It sees the batch: the noise stays within the device's part of it, so another number of devices
    gives another assignment.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import NoiseAssignment
      >>> keys, x0 = jax.random.split(jax.random.key(0), 8), jnp.linspace(-1, 1, 32).reshape(8, 4)
      >>> eps, _, info = NoiseAssignment().select(keys, x0, jnp.ones(8), step=0)
      >>> eps.shape, bool(info["noise_along_image"] > 0.5)
      ((8, 4), True)

    Reference: Immiscible Diffusion (https://arxiv.org/abs/2406.12303), by its abstract.
    """

    def select(
        self,
        keys: jax.Array,
        x0: jax.Array,
        lam: jax.Array,
        step: ArrayLike,
        losses: Losses | None = None,
    ) -> Selected:
        """The noise of each example, handed around; no argument but `keys` and `x0` is used.

        Beside `noise_moments`, `info` has `changed_share`, the examples that get the noise of
        another one.

        Args:
          keys: key[B], each example's own; its noise is `normal(key)`.
          x0: float[B, ...], clean images in [-1, 1].
          lam: float[B], log SNR, -2 ln sigma for a noise level sigma; not used here.
          step: training step k, an integer; may be traced.
          losses: `(x0, eps) -> float[B]`, the student's losses, not used here.

        Returns:
          Selected: eps of the shape and dtype of x0, no `source` and `info`.

        Raises:
          ArgumentError: arguments that are not of one batch, a concrete `lam` that is not finite,
            or
            no images.
        """
        check_batch(keys, x0, lam, step, losses)
        del step, losses
        plain = draw_candidates(keys, 1, x0.shape[1:], x0.dtype)[:, 0]
        permutation = optimal_assignment(x0, plain)
        changed = permutation != jnp.arange(x0.shape[0], dtype=jnp.int32)
        selected = plain[permutation]
        share = jnp.mean(changed.astype(jnp.float32))
        return Selected(selected, None, {**noise_moments(x0, selected), "changed_share": share})
