"""What counts as one clean sentence about the occupation."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop.generation.prompts import plain
from fairloop.generation.requests import Example, Request
from fairloop.generation.screening import Rejection, clean, mentions, normal_form, screen, sentence_end

NURSE = Request(0, 0, "nurse", (Example("nurse", "The nurse went home early."),))


@pytest.mark.parametrize(
    "text",
    [
        "The nurse checked her charts before the doctor came.",
        "Dr. Smith thanked the nurse at 3.30 p.m. for his help.",
        'The nurse said, "I will be there. Wait for me."',
        "Nurses work at night, too, and they are often tired!",
        "Is a nurse's day ever over?",
        "Mr. J. Brown is a nurse in St. Louis.",
    ],
)
def test_good_sentences_pass(text):
    assert screen(text, True, NURSE, set()) is None


@pytest.mark.parametrize(
    ("text", "finished", "reason"),
    [
        ("", True, Rejection.EMPTY),
        ("The nurse was about to go to the", False, Rejection.CUT_OFF),
        ("The nurse was about to go to the", True, Rejection.CUT_OFF),
        ("The nurse left.", True, Rejection.LENGTH),
        ("The nurse walked" + " and the man ran" * 12 + ".", True, Rejection.LENGTH),
        ("The nurse went home. She was tired.", True, Rejection.NOT_A_SENTENCE),
        ("the nurse went to the ward.", True, Rejection.NOT_A_SENTENCE),
        ('"The nurse went to the ward.', True, Rejection.NOT_A_SENTENCE),
        ("1. The nurse went to the ward.", True, Rejection.ARTEFACT),
        ("- The nurse went to the ward.", True, Rejection.ARTEFACT),
        ("Nurse: The nurse went to the ward.", True, Rejection.ARTEFACT),
        ("The nurse <b>went</b> to the ward.", True, Rejection.ARTEFACT),
        ("Sure, here is a sentence about a nurse.", True, Rejection.ARTEFACT),
        ("Die nurse ging gestern nach Hause.", True, Rejection.NOT_ENGLISH),
        ("The nurse и доктор работали вместе.", True, Rejection.NOT_ENGLISH),
        ("The nurse was was in the ward.", True, Rejection.REPETITIVE),
        ("The nurse took the car and then the nurse took the car.", True, Rejection.REPETITIVE),
        ("The doctor went to the ward.", True, Rejection.OFF_TOPIC),
        ("He is nursing a cold in the ward.", True, Rejection.OFF_TOPIC),
        ("THE NURSE went home, early!", True, Rejection.COPIED),
    ],
)
def test_bad_ones_do_not_and_the_reason_is_told(text, finished, reason):
    assert screen(text, finished, NURSE, set()) is reason


def test_a_sentence_accepted_before_is_a_copy():
    text = "The nurse was late for her shift."
    assert screen(text, True, NURSE, {normal_form("The nurse was late, for her shift!")}) is Rejection.COPIED


@pytest.mark.parametrize(
    ("text", "occupation", "expected"),
    [
        ("The police officers were here.", "police officer", True),
        ("A truck-driver stopped.", "truck driver", True),
        ("Two secretaries left.", "secretary", True),
        ("Salespeople know it.", "salesperson", True),
        ("The Coaches shouted.", "coach", True),
        ("A cook's hat", "cook", True),
        ("The cookie is good.", "cook", False),
        ("The primary school teacher is here.", "elementary school teacher", True),
        ("A policewoman is here.", "police officer", True),
        ("A driver stopped.", "truck driver", False),
    ],
)
def test_mentions(text, occupation, expected):
    assert mentions(text, occupation) is expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" The nurse ran. Then she", " The nurse ran."),
        (" The nurse met Dr. Hall", None),
        (" It cost $3.", None),
        (" It cost $3.50 then.", " It cost $3.50 then."),
        (' She said, "Go.', None),
        (' She said, "Go."', ' She said, "Go."'),
        ("\n The nurse\nnext", "\n The nurse"),
        (" Wait...", None),
        (" Wait... what? Now", " Wait... what?"),
        (" The nurse", None),
        ("", None),
    ],
)
def test_sentence_end(text, sentence):
    end = sentence_end(text)
    assert (None if end is None else text[:end]) == sentence


@given(st.text())
def test_cleaning_leaves_one_line_without_control_characters(text):
    cleaned = clean(text)
    assert cleaned.isprintable() or all(char.isprintable() or char == " " for char in cleaned)
    assert clean(cleaned) == cleaned
    assert "\n" not in cleaned
    assert cleaned == cleaned.strip()


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_screening_and_ends_accept_any_text(text):
    screen(clean(text), True, NURSE, set())
    end = sentence_end(text)
    assert end is None or 0 <= end <= len(text)


def test_escape_sequences_and_hidden_marks_vanish():
    assert plain("a\x1b[31mb\u202e\u200bc\x00\td") == "a[31mbc d"


@given(st.text())
def test_the_fast_path_of_plain_text_gives_what_the_slow_one_gives(text):
    kept = (" " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char)[0] != "C")
    assert plain(text) == " ".join("".join(kept).split())
