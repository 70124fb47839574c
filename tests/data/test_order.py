"""The order of the data: a permutation every epoch, and a function of its arguments alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxnoise.data.order import _permutation, batch_indices
from jaxnoise.errors import ArgumentError


def stream(seed, num_examples, batch, count):
    """The first `count` indices, drawn in batches of `batch`."""
    steps = range(-(-count // batch))
    return np.concatenate([batch_indices(seed, num_examples, batch, s) for s in steps])[:count]


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    seed=st.integers(0, 2**63),
    num_examples=st.integers(1, 40),
    batch=st.integers(1, 100),
    epochs=st.integers(1, 4),
)
def test_every_epoch_visits_every_example_once(seed, num_examples, batch, epochs):
    order = stream(seed, num_examples, batch, epochs * num_examples)
    for epoch in order.reshape(epochs, num_examples):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(num_examples))


@settings(deadline=None, max_examples=50, derandomize=True)
@given(num_examples=st.integers(1, 40), batch=st.integers(1, 30), other=st.integers(1, 30))
def test_the_stream_does_not_depend_on_the_batch_size(num_examples, batch, other):
    np.testing.assert_array_equal(
        stream(3, num_examples, batch, 100), stream(3, num_examples, other, 100)
    )


def test_any_step_can_be_asked_for_alone_and_in_any_order():
    forward = [batch_indices(5, 7, 3, step) for step in range(20)]
    _permutation.cache_clear()
    for step in reversed(range(20)):
        np.testing.assert_array_equal(batch_indices(5, 7, 3, step), forward[step])


def test_the_order_is_pinned():
    """Another order under the same seed would change what a resumed run sees."""
    order = stream(0, 8, 5, 16)
    assert order.dtype == np.int64
    assert order.tolist() == [1, 4, 5, 6, 2, 0, 3, 7, 7, 6, 2, 3, 1, 0, 4, 5]


def test_seeds_and_epochs_differ():
    first = stream(0, 1000, 100, 2000)
    second = stream(1, 1000, 100, 1000)
    # Two unrelated permutations agree at Poisson(1) many places.
    assert np.sum(first[:1000] == first[1000:]) < 8
    assert np.sum(first[:1000] == second) < 8


def test_seeds_beyond_32_bits_share_no_epoch():
    """Neither (seed, epoch) nor their 32-bit words may run into one another."""
    orders = {
        (seed, epoch): tuple(batch_indices(seed, 50, 50, epoch))
        for seed in (0, 1, 2**32, 2**32 + 1, 2**64)
        for epoch in (0, 1, 2)
    }
    assert len(set(orders.values())) == len(orders)


def test_first_place_is_uniform_over_epochs():
    first = [batch_indices(0, 10, 1, 10 * epoch)[0] for epoch in range(2000)]
    assert stats.chisquare(np.bincount(first, minlength=10)).pvalue > 1e-3


def test_a_result_is_the_callers_own():
    batch = batch_indices(0, 10, 10, 0)
    kept = batch.copy()
    batch[:] = 0
    np.testing.assert_array_equal(batch_indices(0, 10, 10, 0), kept)


@pytest.mark.parametrize(
    "argument, arguments",
    [
        ("seed", (-1, 10, 2, 0)),
        ("num_examples", (0, 0, 2, 0)),
        ("batch", (0, 10, 0, 0)),
        ("step", (0, 10, 2, -1)),
    ],
)
def test_small_arguments_are_refused(argument, arguments):
    with pytest.raises(ArgumentError, match=f"^{argument}=") as caught:
        batch_indices(*arguments)
    assert caught.value.argument == argument
