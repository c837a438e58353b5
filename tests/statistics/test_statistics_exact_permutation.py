"""Exact p-values against enumeration, against sampling, and the two ways against each other."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.statistics.exact_permutation import exact_permutation_test


def enumerated(first, second):
    scores = np.concatenate([first, second])
    observed = first.sum()
    sums = [scores[list(chosen)].sum() for chosen in itertools.combinations(range(len(scores)), len(first))]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-8, 8), min_size=1, max_size=6),
    st.lists(st.integers(-8, 8), min_size=1, max_size=6),
)
def test_counting_equals_enumeration_with_ties(first, second):
    """Whole numbers tie often; a tie counts."""
    one, two = np.array(first) / 8, np.array(second) / 8
    result = exact_permutation_test(one, two)
    assert result.p_value == pytest.approx(enumerated(one, two), abs=1e-12)
    assert result.method == "counted"
    assert result.partitions == math.comb(len(first) + len(second), len(first))


@pytest.mark.parametrize(("n", "m"), [(8, 8), (9, 5), (4, 11)])
def test_counting_equals_enumeration_of_real_scores(n, m):
    random = np.random.default_rng(n)
    for shift in (-0.5, 0, 1, 9):
        first, second = random.normal(size=n) + shift, random.normal(size=m)
        assert exact_permutation_test(first, second).p_value == pytest.approx(enumerated(first, second), abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(15, 15), (18, 18), (20, 12)])
@pytest.mark.parametrize("shift", [-0.4, 0.0, 0.5, 1.2])
def test_the_characteristic_function_equals_counting(n, m, shift):
    random = np.random.default_rng(int(10 * shift) + n)
    first, second = random.normal(size=n) + shift, random.normal(size=m)
    counted = exact_permutation_test(first, second)
    transformed = exact_permutation_test(first, second, counted_up_to=0)
    assert (counted.method, transformed.method) == ("counted", "characteristic_function")
    assert transformed.p_value == pytest.approx(counted.p_value, rel=3e-4, abs=1e-9)


def test_skewed_scores_are_no_problem():
    random = np.random.default_rng(5)
    first, second = random.lognormal(sigma=1.5, size=16), random.lognormal(sigma=1.5, size=16)
    counted = exact_permutation_test(first, second).p_value
    assert exact_permutation_test(first, second, counted_up_to=0).p_value == pytest.approx(counted, rel=3e-4)


@pytest.mark.parametrize(("n", "shift"), [(64, 0.2), (200, -0.05)])
def test_large_tests_agree_with_sampling(n, shift):
    random = np.random.default_rng(n)
    first, second = random.normal(size=n) + shift, random.normal(size=n)
    scores, samples = np.concatenate([first, second]), 20_000
    reached = sum(random.permutation(scores)[:n].sum() >= first.sum() for _ in range(samples)) / samples
    p_value = exact_permutation_test(first, second).p_value
    assert abs(p_value - reached) < 4 * math.sqrt(p_value * (1 - p_value) / samples)


def test_tiny_p_values_keep_their_size():
    """Far in the tail the distribution is that of a normal one to within a factor, and never below 1 / partitions."""
    random = np.random.default_rng(2)
    first, second = random.normal(size=350) + 1.5, random.normal(size=350)
    p_value = exact_permutation_test(first, second).p_value
    assert 1e-90 < p_value < 1e-50
    apart = exact_permutation_test(np.arange(30) + 1000.0, np.arange(30) * 1.0)
    assert apart.p_value == pytest.approx(1 / math.comb(60, 30), rel=0.5)


def test_the_two_tails_add_up():
    random = np.random.default_rng(4)
    first, second = random.normal(size=60) + 0.1, random.normal(size=60)
    above = exact_permutation_test(first, second).p_value
    below = exact_permutation_test(-first, -second).p_value
    assert above + below == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [3, 60])
def test_equal_scores_have_p_one(size):
    assert exact_permutation_test(np.ones(size), np.ones(size)).p_value == 1


def test_a_shift_and_a_scale_change_nothing():
    random = np.random.default_rng(6)
    first, second = random.normal(size=50) + 0.3, random.normal(size=50)
    p_value = exact_permutation_test(first, second).p_value
    assert exact_permutation_test(1e-4 * first + 7, 1e-4 * second + 7).p_value == pytest.approx(p_value, rel=1e-6)


@pytest.mark.parametrize(("first", "second"), [([], [1.0]), ([1.0], []), ([float("nan")], [1.0])])
def test_bad_samples_are_refused(first, second):
    with pytest.raises(ValueError, match="two samples"):
        exact_permutation_test(np.array(first), np.array(second))
