import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnoise.report.axes import Axis, fitted

NUMBERS = st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=5)
POSITIVE = st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=5)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(st.one_of(NUMBERS, POSITIVE))
def test_every_value_lies_on_its_axis_and_some_round_ones_too(values):
    axis = fitted(values)
    places = [axis.place(value) for value in values]
    assert 0 <= min(places) <= max(places) <= 1
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 16
    np.testing.assert_array_less(0, np.diff(ticks))
    assert -1e-6 <= axis.place(ticks[0]) <= axis.place(ticks[-1]) <= 1 + 1e-6


def test_a_log_axis_needs_positive_values_that_are_far_apart():
    assert fitted([1.0, 3.0]).log
    assert not fitted([1.0, 2.9]).log
    assert not fitted([0.0, 30.0]).log
    assert not fitted([1.0, 30.0], log=False).log
    assert not fitted([-1.0, 30.0], log=True).log


def test_a_short_axis_has_two_ticks():
    assert fitted([0.6, 1.3]).ticks(4) == [0.6, 0.8, 1.0, 1.2]


def test_ticks_are_what_a_person_would_choose():
    assert Axis(0.0, 12.8e6).ticks() == [0.0, 5e6, 10e6]
    assert Axis(0.0, 1.0).ticks() == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Axis(0.19, 0.41, log=True).ticks() == [0.2, 0.3, 0.4]
    assert Axis(0.15, 0.9, log=True).ticks() == [0.2, 0.3, 0.5, 0.7]
    assert Axis(0.002, 80.0, log=True).ticks() == [0.01, 0.1, 1.0, 10.0]
