"""Swapping the gender of every gendered word in a text.

`swap_gender` is its own inverse wherever English allows. It is not where two words of one side share a partner:

- "her" is both "him" and "his": which one is decided by what follows (`corpus.her`). Where "him" stands before a
  noun ("gave him water"), the swapped text reads as a possessive ("gave her water") and comes back as "his";
  "hers" before what may be a noun ("a friend of hers called") comes back as "her".
- "Mrs", "Miss" and "ma'am" become "Mr" and "sir", which become "Ms" and "madam"; so also "mum" and "auntie".
- "actress", "hostess", "heroine" and "authoress" become words that are used for everyone.

`is_reversible` tells whether a given text survives the round trip.
"""

from fairloop.corpus.her import is_possessive
from fairloop.corpus.words import Word, gendered_side, words
from fairloop.lexicon import word_table


def swap_gender(text: str) -> str:
    """Return the text with every gendered word and name replaced by its partner, capitals kept."""
    pieces: list[str] = []
    end = 0
    for word in words(text):
        found = gendered_side(word, text)
        if found is None:
            continue
        pieces += [text[end : word.start], _partner(word, text, found[1] == "name")]
        end = word.end
    return "".join(pieces) + text[end:]


def is_reversible(text: str) -> bool:
    """Return whether swapping twice gives the text back (see the module's notes for when it cannot)."""
    return swap_gender(swap_gender(text)) == text


def _partner(word: Word, text: str, is_name: bool) -> str:
    table = word_table()
    lower = word.lower
    if is_name:
        partner = table.name_swapped[lower]
        return partner.upper() if word.text.isupper() and len(word.text) > 1 else partner
    if lower == "her":
        partner = "his" if is_possessive(text, word) else "him"
    elif lower == "his":
        partner = "her" if is_possessive(text, word) else "hers"
    else:
        partner = table.swapped[lower]
    return _with_case_of(word.text, partner, text, word)


def _with_case_of(model: str, partner: str, text: str, word: Word) -> str:
    if model.isupper() and len(model) > 1:
        return partner.upper()
    return partner[0].upper() + partner[1:] if model[0].isupper() else partner
