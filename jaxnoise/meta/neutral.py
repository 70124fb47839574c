"""Selection and weights by what the network sees alone: they cannot bend the model.

Training with weights w, or keeping an example with probability w, moves the best denoiser from
`E[x0 | x, lambda, label]` to `E[w x0 | ...] / E[w | ...]`: the same for every data set if and only
if w is a function of what the network sees. So each example here has one draw of noise and rivals
that are independent of it, and is judged by its noisy image.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxnoise.errors import (
    ArgumentError,
    check_callable,
    check_count,
    check_numbers,
    check_positive,
    check_shape,
    describe,
    is_traced,
)
from jaxnoise.meta.candidates import Losses, draw_candidates, named_keys
from jaxnoise.meta.checks import check_batch, check_result
from jaxnoise.meta.selection import Selected, Weighted, noise_moments
from jaxnoise.meta.strata import top_k_by_level
from jaxnoise.models.fused import at_least_float32


class Noisy(NamedTuple):
    """What a network is shown of examples: all that a neutral rater may see.

    Attributes:
      x: float[B, ...], noisy images as they go into the network.
      lam: float[B], log SNR.
      labels: int32[B] as the network sees them, or None where it sees none.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import Noisy
      >>> Noisy(x=jnp.ones((2, 8, 8, 1)), lam=jnp.zeros(2), labels=None).x.shape
      (2, 8, 8, 1)
    """

    x: jax.Array
    lam: jax.Array
    labels: jax.Array | None


Shown = Callable[[jax.Array, jax.Array], Noisy]
"""`(x0 float[B, ...], eps float[B, ...]) -> Noisy`: at the levels and labels of a batch."""

NoisyRate = Callable[[jax.Array, jax.Array, jax.Array | None], jax.Array]
"""`(x float[B, ...], lam float[B], labels int32[B] | None) -> float[B]`: a rater of the noisy image
with its parameters bound."""

_RATE = "(x, lam, labels) -> float[B]"


def asks_what_is_shown(selection: object) -> bool:
    """Whether a selection's `select` has a parameter `shown`.

    Args:
      selection: anything with a method `select`.

    Example:
      >>> from jaxnoise.meta import NeutralPool, NoiseAssignment, asks_what_is_shown
      >>> rate = lambda x, lam, labels: lam
      >>> asks_what_is_shown(NeutralPool(rate)), asks_what_is_shown(NoiseAssignment())
      (True, False)
    """
    return "shown" in inspect.signature(selection.select).parameters  # type: ignore[attr-defined]


def floored_softmax(logits: jax.Array, floor: float, axis_name: str | None = None) -> jax.Array:
    """Weights of mean 1 by a softmax, none below a floor: `w_i = f + (1 - f) n softmax(r)_i`.

    A softmax alone may starve a region of noise: there the model would learn nothing.

    Args:
      logits: float[n], or this device's part.
      floor: f in [0, 1): of each weight, where plain training has 1.
      axis_name: of devices that share the softmax, so that it is one over all of theirs.

    Returns:
      float[n] >= f, of mean 1 over all.

    Raises:
      ArgumentError: logits of another rank, or a floor outside its range.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import floored_softmax
      >>> print(floored_softmax(jnp.asarray([0.0, 100.0]), floor=0.25))
      [0.25 1.75]

    Reference: our choice.
    """
    check_shape("logits", logits, (None,), "one for each that competes")
    check_floor(floor)
    highest = jnp.max(lax.stop_gradient(logits))
    if axis_name is not None:
        # Cancels in the ratio, so it needs no derivative, and pmax has none.
        highest = lax.pmax(highest, axis_name)
    exponentials = jnp.exp(logits - highest)
    mean = jnp.mean(exponentials)
    if axis_name is not None:
        mean = lax.pmean(mean, axis_name)
    return floor + (1 - floor) * exponentials / mean


def check_floor(floor: object) -> None:
    """Raises ArgumentError unless `floor` is a number in [0, 1)."""
    allowed = "a number in [0, 1)"
    if is_traced(floor) or np.ndim(np.asarray(floor)):
        raise ArgumentError("floor", describe(floor), allowed)
    check_numbers("floor", floor, lambda x: (x >= 0) & (x < 1), allowed)


def _rated(rate: NoisyRate, shown: Shown | None, x0: jax.Array, eps: jax.Array) -> jax.Array:
    """What a rater says of the examples as they are shown, a constant to derivatives."""
    if shown is None:
        allowed = "(x0, eps) -> Noisy, what the network is shown, which this rater sees"
        raise ArgumentError("shown", None, allowed)
    check_callable("shown", shown, "(x0, eps) -> Noisy")
    noisy = shown(x0, eps)
    if not isinstance(noisy, Noisy):
        raise ArgumentError("shown", describe(noisy), "a function (x0, eps) -> Noisy")
    scores = rate(*noisy)
    check_result("rate", scores, x0.shape[:1], _RATE)
    return lax.stop_gradient(scores).astype(at_least_float32(scores.dtype))


@dataclass(frozen=True)
class NeutralPool:
    """The best of a pool of distinct images, each with one draw of noise, by its noisy image.

      kept in each of `bins` strata of the level:   k = share B / bins of n = B / bins
      floor f:   of these, round(f k) at random, so that P(kept) >= round(f k) / n

    Rivals are other images with noise of their own, so that winning tells nothing of x0 beyond
    what the noisy image does: the best denoiser is that of plain training, for any rater of the
    noisy image and any pool, exactly where images are drawn independently. Where an epoch visits
    each of n images once, rivals are never the example's own image, which moves it by O(1/n). For
    training first where a rater says that it pays, at the cost of looking at `1 / share` images for
    each that is trained on. The batch is the pool: a batch of 256 with a share of 1/4 makes steps
    of 64 examples.

    A NaN among the scores is selected last and makes `score_margin` NaN.

    It sees the batch: the pool is the device's part of it, so another number of devices gives
    another selection. A batch that spans the end of an epoch may hold an image twice, as two
    examples with noise of their own.

    Args:
      rate: a rater of the noisy image, `(x, lam, labels) -> float[B]`.
      share: of the pool that is kept, in (0, 1], a whole number of examples in each stratum.
      bins: number of level strata, at least 1, a divisor of the pool.
      floor: f in [0, 1), the part of the kept that no score chooses.

    Raises:
      ArgumentError: an argument is of another kind or outside its range; `select` raises it where
        `bins`, `share` or `floor` does not fit the batch.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import NeutralPool, Noisy
      >>> keys, x0, lam = jax.random.split(jax.random.key(0), 8), jnp.ones((8, 2)), jnp.arange(8.0)
      >>> pool = NeutralPool(lambda x, lam, labels: lam, share=0.25, bins=2)
      >>> shown = lambda x0, eps: Noisy(x0 + eps, lam, None)
      >>> print(pool.select(keys, x0, lam, step=0, shown=shown).source)
      [3 7]

    Reference: our choice, for rating of noise as in NoiseRater (https://arxiv.org/abs/2605.08144).
    """

    rate: NoisyRate
    share: float = 0.25
    bins: int = 8
    floor: float = 0.0

    def __post_init__(self) -> None:
        check_callable("rate", self.rate, _RATE)
        check_count("bins", self.bins)
        check_floor(self.floor)
        share, allowed = self.share, "a number in (0, 1]"
        if is_traced(share) or np.shape(share):
            raise ArgumentError("share", describe(share), allowed)
        check_numbers("share", share, lambda x: (x > 0) & (x <= 1), allowed)

    def kept(self, count: int) -> int:
        """How many of a pool are kept.

        Args:
          count: size of the pool.

        Returns:
          A multiple of `bins`.

        Raises:
          ArgumentError: `bins` or `share` does not fit.
        """
        if count % self.bins:
            raise ArgumentError("bins", self.bins, f"a divisor of the {count} examples of a device")
        size = count // self.bins
        of_stratum = round(self.share * size)
        if of_stratum < 1 or abs(of_stratum - self.share * size) > 1e-6 * size:
            allowed = (
                f"a whole number of the {size} examples of a stratum, so 1/{size}, 2/{size}, ..."
            )
            raise ArgumentError("share", self.share, allowed)
        return of_stratum * self.bins

    def _free(self, kept: int) -> int:
        """How many of the kept no score chooses."""
        of_stratum = kept // self.bins
        free = round(self.floor * of_stratum)
        if self.floor and not 0 < free < of_stratum:
            allowed = (
                f"0, or such that some of the {of_stratum} kept in a stratum are drawn, not all"
            )
            raise ArgumentError("floor", self.floor, allowed)
        return free * self.bins

    def select(
        self,
        keys: jax.Array,
        x0: jax.Array,
        lam: jax.Array,
        step: ArrayLike,
        losses: Losses | None = None,
        shown: Shown | None = None,
    ) -> Selected:
        """The kept part of the pool.

        Beside `noise_moments` of the kept, `info` has `score_margin`, their mean score above that
        of the pool, and `image_share`, the part of the pool that is kept.

        Args:
          keys: key[B], each example's own; its noise is `normal(key)`.
          x0: float[B, ...], clean images in [-1, 1].
          lam: float[B], log SNR, -2 ln sigma for a noise level sigma.
          step: training step k, an integer, not used here.
          losses: `(x0, eps) -> float[B]`, the student's losses, not used here.
          shown: `(x0, eps) -> Noisy`, what the network is shown at the levels of this batch.

        Returns:
          Selected: `share B` noises of the shape and dtype of x0, their `source`, each example once
          in the order of the batch, and `info`.

        Raises:
          ArgumentError: arguments that are not of one batch, a concrete `lam` that is not finite,
            `bins`, `share` or `floor` that do not fit B, or no `shown`.
        """
        check_batch(keys, x0, lam, step, losses)
        del step, losses
        count = lam.shape[0]
        kept = self.kept(count)
        eps = draw_candidates(keys, 1, x0.shape[1:], x0.dtype)[:, 0]
        scores = _rated(self.rate, shown, x0, eps)
        ranked, free = scores, self._free(kept)
        if free:
            u = jax.vmap(lambda key: jax.random.uniform(key))(named_keys(keys, "plain"))
            ranked = ranked.at[top_k_by_level(u, lam, free, self.bins)].set(jnp.inf)
        source = jnp.sort(top_k_by_level(ranked, lam, kept, self.bins))
        selected = eps[source]
        info = {
            **noise_moments(x0[source], selected),
            "score_margin": jnp.mean(scores[source]) - jnp.mean(scores),
            "image_share": jnp.asarray(kept / count, jnp.float32),
        }
        return Selected(selected, source, info)


@dataclass(frozen=True)
class NeutralWeights:
    """Every example is trained on, with a weight by its noisy image: the soft form.

      w = f + (1 - f) B softmax(r / temperature) over the batch,   mean 1,   w >= f

    As `NeutralPool` it leaves the best denoiser alone, up to the batch's normalisation, whose
    influence falls as 1 / B. For rating without looking at more images than are trained on.

    Args:
      rate: a rater of the noisy image, `(x, lam, labels) -> float[B]`.
      temperature: of the softmax, > 0.
      floor: f in [0, 1).
      axis_name: of devices that share a batch; the softmax is then over all of their examples,
        whatever their number.

    Raises:
      ArgumentError: an argument is of another kind or outside its range.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxnoise.meta import NeutralWeights, Noisy
      >>> keys, x0, lam = jax.random.split(jax.random.key(0), 2), jnp.ones((2, 2)), jnp.zeros(2)
      >>> weights = NeutralWeights(lambda x, lam, labels: jnp.asarray([0.0, 100.0]), floor=0.5)
      >>> shown = lambda x0, eps: Noisy(x0 + eps, lam, None)
      >>> print(weights.select(keys, x0, lam, step=0, shown=shown).weight)
      [0.5 1.5]

    Reference: our choice, for rating of noise as in NoiseRater (https://arxiv.org/abs/2605.08144).
    """

    rate: NoisyRate
    temperature: float = 1.0
    floor: float = 0.1
    axis_name: str | None = None

    def __post_init__(self) -> None:
        check_callable("rate", self.rate, _RATE)
        check_positive("temperature", self.temperature)
        check_floor(self.floor)

    def select(
        self,
        keys: jax.Array,
        x0: jax.Array,
        lam: jax.Array,
        step: ArrayLike,
        losses: Losses | None = None,
        shown: Shown | None = None,
    ) -> Weighted:
        """The noise of training without selection, and weights.

        Beside `noise_moments`, `info` has `effective_share`, `1 / mean w^2` of this device's
        examples.

        Args:
          keys: key[B], each example's own; its noise is `normal(key)`.
          x0: float[B, ...], clean images in [-1, 1].
          lam: float[B], log SNR, -2 ln sigma for a noise level sigma.
          step: training step k, an integer, not used here.
          losses: `(x0, eps) -> float[B]`, the student's losses, not used here.
          shown: `(x0, eps) -> Noisy`, what the network is shown at the levels of this batch.

        Returns:
          Weighted: eps of the shape and dtype of x0, no `source`, `info` and `weight`.

        Raises:
          ArgumentError: arguments that are not of one batch, a concrete `lam` that is not finite,
            or no `shown`.
        """
        check_batch(keys, x0, lam, step, losses)
        del step, losses
        eps = draw_candidates(keys, 1, x0.shape[1:], x0.dtype)[:, 0]
        logits = _rated(self.rate, shown, x0, eps) / self.temperature
        weight = floored_softmax(logits, self.floor, self.axis_name)
        info = {**noise_moments(x0, eps), "effective_share": 1 / jnp.mean(weight**2)}
        return Weighted(eps, None, info, weight)
