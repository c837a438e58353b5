"""The sentence is taken out of what a chat model says around it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairloop.generation.answers import answer_end, answer_of
from fairloop.generation.prompts import plain
from fairloop.generation.requests import Example, Request
from fairloop.generation.screening import Rejection, screen

NURSE = "The nurse was late for her shift."


@pytest.mark.parametrize(
    "answer",
    [
        NURSE,
        f'"{NURSE}"',
        f"“{NURSE}”",
        '"The nurse was late for her shift".',
        f"**{NURSE}**",
        f"*{NURSE}*",
        f"`{NURSE}`",
        f'**"{NURSE}"**',
        f'"**{NURSE}**"',
        f'{NURSE}"',
        "The **nurse** was late for her shift.",
        f"- {NURSE}",
        f"* {NURSE}",
        f"• {NURSE}",
        f"1. {NURSE}",
        f"2) {NURSE}",
        f"1. **{NURSE}**\n2. The nurse went home.",
        f"Sentence: {NURSE}",
        f"**Sentence:** {NURSE}",
        f"**Sentence**: {NURSE}",
        f"New sentence about a nurse: {NURSE}",
        f"Answer: {NURSE}",
        f"Nurse: {NURSE}",
        f"**Nurse:** {NURSE}",
        f"Assistant: {NURSE}",
        f"Here is a new sentence: {NURSE}",
        f'Here is a new sentence: "{NURSE}"',
        f"Here's a sentence about a nurse at work:\n\n{NURSE}",
        f'Here’s one sentence of the same kind:\n"{NURSE}"\n\nI hope that helps!',
        f"Sure! {NURSE}",
        f"Sure! Here is a new sentence about a nurse:\n\n{NURSE}",
        f"Sure, here's a sentence: {NURSE}",
        f"Certainly! Here's a sentence about a nurse:\n\n1. {NURSE}",
        f"Of course. Here are some sentences:\n- {NURSE}\n- The nurse went home.",
        f"A sentence about a nurse at work could be:\n\n{NURSE}",
        f'A new sentence in the context of a nurse\'s work: "{NURSE}"',
        f"{NURSE}<|im_end|>",
        f"{NURSE}<end_of_turn>\n<start_of_turn>user",
        f"<|im_start|>assistant\n{NURSE}<|im_end|>\n<|im_start|>user\nWrite",
        f"### {NURSE}",
        f"{NURSE}\n\n(Note: this sentence is of the same kind.)",
    ],
)
def test_the_sentence_is_taken_out(answer):
    assert answer_of(answer, "nurse") == NURSE
    end = answer_end(answer + "\nAnd so on.")
    assert end is not None
    assert answer_of((answer + "\nAnd so on.")[:end], "nurse") == NURSE


@pytest.mark.parametrize(
    "sentence",
    [
        'The nurse said, "I will be there."',
        '"I love my job," said the nurse.',
        '"I love my job," said the nurse, "and my patients."',
        "The nurse has one rule: never be late.",
        "The nurse's favorite place is the ward – she loves it.",
        "Yesterday, the nurse went home at 3.30 p.m. with a friend.",
        "Here the nurse is at home.",
        "Surely the nurse was tired.",
        "'Tis the nurse's day off.",
    ],
)
def test_what_belongs_to_the_sentence_stays(sentence):
    assert answer_of(sentence, "nurse") == sentence


@pytest.mark.parametrize(
    "beginning", ["Sure!", "Sure! Here is", "Here is a sentence:", "**Sentence:**\n", '"The nurse.']
)
def test_an_answer_goes_on_behind_what_stands_before_the_sentence(beginning):
    assert answer_end(beginning) is None


@given(st.text(alphabet=st.sampled_from("aT .:!\"“”*_-1)\n<|>'#`"), max_size=40))
def test_any_answer_is_read(text):
    read = answer_of(text, "nurse")
    assert answer_of(read, "nurse") == read or len(answer_of(read, "nurse")) < len(read)
    end = answer_end(text)
    assert end is None or 0 <= end <= len(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Write one new sentence of the same kind about a bookkeeper at work.", Rejection.ECHO),
        ("Write one sentence about a bookkeeper.", Rejection.ECHO),
        ("Please write a short paragraph about a bookkeeper.", Rejection.ECHO),
        ("A new sentence about the bookkeeper is needed.", Rejection.ECHO),
        ("A bookkeeper at work.", Rejection.FRAGMENT),
        ("A Bookkeeper, a character from the world of Fantasy.", Rejection.FRAGMENT),
        ("The bookkeeper in the office next door.", Rejection.FRAGMENT),
        ("A bookkeeper preparing meals for customers.", Rejection.FRAGMENT),
        ("The bookkeeper writes a number.", None),
        ("The bookkeepers work at night.", None),
        ("A bookkeeper must be careful with money.", None),
        ("The bookkeeper's desk is full.", None),
        ("Our bookkeeper can't come today.", None),
        ("Bookkeepers work at night.", None),
        ("The bookkeeper at work sang a song.", None),
    ],
)
def test_echoes_and_fragments_are_refused(text, reason):
    request = Request(0, 0, "bookkeeper", (Example("nurse", NURSE),))
    assert screen(plain(text), True, request, set()) == reason
