"""Every metric of one set of images."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from jaxnoise.evaluation.extractors import Extracted
from jaxnoise.evaluation.frechet import FrechetReference
from jaxnoise.evaluation.inception_score import inception_score
from jaxnoise.evaluation.kernel import kernel_distance
from jaxnoise.evaluation.precision_recall import precision_and_recall
from jaxnoise.evaluation.score_keys import frechet_key

_KERNEL_SUBSET = 1000


def measured(
    metrics: Iterable[str],
    frechet: FrechetReference,
    features: npt.NDArray[np.float64] | None,
    seen: Extracted,
    name: str,
) -> dict[str, float]:
    """Every metric of one set of images, by its key in a record.

    Args:
      metrics: what is measured.
      frechet: the reference's mean and covariance.
      features: of the reference, where a metric needs them.
      seen: the set of images.
      name: of the set.
    """
    numbers = {frechet_key(name): frechet.distance(seen.moments.mean, seen.moments.covariance)}
    # Sets may be sorted by class; what looks at parts of them needs a mixed order.
    mixed = np.random.RandomState(0).permutation(seen.moments.count)
    for metric in metrics:
        if metric == "kernel":
            assert features is not None
            assert seen.features is not None
            size = kernel_subset(len(features), len(seen.features))
            kernel = kernel_distance(features, seen.features, subset_size=size)
            numbers[f"kernel_{name}"] = kernel.mean
            numbers[f"kernel_deviation_{name}"] = kernel.standard_deviation
        elif metric == "inception_score":
            assert seen.logits is not None
            score = inception_score(seen.logits[mixed])
            numbers[f"inception_score_{name}"] = score.mean
            numbers[f"inception_score_deviation_{name}"] = score.standard_deviation
        elif metric == "precision_recall":
            assert features is not None
            assert seen.features is not None
            # Manifolds compare at equal sizes only.
            rows = min(len(features), len(seen.features))
            some = np.random.RandomState(0).permutation(len(features))[:rows]
            both = precision_and_recall(features[some], seen.features[mixed[:rows]])
            numbers[f"precision_{name}"] = both.precision
            numbers[f"recall_{name}"] = both.recall
    return numbers


def kernel_subset(real: int, generated: int) -> int:
    """Small beside both sets, or the subsets of all rounds would be nearly the same."""
    return min(_KERNEL_SUBSET, real // 2, generated // 2)
