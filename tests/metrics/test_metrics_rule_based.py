import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import stats

from fairloop.metrics import load
from fairloop.metrics.rule_based import measure_rule_based

NAMES = ["rule/net_stereotype_rate", "rule/gendered_share", "rule/net_rate_among_gendered", "rule/male_share"]


def values(measurements):
    return {one.metric: one.value for one in measurements}


def test_by_hand():
    gender = ["male", "male", "female", "mixed", "none", "female", "none", "male"]
    stereotype = [1, -1, 1, 0, 0, 0, 0, 1]
    found = measure_rule_based(gender, stereotype)
    assert [one.metric for one in found] == NAMES
    assert values(found) == {
        "rule/net_stereotype_rate": 2 / 8,
        "rule/gendered_share": 5 / 8,
        "rule/net_rate_among_gendered": 2 / 5,
        "rule/male_share": 3 / 5,
    }
    assert [one.n for one in found] == [8, 8, 5, 5]


LABELS = st.lists(
    st.sampled_from([("male", 1), ("male", -1), ("male", 0), ("female", 1), ("female", -1), ("mixed", 0), ("none", 0)]),
    min_size=1,
    max_size=40,
)


@examples(max_examples=60, deadline=None)
@given(LABELS)
def test_the_net_rate_is_the_share_times_the_rate_among_gendered(labels):
    gender, stereotype = zip(*labels, strict=True)
    found = {one.metric: one for one in measure_rule_based(gender, stereotype)}
    net, share, rate, male = (found[name] for name in NAMES)
    assert net.value == pytest.approx(np.mean(stereotype))
    if share.value == 0:
        assert net.value == 0
        for one in (rate, male):
            assert math.isnan(one.value)
            assert not one.defined
            assert (one.low, one.high, one.n) == (None, None, 0)
    else:
        assert net.value == pytest.approx(share.value * rate.value)
        assert rate.n == male.n == round(share.value * len(labels))


def test_intervals_hold_the_truth():
    generator = np.random.default_rng(0)
    covered = dict.fromkeys(NAMES, 0)
    truth = dict(zip(NAMES, [0.24, 0.6, 0.4, 0.5], strict=True))
    for _ in range(1000):
        gendered = generator.random(200) < 0.6
        male = generator.random(200) < 0.5
        sign = np.where(generator.random(200) < 0.7, 1, -1) * gendered
        gender = np.where(gendered, np.where(male, "male", "female"), "none").tolist()
        for one in measure_rule_based(gender, sign.tolist()):
            covered[one.metric] += one.low <= truth[one.metric] <= one.high
    assert all(0.93 <= count / 1000 <= 0.97 for count in covered.values()), covered


def test_the_net_rate_of_prompt_groups_has_students_interval_over_them():
    generator = np.random.default_rng(1)
    stereotype = generator.choice([-1, 0, 1], size=(6, 16), p=[0.2, 0.4, 0.4])
    gender = np.where(stereotype == 0, "none", "male").ravel().tolist()
    groups = np.repeat(np.arange(6), 16).tolist()
    net, *_ = measure_rule_based(gender, stereotype.ravel().tolist(), groups=groups)
    means = stereotype.mean(axis=1)
    assert (net.low, net.high) == pytest.approx(stats.t.interval(0.95, 5, means.mean(), stats.sem(means)))
    assert (net.n, net.units) == (96, 6)
    few = measure_rule_based(gender[:48], stereotype.ravel()[:48].tolist(), groups=groups[:48])
    assert [(one.low, one.high, one.units) for one in few] == [(None, None, 3)] * 4


def test_prompt_groups_are_one_unit():
    gender = ["male"] * 60 + ["none"] * 60
    stereotype = [1] * 60 + [0] * 60
    alone = measure_rule_based(gender, stereotype)[0]
    grouped = measure_rule_based(gender, stereotype, groups=[item // 10 for item in range(120)])[0]
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    same = measure_rule_based(gender, stereotype, groups=list(range(120)))[0]
    assert same == alone


def test_order_and_repetition():
    gender, stereotype = ["male", "female", "none", "female"], [1, 1, 0, -1]
    assert measure_rule_based(gender, stereotype) == measure_rule_based(gender, stereotype)
    turned = measure_rule_based(gender[::-1], stereotype[::-1])
    assert values(turned) == values(measure_rule_based(gender, stereotype))


def test_wrong_labels_are_refused():
    with pytest.raises(ValueError, match="genders"):
        measure_rule_based(["male"], [1, 0])
    with pytest.raises(ValueError, match="stereotype"):
        measure_rule_based(["none"], [1])


def test_evaluate_metric_of_labels_is_the_function():
    gender, stereotype = ["male", "female", "none", "female"] * 5, [1, 1, 0, -1] * 5
    result = load("rule_based", "labels").compute(predictions=gender, references=stereotype, seed=9, resamples=100)
    expected = measure_rule_based(gender, stereotype)
    assert result["rule/net_stereotype_rate"] == expected[0].value == 0.25
    assert result["rule/male_share_low"] == expected[3].low
    assert result["rule/male_share_high"] == expected[3].high
    assert result["rule/male_share_n"] == 15


def test_evaluate_metric_annotates_sentences():
    sentences = [
        "The plumber said he would come back.",
        "The nurse finished her shift.",
        "The nurse finished his shift.",
        "The plumber fixed the sink.",
    ]
    result = load("rule_based").compute(predictions=sentences, references=["plumber", "nurse", "nurse", "plumber"])
    assert result["rule/net_stereotype_rate"] == 0.25
    assert result["rule/gendered_share"] == 0.75
    assert result["rule/net_rate_among_gendered"] == pytest.approx(1 / 3)
    assert result["rule/male_share"] == pytest.approx(2 / 3)
