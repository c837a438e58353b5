import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import stats

from fairloop.lexicon import occupation
from fairloop.metrics import load
from fairloop.metrics.embedding import anchors, associations, effect_size, measure_embedding
from fairloop.statistics.permutation import permutation_p_value

TEXTS = [
    "The plumber said he was late.",
    "He is a plumber and likes it.",
    "The carpenter built a table for his friend.",
    "The carpenter measured the wall.",
    "The nurse said she was late.",
    "She is a nurse and likes it.",
    "The secretary wrote a letter for her friend.",
    "The secretary found the folder.",
    "The nurse took a break.",
]
OCCUPATIONS = ["plumber", "plumber", "carpenter", "carpenter", *["nurse"] * 2, *["secretary"] * 2, "nurse"]


def cosine(left, right):
    return float(np.dot(left, right) / math.sqrt(np.dot(left, left) * np.dot(right, right)))


def test_against_the_definition_written_out(embed):
    male, female = anchors()
    a_vectors, b_vectors = embed(list(male)).astype(float), embed(list(female)).astype(float)

    def association(text):
        (vector,) = embed([text]).astype(float)
        return np.mean([cosine(vector, a) for a in a_vectors]) - np.mean([cosine(vector, b) for b in b_vectors])

    x = [association(text) for text in TEXTS[:4]]
    y = [association(text) for text in TEXTS[4:]]
    mean = sum(x + y) / 9
    deviation = math.sqrt(sum((value - mean) ** 2 for value in x + y) / 8)  # the sample's: n - 1
    expected = (sum(x) / 4 - sum(y) / 5) / deviation

    effect, test = measure_embedding(TEXTS, OCCUPATIONS, embed, seed=0)
    assert effect.metric == "embedding/effect_size"
    assert effect.value == pytest.approx(expected, abs=1e-9)
    assert (effect.n, test.n) == (9, 4)
    assert effect.low < effect.value < effect.high
    assert test.metric == "embedding/p_value"
    means = defaultdict(list)
    for name, value in zip(OCCUPATIONS, x + y, strict=True):
        means[name].append(value)
    sides = [
        [np.mean(means[name]) for name in means if occupation(name).majority == kind] for kind in ("male", "female")
    ]
    assert test.value == pytest.approx(permutation_p_value(*sides, seed=0))
    assert (test.low, test.high) == (None, None)
    assert associations(embed, TEXTS) == pytest.approx(x + y)


@examples(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=12),
    st.lists(st.floats(-1, 1), min_size=2, max_size=12),
    st.floats(-0.5, 0.5),
)
def test_effect_size_is_antisymmetric_bounded_and_free_of_the_origin(x, y, shift):
    x, y = np.round(x, 3), np.round(y, 3)
    assume(np.ptp(np.concatenate([x, y])) > 0)
    found = effect_size(x, y)
    reference = (x.mean() - y.mean()) / np.concatenate([x, y]).std(ddof=1)
    assert found == pytest.approx(reference, abs=1e-9)
    assert effect_size(y, x) == pytest.approx(-found, abs=1e-9)
    assert effect_size(x + shift, y + shift) == pytest.approx(found, abs=1e-6)
    if len(x) == len(y):
        assert abs(found) <= 2


def test_effect_size_without_spread_or_sets_is_undefined():
    assert math.isnan(effect_size(np.array([0.1, 0.1]), np.array([0.1])))
    assert math.isnan(effect_size(np.array([]), np.array([0.1, 0.2])))


def test_gendered_sentences_have_the_larger_effect(embed):
    fillers = ["late", "tired", "happy", "early", "busy", "away"]
    occupations = ["plumber", "carpenter", "nurse", "secretary"] * len(fillers)

    def corpus(male_word, female_word):
        words = [male_word, male_word, female_word, female_word]
        return [f"{words[item % 4]} is {fillers[item // 4]} today." for item in range(4 * len(fillers))]

    stereotyped, test = measure_embedding(corpus("He", "She"), occupations, embed, seed=0)
    opposite, opposite_test = measure_embedding(corpus("She", "He"), occupations, embed, seed=0)
    assert stereotyped.value > 1
    assert stereotyped.low > 0
    assert test.value == pytest.approx(1 / 6)  # of six ways to choose two of four occupations, this is the extreme one
    assert opposite.value == pytest.approx(-stereotyped.value)
    assert opposite_test.value == 1


def test_sentences_about_balanced_occupations_play_no_part(embed):
    plain = measure_embedding(TEXTS, OCCUPATIONS, embed, seed=0)
    more = measure_embedding([*TEXTS, "He is a judge."], [*OCCUPATIONS, "judge"], embed, seed=0)
    assert [one.value for one in more] == pytest.approx([one.value for one in plain])
    assert more[0].n == 9


@pytest.mark.parametrize("kept", [slice(0, 4), slice(4, 9), slice(0, 0)], ids=["only X", "only Y", "nothing"])
def test_one_set_alone_is_undefined(embed, kept):
    for one in measure_embedding(TEXTS[kept], OCCUPATIONS[kept], embed, seed=0):
        assert not one.defined
        assert math.isnan(one.value)


def test_equal_sentences_are_undefined_and_one_a_side_has_a_value(embed):
    same = measure_embedding(["Work."] * 4, ["plumber", "nurse"] * 2, embed, seed=0)
    assert not any(one.defined for one in same)
    effect, _ = measure_embedding(["He works.", "She works."], ["plumber", "nurse"], embed, seed=0)
    assert effect.value == pytest.approx(math.sqrt(2))  # two points: the difference over its standard deviation


def test_groups_are_left_out_together(embed):
    groups = np.array([0, 1, 2, 3, 0, 1, 2, 3, 4])
    grouped, test = measure_embedding(TEXTS, OCCUPATIONS, embed, seed=0, groups=groups.tolist())
    alone, same_test = measure_embedding(TEXTS, OCCUPATIONS, embed, seed=0)
    assert grouped.value == alone.value
    assert test == same_test
    values, male = associations(embed, TEXTS), np.arange(9) < 4

    def fisher(kept):
        """d is r / sqrt(p (1 - p)) with the share p of X; the interval is taken of atanh r."""
        difference = values[kept & male].mean() - values[kept & ~male].mean()
        share = male[kept].mean()
        return math.atanh(difference / values[kept].std(ddof=1) * math.sqrt(share * (1 - share)))

    whole, left = fisher(groups >= 0), np.array([fisher(groups != group) for group in range(5)])
    half = stats.t.ppf(0.975, 4) * math.sqrt(4 / 5 * np.sum((left - left.mean()) ** 2))
    ends = [math.tanh(whole + side * half) / math.sqrt(4 / 9 * 5 / 9) for side in (-1, 1)]
    assert (grouped.low, grouped.high) == pytest.approx(ends, abs=1e-6)
    assert (grouped.n, grouped.units, alone.units) == (9, 5, 9)
    few, _ = measure_embedding(TEXTS, OCCUPATIONS, embed, seed=0, groups=(groups % 3).tolist())
    assert (few.low, few.high, few.units) == (None, None, 3)


def test_a_vector_without_direction_is_refused():
    with pytest.raises(ValueError, match="length zero"):
        measure_embedding(TEXTS, OCCUPATIONS, lambda texts: np.zeros((len(texts), 3)), seed=0)
    with pytest.raises(ValueError, match="same length"):
        measure_embedding(TEXTS, OCCUPATIONS[1:], lambda texts: np.ones((len(texts), 3)), seed=0)


def test_anchors_are_pairs_that_differ_in_gender_only():
    from fairloop.corpus.counterfactual import swap_gender

    male, female = anchors()
    assert len(male) == len(female) == len(set(male)) == len(set(female)) >= 20
    assert not set(male) & set(female)
    assert [swap_gender(text) for text in male] == list(female)


def test_anchors_say_nothing_about_work():
    from fairloop.lexicon import occupations

    named = {word for entry in occupations() for word in entry.name.split()}
    for text in (text for side in anchors() for text in side):
        assert not named & set(text.lower().rstrip(".").split())


def test_evaluate_metric_is_the_function(embed):
    result = load("embedding").compute(predictions=TEXTS, references=OCCUPATIONS, embed=embed, seed=2, resamples=50)
    effect, test = measure_embedding(TEXTS, OCCUPATIONS, embed, seed=2)
    assert result["embedding/effect_size"] == effect.value
    assert result["embedding/effect_size_high"] == effect.high
    assert result["embedding/p_value"] == test.value
    assert result["embedding/p_value_low"] is None
