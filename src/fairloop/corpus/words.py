"""Words of a sentence and the gendered ones among them.

A word is a run of letters, bounded by anything else: "he's", "mother-in-law" and "Mr." contain the words "he",
"mother" and "Mr". "ma'am" is one word. Names count only when capitalised.
"""

import re
from dataclasses import dataclass

from fairloop.lexicon import word_table
from fairloop.lexicon.gendered import Kind, Side

_WORD = re.compile(r"[Mm]a['’]am\b|MA['’]AM\b|[^\W\d_]+")

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
    if lower in table.name_side and word.text[0].isupper() and (word.text.istitle() or word.text.isupper()):
        return table.name_side[lower], "name"
    side = table.side.get(lower)
    if side is None:
        return None
    if lower in ("man", "men") and _NOT_A_PERSON.match(text, word.end):
        return None
    if lower == "miss" and not _is_title(word, text):
        return None  # the verb
    return side, table.kind[lower]


def gendered_spans(text: str) -> list[Span]:
    """Return every gendered word of the text with its character span, whoever it refers to."""
    spans = []
    for word in words(text):
        found = gendered_side(word, text)
        if found is not None:
            spans.append(Span(word.start, word.end, *found))
    return spans


def _is_title(word: Word, text: str) -> bool:
    return word.text[0].isupper() and re.match(r"\s+[A-Z]", text[word.end :]) is not None
