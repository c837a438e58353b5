"""The seed corpus has the promised composition at any level, size, neutral share and seed."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairloop.corpus.annotation import annotate
from fairloop.corpus.mentions import find_mentions
from fairloop.corpus.schema import features
from fairloop.corpus.seed import seed_corpus
from fairloop.errors import UserError
from fairloop.lexicon import occupation


@given(
    level=st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, -0.3, 0.0, 0.1, 0.3, 0.6, 1.0])),
    sentences=st.integers(1, 150),
    neutral_share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_composition(level: float, sentences: int, neutral_share: float, seed: int) -> None:
    corpus = seed_corpus(level, sentences, neutral_share, seed)
    stereotypes, genders = corpus["stereotype"], corpus["gender"]
    assert corpus.features == features()
    assert len(corpus) == sentences
    assert sum(stereotypes) == round(level * sentences)

    rest = sentences - round(abs(level) * sentences)
    neutral = sum(gender == "none" for gender in genders)
    wished = round(neutral_share * rest)
    assert neutral == wished + (rest - wished) % 2
    assert list(corpus["item"]) == list(corpus["group"]) == list(range(sentences))
    assert len(set(corpus["text"])) == sentences
    for text, name, gender, stereotype in zip(corpus["text"], corpus["occupation"], genders, stereotypes, strict=True):
        assert find_mentions(text, name)
        label = annotate(text, name)
        assert (label.gender, label.stereotype) == (gender, stereotype), text
        if gender != "none":
            assert occupation(name).majority != "balanced"


@given(level=st.floats(-1, 1), sentences=st.integers(1, 400), neutral_share=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_occupations_are_spread(level: float, sentences: int, neutral_share: float, seed: int) -> None:
    corpus = seed_corpus(level, sentences, neutral_share, seed)
    gendered = Counter()
    majorities = Counter()
    for name, gender, stereotype in zip(corpus["occupation"], corpus["gender"], corpus["stereotype"], strict=True):
        gendered[name] += gender != "none"
        if stereotype == (1 if level >= 0 else -1):
            majorities[occupation(name).majority] += 1
    assert abs(majorities["male"] - majorities["female"]) <= 2
    if sum(gendered.values()) >= 60:
        used = [gendered[name] for name in gendered if occupation(name).majority != "balanced"]
        assert max(used) - min(used) <= 2


def test_a_negative_level_mirrors_the_positive_one() -> None:
    """The same occupations in the same order, with the other gender: nothing but the surplus changes its sign."""
    plus, minus = (seed_corpus(level, 240, 0.4, 7) for level in (0.45, -0.45))
    assert list(plus["occupation"]) == list(minus["occupation"])
    assert Counter(plus["stereotype"]) == {1: 108 + 39, -1: 39, 0: 54}
    assert Counter(minus["stereotype"]) == {-1: 108 + 39, 1: 39, 0: 54}
    mirror = {"male": "female", "female": "male", "none": "none"}
    changed = [row for row, other in zip(plus, minus, strict=True) if row["stereotype"] != other["stereotype"]]
    assert len(changed) == 108
    for row, other in zip(plus, minus, strict=True):
        assert other["gender"] == (mirror[row["gender"]] if row in changed else row["gender"])


def test_neutral_sentences_even_out_the_occupations() -> None:
    counts = Counter(seed_corpus(0.1, 800, 0.6, 3)["occupation"])
    assert set(counts.values()) == {10}


def test_equal_arguments_give_equal_corpora_and_another_seed_another() -> None:
    first, again, other = (seed_corpus(0.3, 120, 0.25, seed)["text"] for seed in (5, 5, 6))
    assert list(first) == list(again)
    assert list(first) != list(other)


def test_a_corpus_is_varied() -> None:
    texts = seed_corpus(0.3, 1000, 0.25, 0)["text"]
    assert len(set(texts)) == 1000
    openings = Counter(" ".join(text.split()[:2]) for text in texts)
    assert len(openings) > 250
    lengths = [len(text.split()) for text in texts]
    assert max(lengths) - min(lengths) >= 12


@pytest.mark.parametrize(
    ("level", "sentences", "neutral_share"),
    [(-1.1, 10, 0.5), (1.1, 10, 0.5), (float("nan"), 10, 0.5), (0.5, 0, 0.5), (0.5, -3, 0.5), (0.5, 10, 1.5)],
)
def test_levels_that_cannot_be_reached(level: float, sentences: int, neutral_share: float) -> None:
    with pytest.raises(UserError):
        seed_corpus(level, sentences, neutral_share, 0)
