"""Regard by a classifier that is known: it goes by the last word of a sentence."""

import math

import numpy as np
import pytest
from scipy import stats

from fairloop.errors import UserError
from fairloop.metrics.classified import measure_classified
from fairloop.metrics.metric import Sample
from fairloop.metrics.regard import RegardSettings, measure_regard
from tiny_models import planted_classifier

WORDS = [
    "the",
    "a",
    "he",
    "she",
    "nurse",
    "teacher",
    "was",
    "said",
    "and",
    "praised",
    "kind",
    "lazy",
    "there",
    "him",
    "her",
]
LABELS = ["neutral", "Positive", "negative", "other"]
SENTENCES = [
    ("the nurse said he was kind", "male"),
    ("the nurse said he was there", "male"),
    ("the teacher said she was lazy", "female"),
    ("the teacher said she was kind", "female"),
    ("the nurse praised him", "male"),
    ("a teacher was lazy", "none"),
    ("the nurse said she was lazy", "female"),
    ("he and she was kind", "mixed"),
]


def sample(sentences=SENTENCES, **more):
    texts, gender = zip(*sentences, strict=True)
    return Sample(texts, gender=gender, resamples=50, **more)


@pytest.fixture
def path(tmp_path):
    rules = {"kind": "Positive", "lazy": "negative", "him": "Positive", "her": "negative"}
    return str(planted_classifier(tmp_path / "regard", LABELS, rules, words=WORDS))


def measured(path, sentences=SENTENCES, **chosen):
    return {one.metric: one for one in measure_regard(sample(sentences), RegardSettings(model=path, **chosen))}


def softened(strength=4.0, width=16):
    """P(label) − P(another label) of a word that speaks for a label: a one-hot vector, normalised, times strength."""
    word = np.eye(width)[0]
    logits = strength * (word - word.mean()) / np.sqrt(word.var() + 1e-5)
    logits = logits[: len(LABELS)]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    return probabilities[0] - probabilities[1]


def test_means_of_all_and_of_men_and_women(path):
    found = measured(path)
    score = softened()
    assert score > 0.99
    expected = {
        "regard/score": (1 + 0 - 1 + 1 + 1 - 1 - 1 + 1) / 8 * score,
        "regard/male_score": 2 / 3 * score,
        "regard/female_score": -1 / 3 * score,
        "regard/score_gap": score,
        "regard/negative_share": 3 / 8,
        "regard/male_negative_share": 0,
        "regard/female_negative_share": 2 / 3,
        "regard/negative_share_gap": -2 / 3,
        # Only "praised him" is judged otherwise if it is "praised her": 2 in 6 gendered sentences.
        "regard/classifier_gap": 2 * score / 6,
    }
    assert {name: one.value for name, one in found.items()} == pytest.approx(expected, abs=1e-5)
    sizes = {name: one.n for name, one in found.items()}
    assert sizes["regard/score"] == 8
    assert sizes["regard/male_score"] == sizes["regard/female_negative_share"] == 3
    assert sizes["regard/score_gap"] == sizes["regard/classifier_gap"] == 6


def test_labels_are_mapped_by_settings(path):
    turned = measured(path, positive="negative", negative="positive")
    assert turned["regard/score_gap"].value == pytest.approx(-measured(path)["regard/score_gap"].value)
    with pytest.raises(
        UserError, match=r"metric\.regard\.positive=good: choose one of neutral, Positive, negative, other"
    ):
        measured(path, positive="good")


def test_a_corpus_without_women_has_no_gap(path):
    found = measured(path, [pair for pair in SENTENCES if pair[1] != "female"])
    assert found["regard/score"].defined
    assert not found["regard/score_gap"].defined
    assert not found["regard/female_score"].defined
    assert found["regard/classifier_gap"].n == 3


def test_groups_are_one_unit():
    """Within a group all sentences agree: the interval is Student's of so many independent sentences."""
    texts = [f"the nurse said {who} was here" for who in ("he", "she") * 200]
    values = np.repeat([1.0, 0.0, 1.0, 0.0], 100)

    def classify(sentences):
        return {"score": np.resize(np.repeat(values, 1), len(sentences))}

    genders = ["male", "female"] * 200
    alone, grouped = (
        {one.metric: one for one in measure_classified("x", classify, Sample(texts, gender=genders, groups=groups))}
        for groups in (None, np.repeat(range(4), 100).tolist())
    )
    half = stats.t.ppf(0.975, 399) * 0.5 / math.sqrt(399)
    assert (alone["x/score"].low, alone["x/score"].high) == pytest.approx((0.5 - half, 0.5 + half))
    expected = stats.t.interval(0.95, 3, 0.5, stats.sem([1, 0, 1, 0]))
    assert (grouped["x/score"].low, grouped["x/score"].high) == pytest.approx(expected)
    assert (grouped["x/score"].n, grouped["x/score"].units) == (400, 4)
    assert grouped["x/score_gap"].value == alone["x/score_gap"].value == 0


def test_the_gap_of_means_covers_the_truth():
    """Men's sentences are kind with 0.7, women's with 0.4: the interval of the gap holds 0.3 about 19 times in 20."""
    held = 0
    for seed in range(150):
        draw = np.random.default_rng(seed)
        genders = draw.choice(["male", "female", "none"], size=240)
        kind = draw.random(240) < np.where(genders == "male", 0.7, 0.4)

        def classify(sentences, kind=kind):
            return {"score": np.resize(kind.astype(float), len(sentences))}

        found = measure_classified("x", classify, Sample(["x"] * 240, gender=genders.tolist()))
        gap = next(one for one in found if one.metric == "x/score_gap")
        held += gap.low <= 0.3 <= gap.high
    assert 134 <= held <= 150
