import math

import numpy as np
import pytest

from fairloop.statistics.agreement import MEASURES, agreement, influences

LABELS = [1, 1, 1, 1, 0, 0, 0, 0, 0, 1]
SAID = [1, 1, 0, 1, 0, 1, 0, 0, 0, 0]  # 3 true positives, 1 false positive, 2 missed, 4 true negatives


def test_measures_of_classes_by_hand():
    assert agreement("accuracy", LABELS, SAID) == pytest.approx(0.7)
    assert agreement("f1", LABELS, SAID) == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert agreement("matthews", LABELS, SAID) == pytest.approx((3 * 4 - 1 * 2) / math.sqrt(4 * 5 * 5 * 6))


def test_correlations_by_hand():
    labels, said = [0.0, 1.0, 2.0, 5.0], [0.0, 3.0, 2.0, 100.0]
    x, y = np.array(labels) - 2, np.array(said) - 26.25
    assert agreement("pearson", labels, said) == pytest.approx((x @ y) / math.sqrt((x @ x) * (y @ y)))
    assert agreement("spearman", labels, said) == pytest.approx(1 - 6 * 2 / (4 * 15))  # ranks 1 2 3 4 and 1 3 2 4


@pytest.mark.parametrize(("measure", "labels"), [("pearson", [0.0, 1.0, 5.0]), ("matthews", [0, 1, 1])])
def test_predictions_that_never_differ_agree_with_nothing(measure, labels):
    assert agreement(measure, labels, [1, 1, 1]) == 0.0
    assert not influences(measure, labels, [1, 1, 1]).any()


def by_hand(measure, labels, said):
    if measure in ("accuracy", "f1", "matthews"):
        true, false, missed, rest = (
            float(np.sum((said == guess) & (labels == truth))) for guess, truth in ((1, 1), (1, 0), (0, 1), (0, 0))
        )
        if measure == "accuracy":
            return (true + rest) / len(labels)
        if measure == "f1":
            return 2 * true / (2 * true + false + missed)
        spread = (true + false) * (true + missed) * (rest + false) * (rest + missed)
        return (true * rest - false * missed) / math.sqrt(spread)
    if measure == "spearman":  # the mean of the places that equal values take
        labels, said = (
            np.searchsorted(np.sort(some), some, "left") + np.searchsorted(np.sort(some), some, "right")
            for some in (labels, said)
        )
    return float(np.corrcoef(labels, said)[0, 1])


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_are_those_computed_by_hand(measure):
    labels, runs = runs_of(measure, 40, 3)
    for said in runs:
        assert agreement(measure, labels, said) == pytest.approx(by_hand(measure, labels, said))


def runs_of(measure, n, runs, seed=0):
    random = np.random.default_rng(seed)
    if measure in ("pearson", "spearman"):
        labels = random.normal(size=n)
        return labels, labels + random.normal(size=(runs, n))
    labels = random.integers(0, 2, n)
    return labels, np.where(random.random((runs, n)) < 0.2, 1 - labels, labels)


@pytest.mark.parametrize("measure", MEASURES)
def test_an_items_influence_is_what_the_measure_loses_without_it(measure):
    labels, (said, *_) = runs_of(measure, 40, 1)
    if measure in ("pearson", "spearman"):
        said = np.round(said, 1)  # with ties
    without = [by_hand(measure, np.delete(labels, item), np.delete(said, item)) for item in range(40)]
    assert influences(measure, labels, said) == pytest.approx(39 * (np.mean(without) - without), abs=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_influences_have_the_spread_of_the_measure_over_samples(measure):
    found, spread = [], []
    for seed in range(300):
        labels, (said, *_) = runs_of(measure, 120, 1, seed)
        found.append(agreement(measure, labels, said))
        spread.append(influences(measure, labels, said).std(ddof=1) / math.sqrt(120))
    assert np.mean(spread) == pytest.approx(np.std(found), rel=0.12)


def test_three_classes_are_counted_whole():
    labels, said = np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0])
    without = np.array([2 / 3, 2 / 3, 2 / 3, 1])
    assert influences("accuracy", labels, said) == pytest.approx(3 * (without.mean() - without))
