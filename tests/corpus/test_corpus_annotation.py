"""Annotation against hand-labelled sentences, and against every kind of seed sentence."""

import csv
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from fairloop.corpus.annotation import annotate, stereotype_of
from fairloop.corpus.schema import GENDERS
from fairloop.errors import UserError
from fairloop.lexicon import activities, fillers, names, occupations, templates

GOLD = Path(__file__).parent / "data" / "annotation_gold.csv"


def gold() -> list[dict[str, str]]:
    with GOLD.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def precision_and_recall(split: str) -> dict[str, tuple[float, float, int]]:
    """Return precision, recall and the number of sentences for each label."""
    pairs = Counter(
        (row["gender"], annotate(row["text"], row["occupation"]).gender) for row in gold() if row["split"] == split
    )
    scores = {}
    for label in GENDERS:
        right = pairs[label, label]
        labelled = sum(n for (true, _), n in pairs.items() if true == label)
        predicted = sum(n for (_, found), n in pairs.items() if found == label)
        scores[label] = (right / predicted, right / labelled, labelled)
    return scores


def test_the_gold_sentences_are_many_and_hard() -> None:
    rows = gold()
    assert len(rows) >= 320
    assert len({(row["text"], row["occupation"]) for row in rows}) == len(rows)
    assert sum(row["tag"] not in ("plain", "form") for row in rows) >= len(rows) / 3
    assert sum(row["split"] == "test" for row in rows) >= 100
    assert {row["tag"] for row in rows} >= {"two", "quote", "poss", "name", "neg", "plural", "generic"}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_precision_and_recall(split: str, capsys: pytest.CaptureFixture[str]) -> None:
    scores = precision_and_recall(split)
    with capsys.disabled():
        print(f"\nannotation, {split} split:  label  precision  recall     n")
        for label, (precision, recall, n) in scores.items():
            print(f"{label:>31} {precision:10.3f} {recall:7.3f} {n:5d}")
    for label in ("male", "female", "none"):
        precision, recall, _ = scores[label]
        assert precision >= 0.93
        assert recall >= 0.93
    assert min(scores["mixed"][:2]) >= 0.7


def test_every_template_with_every_occupation_gets_its_intended_label() -> None:
    turn = count()
    for entry in occupations():
        for template in (*templates("gendered"), *templates("neutral")):
            for side in ("male", "female"):
                n = next(turn)
                text = template.fill(
                    entry,
                    activities(entry.name).seed[n % len(activities(entry.name).seed)],
                    side=side,
                    name=names()[n * 7 % len(names())],
                    filler={slot: texts[n % len(texts)] for slot, texts in fillers().items()},
                )
                expected = side if template.use == "gendered" else "none"
                found = annotate(text, entry.name)
                assert found.gender == expected, text
                assert found.stereotype == stereotype_of(expected, entry.name)


@pytest.mark.parametrize(
    ("gender", "occupation", "stereotype"),
    [
        ("female", "nurse", 1),
        ("male", "nurse", -1),
        ("male", "plumber", 1),
        ("female", "plumber", -1),
        ("mixed", "nurse", 0),
        ("none", "plumber", 0),
        ("female", "pharmacist", 0),
    ],
)
def test_stereotype(gender: str, occupation: str, stereotype: int) -> None:
    assert stereotype_of(gender, occupation) == stereotype  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "   ", "...", '"', "She", "her", "123", "nurse", "“”’'", "Nurse nurse NURSES' her."]
)
def test_odd_texts_have_a_label(text: str) -> None:
    assert annotate(text, "nurse").gender in GENDERS


def test_without_the_occupation_nobody_is_meant() -> None:
    assert annotate("She loves her job.", "nurse").gender == "none"


def test_an_unknown_occupation_is_a_users_mistake() -> None:
    with pytest.raises(UserError):
        annotate("She is a wizard.", "wizard")


def test_who_is_denied_to_be_one_is_somebody_else() -> None:
    assert annotate("The nurse is kind, but he is not a nurse.", "nurse").gender == "none"
