"""Intervals over test items and training noise, on processes whose truth is known."""

import math

import numpy as np
import pytest

from fairloop.statistics.bootstrap import bootstrap_sums
from fairloop.statistics.refits import bootstrap_refitted, training_error


def mean(sums):
    return sums[..., 0] / sums[..., 1]


def counted(values):
    return np.stack([values, np.ones(len(values))], axis=1)


def test_the_error_of_a_mean_is_the_textbooks():
    values = np.random.default_rng(1).normal(size=12)
    left_out = [np.delete(values, index).mean() for index in range(12)]
    assert training_error(left_out) == pytest.approx(values.std(ddof=1) / math.sqrt(12))


@pytest.mark.parametrize("refits", [None, "equal"])
def test_without_training_noise_it_is_the_bootstrap(refits):
    columns = counted(np.random.default_rng(2).normal(size=30))
    again = None if refits is None else np.stack([columns] * 5)
    clusters = [index // 3 for index in range(30)]
    found = bootstrap_refitted(columns, again, mean, seed=4, resamples=300, clusters=clusters)
    assert found == bootstrap_sums(columns, mean, seed=4, resamples=300, clusters=clusters)


def test_training_noise_alone_gives_students_interval():
    columns = counted(np.full(40, 0.5))
    left_out = 0.5 + 0.01 * np.arange(-4.5, 5)
    refits = np.stack([counted(np.full(40, value)) for value in left_out])
    found = bootstrap_refitted(columns, refits, mean, seed=0, resamples=100_000)
    margin = 2.262157 * training_error(left_out)  # t(0.975) with 9 degrees of freedom
    assert found.high - 0.5 == pytest.approx(margin, rel=0.05)
    assert 0.5 - found.low == pytest.approx(margin, rel=0.05)


def test_undefined_without_interval_and_bounds():
    columns = counted(np.linspace(0, 1, 8))
    assert not bootstrap_refitted(np.empty((0, 2)), None, mean, seed=0).defined
    for refits in (np.empty((0, 0, 1)), columns[None], np.full((5, 8, 2), np.nan)):
        found = bootstrap_refitted(columns, refits, mean, seed=0)
        assert found.value == pytest.approx(0.5)
        assert math.isnan(found.low)
    noisy = np.stack([counted(np.full(8, value)) for value in (0.0, 1.0, 0.0, 1.0)])
    found = bootstrap_refitted(columns, noisy, mean, seed=0, bounds=(0, 1))
    assert (found.low, found.high) == (0, 1)


@pytest.mark.parametrize(("training", "items"), [(1.0, 0.2), (0.2, 1.0), (1.0, 1.0), (0.0, 1.0)])
def test_coverage_on_a_known_truth(training, items):
    """A model whose answer to an item is the mean of its training data plus the item's own effect; the truth is 0."""
    covered, without = [], []
    for replicate in range(400):
        draw = np.random.default_rng(replicate)
        lessons, effects = training * draw.normal(size=40), items * draw.normal(size=40)
        fold = np.arange(40) % 10
        refits = np.stack([counted(lessons[fold != one].mean() + effects) for one in range(10)])
        columns = counted(lessons.mean() + effects)
        found = bootstrap_refitted(columns, refits, mean, seed=replicate, resamples=400)
        alone = bootstrap_refitted(columns, None, mean, seed=replicate, resamples=400)
        covered.append(found.low <= 0 <= found.high)
        without.append(alone.low <= 0 <= alone.high)
    assert 0.92 <= np.mean(covered) <= 0.985
    if training == 1:
        assert np.mean(without) < 0.87
