"""The crossed analysis of seeds by items: against closed forms, and its size and coverage in simulated studies."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from fairloop.statistics.crossed import Spread, crossed_mean, mean_of_independent


def test_without_an_effect_of_items_it_is_students_t_over_seeds():
    seeds = np.array([0.3, 0.5, 1.1])
    estimate, p_value = crossed_mean(np.repeat(seeds[:, None], 7, axis=1))
    expected = ttest_1samp(seeds, 0)
    interval = expected.confidence_interval()
    assert (estimate.low, estimate.high, p_value) == pytest.approx((interval.low, interval.high, expected.pvalue))
    turned, p_value = crossed_mean(np.repeat(seeds[None], 7, axis=0))
    assert (turned.low, turned.high, p_value) == pytest.approx((interval.low, interval.high, expected.pvalue))


def test_the_variance_is_that_of_the_anova_written_out():
    table = np.random.default_rng(1).normal(size=(4, 6)) + np.arange(4)[:, None] + 2 * np.arange(6)
    seeds, items = table.shape
    mean = table.mean()
    seed = items * sum((row.mean() - mean) ** 2 for row in table) / (seeds - 1)
    item = seeds * sum((column.mean() - mean) ** 2 for column in table.T) / (items - 1)
    rest = sum(
        (table[s, i] - table[s].mean() - table[:, i].mean() + mean) ** 2 for s in range(seeds) for i in range(items)
    ) / ((seeds - 1) * (items - 1))
    components = [(seed - rest) / items, (item - rest) / seeds, rest]
    variance = components[0] / seeds + components[1] / items + components[2] / (seeds * items)
    total = seed + item - rest
    degrees = total**2 / (seed**2 / 3 + item**2 / 5 + rest**2 / 15)
    from scipy.stats import t

    estimate, _ = crossed_mean(table)
    assert (estimate.high - estimate.low) / 2 == pytest.approx(t.ppf(0.975, degrees) * math.sqrt(variance))


def test_one_seed_or_a_table_that_does_not_vary_has_no_test():
    for table in (np.ones((1, 5)), np.ones((3, 5)), np.ones((3, 1))):
        estimate, p_value = crossed_mean(table)
        assert estimate.value == 1
        assert math.isnan(estimate.low)
        assert math.isnan(p_value)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("sd_seed", "sd_item"), [(0.0, 0.0), (0.0, 1.0), (0.3, 0.3), (0.3, 1.0), (1.0, 0.3)])
def test_its_size_is_at_most_five_per_cent_and_a_little(seeds, sd_seed, sd_item):
    draw, reached, studies = np.random.default_rng(7), 0, 1500
    for _ in range(studies):
        table = sd_seed * draw.normal(size=(seeds, 1)) + sd_item * draw.normal(size=(1, 24))
        reached += crossed_mean(table + draw.normal(size=(seeds, 24)))[1] < 0.05
    print(f"seeds {seeds}, sd of seeds {sd_seed}, of items {sd_item}: size {reached / studies:.3f}")
    assert reached / studies < 0.075


@pytest.mark.parametrize("seed", range(4))
def test_a_mixed_model_by_restricted_likelihood_has_the_same_variance(seed):
    """statsmodels' MixedLM with crossed random effects: on balanced data REML is the analysis of variance, inside."""
    import pandas
    from scipy.stats import t
    from statsmodels.regression.mixed_linear_model import MixedLM

    draw = np.random.default_rng(seed)
    table = 0.4 + 0.8 * draw.normal(size=(6, 1)) + 0.8 * draw.normal(size=(1, 15)) + draw.normal(size=(6, 15))
    rows = [(value, place, item) for (place, item), value in np.ndenumerate(table)]
    frame = pandas.DataFrame(
        [(one, str(place), str(item)) for one, place, item in rows], columns=["d", "place", "item"]
    )
    frame["all"] = 1
    parts = {"place": "0 + C(place)", "item": "0 + C(item)"}
    model = MixedLM.from_formula("d ~ 1", groups="all", vc_formula=parts, re_formula="0", data=frame)
    fitted = model.fit(reml=True)
    estimate, _ = crossed_mean(table)
    error = float(fitted.bse_fe.iloc[0])
    noise = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    square = [15 * table.mean(axis=1).var(ddof=1), 6 * table.mean(axis=0).var(ddof=1), (noise**2).sum() / 70]
    degrees = (square[0] + square[1] - square[2]) ** 2 / (
        square[0] ** 2 / 5 + square[1] ** 2 / 14 + square[2] ** 2 / 70
    )
    assert float(fitted.fe_params.iloc[0]) == pytest.approx(estimate.value)
    assert (estimate.high - estimate.low) / 2 / t.ppf(0.975, degrees) == pytest.approx(error, rel=0.02)


def test_the_mean_of_independent_means_has_their_errors_in_square():
    parts = [Spread(1.0, 0.3, 4.0), Spread(2.0, 0.4, 9.0)]
    found = mean_of_independent(parts)
    assert (found.mean, found.error) == (1.5, pytest.approx(0.25))
    assert found.degrees == pytest.approx(0.25**2 / (0.09**2 / 4 + 0.16**2 / 9))
    assert not mean_of_independent([*parts, Spread(3.0, math.nan, math.nan)]).estimate(3, 3).bounded
    assert found.estimate(9, 9, (1.3, 1.6)).low == 1.3
