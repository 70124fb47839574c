"""Selecting from the pool of a whole batch: which noise, and with it which images and levels."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError, check_callable, check_count
from jaxnoise.meta.candidates import SCORE, Candidates, Losses, Score, draw_candidates, named_keys
from jaxnoise.meta.checks import check_batch, check_result
from jaxnoise.meta.selection import Selected, noise_moments
from jaxnoise.meta.strata import top_k_by_level


@dataclass(frozen=True)
class PoolSelection:
    """Top B of a pool of B M: the best triples (image, level, noise), B / bins of each stratum.

    Each of the B examples of a batch draws M candidates, and all B M compete within their stratum
    of the noise level, by `top_k_by_level`. An example may so be trained on up to M times, with one
    dropout mask, and another not at all. A stratum is B / bins whole examples, since the candidates
    of an example share its level:

    - `bins` = B: each example competes with itself only, which is `NoiseSelection`, the best of M;
    - `bins` = 1: the score chooses levels too, so that a rater of the level alone is a control that
      trains on something else than no selection does.

    What is selected is further from N(0, I) than the best of M: for a score that is linear in the
    noise and blind to the rest, the top quarter of a large pool has mean 1.27 and variance .24
    along its direction, and 68 % of the examples are trained on. Nothing corrects a loss for the
    levels that `bins` < B favours within a stratum.

    The selected keep the order of the batch, candidates of one example next to each other. M = 1
    has no `source` and is bit for bit training without selection.

    A NaN among the scores is selected last and makes `score_margin` NaN.

    It sees the batch: the pool is the device's part of it, so another number of devices gives
    another selection, and `bins` must divide that part.

    Args:
      score: `Candidates -> float[B, M]`; not called if M = 1.
      candidates: M, at least 1.
      bins: number of level strata, at least 1, a divisor of B.

    Raises:
      ArgumentError: an argument is of another kind or outside its range; `select` raises it where
        `bins` does not divide the batch.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import PoolSelection, RaterScore
      >>> keys, x0 = jax.random.split(jax.random.key(0), 4), jnp.ones((4, 2))
      >>> low_noise = RaterScore(lambda x0, eps, lam: lam)
      >>> levels = jnp.asarray([4.6, -3.2, -4.4, 3.2])
      >>> def source(bins):
      ...     return PoolSelection(low_noise, 2, bins).select(keys, x0, levels, step=0).source
      >>> print(*jax.jit(lambda: (source(1), source(2)))())
      [0 0 3 3] [0 0 1 1]

    Reference: NoiseRater (https://arxiv.org/abs/2605.08144), second stage, known to us by its
    abstract; the pool and its strata are our choice.
    """

    score: Score
    candidates: int = 4
    bins: int = 8

    def __post_init__(self) -> None:
        check_callable("score", self.score, SCORE)
        check_count("candidates", self.candidates)
        check_count("bins", self.bins)

    def select(
        self,
        keys: jax.Array,
        x0: jax.Array,
        lam: jax.Array,
        step: ArrayLike,
        losses: Losses | None = None,
    ) -> Selected:
        """The best triples of the pool.

        Beside `noise_moments` of the selected noise with the images that it is selected for, `info`
        has `changed_share`, the selected triples that training without selection would not have,
        their noise not being candidate 1; `score_margin`, mean score of the selected above the mean
        of the pool; `image_share`, distinct pairs of image and level over B.

        Args:
          keys: key[B], each example's own; candidate 1 is `normal(key)`.
          x0: float[B, ...], clean images in [-1, 1].
          lam: float[B], log SNR, -2 ln sigma for a noise level sigma; a sigma in its
            place has the same shape, and is not told apart.
          step: training step k, an integer, not used here.
          losses: `(x0, eps) -> float[B]`, the student's losses at the levels of this batch, for
            scores by loss.

        Returns:
          Selected: eps of the shape and dtype of x0, its `source` and `info`.

        Raises:
          ArgumentError: arguments that are not of one batch, a concrete `lam` that is not finite,
            `bins` that do not divide B, or a score of another shape.
        """
        check_batch(keys, x0, lam, step, losses)
        del step
        count = lam.shape[0]
        if count % self.bins:
            raise ArgumentError("bins", self.bins, f"a divisor of the {count} examples of a device")
        eps = draw_candidates(keys, self.candidates, x0.shape[1:], x0.dtype)
        if self.candidates == 1:
            # No gather by the identity: compiled into a step, it would move the last bits.
            plain, zero = eps[:, 0], jnp.zeros(())
            shares = {"changed_share": zero, "score_margin": zero, "image_share": zero + 1}
            return Selected(plain, None, {**noise_moments(x0, plain), **shares})
        seen = Candidates(x0, eps, lam, named_keys(keys, "score"), losses)
        scored = self.score(seen)
        check_result("score", scored, eps.shape[:2], SCORE)
        scores = jax.lax.stop_gradient(scored)
        pool = jnp.repeat(lam, self.candidates)
        picks = jnp.sort(top_k_by_level(scores.ravel(), pool, count, self.bins))
        source = picks // self.candidates
        selected = eps.reshape(-1, *x0.shape[1:])[picks]
        used = jnp.zeros(count, jnp.float32).at[source].set(1.0)
        info = {
            **noise_moments(x0[source], selected),
            "changed_share": jnp.mean((picks % self.candidates > 0).astype(jnp.float32)),
            "score_margin": jnp.mean(scores.ravel()[picks]) - jnp.mean(scores),
            "image_share": jnp.mean(used),
        }
        return Selected(selected, source, info)
