"""Verdicts on recursions whose truth is known: equilibria, decays, random walks, and a seed of another kind."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from fairloop.statistics.equilibrium import Trajectory, estimate_equilibrium

LEVELS = (0.1, 0.3, 0.6)


def realised(draw, mean, sentences, gendered=0.5):
    """The net rate of a corpus of that many sentences, as it came out."""
    share = max(gendered, abs(mean))
    counts = draw.multinomial(sentences, [(share + mean) / 2, (share - mean) / 2, 1 - share])
    return (counts[0] - counts[1]) / sentences


def study(draw, step, *, sentences=500, seeds=3, generations=5, levels=LEVELS):
    """Cells whose generation g + 1 has the mean `step(g, B[g], level)`."""
    trajectories = []
    for level in levels:
        for _ in range(seeds):
            values = [level]
            for generation in range(generations):
                values.append(realised(draw, step(generation, values[-1], level), sentences))
            trajectories.append(Trajectory(level, tuple(values)))
    return trajectories


def verdicts(step, studies=60, **setting):
    draw = np.random.default_rng(11)
    return Counter(estimate_equilibrium(study(draw, step, **setting), resamples=199).verdict for _ in range(studies))


def test_a_seed_break_followed_by_decay_is_falling_and_never_an_equilibrium():
    """The committed `augment` cells: the seed's break to one value, then a fall. A line through all steps said 0.12."""
    found = verdicts(lambda g, now, level: 0.15 if g == 0 else 0.5 * now)
    assert found["equilibrium"] == 0
    assert found["falling"] >= 57


def test_a_slow_decay_is_never_called_an_equilibrium():
    assert verdicts(lambda g, now, level: 0.15 if g == 0 else 0.85 * now)["equilibrium"] == 0


def test_a_random_walk_is_hardly_ever_called_an_equilibrium():
    def walk(generation, now, level):
        return now if generation else 0.2

    found = verdicts(walk, sentences=256)
    assert found["equilibrium"] <= 3


def test_levels_that_keep_their_difference_are_no_equilibrium():
    assert verdicts(lambda g, now, level: 0.05 + 0.5 * level)["equilibrium"] == 0


def test_rest_after_the_seeds_break_is_found_with_enough_cells():
    """Ten seeds of 500 sentences at each level bound the trend to 0.01 a generation."""
    found = verdicts(lambda g, now, level: 0.12, studies=40, seeds=10)
    assert found["equilibrium"] >= 32
    assert found["falling"] + found["rising"] <= 6


def test_a_rise_is_rising():
    assert verdicts(lambda g, now, level: 0.1 if g == 0 else 1.3 * now)["rising"] >= 55


@pytest.mark.parametrize("generations", [1, 2, 4])
def test_fewer_than_four_transitions_among_generated_corpora_give_no_verdict(generations):
    found = estimate_equilibrium(
        study(np.random.default_rng(0), lambda g, now, level: 0.12, seeds=10, generations=generations)
    )
    assert found.verdict == "undecided"
    assert f"{generations - 1} transition{'s' * (generations != 2)} among" in found.reason


def test_cells_that_all_started_above_are_no_equilibrium():
    found = verdicts(lambda g, now, level: 0.1, studies=20, seeds=10, levels=(0.3, 0.45, 0.6))
    assert found["equilibrium"] == 0


def test_the_trend_is_the_mean_of_slopes_with_the_variance_within_levels():
    cells = study(np.random.default_rng(3), lambda g, now, level: 0.02 * g)
    slopes = np.array([np.polyfit(range(1, 6), one.values[1:], 1)[0] for one in cells]).reshape(3, 3)
    residual = slopes - slopes.mean(axis=1, keepdims=True)
    half = stats.t.ppf(0.975, 6) * math.sqrt((residual**2).sum() / 6 / 9)
    trend = estimate_equilibrium(cells).trend
    assert (trend.value, trend.low, trend.high) == pytest.approx(
        (slopes.mean(), slopes.mean() - half, slopes.mean() + half)
    )


def test_what_generation_one_keeps_is_a_regression_with_hc3_errors():
    """The same from the sandwich formula with matrices."""
    cells = study(np.random.default_rng(4), lambda g, now, level: 0.1 + 0.4 * level)
    x, y = (np.array([one.values[n] for one in cells]) for n in (0, 1))
    design = np.column_stack([np.ones_like(x), x])
    bread = np.linalg.inv(design.T @ design)
    residual = y - design @ bread @ design.T @ y
    leverage = np.einsum("ij,jk,ik->i", design, bread, design)
    meat = design.T @ np.diag((residual / (1 - leverage)) ** 2) @ design
    error = math.sqrt((bread @ meat @ bread)[1, 1])
    kept = estimate_equilibrium(cells).kept_first
    slope = stats.linregress(x, y).slope
    assert (kept.value, kept.high) == pytest.approx((slope, slope + stats.t.ppf(0.975, 7) * error))


def test_the_seeds_break_stands_apart():
    cells = study(np.random.default_rng(5), lambda g, now, level: 0.15)
    found = estimate_equilibrium(cells)
    assert [one.level for one in found.breaks] == list(LEVELS)
    for one in found.breaks:
        steps = [cell.values[1] - cell.values[0] for cell in cells if cell.level == one.level]
        assert one.change.value == pytest.approx(np.mean(steps))
        assert (one.change.low, one.change.high) == pytest.approx(
            stats.t.interval(0.95, 2, np.mean(steps), stats.sem(steps))
        )
    assert found.line.transitions == 9 * 4


def test_the_line_does_not_see_the_seed():
    cells = study(np.random.default_rng(6), lambda g, now, level: 0.15)
    moved = [Trajectory(one.level, (0.9, *one.values[1:])) for one in cells]
    assert estimate_equilibrium(cells).line == estimate_equilibrium(moved).line


def test_missing_generations_and_single_cells_leave_what_they_do_not_define_open():
    found = estimate_equilibrium([Trajectory(0.1, (0.1, math.nan, 0.2, 0.15, 0.1, 0.1, 0.2))])
    assert found.verdict == "undecided"
    assert math.isnan(found.trend.low)
    assert math.isnan(found.line.level.value)
    empty = estimate_equilibrium([])
    assert (empty.verdict, empty.transitions, empty.breaks) == ("undecided", 0, ())


def test_equal_cells_have_no_interval_of_width_zero():
    found = estimate_equilibrium(
        [Trajectory(0.3, (0.3, 0.1)), Trajectory(0.3, (0.3, 0.1)), Trajectory(0.3, (0.3, 0.1))]
    )
    assert found.breaks[0].change.value == pytest.approx(-0.2)
    assert math.isnan(found.breaks[0].change.low)
