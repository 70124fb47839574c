"""Partitions of the noise range into clusters of difficulty; computed once, on the host.

The range is given as cells in ascending order of noise, each with its log SNR and with the
probability that the law in use draws from it: `schedule_cells` for laws over lambda, `pair_cells`
for laws over pairs.
"""

import numpy as np
from numpy.typing import ArrayLike

from jaxnoise.errors import ArgumentError, check_count, one_of
from jaxnoise.noise.logsnr_law import LogSnrLaw

PARTITIONS = ("quantile", "uniform", "snr")

Cells = tuple[np.ndarray, np.ndarray]


def schedule_cells(schedule: LogSnrLaw, law: LogSnrLaw, cells: int = 1000) -> Cells:
    """Equal steps of the time t of a schedule, seen by the law that draws lambda.

    What `partition` takes for laws over lambda.

    Args:
      schedule: its `inverse_survival` is lambda(t); the law itself, if t is its own time.
      law: law over lambda that is trained with.
      cells: how many steps, at least 1.

    Returns:
      log SNR at the middles, descending float[cells], and mass under `law`, float[cells].

    Raises:
      ArgumentError: `cells < 1`.

    Example:
      >>> from jaxnoise.noise import LinearPath, schedule_cells
      >>> log_snr, mass = schedule_cells(LinearPath(), LinearPath(), cells=2)
      >>> log_snr.round(3).tolist(), mass.tolist()
      ([2.197, -2.197], [0.5, 0.5])
    """
    if cells < 1:
        raise ArgumentError("cells", cells, "at least 1")
    middle = (np.arange(cells) + 0.5) / cells
    edges = np.arange(1, cells) / cells
    t = np.asarray(law.survival(schedule.inverse_survival(edges)), np.float64)
    return (
        np.asarray(schedule.inverse_survival(middle), np.float64),
        np.diff(t, prepend=0.0, append=1.0),
    )


def pair_cells(levels: ArrayLike, probs: ArrayLike) -> Cells:
    """The pairs of a level grid, each at the log SNR of its upper level.

    What `partition` takes for laws over pairs, with the probabilities that their `probs` gives.

    Args:
      levels: ascending float[n + 1], not padded; x = x0 + level * noise.
      probs: float[n], probabilities of the pairs.

    Returns:
      log SNR `-2 log(level)`, descending float[n], and mass, float[n].

    Example:
      >>> from jaxnoise.noise import pair_cells
      >>> log_snr, mass = pair_cells([0.1, 1.0, 10.0], [0.25, 0.75])
      >>> log_snr.round(3).tolist(), mass.tolist()
      ([-0.0, -4.605], [0.25, 0.75])
    """
    return -2 * np.log(np.asarray(levels, np.float64)[1:]), np.asarray(probs, np.float64)


def _snr_clusters(log_snr: np.ndarray, clusters: int) -> np.ndarray:
    """First cell of each cluster and the end: the exact optimum by dynamic programming."""
    total = np.concatenate([[0.0], np.cumsum(log_snr)])
    i, j = np.ogrid[: len(total), : len(total)]
    # log SNR is monotone, so the middle cell is a median: no other center costs less.
    center = np.minimum((i + j) // 2, len(log_snr) - 1)
    cost = 2 * total[center] - total[i] - total[j] + (i + j - 2 * center) * log_snr[center]
    cost = np.where(i < j, cost, np.inf)
    best = cost[0]
    start = []
    for _ in range(clusters - 1):
        through = best[:, None] + cost
        start.append(np.argmin(through, axis=0))
        best = np.min(through, axis=0)
    edges = [len(log_snr)]
    for previous in reversed(start):
        edges.append(int(previous[edges[-1]]))
    return np.asarray([0, *reversed(edges)])


def partition(rule: str, clusters: int, log_snr: ArrayLike, mass: ArrayLike) -> tuple[float, ...]:
    """Boundaries of `clusters` contiguous clusters of noise levels, in the time t of a law.

    * "quantile": equal probability under the law, `b_i = i / clusters`.
    * "uniform": equal numbers of cells (equal steps of time, or of the pair index).
    * "snr": the clusters C with centers c that minimise
      `sum_C sum_{t in C} |log SNR(t) - log SNR(c)|`, by dynamic programming.

    For the clusters of `Difficulty`.

    Args:
      rule: one of the three.
      clusters: from 1 to the number of cells.
      log_snr: float[cells], descending: from clean to noisy.
      mass: float[cells] >= 0, probability of each cell; normalised here.

    Returns:
      `clusters` + 1 numbers, ascending from 0 to 1.

    Raises:
      ArgumentError: an argument is outside its range.

    Example:
      >>> from jaxnoise.noise import partition
      >>> partition("snr", 2, log_snr=[9.0, 8.0, 7.0, -9.0], mass=[0.25, 0.25, 0.25, 0.25])
      (0.0, 0.75, 1.0)

    Reference: denoising task difficulty-based curriculum (arXiv 2403.10348).
    """
    one_of("rule", rule, PARTITIONS)
    log_snr, mass = np.asarray(log_snr, np.float64), np.asarray(mass, np.float64)
    cells = len(log_snr)
    if not np.isfinite(log_snr).all() or (np.diff(log_snr) > 0).any():
        raise ArgumentError("log_snr", log_snr, "finite and descending")
    if mass.shape != log_snr.shape or not (mass >= 0).all() or not 0 < mass.sum() < np.inf:
        raise ArgumentError("mass", mass, f"{cells} numbers >= 0, not all 0")
    check_count("clusters", clusters)
    if clusters > cells:
        raise ArgumentError("clusters", clusters, f"from 1 to {cells}, the number of cells")
    if rule == "quantile":
        return tuple(i / clusters for i in range(clusters + 1))
    if rule == "uniform":
        edges = np.round(np.arange(clusters + 1) * cells / clusters).astype(int)
    else:
        edges = _snr_clusters(log_snr, clusters)
    cdf = np.concatenate([[0.0], np.cumsum(mass)])
    boundaries = np.minimum(cdf[edges] / cdf[-1], 1)
    return tuple(boundaries.tolist())
