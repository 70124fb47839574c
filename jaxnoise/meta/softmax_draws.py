"""Drawing one of several noises by a softmax of scores, and taking back what that does."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnoise.errors import ArgumentError, check_callable, check_count, check_positive, describe
from jaxnoise.meta.candidates import SCORE, Candidates, Losses, Score, draw_candidates, named_keys
from jaxnoise.meta.checks import check_batch, check_result
from jaxnoise.meta.neutral import check_floor
from jaxnoise.meta.selection import Selected, Weighted, noise_moments
from jaxnoise.models.fused import at_least_float32


@dataclass(frozen=True)
class SoftmaxDraws:
    """One of M candidates, drawn with a known probability, and a loss that is divided by it.

      P_m = f / M + (1 - f) softmax(score / temperature)_m,    m ~ P,    weight = 1 / (M P_m)

    Whatever the score sees, `E[weight_m l_m] = mean_m l_m` for the candidates at hand, so that the
    expected gradient and the best denoiser are those of plain training, and only the variance of
    the gradient changes. For raters of draws, `(x0, eps, lam)`, whose best of M moves the optimum.
    No weight is above 1 / f. Without `inverse_probability` the weights are 1 and the optimum moves:
    the soft twin of `NoiseSelection`.

    Args:
      score: `Candidates -> float[B, M]`.
      candidates: M, at least 1.
      temperature: of the softmax, > 0; small is near the best of M, with weights of large variance.
      floor: f in [0, 1), so that no draw has a probability below f / M; above 0 with
        `inverse_probability`.
      inverse_probability: whether the loss is divided by the probability.

    Raises:
      ArgumentError: an argument is of another kind or outside its range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import NearestScore, SoftmaxDraws
      >>> keys, x0 = jax.random.split(jax.random.key(0), 100), jnp.full((100, 4), 0.5)
      >>> drawn = SoftmaxDraws(NearestScore(), 4, floor=0.25).select(keys, x0, jnp.zeros(100), step=0)
      >>> drawn.eps.shape, bool(drawn.weight.max() <= 4), bool(abs(drawn.weight.mean() - 1) < 0.2)
      ((100, 4), True, True)

    Reference: inverse-probability weights are Horvitz and Thompson's
    (https://doi.org/10.1080/01621459.1952.10483446); drawing noise so is our choice.
    """  # noqa: E501

    score: Score
    candidates: int = 4
    temperature: float = 1.0
    floor: float = 0.1
    inverse_probability: bool = True

    def __post_init__(self) -> None:
        check_callable("score", self.score, SCORE)
        check_count("candidates", self.candidates)
        check_positive("temperature", self.temperature)
        check_floor(self.floor)
        if not isinstance(self.inverse_probability, bool):
            shown = describe(self.inverse_probability)
            raise ArgumentError("inverse_probability", shown, "True or False")
        # A probability that underflows is never drawn, and no weight makes up for it.
        if self.inverse_probability and self.floor == 0 and self.candidates > 1:
            allowed = "above 0 with inverse_probability, whose weights go up to 1 / floor"
            raise ArgumentError("floor", self.floor, allowed)

    def select(
        self,
        keys: jax.Array,
        x0: jax.Array,
        lam: jax.Array,
        step: ArrayLike,
        losses: Losses | None = None,
    ) -> Selected | Weighted:
        """A drawn candidate of each example.

        Beside `noise_moments`, `info` has `changed_share`, the examples whose noise is not
        candidate 1; `score_margin`, the score of the drawn candidate above the mean; and
        `effective_share`, `1 / mean w^2` of weights scaled to mean 1.

        Args:
          keys: key[B], each example's own; candidate 1 is `normal(key)`.
          x0: float[B, ...], clean images in [-1, 1].
          lam: float[B], log SNR, -2 ln sigma for a noise level sigma.
          step: training step k, an integer, not used here.
          losses: `(x0, eps) -> float[B]`, the student's losses at the levels of this batch, for
            scores by loss.

        Returns:
          Weighted, or Selected without weights: eps of the shape and dtype of x0, no `source`,
          `info` and `weight`.

        Raises:
          ArgumentError: arguments that are not of one batch, a concrete `lam` that is not finite,
            or a score of another shape.
        """
        check_batch(keys, x0, lam, step, losses)
        del step
        count = self.candidates
        eps = draw_candidates(keys, count, x0.shape[1:], x0.dtype)
        scored = self.score(Candidates(x0, eps, lam, named_keys(keys, "score"), losses))
        check_result("score", scored, eps.shape[:2], SCORE)
        # In half precision draws would not have the probability that the loss is divided by.
        scores = jax.lax.stop_gradient(scored).astype(at_least_float32(scored.dtype))
        soft = jax.nn.softmax(scores / self.temperature, axis=1)
        probs = self.floor / count + (1 - self.floor) * soft
        u = jax.vmap(lambda key: jax.random.uniform(key))(named_keys(keys, "draw"))
        # By the inverse of the distribution as it is summed up: where a sum is rounded below 1,
        # what has no probability must not be drawn, since the loss is divided by it.
        upper = jnp.cumsum(probs, axis=1)
        below = upper[:, :-1] <= u[:, None].astype(probs.dtype) * upper[:, -1:]
        index = jnp.sum(below, axis=1, dtype=jnp.int32)
        selected, score, prob = jax.vmap(lambda x, s, p, i: (x[i], s[i], p[i]))(
            eps, scores, probs, index
        )
        weight = 1 / (count * prob)
        square = jnp.mean(weight) ** 2 / jnp.mean(weight**2)
        info = {
            **noise_moments(x0, selected),
            "changed_share": jnp.mean((index > 0).astype(jnp.float32)),
            "score_margin": jnp.mean(score - jnp.mean(scores, axis=1)),
        }
        if not self.inverse_probability:
            return Selected(selected, None, info)
        return Weighted(selected, None, {**info, "effective_share": square}, weight)
