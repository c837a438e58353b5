import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairloop.statistics.means import ratio_of_means, student_mean
from fairloop.statistics.paired import paired_reduction, sign_flip_p_value


def by_hand(differences):
    """Every sign pattern, in exact arithmetic."""
    values = [Fraction(value) for value in differences]
    sums = [
        sum(s * v for s, v in zip(signs, values, strict=True))
        for signs in itertools.product((1, -1), repeat=len(values))
    ]
    return sum(abs(one) >= abs(sum(values)) for one in sums) / len(sums)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=7))
def test_the_sign_flip_test_is_exact_ties_included(differences):
    assert sign_flip_p_value(differences, seed=0) == by_hand(differences)


def test_decimal_ties_are_ties_despite_rounding():
    # 0.1 + 0.2 > 0.3 in floating point.
    assert sign_flip_p_value([0.3, -0.1, -0.2], seed=0) == by_hand(["0.3", "-0.1", "-0.2"]) == 1


@pytest.mark.parametrize("pairs", [1, 3, 9])
def test_pairs_that_all_differ_the_same_way_give_the_least_p_value(pairs):
    assert sign_flip_p_value(np.arange(1, pairs + 1), seed=0) == 2 / 2**pairs


def test_many_pairs_are_sampled_and_come_close_to_the_exact_value():
    differences = np.random.default_rng(3).normal(0.3, 1, 14)
    exact = sign_flip_p_value(differences, seed=0)
    sampled = [sign_flip_p_value(differences, seed=seed, patterns=5000) for seed in (1, 2)]
    assert sampled[0] != sampled[1]
    assert sampled == pytest.approx([exact] * 2, abs=4 * math.sqrt(exact * (1 - exact) / 5000))
    assert sign_flip_p_value(np.ones(40), seed=0, patterns=100) == 1 / 100


def test_without_pairs_there_is_no_p_value():
    assert math.isnan(sign_flip_p_value([], seed=0))
    assert math.isnan(sign_flip_p_value([math.nan], seed=0))
    with pytest.raises(ValueError, match="patterns"):
        sign_flip_p_value([1.0], seed=0, patterns=0)


def test_the_reduction_is_that_of_the_mean_absolute_values():
    found = paired_reduction([0.1, -0.1, 0.2], [-0.4, 0.6, 1.0])
    assert found.value == pytest.approx(1 - 0.4 / 2.0)
    assert found.n == 3
    assert found.low < found.value < found.high <= 1
    assert paired_reduction([0.2, 0.6], [0.1, 0.3]).value == pytest.approx(-1)


def test_the_ends_are_where_students_t_test_of_the_ratio_turns():
    draw = np.random.default_rng(0)
    control = draw.normal(1, 0.2, 9)
    treated = 0.4 * draw.normal(1, 0.2, 9)
    found = paired_reduction(treated, control)
    for end in (found.low, found.high):
        assert stats.ttest_1samp(treated - (1 - end) * control, 0).pvalue == pytest.approx(0.05)


def test_what_is_not_known_is_not_claimed():
    assert math.isnan(paired_reduction([0.1, 0.2], [0.0, 0.0]).value)
    assert paired_reduction([0.1, 0.2], [0.0, 0.0]).n == 2
    assert not paired_reduction([], []).defined
    assert paired_reduction([0.1], [0.2]).value == 0.5
    assert math.isnan(paired_reduction([0.1], [0.2]).low)
    # A control that may be zero bounds nothing but that a reduction is at most 1.
    assert (paired_reduction([1, 0.5, 0], [0, 0, 3]).low, paired_reduction([1, 0.5, 0], [0, 0, 3]).high) == (
        -math.inf,
        1,
    )


def test_pairs_that_agree_to_the_last_digit_have_no_interval():
    control = np.array([0.5, 0.6, 0.7])
    found = paired_reduction(0.09 * control, control)
    assert found.value == pytest.approx(0.91)
    assert math.isnan(found.low)


@pytest.mark.parametrize(("pairs", "remaining"), [(3, 0.1), (6, 0.5), (9, 0.1)])
def test_the_interval_covers_the_truth(pairs, remaining):
    draw = np.random.default_rng(pairs)
    levels = np.resize([0.05, 0.08, 0.12], pairs)
    held = 0
    for _ in range(500):
        control = levels * (1 + 0.2 * draw.standard_normal(pairs))
        treated = remaining * levels * (1 + 0.2 * draw.standard_normal(pairs))
        found = paired_reduction(treated, control)
        held += found.low <= 1 - remaining <= found.high
    assert held / 500 > 0.93


def test_the_mean_has_students_interval_from_three_values_on():
    values = [0.2, 0.5, 0.4, 0.9]
    interval = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = student_mean([*values, math.nan])
    assert [found.value, found.low, found.high, found.n] == pytest.approx([0.5, *interval, 4])
    assert math.isnan(student_mean(values[:2]).low)
    assert not student_mean([]).defined


def test_the_ratio_of_means_with_a_certain_denominator_has_students_interval():
    values = np.array([0.2, 0.5, 0.4])
    expected = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    found = ratio_of_means([0.5] * 3, values)
    assert [found.low, found.high] == pytest.approx([end / 0.5 for end in expected])
