"""The studentised bootstrap: against a loop that resamples by hand, and theory; `make coverage` has its coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.seeding import random_generator
from fairloop.statistics.bootstrap import (
    FEWEST_FOR_BOOTSTRAP,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_sums,
)
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.units import cluster_numbers, divide


def test_interval_of_a_mean_agrees_with_theory():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    estimate = bootstrap_mean(values, seed=1, resamples=10_000)
    error = values.std(ddof=1) / math.sqrt(400)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - 1.966 * error, abs=0.08 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.966 * error, abs=0.08 * error)
    assert (estimate.n, estimate.units) == (400, 400)


def test_it_equals_a_loop_that_draws_units_and_studentises_each_resample_by_its_own_jackknife():
    draw = np.random.default_rng(3)
    values, weights = draw.gamma(1.0, size=37), draw.uniform(0.5, 1.5, 37)
    clusters = list(draw.integers(0, 9, 37))
    fast = bootstrap_ratio(values, weights, seed=5, resamples=300, clusters=clusters)

    numbers = cluster_numbers(clusters)
    members = [np.flatnonzero(numbers == one) for one in range(numbers.max() + 1)]

    def ratio(units):
        places = np.concatenate([members[unit] for unit in units])
        return values[places].sum() / weights[places].sum()

    def error(units):
        left = [ratio(np.delete(units, place)) for place in range(len(units))]
        return math.sqrt((len(units) - 1) / len(units) * sum((one - np.mean(left)) ** 2 for one in left))

    everything = np.arange(len(members))
    whole, drawn = ratio(everything), random_generator(5, "bootstrap").integers(0, len(members), (300, len(members)))
    ratios = [(ratio(units) - whole) / error(units) for units in drawn]
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert (fast.value, fast.low, fast.high) == pytest.approx(
        (whole, whole - high * error(everything), whole - low * error(everything))
    )
    assert (fast.n, fast.units) == (37, len(members))


def test_the_interval_of_skewed_values_reaches_further_to_the_side_of_the_tail():
    estimate = bootstrap_mean(np.random.default_rng(2).lognormal(size=30), seed=0)
    assert estimate.high - estimate.value > 1.2 * (estimate.value - estimate.low)


def test_clusters_widen_the_interval_of_repeated_observations():
    base = np.random.default_rng(0).normal(size=60)
    repeated, clusters = np.repeat(base, 8), np.repeat(np.arange(60), 8).tolist()
    naive = bootstrap_mean(repeated, seed=0)
    clustered = bootstrap_mean(repeated, seed=0, clusters=clusters)
    once = bootstrap_mean(base, seed=0)
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))
    assert clustered.high - clustered.low > 2.4 * (naive.high - naive.low)


def test_what_has_no_denominator_is_no_unit():
    numerators, denominators = [1.0, 0.5, 0.2, 0.8, 0.4, 0.9, *[0.0] * 6], [1.0] * 6 + [0.0] * 6
    estimate = bootstrap_ratio(numerators, denominators, seed=0)
    assert (estimate.n, estimate.units) == (6, 6)
    assert estimate == bootstrap_mean(numerators[:6], seed=0)


def test_a_ratio_with_nothing_below_is_undefined():
    estimate = bootstrap_ratio([1.0, 0.0], [0.0, 0.0], seed=0)
    assert not estimate.defined
    assert estimate.n == 0
    assert math.isnan(estimate.low)


def test_below_the_floor_there_is_a_value_and_no_interval():
    few = list(np.linspace(0, 1, FEWEST_FOR_BOOTSTRAP - 1))
    for estimate in (
        bootstrap_mean(few, seed=0),
        bootstrap_mean([0.3, 0.9, 0.1] * 9, seed=0, clusters=["a", "b", "c"] * 9),
    ):
        assert math.isfinite(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
    assert math.isfinite(bootstrap_mean([*few, 0.35], seed=0).low)


def test_what_does_not_vary_has_no_interval():
    for estimate in (bootstrap_mean([0.25] * 12, seed=0), bootstrap_ratio([2.0] * 9, [4.0] * 9, seed=0)):
        assert math.isfinite(estimate.value)
        assert math.isnan(estimate.low)


def test_where_many_resamples_do_not_vary_students_quantiles_stand_in():
    values = np.array([1.0] + [0.0] * 11)
    estimate = bootstrap_mean(values, seed=0)
    half = 2.200985 * values.std(ddof=1) / math.sqrt(12)
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_nothing_is_undefined():
    assert not bootstrap_mean([], seed=0).defined
    assert not Estimate.undefined().defined


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(-10, 10), min_size=6, max_size=30),
    seed=st.integers(0, 2**31),
    confidence=st.floats(0.5, 0.99),
)
def test_the_interval_holds_the_value_repeats_and_widens(values, seed, confidence):
    first = bootstrap_mean(values, seed=seed, resamples=50, confidence=confidence)
    again = bootstrap_mean(values, seed=seed, resamples=50, confidence=confidence)
    if math.isnan(first.low):
        assert math.isnan(again.low)
        return
    assert first == again
    assert first.low <= first.value <= first.high
    wider = bootstrap_mean(values, seed=seed, resamples=50, confidence=0.995)
    assert wider.low <= first.low
    assert first.high <= wider.high


def test_an_interval_ends_at_the_bounds():
    values = [1.0, 1.0, 0.9, 1.0, 0.7, 1.0, 0.95]
    assert bootstrap_mean(values, seed=0, bounds=(0, 1)).high == 1
    assert bootstrap_mean(values, seed=0).high > 1


def test_equal_seeds_resample_jointly_and_other_seeds_differently():
    values = np.random.default_rng(1).gamma(1, size=40)
    first = bootstrap_mean(values, seed=1)
    doubled = bootstrap_mean(2 * values, seed=1)
    assert (doubled.low, doubled.high) == pytest.approx((2 * first.low, 2 * first.high))
    assert bootstrap_mean(values, seed=2) != first


def test_many_observations_are_drawn_in_parts(monkeypatch):
    table = np.random.default_rng(0).normal(size=(50, 1))
    monkeypatch.setattr("fairloop.statistics.bootstrap._NUMBERS_AT_ONCE", 64)
    estimate = bootstrap_sums(table, lambda sums: sums[..., 0], seed=0, resamples=999)
    assert estimate.high - estimate.low == pytest.approx(2 * 2.01 * table.std(ddof=1) * math.sqrt(50), rel=0.1)


@pytest.mark.parametrize(
    "wrong", [{"resamples": 0}, {"confidence": 1.0}, {"confidence": 0.0}, {"clusters": ["a"]}], ids=str
)
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=r"resamples|confidence|clusters"):
        bootstrap_mean([1.0, 2.0], seed=0, **wrong)


def test_cluster_numbers_follow_first_appearance():
    assert cluster_numbers(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]


def test_divide_by_zero_is_undefined():
    assert np.isnan(divide(np.array([1.0, 0.0]), np.array([0.0, 0.0]))).all()
    assert float(divide(np.float64(1.0), np.float64(4.0))) == 0.25
