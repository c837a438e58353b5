"""Words of a sentence and the gendered ones among them.

A word is a run of letters, bounded by anything else: "he's", "mother-in-law" and "Mr." contain the words "he",
"mother" and "Mr". "ma'am" and "O'Donnell" are one word. Names count only when capitalised, with or without accents.
"""

import re
import unicodedata
from dataclasses import dataclass

from fairloop.lexicon import word_table
from fairloop.lexicon.gendered import Kind, Side
from fairloop.lexicon.word_classes import word_class

_WORD = re.compile(r"[Mm]a['’]am\b|MA['’]AM\b|\b[OD]['’](?=[A-Z])[^\W\d_]+|[^\W\d_]+")
_WORD_BEFORE = re.compile(r"([^\W\d_]+)(\.?\s+)\Z")
_WORD_AFTER = re.compile(r"\s+([^\W\d_]+)")

# What follows the hyphen in compounds that are not about a man: "man-made", "man-hours".
_NOT_A_PERSON = re.compile(r"[-‐‑](made|hours?|eating|sized|power|portable)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Word:
    """A run of letters and its place in the text."""

    text: str
    start: int
    end: int

    @property
    def lower(self) -> str:
        """Return the word as the lexicon spells it."""
        return self.text.lower().replace("’", "'")


@dataclass(frozen=True)
class Span:
    """A gendered word's place in the text (`text[start:end]`), its side, and its kind in the lexicon."""

    start: int
    end: int
    side: Side
    kind: Kind


def words(text: str) -> list[Word]:
    """Return all words of the text in order."""
    return [Word(match.group(), match.start(), match.end()) for match in _WORD.finditer(text)]


def gendered_side(word: Word, text: str) -> tuple[Side, Kind] | None:
    """Return the side and kind of a gendered word, or None for any other word."""
    table = word_table()
    lower = word.lower
    if word.text[0].isupper() and (word.text.istitle() or word.text.isupper()):
        name_side = table.name_side.get(folded(lower))
        if name_side is not None and not _is_no_given_name(word, text):
            return name_side, "name"
    if lower == "lord" and is_title(word, text):
        return "male", "title"
    side = table.side.get(lower)
    if side is None:
        return None
    if lower in ("man", "men") and _NOT_A_PERSON.match(text, word.end):
        return None
    if lower == "miss" and not is_title(word, text):
        return None  # the verb
    if lower == "he" and re.search(r"\b[Ss][/(]\Z|\([Ss]\)\Z", text[: word.start]):
        return None  # "s/he" is about anybody
    return side, table.kind[lower]


def folded(lower: str) -> str:
    """Return a word without accents: "leo" for "léo"."""
    if lower.isascii():
        return lower
    return "".join(char for char in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(char))


def _is_no_given_name(word: Word, text: str) -> bool:
    """Return whether a name is a surname, part of a place's name, or the word that it also is ("Grace", "Mark")."""
    before, after = _WORD_BEFORE.search(text[: word.start]), _WORD_AFTER.match(text, word.end)
    follower = after.group(1) if after else ""
    if follower[:1].isupper() and follower.lower() in word_class("place_after"):
        return True
    if before is not None and before.group(1)[0].isupper():
        previous = Word(before.group(1), before.start(1), before.end(1))
        if previous.lower in word_class("place_before"):
            return True
        found = gendered_side(previous, text)
        if found is not None and found[1] in ("title", "name"):  # "Mr. James", "Emma Wilson"
            return previous.lower not in ("sir", "lord", "lady")
    if folded(word.lower) not in word_class("word_name"):
        return False
    if word.text.isupper():
        return True
    at_start = re.search(r"(?:\A|[.!?:]\s*|[\"“‘'(]\s*|\n\s*)\Z", text[: word.start]) is not None
    named = follower[:1].isupper() or follower.endswith("ed") or follower in word_class("finite_after_name")
    return at_start and not named and text[word.end : word.end + 1] not in (",", "'", "’")


def gendered_spans(text: str) -> list[Span]:
    """Return every gendered word of the text with its character span, whoever it refers to."""
    spans = []
    for word in words(text):
        found = gendered_side(word, text)
        if found is not None:
            spans.append(Span(word.start, word.end, *found))
    return spans


def is_title(word: Word, text: str) -> bool:
    """Return whether a capitalised word stands before another one: "Miss Silva"."""
    return word.text[0].isupper() and re.match(r"\s+[A-Z]", text[word.end :]) is not None
