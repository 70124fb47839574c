from itertools import combinations, pairwise

import numpy as np
import pytest

from jaxnoise.errors import ArgumentError
from jaxnoise.noise import (
    Cosine,
    Difficulty,
    Laplace,
    LognormalPairs,
    karras_levels,
    pair_cells,
    partition,
    schedule_cells,
)


def within_cluster_cost(log_snr, edges):
    """Every cell tried as the center of every cluster."""
    clusters = [log_snr[a:b] for a, b in pairwise(edges)]
    return sum(min(np.abs(c - center).sum() for center in c) for c in clusters)


@pytest.mark.parametrize("clusters", [1, 2, 3, 4, 9])
def test_snr_clusters_are_the_best_of_all(clusters):
    log_snr = np.sort(np.random.default_rng(clusters).normal(size=9) * 4)[::-1]
    edges = np.asarray(partition("snr", clusters, log_snr, np.full(9, 1 / 9))) * 9
    edges = np.round(edges).astype(int)
    assert (np.diff(edges) > 0).all()
    every = ((0, *inner, 9) for inner in combinations(range(1, 9), clusters - 1))
    best = min(within_cluster_cost(log_snr, candidate) for candidate in every)
    np.testing.assert_allclose(within_cluster_cost(log_snr, edges), best, atol=1e-9)


@pytest.mark.takes_a_second
def test_snr_clusters_of_the_cosine_schedule_are_narrow_at_its_ends():
    cells = schedule_cells(Cosine(), Cosine(), 300)
    widths = np.diff(partition("snr", 20, *cells))
    assert widths[0] < 0.2 * widths[10]
    assert widths[-1] < 0.2 * widths[10]
    # The schedule is odd about t = 1/2, and so is the best partition, up to cells at its edges.
    np.testing.assert_allclose(widths, widths[::-1], atol=2.01 / 300)


def test_uniform_partition_in_the_time_of_another_schedule():
    law = Laplace(0.0, 0.5)
    boundaries = partition("uniform", 4, *schedule_cells(Cosine(), law))
    lam = Cosine().inverse_survival(np.asarray([0.25, 0.5, 0.75]))
    np.testing.assert_allclose(boundaries, [0, *np.asarray(law.survival(lam)), 1], atol=1e-6)
    own = partition("uniform", 4, *schedule_cells(law, law))
    np.testing.assert_allclose(own, [0, 0.25, 0.5, 0.75, 1], atol=1e-6)


@pytest.mark.takes_a_second
def test_partitions_of_pairs():
    levels = karras_levels(11)
    probs = np.asarray(LognormalPairs().probs(levels, 11))
    log_snr, mass = pair_cells(levels, probs)
    np.testing.assert_allclose(np.exp(-log_snr / 2), levels[1:], rtol=1e-6)
    cdf = np.cumsum(probs)
    halves = partition("uniform", 2, log_snr, mass)
    np.testing.assert_allclose(halves, [0, cdf[4], 1], rtol=1e-6)
    np.testing.assert_allclose(partition("quantile", 4, log_snr, mass), [0, 0.25, 0.5, 0.75, 1])
    fives = partition("snr", 5, log_snr, mass)
    # Boundaries lie between pairs, so that a stage never splits one.
    distance = np.abs(np.asarray(fives)[1:-1, None] - cdf[None, :]).min(axis=1)
    assert distance.max() < 1e-6
    Difficulty(clusters=5, partition=fives)


@pytest.mark.parametrize(
    "argument, change",
    [
        ("rule", {"rule": "snrs"}),
        ("clusters", {"clusters": 0}),
        ("clusters", {"clusters": 4}),
        ("log_snr", {"log_snr": [1.0, 2.0, 3.0]}),
        ("log_snr", {"log_snr": [np.inf, 2.0, 1.0]}),
        ("mass", {"mass": [1.0, 1.0]}),
        ("mass", {"mass": [1.0, -1.0, 1.0]}),
        ("mass", {"mass": [0.0, 0.0, 0.0]}),
    ],
)
def test_arguments_out_of_range_are_named(argument, change):
    good = {"rule": "snr", "clusters": 2, "log_snr": [3.0, 2.0, 1.0], "mass": [1.0, 1.0, 1.0]}
    with pytest.raises(ArgumentError) as error:
        partition(**good | change)
    assert error.value.argument == argument


def test_number_of_cells_is_checked():
    with pytest.raises(ArgumentError, match="cells"):
        schedule_cells(Cosine(), Cosine(), 0)


def test_a_number_of_clusters_is_an_integer():
    with pytest.raises(ArgumentError, match=r"clusters=2\.5: must be a Python integer"):
        partition("uniform", 2.5, log_snr=[1.0, 0.0, -1.0], mass=[1.0, 1.0, 1.0])
