import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.statistics.permutation import permutation_p_value


def by_hand(x, y, strict=False):
    """Every partition, in exact arithmetic, with the statistic written as WEAT's definition has it."""
    pooled = [Fraction(value) for value in [*x, *y]]
    places = range(len(pooled))

    def statistic(chosen):
        inside = sum(pooled[place] for place in chosen)
        return inside - (sum(pooled) - inside)

    observed = statistic(range(len(x)))
    reached = [
        statistic(chosen) > observed if strict else statistic(chosen) >= observed
        for chosen in itertools.combinations(places, len(x))
    ]
    return sum(reached) / len(reached)


@settings(max_examples=80, deadline=None)
@given(
    x=st.lists(st.integers(-4, 4), min_size=1, max_size=5),
    y=st.lists(st.integers(-4, 4), min_size=1, max_size=5),
    strict=st.booleans(),
)
def test_exact_p_value_equals_enumeration_ties_included(x, y, strict):
    assert permutation_p_value(x, y, seed=0, strict=strict) == pytest.approx(by_hand(x, y, strict), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=8, max_size=8), st.floats(-100, 100), st.sampled_from([0.001, 1.0, 64.0]))
def test_moving_and_stretching_the_associations_changes_nothing(values, shift, scale):
    values = np.round(values, 3)
    plain = permutation_p_value(values[:4], values[4:], seed=0)
    moved = permutation_p_value(shift + scale * values[:4], shift + scale * values[4:], seed=0)
    assert moved == plain


def test_p_value_of_perfectly_separated_sets():
    assert permutation_p_value([5, 6, 7, 8], [1, 2, 3, 4], seed=0) == 1 / 70
    assert permutation_p_value([5, 6, 7, 8], [1, 2, 3, 4], seed=0, strict=True) == 0
    assert permutation_p_value([1, 2, 3, 4], [5, 6, 7, 8], seed=0) == 1


def test_all_equal_is_all_ties():
    assert permutation_p_value([0.1] * 6, [0.1] * 6, seed=0) == 1
    assert permutation_p_value([0.1] * 6, [0.1] * 6, seed=0, strict=True) == 0


def test_decimal_ties_are_ties_despite_rounding():
    # 0.1 + 0.2 > 0.3 in floating point.
    x, y = [0.1, 0.2, 0.0], [0.3, 0.0, 0.0]
    assert permutation_p_value(x, y, seed=0) == pytest.approx(by_hand(["0.1", "0.2", "0"], ["0.3", "0", "0"]))


def test_sampling_approaches_enumeration():
    generator = np.random.default_rng(0)
    x, y = generator.normal(0.4, 1, 9), generator.normal(0, 1, 7)
    exact = permutation_p_value(x, y, seed=0, partitions=20_000)
    assert math.comb(16, 7) <= 20_000
    sampled = permutation_p_value(x, y, seed=0, partitions=11_000)
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 11_000))


def test_enumeration_ends_exactly_at_the_limit():
    x, y = [3.0, 1.0, 2.5], [0.5, 2.0, 1.7]
    assert permutation_p_value(x, y, seed=0, partitions=20) == by_hand(x, y)
    assert permutation_p_value(x, y, seed=0, partitions=19) * 19 == pytest.approx(
        round(permutation_p_value(x, y, seed=0, partitions=19) * 19)
    )


def test_a_sampled_p_value_is_never_zero_and_follows_the_seed():
    x, y = np.arange(100, 140.0), np.arange(40.0)
    assert permutation_p_value(x, y, seed=0, partitions=500) == 1 / 500
    assert permutation_p_value(x, y, seed=0, partitions=500, strict=True) == 1 / 500
    x, y = np.arange(0, 80, 2.0), np.arange(1, 81, 2.0)
    assert permutation_p_value(x, y, seed=3) == permutation_p_value(x, y, seed=3)
    assert permutation_p_value(x, y, seed=3) != permutation_p_value(x, y, seed=4)


def test_p_values_are_uniform_without_a_difference():
    generator = np.random.default_rng(2)
    p_values = [
        permutation_p_value(*generator.normal(size=(2, 30)), seed=study, partitions=400) for study in range(400)
    ]
    shares = [np.mean(np.array(p_values) <= level) for level in (0.05, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.05, 0.25, 0.5, 0.75], abs=0.08)


def test_an_empty_set_is_undefined_and_no_partitions_are_refused():
    assert math.isnan(permutation_p_value([], [1.0], seed=0))
    with pytest.raises(ValueError, match="partitions"):
        permutation_p_value([1.0], [2.0], seed=0, partitions=0)
