"""Inception score: how confident, and how varied, a classifier finds generated images."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, logsumexp

from jaxnoise.errors import ArgumentError
from jaxnoise.evaluation.checks import check_integer
from jaxnoise.evaluation.moments import checked_features


class InceptionScore(NamedTuple):
    """Mean and standard deviation of the score over splits; see `inception_score`.

    Attributes:
      mean: of the scores of the splits, in 1..K.
      standard_deviation: of the same, with the number of splits as the divisor.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import inception_score
      >>> mean, standard_deviation = inception_score(np.zeros((4, 3)), splits=2)
      >>> round(mean, 9), standard_deviation
      (1.0, 0.0)
    """

    mean: float
    standard_deviation: float


def inception_score(logits: npt.ArrayLike, splits: int = 10) -> InceptionScore:
    """Inception score of generated images from a classifier's logits.

    `exp(E_x KL(p(y|x) || p(y)))`, with `p(y|x) = softmax(logits)` and `p(y)` its mean over the
    images of a split. All in the log domain: a probability that underflows adds 0, not nan.

    The splits are consecutive rows, as even as they can be: images that are sorted by class must be
    shuffled first, or every split misses most classes.

    Args:
      logits: float[n, K], one row an image, in random order.
      splits: number of parts, in 1..n; the score falls with fewer images in a part, so that
        numbers compare only at the same n and splits.

    Returns:
      (mean, standard_deviation) of the score over the splits, with `splits` as the divisor. A
      score is in 1..K.

    Raises:
      ArgumentError: another shape, rows that are not finite, or more splits than images.

    Example:
      >>> import numpy as np
      >>> from jaxnoise.evaluation import inception_score
      >>> score = inception_score(1e3 * np.eye(4), splits=1)
      >>> round(score.mean, 9), score.standard_deviation
      (4.0, 0.0)

    Reference:
      Salimans et al., arXiv 1606.03498, section 4.
    """
    rows = checked_features("logits", logits)
    check_integer("splits", splits)
    if not 1 <= splits <= len(rows):
        raise ArgumentError("splits", splits, f"in 1..{len(rows)}, the number of images")
    edges = [i * len(rows) // splits for i in range(splits + 1)]
    scores = []
    for start, stop in pairwise(edges):
        conditional = log_softmax(rows[start:stop], axis=1)
        marginal = logsumexp(conditional, axis=0) - np.log(stop - start)
        divergence = np.sum(np.exp(conditional) * (conditional - marginal), axis=1)
        scores.append(float(np.exp(np.mean(divergence))))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))
