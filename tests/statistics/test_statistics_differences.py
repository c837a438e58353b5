"""Differences of independent estimates, against closed forms and in simulation."""

import math

import numpy as np
import pytest

from fairloop.statistics.differences import (
    independent_difference,
    normal_p_value,
    split_product,
    standard_error,
    welch_difference,
)
from fairloop.statistics.estimate import Estimate


def test_the_interval_of_a_difference_covers_as_promised():
    draw = np.random.default_rng(0)
    trials, n = 4000, 60
    covered = 0
    for _ in range(trials):
        ends = []
        for rate in (0.1, 0.25):  # skewed: Wilson's intervals
            p = draw.binomial(n, rate) / n
            centre, half = (
                (p + 1.92 / n) / (1 + 3.84 / n),
                1.96 * math.sqrt(p * (1 - p) / n + 0.96 / n**2) / (1 + 3.84 / n),
            )
            ends.append((p, centre - half, centre + half))
        low, high = independent_difference(*ends)
        covered += low <= 0.15 <= high
    assert 0.935 < covered / trials < 0.97


def test_symmetric_intervals_add_in_squares():
    low, high = independent_difference((0.1, 0.1 - 0.03, 0.1 + 0.03), (0.3, 0.3 - 0.04, 0.3 + 0.04))
    assert (low, high) == pytest.approx((0.2 - 0.05, 0.2 + 0.05))
    assert standard_error(-1.959964, 1.959964) == pytest.approx(1)


def test_the_p_value_of_an_interval_is_the_normal_one():
    assert normal_p_value(Estimate(1.0, 0.0, 2.0, 9)) == pytest.approx(0.05, abs=1e-6)
    assert normal_p_value(Estimate(-1.0, -4.0, 0.0, 9)) == pytest.approx(0.05, abs=1e-6)
    assert normal_p_value(Estimate(0.0, 0.0, 0.0, 9)) == 1


def test_welch_leaves_out_what_is_undefined_and_says_where_there_is_no_interval():
    found, p_value = welch_difference([1.0, 2.0, math.nan, 3.0], [4.0, 4.0, 7.0])
    assert (found.value, found.n) == (3.0, 6)
    assert found.low < 3 < found.high
    assert 0 < p_value < 1
    assert math.isnan(welch_difference([1.0], [2.0, 3.0])[0].low)
    assert math.isnan(welch_difference([1.0, 1.0], [2.0, 2.0])[1])
    assert not welch_difference([math.nan], [1.0])[0].defined


def test_the_parts_of_a_product_add_up_to_its_change():
    by_share, by_rate = split_product((0.8, 0.5), (0.4, 0.3))
    assert by_share + by_rate == pytest.approx(0.4 * 0.3 - 0.8 * 0.5)
    assert split_product((0.8, 0.5), (0.4, 0.5)) == (pytest.approx(-0.2), 0)
