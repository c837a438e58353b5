"""A sentence as tokens: the occupation's mentions, people, pronouns, quotes, and everything else as plain words."""

import re
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
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

_ABBREVIATED = frozenset({"dr", "prof", "rev", "sgt", "capt", "lt", "col"})
_ABBREVIATED_DOTTED = frozenset(f"{word}." for word in _ABBREVIATED)
_HYPHENS = ("-", "‐", "‑")
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
            tag: Tag = "quote" if match.group() in '"“”' else "mark"
            tokens.append(Token(match.group(), match.group(), tag, match.start(), match.end()))
    tokens.sort(key=lambda token: token.start)
    tokens = _join_names(_join_compounds(tokens))
    _unmark_modifiers(tokens)
    return _number_quotes(tokens)


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


@cache
def _occupation_heads() -> frozenset[str]:
    """Return the last word of every occupation: "teacher", "officer", "nurse"."""
    return frozenset(entry.name.split()[-1] for entry in occupations())


def _join_compounds(tokens: list[Token]) -> list[Token]:
    """Make "middle-aged" and "in-house" one plain word; compounds with a gendered word or a mention stay apart."""
    joined: list[Token] = []
    for token, following in zip_longest(tokens, tokens[1:]):
        last = joined[-1] if joined else None
        if last is not None and last.tag in ("word", "person") and last.end == token.start:
            plain = following is not None and following.start == token.end and following.tag in ("word", "person")
            hyphen = token.text in _HYPHENS and plain
            if hyphen or last.text[-1] in _HYPHENS:
                last.text, last.end, last.tag = f"{last.text}{token.text}", token.end, "word"
                last.lower = last.text.lower()
                continue
        joined.append(token)
    return joined


def _join_names(tokens: list[Token]) -> list[Token]:
    """Make "Mr. Lopez", "Dr. Maria Lopez" and "Maria Anna" one token; a title without a name stays a name."""
    joined: list[Token] = []
    for token in tokens:
        last = joined[-1] if joined else None
        if last is not None and last.lower in word_class("profession_title") and last.text[0].isupper():
            if token.text == "." and last.lower in _ABBREVIATED:
                last.text, last.end = f"{last.text}.", token.end
                continue
            if token.tag == "name" and last.tag in ("word", "capital", "person"):
                last.text, last.end, last.tag, last.side = f"{last.text} {token.text}", token.end, "name", token.side
                last.lower = last.text.lower()
                continue
        if last is not None and last.lower in _ABBREVIATED_DOTTED and token.tag == "name":
            last.text, last.end, last.tag, last.side = f"{last.text} {token.text}", token.end, "name", token.side
            last.lower = last.text.lower()
            continue
        if last is not None and last.tag == "name":
            is_title = word_table().kind.get(last.lower) == "title"
            if is_title and token.text == ".":
                continue
            is_surname = token.tag == "capital" or (is_title and token.tag in ("word", "person"))
            is_first_name = token.tag == "name" and token.lower in word_table().name_side
            if (is_surname or is_first_name) and token.text[0].isupper():
                last.text, last.end = f"{last.text} {token.text}", token.end
                last.lower = last.text.lower()
                continue
        if last is not None and last.tag == "capital" and token.tag == "capital":
            last.text, last.end = f"{last.text} {token.text}", token.end
            continue
        joined.append(token)
    return joined


def _unmark_modifiers(tokens: list[Token]) -> None:
    """Make neutral nouns plain words where they stand before another noun or without article ("customer surveys")."""
    for index, token in enumerate(tokens):
        if token.tag != "person" or token.plural:
            continue
        before = tokens[max(0, index - 4) : index]
        has_article = any(item.lower in word_class("determiner") or item.tag == "possessive" for item in before)
        if not has_article or (index + 1 < len(tokens) and tokens[index + 1].tag in ("noun", "person", "target")):
            token.tag = "word"


def _number_quotes(tokens: list[Token]) -> list[Token]:
    number, inside = 0, False
    for token in tokens:
        if token.tag == "quote":
            inside = not inside
            number += inside
        token.quote = number if inside and token.tag != "quote" else 0
    return tokens
