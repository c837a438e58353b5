"""A sentence as tokens: the occupation's mentions, people, pronouns, quotes, and everything else as plain words."""

import re
from dataclasses import dataclass
from typing import Literal

from fairloop.corpus.her import is_possessive
from fairloop.corpus.mentions import find_mentions
from fairloop.corpus.words import Word, gendered_side, words
from fairloop.lexicon import occupations, word_table
from fairloop.lexicon.gendered import Side
from fairloop.lexicon.word_classes import word_class

# target: a mention of the occupation. name: a known first name or a title with its surname. capital: another
# capitalised word, perhaps a name. noun: a gendered noun for a person. person: a neutral one. subject, object,
# possessive, reflexive: pronouns. quote and mark: punctuation. word: all else.
Tag = Literal[
    "target",
    "name",
    "capital",
    "noun",
    "person",
    "subject",
    "object",
    "possessive",
    "reflexive",
    "quote",
    "mark",
    "word",
]

PEOPLE: frozenset[Tag] = frozenset({"target", "name", "noun", "person"})
PRONOUNS: frozenset[Tag] = frozenset({"subject", "object", "possessive", "reflexive"})

_MARK = re.compile(r"\s*([^\w\s])")
_OPENING = re.compile(r"(?:^|(?<=[\s(—–\-]))[\"“‘']|“")
_PLURAL_NOUN = re.compile(r"(?:men|s|wives)\Z")


@dataclass
class Token:
    """One word, name or mark; `quote` numbers the quoted speech it stands in (0: none)."""

    text: str
    lower: str
    tag: Tag
    start: int
    end: int
    side: Side | None = None
    plural: bool = False
    quote: int = 0


def tokenize(text: str, occupation: str) -> list[Token]:
    """Return the tokens of a sentence about the occupation; mentions, titles and full names are one token each."""
    tokens = [
        Token(text[m.start : m.end], text[m.start : m.end].lower(), "target", m.start, m.end, m.side, m.plural)
        for m in find_mentions(text, occupation)
    ]
    taken = [(token.start, token.end) for token in tokens]
    for word in words(text):
        if not any(start <= word.start < end for start, end in taken):
            tokens.append(_token(word, text))
    ends = {position for token in tokens for position in range(token.start, token.end)}
    for match in re.finditer(r"[^\w\s]", text):
        if match.start() not in ends:
            tag: Tag = "quote" if match.group() in "\"“”" else "mark"
            tokens.append(Token(match.group(), match.group(), tag, match.start(), match.end()))
    tokens.sort(key=lambda token: token.start)
    return _number_quotes(_join_names(tokens))


def _token(word: Word, text: str) -> Token:
    tag: Tag = "word"
    side: Side | None = None
    plural = False
    found = gendered_side(word, text)
    lower = word.lower
    if found is not None:
        side = found[0]
        tag = {"pronoun": _case(word, text), "name": "name", "title": "name"}.get(found[1], "noun")  # type: ignore[assignment]
        plural = tag == "noun" and _PLURAL_NOUN.search(lower) is not None and not lower.endswith("ss")
    elif lower in word_class("person") or lower in _occupation_heads():
        tag = "person"
    elif lower in word_class("persons"):
        tag, plural = "person", True
    elif word.text[0].isupper() and word.start > 0 and text[: word.start].rstrip()[-1:] not in ("", '"', "“", ".", "!"):
        tag = "capital"
    return Token(word.text, lower, tag, word.start, word.end, side, plural)


def _case(word: Word, text: str) -> Tag:
    lower = word.lower
    if lower in ("he", "she"):
        return "subject"
    if lower in ("himself", "herself"):
        return "reflexive"
    if lower == "him" or (lower == "her" and not is_possessive(text, word)):
        return "object"
    return "possessive"


def _occupation_heads() -> frozenset[str]:
    """Return the last word of every occupation: "teacher", "officer", "nurse"."""
    return frozenset(entry.name.split()[-1] for entry in occupations())


def _join_names(tokens: list[Token]) -> list[Token]:
    """Make "Mr. Lopez", "Maria Lopez" and "Maria Anna" one token; a title without a name stays a name."""
    joined: list[Token] = []
    for token in tokens:
        last = joined[-1] if joined else None
        if last is not None and last.tag == "name":
            is_title = word_table().kind.get(last.lower) == "title"
            if is_title and token.text == ".":
                continue
            if token.tag in ("capital", "name") and token.text[0].isupper():
                if token.tag == "name" and word_table().name_side.get(token.lower) is None:
                    joined.append(token)
                    continue
                last.text, last.end = f"{last.text} {token.text}", token.end
                last.lower = last.text.lower()
                continue
        if last is not None and last.tag == "capital" and token.tag == "capital":
            last.text, last.end = f"{last.text} {token.text}", token.end
            continue
        joined.append(token)
    return joined


def _number_quotes(tokens: list[Token]) -> list[Token]:
    number, inside = 0, False
    for token in tokens:
        if token.tag == "quote":
            inside = not inside
            number += inside
        token.quote = number if inside and token.tag != "quote" else 0
    return tokens
