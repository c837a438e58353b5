import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from fairloop.statistics.intervals import (
    FEWEST_UNITS,
    estimate_dyadic_mean,
    estimate_mean,
    estimate_ratio,
    estimate_share,
    estimate_sums,
    jackknife,
)


def test_the_mean_of_independent_values_has_students_interval():
    values = np.random.default_rng(0).gamma(2.0, size=11)
    estimate = estimate_mean(values)
    expected = stats.t.interval(0.95, 10, values.mean(), stats.sem(values))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((values.mean(), *expected))
    assert (estimate.n, estimate.units) == (11, 11)


def test_equal_units_have_students_interval_of_their_means():
    values = np.random.default_rng(1).normal(size=(6, 16))
    estimate = estimate_mean(values.ravel(), clusters=np.repeat(np.arange(6), 16).tolist())
    means = values.mean(axis=1)
    assert (estimate.low, estimate.high) == pytest.approx(stats.t.interval(0.95, 5, means.mean(), stats.sem(means)))
    assert (estimate.n, estimate.units) == (96, 6)


def test_a_ratio_without_each_unit_in_turn_equals_a_loop():
    draw = np.random.default_rng(2)
    numerators, denominators, clusters = draw.normal(size=40), draw.uniform(0.5, 2, 40), draw.integers(0, 7, 40)
    estimate = estimate_ratio(numerators, denominators, clusters=clusters.tolist())
    left = [numerators[clusters != c].sum() / denominators[clusters != c].sum() for c in range(7)]
    error = math.sqrt(6 / 7 * sum((one - np.mean(left)) ** 2 for one in left))
    value = numerators.sum() / denominators.sum()
    assert (estimate.low, estimate.high) == pytest.approx(
        (value - stats.t.ppf(0.975, 6) * error, value + stats.t.ppf(0.975, 6) * error)
    )


def test_a_share_of_independent_trials_solves_wilsons_equation():
    hits = np.array([1.0] * 3 + [0.0] * 27)
    estimate = estimate_share(hits)
    effective, quantile = 0.1 * 0.9 / (hits.var(ddof=1) / 30), stats.t.ppf(0.975, 29)

    def score(p):
        return abs(0.1 - p) - quantile * math.sqrt(p * (1 - p) / effective)

    assert estimate.low == pytest.approx(optimize.brentq(score, 1e-9, 0.1))
    assert estimate.high == pytest.approx(optimize.brentq(score, 0.1, 1 - 1e-9))


def test_with_many_trials_a_share_has_the_published_wilson_interval():
    hits = np.array([1.0] * 700 + [0.0] * 9300)
    published = stats.binomtest(700, 10_000).proportion_ci(method="wilson")
    estimate = estimate_share(hits)
    assert (estimate.low, estimate.high) == pytest.approx((published.low, published.high), rel=2e-3)


@pytest.mark.parametrize(("hits", "value"), [([0.0] * 20, 0.0), ([1.0] * 20, 1.0)])
def test_a_share_of_none_or_all_is_not_taken_for_certain(hits, value):
    estimate = estimate_share(hits)
    quantile = stats.t.ppf(0.975, 19)
    assert estimate.value == value
    assert estimate.high - estimate.low == pytest.approx(quantile**2 / (20 + quantile**2))


def test_below_the_floor_and_without_spread_there_is_no_interval():
    few = list(range(FEWEST_UNITS - 1))
    for estimate in (
        estimate_mean([0.1, 0.4, 0.7]),
        estimate_share([1, 0, 1, 0, 1, 0], clusters=few * 2),
        estimate_mean([0.25] * 9),
        jackknife(0.5, [0.5, 0.5, 0.5, 0.5, 0.5], 5),
    ):
        assert math.isfinite(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
    assert not estimate_mean([]).defined
    assert not estimate_share([], []).defined
    assert not estimate_ratio([1.0, 2.0], [0.0, 0.0]).defined


def test_a_unit_that_alone_defines_the_statistic_leaves_it_without_an_interval():
    estimate = estimate_ratio([1.0, 0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0, 0.0])
    assert (estimate.value, estimate.n) == (0.5, 1)
    assert math.isnan(estimate.low)


def test_an_interval_ends_at_the_bounds():
    values = np.array([1.0, 1.0, 1.0, 1.0, 0.6, 0.9])
    assert estimate_mean(values, bounds=(-1, 1)).high == 1
    assert estimate_mean(values).high > 1


@given(st.permutations(range(6)), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_neither_the_order_of_observations_nor_the_units_names_matter(order, seed):
    draw = np.random.default_rng(seed)
    table, clusters = draw.uniform(1, 2, (24, 2)), np.repeat(np.arange(6), 4)
    shuffle = draw.permutation(24)

    def ratio(sums):
        return sums[..., 0] / sums[..., 1]

    first = estimate_sums(table, ratio, clusters=clusters.tolist())
    second = estimate_sums(table[shuffle], ratio, clusters=[f"unit {order[c]}" for c in clusters[shuffle]])
    assert (first.value, first.low, first.high) == pytest.approx((second.value, second.low, second.high))


GROUPS = (4, 8, 16)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_intervals_of_sentences_in_few_prompt_groups_cover_the_truth(groups, spread):
    """Sixteen sentences a group, as the recursion writes them; the percentile bootstrap covers 81% with four groups."""
    draw = np.random.default_rng(groups)
    covered = {"net rate": 0, "gendered share": 0, "rate among gendered": 0}
    clusters = np.repeat(np.arange(groups), 16).tolist()
    share, rate, studies = 0.5, 0.6, 600
    for _ in range(studies):
        # Group means vary around the truth: uniform within +-spread of the widest that keeps them probabilities.
        within = np.repeat(1 + spread * draw.uniform(-1, 1, groups), 16)
        gendered = draw.random(16 * groups) < share * within
        sigma = np.where(gendered, np.where(draw.random(16 * groups) < (1 + rate) / 2, 1.0, -1.0), 0.0)
        estimates = {
            "net rate": (estimate_mean(sigma, clusters=clusters), share * rate),
            "gendered share": (estimate_share(gendered.astype(float), clusters=clusters), share),
            "rate among gendered": (
                estimate_share((sigma + 1) / 2 * gendered, gendered.astype(float), clusters=clusters),
                (1 + rate) / 2,
            ),
        }
        for name, (estimate, truth) in estimates.items():
            covered[name] += estimate.low <= truth <= estimate.high
    for name, count in covered.items():
        assert 0.925 <= count / studies <= 0.985, name  # three standard errors of 600 studies around 93 to 97%


def test_the_jackknife_of_a_mean_is_its_textbook_interval():
    values = np.random.default_rng(1).normal(size=25)
    left_out = [np.delete(values, index).mean() for index in range(25)]
    estimate = jackknife(values.mean(), left_out, 25)
    expected = stats.t.interval(0.95, 24, loc=values.mean(), scale=stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx(expected)


def test_the_jackknife_of_too_few_units_or_of_an_undefined_one_has_no_interval():
    assert math.isnan(jackknife(0.5, [math.nan], 1).low)
    assert math.isnan(jackknife(0.5, [0.4, 0.5, 0.6], 3).low)
    assert math.isnan(jackknife(0.5, [0.4, 0.5, 0.6, 0.5, math.nan], 5).low)
    assert not jackknife(math.nan, [], 0).defined


def test_the_variance_of_a_mean_over_pairs_sums_all_products_that_share_a_thing():
    draw = np.random.default_rng(4)
    pairs = [tuple(draw.choice(8, 2, replace=False).tolist()) for _ in range(40)]
    values = draw.normal(size=8)[np.array(pairs)].sum(axis=1) + draw.normal(size=40)
    apart = values - values.mean()
    total = sum(
        apart[one] * apart[other] for one in range(40) for other in range(40) if set(pairs[one]) & set(pairs[other])
    )
    alike = sum(
        apart[one] * apart[other] for one in range(40) for other in range(40) if set(pairs[one]) == set(pairs[other])
    )
    half = stats.t.ppf(0.975, 7) * math.sqrt(8 / 7 * max(total, alike)) / 40
    estimate = estimate_dyadic_mean(values, pairs)
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert (estimate.n, estimate.units) == (40, 8)
    assert math.isnan(estimate_dyadic_mean([1.0, 2.0], [("a", "b"), ("b", "c")]).low)
    assert math.isnan(estimate_dyadic_mean([1.0] * 40, pairs).low)
    assert not estimate_dyadic_mean([], []).defined


def test_things_that_matter_widen_a_mean_over_pairs():
    """Each of 30 things has an effect: pairs taken as independent would cover about half."""
    draw = np.random.default_rng(5)
    pairs = [(one, other) for one in range(30) for other in range(one) if draw.random() < 0.5]
    first, second = np.array(pairs).T
    held = naive = 0
    for _ in range(300):
        own = draw.normal(size=30)
        values = own[first] + own[second] + draw.normal(size=len(pairs))
        one, other = estimate_dyadic_mean(values, pairs), estimate_mean(values)
        held += one.low <= 0 <= one.high
        naive += other.low <= 0 <= other.high
    assert 0.92 <= held / 300 <= 0.985
    assert naive / 300 < 0.7
