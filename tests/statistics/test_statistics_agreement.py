import math

import numpy as np
import pytest

from fairloop.statistics.agreement import MEASURES, agreement, resampled_agreement
from fairloop.statistics.bootstrap import percentile_interval

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
    assert not resampled_agreement([measure], labels, [[1, 1, 1]], seed=0, stage="s", resamples=20).any()


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
def test_resamples_are_distributed_as_those_drawn_item_by_item(measure):
    labels, runs = runs_of(measure, 30, 3)
    quick = resampled_agreement([measure], labels, runs, seed=1, stage="s", resamples=4000)[0]
    random = np.random.default_rng(5)
    slow = []
    for _ in range(800):
        items, chosen = random.integers(0, 30, 30), random.integers(0, 3, 3)
        slow.append(np.mean([by_hand(measure, labels[items], runs[run][items]) for run in chosen]))
    assert quick.mean() == pytest.approx(np.mean(slow), abs=4 * np.std(slow) / math.sqrt(800))
    assert quick.std() == pytest.approx(np.std(slow), rel=0.12)
    assert percentile_interval(quick, 0.95) == pytest.approx(
        percentile_interval(np.array(slow), 0.95), abs=0.4 * np.std(slow)
    )


def test_three_classes_are_counted_whole():
    labels = np.array([0, 1, 2, 2])
    drawn = resampled_agreement(["accuracy"], labels, [[0, 1, 2, 0]], seed=0, stage="s", resamples=3000)[0]
    assert set(np.unique(drawn)) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert drawn.mean() == pytest.approx(0.75, abs=0.02)


def test_measures_share_their_resamples_and_runs_widen_the_interval():
    labels, runs = runs_of("accuracy", 80, 1)
    twice = resampled_agreement(["accuracy", "accuracy"], labels, runs, seed=0, stage="s", resamples=30)
    assert np.array_equal(twice[0], twice[1])
    other = resampled_agreement(["accuracy"], labels, runs, seed=0, stage="t", resamples=30)
    assert not np.array_equal(twice[0], other[0])
    disagreeing = np.stack([labels, 1 - labels])  # accuracies 1 and 0: all the uncertainty is in the runs
    drawn = resampled_agreement(["accuracy"], labels, disagreeing, seed=0, stage="s", resamples=2000)[0]
    assert sorted(np.unique(drawn)) == [0.0, 0.5, 1.0]
    assert np.mean(drawn == 0.5) == pytest.approx(0.5, abs=0.05)
