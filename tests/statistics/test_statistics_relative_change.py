import math

import numpy as np
import pytest
from scipy import stats

from fairloop.statistics.equilibrium import Trajectory
from fairloop.statistics.relative_change import relative_changes


def test_relative_change_of_the_paper():
    # The figures the paper states: +36% from an initial bias of 0.1, -26% from 0.6.
    changes = relative_changes([Trajectory(0.6, (0.6, 0.5, 0.444)), Trajectory(0.1, (0.1, 0.12, 0.136))])
    assert [change.level for change in changes] == [0.1, 0.6]
    assert changes[0].change.value == pytest.approx(0.36)
    assert changes[1].change.value == pytest.approx(-0.26)
    assert math.isnan(changes[0].change.low)
    since_first = relative_changes([Trajectory(0.6, (0.6, 0.5, 0.444))], since=1)[0]
    assert since_first.change.value == pytest.approx(0.444 / 0.5 - 1)


def test_relative_change_from_a_constant_start_has_the_ordinary_t_interval():
    last = np.array([0.15, 0.18, 0.11, 0.16])
    change = relative_changes([Trajectory(0.1, (0.1, 0.3, value)) for value in last])[0].change
    ratio = last / 0.1 - 1
    half = stats.t.ppf(0.975, 3) * ratio.std(ddof=1) / 2
    assert change.value == pytest.approx(ratio.mean())
    assert (change.low, change.high) == pytest.approx((ratio.mean() - half, ratio.mean() + half))
    assert change.n == 4


def test_relative_change_from_zero_is_undefined_and_from_about_zero_unbounded():
    assert math.isnan(relative_changes([Trajectory(0.0, (0.0, 0.1))])[0].change.value)
    around = [Trajectory(0.1, (0.1, value, 0.2)) for value in (-0.1, 0.2, 0.05)]
    change = relative_changes(around, since=1)[0].change
    assert change.high == math.inf
    assert math.isnan(change.value)


def test_cells_that_agree_to_the_last_digit_have_no_interval_of_width_zero():
    """Three cells of 500 sentences each ended with B = 0.088: the committed table said -0.853 [-0.853, -0.853]."""
    change = relative_changes([Trajectory(0.6, (0.6, 0.2, 0.088))] * 3)[0].change
    assert change.value == pytest.approx(0.088 / 0.6 - 1)
    assert math.isnan(change.low)
    assert math.isnan(change.high)


def test_the_change_of_a_single_cell_has_the_interval_of_its_sentences():
    cell = Trajectory(0.5, (0.5, 0.3, 0.4), (0.02, 0.01, 0.02))
    (since_seed,) = relative_changes([cell])
    # The seed corpus is given: only the last generation is uncertain.
    assert [since_seed.change.low, since_seed.change.high] == pytest.approx(
        [(0.4 - 1.959964 * 0.02) / 0.5 - 1, (0.4 + 1.959964 * 0.02) / 0.5 - 1]
    )
    assert since_seed.over == "sentences"
    (since_first,) = relative_changes([cell], since=1)
    for ratio in (since_first.change.low + 1, since_first.change.high + 1):
        assert abs(0.4 - ratio * 0.3) / math.hypot(0.02, ratio * 0.01) == pytest.approx(1.959964, rel=1e-6)
    assert relative_changes([Trajectory(0.5, (0.5, 0.3), (math.nan, math.nan))])[0].over == "nothing"
    assert relative_changes([cell, cell])[0].over == "cells"
