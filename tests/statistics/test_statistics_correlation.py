import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairloop.statistics import correlation
from fairloop.statistics.correlation import pearson, spearman


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=20))
def test_the_value_is_scipys_ties_included(points):
    x, y = np.array(points).T
    found = spearman(x, y).value
    if np.ptp(x) and np.ptp(y):
        assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    else:
        assert math.isnan(found)


def test_the_interval_is_the_jackknifes_on_fishers_scale_over_clusters():
    draw = np.random.default_rng(1)
    clusters = np.repeat(np.arange(9), 4)
    x = np.round(draw.normal(size=9)[clusters] + 0.3 * draw.normal(size=36), 1)
    y = np.round(0.7 * x + draw.normal(size=9)[clusters] + 0.3 * draw.normal(size=36), 1)
    scaled = [math.atanh(stats.spearmanr(x[clusters != one], y[clusters != one]).statistic) for one in range(9)]
    half = stats.t.ppf(0.975, 8) * math.sqrt(8 / 9 * sum((one - np.mean(scaled)) ** 2 for one in scaled))
    centre = math.atanh(stats.spearmanr(x, y).statistic)
    found = spearman(x, y, clusters=list(clusters))
    assert (found.low, found.high) == pytest.approx((math.tanh(centre - half), math.tanh(centre + half)))
    assert (found.n, found.units) == (36, 9)


@pytest.mark.parametrize(("points", "strength"), [(8, 0.0), (8, 0.5), (15, 0.8), (40, 0.5)])
def test_the_interval_covers_the_truth_at_few_points(points, strength):
    """Of bivariate normal points, whose Spearman correlation is 6/pi asin(r/2)."""
    draw = np.random.default_rng(points)
    truth, covered, studies = 6 / math.pi * math.asin(strength / 2), 0, 1000
    for _ in range(studies):
        x, noise = draw.normal(size=(2, points))
        found = spearman(x, strength * x + math.sqrt(1 - strength**2) * noise)
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / studies <= 0.99


@pytest.mark.parametrize("values", ["all different", "many ties"])
@pytest.mark.parametrize("sizes", ["alike", "unlike"])
def test_of_many_points_the_ranks_stay_and_the_interval_is_nearly_the_same(monkeypatch, values, sizes):
    """Beside ranks taken anew without each cluster, by this module and by scipy; clusters of 4, or of unlike sizes."""
    draw = np.random.default_rng(5)
    x, noise = draw.normal(size=(2, 200))
    y = x + noise
    if values == "many ties":
        x, y = np.round(x), np.round(y)
    clusters = np.arange(200) // 4 if sizes == "alike" else np.floor(np.sqrt(2 * np.arange(200))).astype(int)
    exact = spearman(x, y, clusters=clusters.tolist())
    monkeypatch.setattr(correlation, "MANY_POINTS", 200)
    quick = spearman(x, y, clusters=clusters.tolist())
    assert quick.value == pytest.approx(exact.value, abs=1e-12)
    assert (quick.low, quick.high) == pytest.approx((exact.low, exact.high), abs=0.01)
    columns, numbers = [x, y], np.unique(clusters, return_inverse=True)[1]
    left_out = [stats.spearmanr(x[clusters != one], y[clusters != one]).statistic for one in np.unique(clusters)]
    assert correlation._left_out_keeping_ranks(columns, numbers) == pytest.approx(left_out, abs=0.005)


def test_what_cannot_be_known_is_undefined():
    assert not spearman([], []).defined
    assert not spearman([1, 1, 1], [1, 2, 3]).defined
    one = spearman([1, 2, 3], [1, 3, 2], clusters=["a"] * 3)
    assert one.value == 0.5
    assert math.isnan(one.low)
    with pytest.raises(ValueError, match="2 values of x, 1 of y"):
        spearman([1, 2], [1])


@pytest.mark.parametrize("points", [2, 3, 5, 7])
def test_few_points_have_no_interval_even_if_they_correlate_perfectly(points):
    found = spearman(range(points), range(points))
    assert found.value == pytest.approx(1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_it_depends_on_the_order_of_values_only():
    draw = np.random.default_rng(2)
    x, y = draw.normal(size=(2, 30))
    assert spearman(np.exp(x), y**3) == spearman(x, y)


def test_pearsons_value_is_scipys_and_two_points_show_nothing():
    draw = np.random.default_rng(6)
    x = draw.normal(size=30)
    y = 0.6 * x + draw.normal(size=30)
    found = pearson(1e6 + x, 1e-6 * y, seed=0)
    assert found.value == pytest.approx(stats.pearsonr(x, y).statistic)
    assert -1 < found.low < found.value < found.high < 1
    by_theory = stats.pearsonr(x, y).confidence_interval()
    assert (found.low, found.high) == pytest.approx((by_theory.low, by_theory.high), abs=0.12)
    for few in (pearson([0.1, 0.2], [2.0, 1.0], seed=0), spearman([0.1, 0.2], [2.0, 1.0])):
        assert few.value == pytest.approx(-1)
        assert math.isnan(few.low)
    assert not pearson([], [], seed=0).defined
    assert math.isnan(pearson([1.0] * 9, list(range(9)), seed=0).value)


def test_many_points_are_ranked_without_a_table_of_all_pairs():
    import tracemalloc

    draw = np.random.default_rng(0)
    x = draw.integers(0, 3000, 20_000).astype(float)
    y = x + draw.normal(0, 900, 20_000)
    tracemalloc.start()
    found = spearman(x, y)
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20  # one-hot ranks of 3000 values alone are 480 MB
    tracemalloc.stop()
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert math.isnan(spearman(x, np.ones(20_000)).value)
