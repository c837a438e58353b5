import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from fairloop.statistics.line import fit_line

LEVELS = (0.1, 0.3, 0.6)
B_STAR = 0.12


def fit(trajectories, **more):
    """Fit the line to the transitions of trajectories; missing values drop only theirs."""
    rows = [
        (now, then, cell)
        for cell, values in enumerate(trajectories)
        for now, then in pairwise(values)
        if math.isfinite(now) and math.isfinite(then)
    ]
    before, after, cell = np.array(rows, dtype=float).reshape(-1, 3).T
    return fit_line(before, after, cell.astype(int), **more)


def simulate(generator, *, rho, seeds, noise, level=B_STAR, generations=3, levels=LEVELS):
    """One study: the observed rate is the state that the next generation is written from.

    `noise` is a standard deviation, or (as an int) a number of sentences of which half are gendered.
    """
    trajectories = []
    for start in levels:
        for _ in range(seeds):
            values = [start]
            for _ in range(generations):
                mean = level * (1 - rho) + rho * values[-1]
                if isinstance(noise, int):
                    gendered = max(0.5, abs(mean))
                    shares = [(gendered + mean) / 2, (gendered - mean) / 2, 1 - gendered]
                    counts = generator.multinomial(noise, shares)
                    values.append((counts[0] - counts[1]) / noise)
                else:
                    values.append(mean + noise * generator.standard_normal())
            trajectories.append(tuple(values))
    return trajectories


def coverage(*, rho, studies=400, **setting):
    generator = np.random.default_rng(20)
    hits = np.zeros(2)
    for _ in range(studies):
        found = fit(simulate(generator, rho=rho, **setting), resamples=999)
        hits += [
            found.level.low <= B_STAR <= found.level.high,
            found.slope.low <= rho <= found.slope.high,
        ]
    return hits / studies


@pytest.mark.parametrize(
    ("rho", "seeds", "noise"),
    [(0.0, 3, 256), (0.3, 3, 0.05), (0.5, 3, 256), (0.8, 3, 0.03), (0.3, 5, 256)],
)
def test_the_intervals_cover_the_truth_in_92_to_98_percent_of_studies(rho, seeds, noise):
    level, slope = coverage(rho=rho, seeds=seeds, noise=noise)
    assert 0.92 <= level <= 0.98
    assert 0.92 <= slope <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("seeds", [1, 3, 5])
@pytest.mark.parametrize("noise", [0.03, 0.06, 256])
def test_coverage_of_the_level_over_the_whole_grid(rho, seeds, noise):
    level, slope = coverage(rho=rho, seeds=seeds, noise=noise, studies=1000)
    assert 0.92 <= level <= 0.985
    assert 0.915 <= slope <= 0.985


def test_a_line_without_noise_is_found_exactly():
    generator = np.random.default_rng(0)
    found = fit(simulate(generator, rho=0.4, seeds=3, noise=0.0))
    for estimate, truth in ((found.level, B_STAR), (found.slope, 0.4), (found.intercept, B_STAR * 0.6)):
        assert estimate.value == pytest.approx(truth, abs=1e-9)
        assert estimate.low <= truth <= estimate.high
        assert estimate.high - estimate.low < 1e-3


def test_the_fit_is_least_squares_over_all_transitions():
    trajectories = simulate(np.random.default_rng(3), rho=0.5, seeds=3, noise=0.05)
    before = [value for one in trajectories for value in one[:-1]]
    after = [value for one in trajectories for value in one[1:]]
    line = stats.linregress(before, after)
    found = fit(trajectories)
    assert found.slope.value == pytest.approx(line.slope)
    assert found.intercept.value == pytest.approx(line.intercept)
    assert found.level.value == pytest.approx(line.intercept / (1 - line.slope))
    assert found.cells == 9
    assert found.transitions == found.level.n == 27


def brute_force_p_value(trajectories, level):
    """The restricted wild cluster bootstrap-t of B* = level, one sign pattern and one regression at a time."""
    x = np.array([value for one in trajectories for value in one[:-1]])
    y = np.array([value for one in trajectories for value in one[1:]])
    cell = np.repeat(np.arange(len(trajectories)), len(trajectories[0]) - 1)

    def t_statistic(response):
        design = np.column_stack([np.ones_like(x), x - level])
        bread = np.linalg.inv(design.T @ design)
        beta = bread @ design.T @ response
        residual = response - design @ beta
        meat = np.zeros((2, 2))
        for one in np.unique(cell):
            score = design[cell == one].T @ residual[cell == one]
            meat += np.outer(score, score)
        return beta[0] / math.sqrt((bread @ meat @ bread)[0, 0])

    slope = ((x - level) @ (y - level)) / ((x - level) @ (x - level))
    residual = y - level - slope * (x - level)
    observed = abs(t_statistic(y - level))
    extreme = []
    for code in range(2 ** len(trajectories)):
        signs = np.array([1.0 if code >> one & 1 else -1.0 for one in range(len(trajectories))])
        extreme.append(abs(t_statistic(slope * (x - level) + signs[cell] * residual)) >= observed * (1 - 1e-9))
    return np.mean(extreme)


def test_the_interval_ends_where_the_brute_force_test_crosses_five_percent():
    trajectories = simulate(np.random.default_rng(5), rho=0.4, seeds=2, noise=0.05, levels=(0.1, 0.2, 0.4, 0.6))
    found = fit(trajectories)
    assert found.resampled == "cells"
    for end, outwards in ((found.level.low, -1), (found.level.high, 1)):
        assert brute_force_p_value(trajectories, end - outwards * 0.0003) > 0.05
        assert brute_force_p_value(trajectories, end + outwards * 0.0003) <= 0.05


def test_growth_has_a_slope_above_one():
    trajectories = simulate(np.random.default_rng(1), rho=1.4, seeds=3, noise=0.005, level=0.0)
    found = fit(trajectories)
    assert found.slope.low > 1


def test_a_slope_that_may_be_one_leaves_the_level_unbounded():
    found = fit(simulate(np.random.default_rng(2), rho=1.0, seeds=3, noise=0.05))
    assert found.slope.low <= 1 <= found.slope.high
    assert (found.level.low, found.level.high) == (-math.inf, math.inf)


def test_three_cells_give_a_wider_interval_than_nine_and_say_what_was_resampled():
    widths = {}
    for seeds in (1, 3):
        found = [fit(simulate(np.random.default_rng(i), rho=0.2, seeds=seeds, noise=0.03)) for i in range(40)]
        widths[seeds] = np.median([one.level.high - one.level.low for one in found])
        assert {one.resampled for one in found} == {"transitions" if seeds == 1 else "cells"}
    assert widths[1] > 1.5 * widths[3]


@pytest.mark.parametrize(
    "trajectories",
    [
        [],
        [(0.1, 0.2, 0.15, 0.18)],
        [(0.1,), (0.3,)],
        [(0.2, 0.2, 0.2), (0.2, 0.2, 0.2)],
        [(math.nan, 0.2), (math.nan, math.nan)],
    ],
)
def test_too_little_to_fit_is_undefined(trajectories):
    found = fit(trajectories)
    assert math.isnan(found.level.value)
    assert found.resampled == "nothing"


def test_few_transitions_bound_nothing():
    found = fit([(b, 0.12 + 0.3 * b + e) for b, e in ((0.1, 0.01), (0.3, -0.02), (0.6, 0.01))])
    assert found.slope.low == -math.inf


def test_missing_values_drop_only_their_transitions():
    found = fit([(0.1, math.nan, 0.2, 0.15), (0.6, 0.3, 0.2, 0.1)])
    assert found.transitions == 4
    assert found.cells == 2


def test_equal_arguments_give_equal_results_and_the_order_of_cells_does_not_matter():
    trajectories = simulate(np.random.default_rng(9), rho=0.3, seeds=3, noise=0.05)
    assert fit(trajectories) == fit(trajectories)
    first, second = fit(trajectories), fit(trajectories[::-1])
    assert first.level.low == pytest.approx(second.level.low, abs=1e-4)
    assert first.level.high == pytest.approx(second.level.high, abs=1e-4)
