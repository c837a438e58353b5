import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairloop.statistics.correlation import spearman


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=20))
def test_the_value_is_scipys_ties_included(points):
    x, y = np.array(points).T
    found = spearman(x, y, seed=0, resamples=10).value
    if np.ptp(x) and np.ptp(y):
        assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    else:
        assert math.isnan(found)


def test_the_interval_is_that_of_resampled_clusters():
    draw = np.random.default_rng(1)
    clusters = np.repeat(np.arange(9), 4)
    x = np.round(draw.normal(size=9)[clusters] + 0.3 * draw.normal(size=36), 1)
    y = np.round(0.7 * x + draw.normal(size=9)[clusters] + 0.3 * draw.normal(size=36), 1)
    replicates = []
    for _ in range(3000):
        places = np.concatenate([np.flatnonzero(clusters == one) for one in draw.integers(0, 9, 9)])
        replicates.append(stats.spearmanr(x[places], y[places]).statistic)
    found = spearman(x, y, seed=0, resamples=3000, clusters=list(clusters))
    assert [found.low, found.high] == pytest.approx(np.quantile(replicates, [0.025, 0.975]), abs=0.04)
    single = spearman(x, y, seed=0, resamples=3000)
    assert single.high - single.low < found.high - found.low


def test_what_cannot_be_known_is_undefined():
    assert not spearman([], [], seed=0).defined
    assert not spearman([1, 1, 1], [1, 2, 3], seed=0).defined
    one = spearman([1, 2, 3], [1, 3, 2], seed=0, clusters=["a"] * 3)
    assert one.value == 0.5
    assert math.isnan(one.low)
    with pytest.raises(ValueError, match="2 values of x, 1 of y"):
        spearman([1, 2], [1], seed=0)


def test_it_depends_on_the_order_of_values_only_and_on_the_seed():
    draw = np.random.default_rng(2)
    x, y = draw.normal(size=(2, 30))
    found = spearman(x, y, seed=0)
    assert spearman(np.exp(x), y**3, seed=0) == found
    assert spearman(x, y, seed=1) != found
