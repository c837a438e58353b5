"""Calibration formulas against simulations with a known truth, closed forms and scipy's own functions."""

import math

import numpy as np
import pytest
from scipy import stats

from fairloop.statistics.calibration import (
    Curve,
    contrast,
    detectable_change,
    linearity,
    monotonicity,
    noise,
    noncentrality_interval,
    sampling_floor,
    slope,
)

LEVELS = (-1.0, -0.5, 0.0, 0.25, 1.0)


def simulated(draw, *, steepness=2.0, spread=0.5, replicates=8, levels=LEVELS):
    return Curve.of(levels, [0.3 + steepness * level + spread * draw.standard_normal(replicates) for level in levels])


def test_slope_is_that_of_least_squares_over_all_corpora():
    curve = simulated(np.random.default_rng(0))
    fitted = stats.linregress(np.repeat(LEVELS, 8), np.concatenate(curve.values))
    assert slope(curve).value == pytest.approx(fitted.slope)
    assert slope(curve).n == 40


def test_contrast_is_student_for_one_sample_and_welch_for_two():
    draw = np.random.default_rng(1)
    first, second = draw.normal(1, 1, 9), draw.normal(0, 3, 6)
    one = contrast([first], [1])
    assert (one.low, one.high) == pytest.approx(stats.t.interval(0.95, 8, first.mean(), stats.sem(first)))
    two = contrast([first, second], [1, -1])
    published = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    assert (two.low, two.high) == pytest.approx((published.low, published.high))


def test_intervals_of_slope_noise_and_detectable_change_cover_the_truth():
    """400 experiments each: 95% of the intervals hold the known slope, noise and MDE (99.9%: 0.909 to 0.980)."""
    draw = np.random.default_rng(2)
    truth = {slope: 2.0, noise: 0.5, detectable_change: (1.959964 + 0.841621) * math.sqrt(2) * 0.5 / 2.0}
    covered = dict.fromkeys(truth, 0)
    for _ in range(400):
        curve = simulated(draw, levels=(0.0, 0.25, 0.5))
        for measure, true in truth.items():
            estimate = measure(curve)
            covered[measure] += estimate.low <= true <= estimate.high
    for count in covered.values():
        assert 0.909 < count / 400 < 0.980


def test_slope_is_covered_when_noise_differs_between_levels():
    draw = np.random.default_rng(3)
    covered = 0
    for _ in range(600):
        values = [2 * level + (0.05 if level < 1 else 1.0) * draw.standard_normal(6) for level in LEVELS]
        estimate = slope(Curve.of(LEVELS, values))
        covered += estimate.low <= 2.0 <= estimate.high
    assert 0.92 < covered / 600 < 0.98


def test_a_change_of_the_detectable_size_is_found_four_times_out_of_five_and_no_change_once_in_twenty():
    """The definition, played through: two corpora of a metric with known noise, compared by a z-test."""
    draw = np.random.default_rng(4)
    spread, steepness, trials = 0.4, -1.7, 40_000
    # So many replicates that the MDE is known to within a percent.
    change = detectable_change(simulated(draw, steepness=steepness, spread=spread, replicates=20_000)).value
    for moved, found in ((change, 0.8), (change / 2, 0.288), (0.0, 0.05)):
        before = spread * draw.standard_normal(trials)
        after = steepness * moved + spread * draw.standard_normal(trials)
        rejected = np.abs(after - before) / (math.sqrt(2) * spread) > 1.959964
        assert rejected.mean() == pytest.approx(found, abs=0.012)


def test_a_flat_metric_detects_nothing_and_an_exact_one_everything():
    draw = np.random.default_rng(5)
    flat = detectable_change(simulated(draw, steepness=0.0))
    assert flat.high == math.inf
    assert flat.low > 1.0
    assert detectable_change(simulated(draw, spread=0.0)).value == 0.0
    assert not detectable_change(simulated(draw, steepness=0.0, spread=0.0)).defined
    assert not detectable_change(Curve.of([0.0], [[1.0, 2.0]])).defined


def test_noncentrality_interval_against_scipy_and_for_a_central_t():
    for t, freedom in ((3.0, 5), (7.0, 27), (900.0, 12)):
        low, high = noncentrality_interval(t, freedom)
        assert stats.nct.sf(t, freedom, low) == pytest.approx(0.025, abs=1e-5)
        assert stats.nct.cdf(t, freedom, high) == pytest.approx(0.025, abs=1e-5)
    assert noncentrality_interval(0.0, 6) == pytest.approx((-1.959964, 1.959964), abs=1e-5)


def test_linearity_and_monotonicity_of_known_curves():
    levels = np.linspace(-1, 1, 9)
    pair = np.array([0.0, 0.0])
    straight = Curve.of(levels, [pair - 3 * level for level in levels])
    bowl = Curve.of(levels, [pair + level**2 for level in levels])
    bent = Curve.of(levels, [pair + np.exp(3 * level) for level in levels])
    constant = Curve.of(levels, [pair + 0.1 for _ in levels])
    assert (linearity(straight).value, monotonicity(straight).value) == pytest.approx((1, -1))
    assert (linearity(bowl).value, monotonicity(bowl).value) == pytest.approx((0, 0), abs=1e-12)
    assert 0.5 < linearity(bent).value < 0.9
    assert monotonicity(bent).value == pytest.approx(1)
    assert not linearity(constant).defined
    assert not monotonicity(constant).defined


def test_the_window_holds_the_level_and_its_neighbours():
    curve = simulated(np.random.default_rng(6))
    assert curve.around(0.0).levels == (-0.5, 0.0, 0.25)
    assert curve.around(1.0).levels == (0.25, 1.0)
    assert curve.around(0.7).levels == ()


def test_undefined_values_are_left_out():
    curve = Curve.of([1.0, 0.0, 0.5], [[1.0, math.nan, 3.0], [math.nan, 2.0, math.nan], [0.0, 1.0, math.nan]])
    assert curve.levels == (0.5, 1.0)
    assert list(curve.means) == [0.5, 2.0]
    assert slope(curve).value == pytest.approx(3.0)


def test_sampling_floor_against_drawn_corpora():
    """Net rates of corpora of 200 independent sentences: 45% stereotypical, 15% anti-stereotypical."""
    draw = np.random.default_rng(7)
    counts = draw.multinomial(200, [0.45, 0.15, 0.4], size=20_000)
    spread = ((counts[:, 0] - counts[:, 1]) / 200).std()
    assert sampling_floor(0.3, 0.6, 200) == pytest.approx(2.801585 * math.sqrt(2) * spread, rel=0.02)
    assert sampling_floor(1.0, 1.0, 200) == 0.0
