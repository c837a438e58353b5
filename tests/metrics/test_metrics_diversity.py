import math
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from fairloop.metrics import load
from fairloop.metrics.diversity import _distinct_share, _effective_number, _top_share, measure_diversity, words


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
    assert [one.n for one in found.values()][:5] == [3, 3, 3, 3, 3]
    assert list(found) == [
        "distinct_1", "distinct_2", "duplicate_share", "mean_length",
        "named_share", "top_name_share", "effective_names", "compression_ratio",
    ]  # fmt: skip
    assert not found["top_name_share"].defined
    assert not found["effective_names"].defined
    assert found["named_share"].value == 0


def test_concentration_by_hand():
    texts = [
        "Mr. Dubois is late.",
        "The cook met Mr. Dubois.",
        "Emma is a cook.",
        "Mr. Dubois, a cook, left.",
        "A cook.",
    ]
    found = table(texts)
    assert found["named_share"].value == 4 / 5
    assert (found["top_name_share"].value, found["top_name_share"].n) == (3 / 4, 4)
    # 1 / (9/16 + 1/16): as concentrated as 1.6 equally common persons.
    assert found["effective_names"].value == pytest.approx(1.6)
    assert found["effective_names"].n == 4
    whole = b"".join(text.encode() + b"\n" for text in texts)
    assert found["compression_ratio"].value == len(whole) / len(zlib.compress(whole, 9))


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


NAMED = st.lists(st.sampled_from(["Mr. Dubois", "Mrs. Dubois", "Emma", "Laura", "he"]), min_size=1, max_size=14)


def effective_by_hand(texts):
    """The chance that two sentences, drawn with replacement from those that name somebody, name the same; inverted."""
    named = [text for text in texts if not text.startswith("he")]
    same = [one == other for one in named for other in named]
    return len(same) / sum(same) if same else math.nan


def compression_by_hand(texts):
    whole = "".join(f"{text}\n" for text in texts).encode()
    return len(whole) / len(zlib.compress(whole, 9)) if whole else math.nan


@examples(max_examples=60, deadline=None)
@given(NAMED, st.integers(1, 3))
def test_concentration_and_its_jackknife_equal_brute_force(persons, size):
    from scipy import stats

    texts = [f"{person} sat here." for person in persons]
    groups = [item // size for item in range(len(texts))]
    found = table(texts, groups=groups)
    named = [person for person in persons if person != "he"]
    assert found["named_share"].value == pytest.approx(len(named) / len(persons))
    if not named:
        assert not found["effective_names"].defined
        assert not found["top_name_share"].defined
        return
    assert found["top_name_share"].value == max(named.count(person) for person in named) / len(named)
    assert found["effective_names"].value == pytest.approx(effective_by_hand(texts))
    assert found["compression_ratio"].value == pytest.approx(compression_by_hand(texts))
    with_names = [
        group
        for group in sorted(set(groups))
        if any(persons[n] != "he" for n in range(len(texts)) if groups[n] == group)
    ]
    for name, by_hand, over, scale in (
        ("effective_names", effective_by_hand, with_names, math.log),
        ("compression_ratio", compression_by_hand, sorted(set(groups)), float),
    ):
        one = found[name]
        left = [by_hand([text for text, own in zip(texts, groups, strict=True) if own != group]) for group in over]
        if len(over) < 4 or np.ptp([scale(value) for value in left]) < 1e-9:
            assert one.low is None
            continue
        spread = np.array([scale(value) for value in left])
        error = math.sqrt((len(over) - 1) * np.mean((spread - spread.mean()) ** 2))
        margin = stats.t.ppf(0.975, len(over) - 1) * error
        back = math.exp if scale is math.log else float
        least = 1 if scale is math.log else 0
        assert one.low == pytest.approx(max(least, back(scale(one.value) - margin)))
        assert one.high == pytest.approx(back(scale(one.value) + margin))


@pytest.mark.parametrize("strong", [0.0, 0.4])
def test_the_intervals_of_concentration_cover_the_expected_value(strong):
    # Zipf's names, half of the sentences naming nobody; of a group's names a share `strong` is the group's own.
    shares = 1 / np.arange(1, 41)
    shares /= shares.sum()
    generator = np.random.default_rng(4)
    found = []
    for _ in range(200):
        own = np.repeat(generator.choice(40, 16, p=shares), 16)
        drawn = np.where(generator.random(256) < strong, own, generator.choice(40, 256, p=shares))
        persons = [f"n{name}" if said else "" for name, said in zip(drawn, generator.random(256) < 0.5, strict=True)]
        units = [item // 16 for item in range(256)]
        found.append((_effective_number(persons, units), _top_share(persons, units)))
    for measured in zip(*found, strict=True):
        truth = np.mean([one.value for one in measured])
        assert np.mean([one.low <= truth <= one.high for one in measured]) >= 0.92


def test_many_units_are_compressed_a_bounded_number_of_times(monkeypatch):
    calls = []
    compress = zlib.compress
    monkeypatch.setattr(zlib, "compress", lambda *given: calls.append(1) or compress(*given))
    one = table([f"word{index} other{index}" for index in range(500)])["compression_ratio"]
    assert len(calls) == 65
    assert one.low < one.value < one.high


def test_the_interval_of_distinct_covers_the_expected_value():
    # Words from a Zipf distribution; the truth is the mean over many corpora of the same size.
    shares = 1 / np.arange(1, 3001)
    shares /= shares.sum()
    generator = np.random.default_rng(0)

    def corpus():
        drawn = generator.choice(3000, size=(100, 8), p=shares)
        return [" ".join(f"w{word}" for word in row) for row in drawn]

    found = [_distinct_share([text.split() for text in corpus()], range(100)) for _ in range(200)]
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


def test_a_corpus_of_one_persona_is_seen():
    generator = np.random.default_rng(2)
    work = [
        "repairs pipes",
        "fixes a tap",
        "is in the kitchen",
        "waits for the bus",
        "reads the plan",
        "calls a client",
    ]
    names = ["Emma", "Laura", "James", "Robert", "Mary", "Linda", "John", "Michael"]

    def corpus(called):
        return [f"{called[generator.integers(len(called))]} {work[generator.integers(6)]} {n}." for n in range(500)]

    alone, many = table(corpus(["Mr. Dubois"])), table(corpus(names))
    assert alone["top_name_share"].value == 1
    assert alone["effective_names"].value == 1
    assert many["top_name_share"].high < 0.25
    assert 7 < many["effective_names"].value <= 8
    # distinct-2 hardly tells the two apart; the compression ratio does.
    assert alone["compression_ratio"].low > many["compression_ratio"].high


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
    texts = ["One two.", "Two three.", "One two.", "Mr. Dubois left."]
    result = load("diversity").compute(predictions=texts, seed=3)
    for one in measure_diversity(texts):
        assert result[one.metric] == one.value
        assert result[f"{one.metric}_low"] == one.low
