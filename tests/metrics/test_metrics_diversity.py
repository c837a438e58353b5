import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from fairloop.metrics import load
from fairloop.metrics.diversity import measure_diversity, words


def table(texts, **options):
    return {one.metric.removeprefix("diversity/"): one for one in measure_diversity(texts, **options)}


def test_words():
    assert words("The nurse's well-known patient (aged 7) didn’t wait -- she'd left_early!") == [
        "the", "nurse's", "well-known", "patient", "aged", "7", "didn’t", "wait", "she'd", "left", "early",
    ]  # fmt: skip
    assert words("Él está aquí: 'quoted'") == ["él", "está", "aquí", "quoted"]
    assert words(" ... ") == []


def test_by_hand():
    found = table(["The cat sat.", "the cat sat!", "The dog ran off"])
    assert found["distinct_1"].value == 6 / 10  # the cat sat dog ran off
    assert found["distinct_2"].value == 5 / 7  # the-cat cat-sat the-dog dog-ran ran-off
    assert found["duplicate_share"].value == pytest.approx(1 / 3)
    assert found["mean_length"].value == pytest.approx(10 / 3)
    assert [one.n for one in found.values()] == [3, 3, 3, 3]
    assert list(found) == ["distinct_1", "distinct_2", "duplicate_share", "mean_length"]


TEXTS = st.lists(st.lists(st.sampled_from("abcde"), max_size=6).map(" ".join), min_size=1, max_size=12)


def distinct_by_hand(texts, n):
    grams = []
    for text in texts:
        tokens = text.split()
        grams += [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan


def jackknife_by_hand(texts, groups, statistic):
    names = sorted(set(groups))
    left = [statistic([text for text, group in zip(texts, groups, strict=True) if group != name]) for name in names]
    count = len(names)
    return math.sqrt((count - 1) / count * sum((value - np.mean(left)) ** 2 for value in left))


@examples(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 4))
def test_distinct_and_its_jackknife_equal_brute_force(texts, size):
    from scipy import stats

    groups = [item // size for item in range(len(texts))]
    found = table(texts, groups=groups)
    for name, n in (("distinct_1", 1), ("distinct_2", 2)):
        one, value = found[name], distinct_by_hand(texts, n)
        if math.isnan(value):
            assert not one.defined
            continue
        assert one.value == pytest.approx(value)
        error = jackknife_by_hand(texts, groups, lambda kept, n=n: distinct_by_hand(kept, n))
        if not error > 1e-12 or len(set(groups)) < 4:
            assert one.low is None
            continue
        margin = stats.t.ppf(0.975, len(set(groups)) - 1) * error
        assert one.low == pytest.approx(max(0, value - margin), abs=1e-9)
        assert one.high == pytest.approx(min(1, value + margin), abs=1e-9)
    assert found["duplicate_share"].value == pytest.approx(1 - len(set(texts)) / len(texts))
    assert found["duplicate_share"].units == len(set(groups))


def test_the_interval_of_distinct_covers_the_expected_value():
    # Words from a Zipf distribution; the truth is the mean over many corpora of the same size.
    shares = 1 / np.arange(1, 3001)
    shares /= shares.sum()
    generator = np.random.default_rng(0)

    def corpus():
        drawn = generator.choice(3000, size=(100, 8), p=shares)
        return [" ".join(f"w{word}" for word in row) for row in drawn]

    found = [table(corpus())["distinct_1"] for _ in range(200)]
    truth = np.mean([one.value for one in found])
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert covered >= 0.93
    # A percentile bootstrap lies below its own estimate: a resample repeats sentences.
    texts = corpus()
    value = table(texts)["distinct_1"].value
    resampled = [distinct_by_hand([texts[row] for row in generator.integers(0, 100, 100)], 1) for _ in range(200)]
    assert np.quantile(resampled, 0.975) < value


def test_a_collapsed_corpus_is_seen():
    found = table(["She is a nurse."] * 50)
    assert found["duplicate_share"].value == pytest.approx(0.98)
    assert found["distinct_1"].value == pytest.approx(4 / 200)
    assert table([f"word{index} other{index}" for index in range(50)])["duplicate_share"].value == 0


def test_edges():
    alone = table(["one two two"])
    assert alone["distinct_1"].value == pytest.approx(2 / 3)
    assert alone["distinct_1"].low is None
    assert alone["duplicate_share"].value == 0
    assert alone["mean_length"].value == 3
    assert alone["mean_length"].low is None
    assert not table(["word"])["distinct_2"].defined
    assert not table(["...", "!"])["distinct_1"].defined
    assert table(["...", "!"])["mean_length"].value == 0
    assert not any(one.defined for one in table([]).values())
    with pytest.raises(ValueError, match="groups"):
        measure_diversity(["a"], groups=[1, 2])


def test_evaluate_metric_is_the_function():
    texts = ["One two.", "Two three.", "One two."]
    result = load("diversity").compute(predictions=texts, seed=3)
    for one in measure_diversity(texts):
        assert result[one.metric] == one.value
        assert result[f"{one.metric}_low"] == one.low
