import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.statistics.bootstrap import (
    bootstrap,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_sums,
    cluster_numbers,
    divide,
)
from fairloop.statistics.estimate import Estimate


def test_interval_of_a_mean_agrees_with_theory():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    estimate = bootstrap_mean(values, seed=1, resamples=20_000)
    error = values.std() / math.sqrt(400)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.03 * error + 0.005)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.03 * error + 0.005)
    assert estimate.n == 400


def test_vectorised_resamples_equal_a_loop_over_indices():
    generator = np.random.default_rng(3)
    values, weights = generator.normal(size=37), generator.uniform(0.5, 1.5, 37)
    clusters = list(generator.integers(0, 9, 37))
    fast = bootstrap_ratio(values, weights, seed=5, resamples=300, clusters=clusters)
    slow = bootstrap(
        lambda index: values[index].sum() / weights[index].sum(), 37, seed=5, resamples=300, clusters=clusters
    )
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high))
    without = bootstrap_mean(values, seed=5, resamples=300)
    loop = bootstrap(lambda index: float(values[index].mean()), 37, seed=5, resamples=300)
    assert (without.low, without.high) == pytest.approx((loop.low, loop.high))


def test_clusters_widen_the_interval_of_repeated_observations():
    base = np.random.default_rng(0).normal(size=60)
    repeated, clusters = np.repeat(base, 8), np.repeat(np.arange(60), 8).tolist()
    naive = bootstrap_mean(repeated, seed=0)
    clustered = bootstrap_mean(repeated, seed=0, clusters=clusters)
    once = bootstrap_mean(base, seed=0)
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))
    assert clustered.high - clustered.low > 2.4 * (naive.high - naive.low)


def test_a_clustered_interval_covers_the_truth_where_the_naive_one_does_not():
    generator = np.random.default_rng(7)
    covered = {"naive": 0, "clustered": 0}
    for study in range(300):
        effects = np.repeat(generator.normal(size=40), 6)
        values = effects + generator.normal(size=240)
        clusters = np.repeat(np.arange(40), 6).tolist()
        for name, given_clusters in (("naive", None), ("clustered", clusters)):
            estimate = bootstrap_mean(values, seed=study, resamples=400, clusters=given_clusters)
            covered[name] += estimate.low <= 0 <= estimate.high
    assert 0.90 <= covered["clustered"] / 300 <= 0.98
    assert covered["naive"] / 300 < 0.80


def test_the_ratio_is_resampled_as_a_ratio():
    # Resampling a fixed denominator would give half the spread: numerator and denominator move together here.
    denominators = np.array([1.0] * 50 + [0.0] * 50)
    numerators = denominators.copy()
    estimate = bootstrap_ratio(numerators, denominators, seed=0)
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (1.0, 1.0, 1.0, 50)


def test_a_ratio_with_nothing_below_is_undefined():
    estimate = bootstrap_ratio([1.0, 0.0], [0.0, 0.0], seed=0)
    assert not estimate.defined
    assert estimate.n == 0
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


def test_resamples_that_do_not_define_a_ratio_are_left_out():
    estimate = bootstrap_ratio([1.0, 0.0, 0.0], [1.0, 0.0, 0.0], seed=0, resamples=200)
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "clusters"), [([0.3], None), ([0.3, 0.9, 0.1], ["a", "a", "a"])], ids=["one value", "one cluster"]
)
def test_one_unit_has_a_value_but_no_interval(values, clusters):
    for estimate in (
        bootstrap_mean(values, seed=0, clusters=clusters),
        bootstrap(lambda index: float(np.mean(np.array(values)[index])), len(values), seed=0, clusters=clusters),
    ):
        assert estimate.value == pytest.approx(np.mean(values))
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
        assert estimate.n == len(values)


def test_nothing_is_undefined():
    assert not bootstrap_mean([], seed=0).defined
    assert not bootstrap(lambda index: 0.0, 0, seed=0).defined
    assert not Estimate.undefined().defined


def test_constant_values_have_a_point_as_interval():
    estimate = bootstrap_mean([0.25] * 12, seed=0)
    assert (estimate.low, estimate.value, estimate.high) == (0.25, 0.25, 0.25)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(-10, 10), min_size=2, max_size=30),
    seed=st.integers(0, 2**31),
    confidence=st.floats(0.5, 0.99),
)
def test_interval_lies_within_the_values_and_repeats(values, seed, confidence):
    first = bootstrap_mean(values, seed=seed, resamples=50, confidence=confidence)
    assert first == bootstrap_mean(values, seed=seed, resamples=50, confidence=confidence)
    assert min(values) - 1e-9 <= first.low <= first.high <= max(values) + 1e-9
    wider = bootstrap_mean(values, seed=seed, resamples=50, confidence=0.995)
    assert wider.low <= first.low
    assert first.high <= wider.high


def test_equal_seeds_resample_jointly_and_other_seeds_differently():
    values = np.arange(40.0)
    first = bootstrap_mean(values, seed=1)
    doubled = bootstrap_mean(2 * values, seed=1)
    assert (doubled.low, doubled.high) == pytest.approx((2 * first.low, 2 * first.high))
    assert bootstrap_mean(values, seed=2) != first


def test_many_observations_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr("fairloop.statistics.bootstrap._DRAWS_AT_ONCE", 64)
    estimate = bootstrap_sums(
        np.random.default_rng(0).normal(size=(50, 1)), lambda sums: sums[..., 0], seed=0, resamples=999
    )
    assert np.isfinite([estimate.low, estimate.high]).all()
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * math.sqrt(50), rel=0.25)


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
