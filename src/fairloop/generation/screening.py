"""Screening of what a generator wrote: one clean English sentence about the occupation, or a reason to ask again."""

import re
from collections.abc import Container
from enum import StrEnum
from itertools import pairwise

from fairloop.corpus.mentions import find_mentions
from fairloop.errors import plain
from fairloop.generation.requests import Request
from fairloop.lexicon import find_occupation
from fairloop.lexicon.word_classes import word_class

SHORTEST, LONGEST = 4, 40
"""Words that a sentence may have."""

_TERMINATOR = re.compile(r"[.!?…]+[\"”'’)]*")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Mx|Dr|Prof|St|Sr|Jr|Sgt|Lt|Capt|Col|Gen|Rev|Hon|Gov|Sen|Rep|Inc|Ltd|Co|Corp|Ave|No|vs|etc|e\.g|i\.e)"
    r"|(?:^|[\s.(])[A-Za-z])\.$"
)
_ARTEFACT = re.compile(
    r"[<>\[\]{}|\\_#*=~^`@•→]|https?:|www\.|\.{4,}|--|^\W*\d+\s*[.)]|^[-–—]|^[\w' /-]{1,40}:"
    r"|\b(?:sentences?|example|paragraph) (?:about|\d)|\bAs an AI\b|language model"
    r"|^(?:Sure|Certainly|Here(?:'s| is| are))\b"
)
_ECHO = re.compile(
    r"^(?:Please\s+)?(?:Write|Create|Compose|Generate|Describe|Rewrite|Answer|Provide|Give|Add|Use)\b.*"
    r"\b(?:sentences?|example|paragraph|story|occupation)\b"
    r"|\b(?:new|one|following|example|rewritten) sentences?\b|\bsentence alone\b",
    re.IGNORECASE,
)
_COMMON = frozenset(
    """
    a an the and or but of to in on at by for from with as is was are were has had have be been his her he she they
    their it its that this who which while after before when because will would can could into every all not
    """.split()  # noqa: SIM905
)


class Rejection(StrEnum):
    """Why a text is not taken into the corpus."""

    EMPTY = "empty"
    CUT_OFF = "cut off"
    ARTEFACT = "not plain prose"
    ECHO = "repeats the instruction"
    FRAGMENT = "a fragment"
    NOT_A_SENTENCE = "not one sentence"
    LENGTH = "too short or too long"
    NOT_ENGLISH = "not English"
    REPETITIVE = "repeats itself"
    OFF_TOPIC = "not about the occupation"
    COPIED = "copied"


def sentence_end(text: str) -> int | None:
    """Return the index just behind the first sentence or line of `text`, or None if it goes on.

    Full stops in abbreviations, initials and numbers do not end a sentence, nor does anything inside a quotation.
    """
    begin = len(text) - len(text.lstrip())
    line = text.find("\n", begin)
    limit = line if line >= 0 else len(text)
    for match in _TERMINATOR.finditer(text, begin, limit):
        if _ends_sentence(text[begin:limit], match.start() - begin, match.end() - begin, last=line < 0):
            return match.end()
    return line if line >= 0 else None


def _ends_sentence(text: str, start: int, end: int, *, last: bool) -> bool:
    head, rest = text[: start + 1], text[end:]
    if _ABBREVIATION.search(head) or _in_quotation(text[:end]):
        return False
    if rest:
        return rest[0].isspace() and not rest.lstrip()[:1].islower()
    # At the end of an unfinished text "3." may become "3.5", and "..." may go on.
    return not (last and (text[start - 1 : start].isdigit() or end - start > 2))


def _in_quotation(text: str) -> bool:
    return text.count('"') % 2 == 1 or text.count("“") > text.count("”")


def clean(text: str) -> str:
    """Return a generated text as one line without control characters."""
    return plain(text)


def normal_form(text: str) -> str:
    """Return what copies of a sentence have in common: its words, lower-cased."""
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def mentions(text: str, occupation: str) -> bool:
    """Tell whether a text names an occupation: as labels find it, or in the singular or plural."""
    if find_occupation(occupation) is not None and find_mentions(text, occupation):
        return True
    *front, last = [re.escape(word) for word in occupation.split()]
    forms = {last, f"{last}s", f"{last}es"}
    for singular, plural in (("y", "ies"), ("man", "men"), ("person", "people")):
        if last.endswith(singular):
            forms.add(last.removesuffix(singular) + plural)
    pattern = r"[\s-]+".join([*front, f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"])
    return re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) is not None


def screen(text: str, finished: bool, request: Request, seen: Container[str]) -> Rejection | None:
    """Return why a cleaned text cannot be used, or None if it can.

    Args:
        text: see `clean`.
        finished: False if the text was cut off at the token limit.
        request: what was asked for.
        seen: normal forms of the sentences accepted so far.
    """
    wrong = misshapen(text, finished)
    if wrong is not None:
        return wrong
    if not mentions(text, request.occupation):
        return Rejection.OFF_TOPIC
    form = normal_form(text)
    if form in seen or any(form == normal_form(example.text) for example in request.examples):
        return Rejection.COPIED
    return None


def misshapen(
    text: str,
    finished: bool = True,
    *,
    shortest: int = SHORTEST,
    longest: int = LONGEST,
    english: bool = True,
) -> Rejection | None:
    """Return why a cleaned text is not one plain English sentence, whatever it is about, or None if it is.

    Args:
        text: see `clean`.
        finished: False if the text was cut off at the token limit.
        shortest: words that it has at least.
        longest: words that it has at most.
        english: whether other languages are refused.
    """
    words = text.split()
    if not words:
        return Rejection.EMPTY
    if _ECHO.search(text):
        return Rejection.ECHO
    if _ARTEFACT.search(text):
        return Rejection.ARTEFACT
    if not finished or not re.search(r"[.!?][\"”'’)]*$", text):
        return Rejection.CUT_OFF
    if not shortest <= len(words) <= longest:
        return Rejection.LENGTH
    if sentence_end(text) not in (len(text), None) or not re.match(r"[\"“'‘]?[A-Z]", text) or _in_quotation(text):
        return Rejection.NOT_A_SENTENCE
    if english and not is_english(text):
        return Rejection.NOT_ENGLISH
    if english and _lacks_verb(text):
        return Rejection.FRAGMENT
    if _repeats(normal_form(text).split()):
        return Rejection.REPETITIVE
    return None


def is_english(text: str) -> bool:
    """Tell whether a sentence looks like English: Latin letters, and at least one of the commonest English words."""
    letters = [char for char in text if char.isalpha()]
    latin = sum(char.isascii() for char in letters)
    return latin >= 0.95 * len(letters) and any(word in _COMMON for word in normal_form(text).split())


def _lacks_verb(text: str) -> bool:
    """Tell whether a text that begins with a singular noun phrase surely has no finite verb ("A landscaper at work.").

    When in doubt there is one: any word that may be a verb in the past tense or the third person will do.
    """
    found = [word.lower().replace("’", "'") for word in re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)*", text)]
    if not found or found[0] not in word_class("determiner"):
        return False
    for before, word in pairwise(found):
        if word in word_class("finite_verb") or word.endswith(("ed", "n't", "'ll", "'d")):
            return False
        noun = before in word_class("preposition") or before.endswith("ing")
        if word.endswith("s") and not word.endswith(("ss", "us", "'s", "s'")) and not noun:
            return False
    return True


def _repeats(words: list[str]) -> bool:
    """Tell whether two successive words, or any phrase of four words, occur twice in a row or twice at all."""
    if any(first == second for first, second in pairwise(words) if first not in {"that", "had"}):
        return True
    phrases = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return len(set(phrases)) < len(phrases)
