import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop.statistics.corrections import holm

p_value_lists = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_the_worked_example():
    # By hand: sorted .01 .02 .03 .04 times 4 3 2 1, then made monotone.
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])


def rejected_step_by_step(p_values, level):
    """Holm's procedure as published: go up the sorted p-values and stop at the first that is too large."""
    rejected = set()
    for passed, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (len(p_values) - passed):
            break
        rejected.add(index)
    return rejected


@given(p_value_lists, st.sampled_from([0.01, 0.0513, 0.2]))
def test_it_rejects_what_the_published_procedure_rejects(p_values, level):
    adjusted = holm(p_values)
    near = np.abs(adjusted - level) < 1e-9
    stepwise = rejected_step_by_step(p_values, level)
    for index, value in enumerate(adjusted):
        if not near.any():
            assert (value <= level) == (index in stepwise)


@given(p_value_lists)
def test_it_keeps_the_order_and_stays_between_p_and_one(p_values):
    adjusted = holm(p_values)
    assert np.all(adjusted >= np.array(p_values))
    assert np.all(adjusted <= 1)
    assert np.all(np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0)


def test_undefined_p_values_are_no_tests():
    adjusted = holm([0.01, math.nan, 0.02])
    assert math.isnan(adjusted[1])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.02])
    assert len(holm([])) == 0


@pytest.mark.parametrize("p_value", [-0.1, 1.1])
def test_what_is_no_p_value_is_refused(p_value):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, p_value])
