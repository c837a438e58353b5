"""Swapping the gender of every gendered word in a text.

`swap_gender` is its own inverse wherever English allows. It is not where two words of one side share a partner:

- "her" is both "him" and "his": which one is decided by what follows (`corpus.her`). Where "him" stands before a
  noun ("gave him water"), the swapped text reads as a possessive ("gave her water") and comes back as "his";
  "hers" before what may be a noun ("a friend of hers called") comes back as "her".
- "Mrs", "Miss" and "ma'am" become "Mr" and "sir", which become "Ms" and "madam"; so also "mum" and "auntie".
- A bare apostrophe goes where the partner does not end in s: "James' van" becomes "Mary's van", then "James's van".
- Names lose their accents: "Léo" becomes Leo's partner.
- "actress", "hostess", "heroine" and "authoress" become words that are used for everyone.

`is_reversible` tells whether a given text survives the round trip.
"""

import re

from fairloop.corpus.her import is_possessive
from fairloop.corpus.words import Word, folded, gendered_side, is_title, words
from fairloop.lexicon import word_table
from fairloop.lexicon.gendered import Kind, Side


def swap_gender(text: str) -> str:
    """Return the text with every gendered word and name replaced by its partner, capitals kept."""
    pieces: list[str] = []
    end = 0
    for word in words(text):
        found = gendered_side(word, text)
        if found is None:
            continue
        partner = _partner(word, text, found)
        kept, suffix = _possessive(word, partner, text)
        pieces += [text[end : word.start], partner, suffix]
        end = kept
    return "".join(pieces) + text[end:]


def is_reversible(text: str) -> bool:
    """Return whether swapping twice gives the text back (see the module's notes for when it cannot)."""
    return swap_gender(swap_gender(text)) == text


def _possessive(word: Word, partner: str, text: str) -> tuple[int, str]:
    """Return where the text goes on behind a swapped word, and the possessive ending that its partner gets.

    "the ladies' room" is "the gentlemen's room": only a plural that ends in s takes a bare apostrophe.
    """
    mark = text[word.end : word.end + 1]
    if mark not in ("'", "’"):
        return word.end, ""
    bare = re.match(r"\s+[^\W_]|\s*[A-Za-z]{0}\Z", text[word.end + 1 :]) is not None
    if bare and word.lower.endswith("s") and not partner.endswith("s") and not _in_single_quotes(text[: word.start]):
        return word.end + 1, f"{mark}s"
    plural = partner.lower().endswith("s") and word_table().kind.get(partner.lower()) is not None
    if plural and not partner.lower().endswith("ss") and re.match(r"s\b", text[word.end + 1 :]):
        return word.end + 2, mark
    return word.end, ""


def _in_single_quotes(before: str) -> bool:
    return len(re.findall(r"(?<!\w)['‘](?=\w)", before)) > len(re.findall(r"(?<=[\w.,!?])['’](?!\w)", before))


def _partner(word: Word, text: str, found: tuple[Side, Kind]) -> str:
    table = word_table()
    lower = word.lower
    if found[1] == "name":
        partner = table.name_swapped[folded(lower)]
        return partner.upper() if word.text.isupper() and len(word.text) > 1 else partner
    if lower == "her":
        partner = "his" if is_possessive(text, word) else "him"
    elif lower == "his":
        partner = "her" if is_possessive(text, word) else "hers"
    elif lower in ("lord", "lady") and is_title(word, text):
        partner = "lady" if lower == "lord" else "lord"
    else:
        partner = table.swapped[lower]
    return _with_case_of(word.text, partner, text, word)


def _with_case_of(model: str, partner: str, text: str, word: Word) -> str:
    if model.isupper() and len(model) > 1:
        return partner.upper()
    return partner[0].upper() + partner[1:] if model[0].isupper() else partner
