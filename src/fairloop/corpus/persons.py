"""Who a sentence names: the first person in it who has a name, as the sentence calls them ("Mr. Dubois").

A name is what follows a title ("Mr. Dubois", "Dr. Laura Vita"), or begins with a first name that the lexicon knows
("Emma", "Emma Wilson"). Other capitalised words may be places, companies or days, and are not taken for names: a first
name without a title that the lexicon does not know is missed.
"""

import re
from collections.abc import Sequence

from fairloop.corpus.words import Word, gendered_side, is_title, words
from fairloop.lexicon.word_classes import word_class

_MOST_PARTS = 3
_JOINED = re.compile(r"\s+|[-’']")
_JOINED_AFTER_A_POINT = re.compile(r"\.?\s+")


def named_person(text: str) -> str:
    """Return the first named person of a sentence in lower case without points ("mr dubois"); empty if there is none.

    The title belongs to it: "Mr. Dubois" and "Mrs. Dubois" are two.
    """
    found = words(text)
    for place, word in enumerate(found):
        if not word.text[0].isupper():
            continue
        if _is_title(word, text):
            rest = _capitalised(found[place + 1 :], word, text, titled=True)
            if rest:
                return " ".join([word.lower, *rest])
        elif (side := gendered_side(word, text)) is not None and side[1] == "name":
            return " ".join([word.lower, *_capitalised(found[place + 1 :], word, text)[: _MOST_PARTS - 1]])
    return ""


def _is_title(word: Word, text: str) -> bool:
    side = gendered_side(word, text)
    titled = (side is not None and side[1] == "title") or word.lower in word_class("profession_title")
    # "Detective work" is no title, "Detective Work" might be one.
    return titled and is_title(Word(word.text, word.start, word.end + (text[word.end : word.end + 1] == ".")), text)


def _capitalised(following: Sequence[Word], before: Word, text: str, titled: bool = False) -> list[str]:
    """Return the capitalised words that go on with a name or a title (`titled`), at most three of them."""
    parts: list[str] = []
    for place, word in enumerate(following[:_MOST_PARTS]):
        # A point is part of a title or of an initial; behind another word a sentence ends there.
        joined = _JOINED_AFTER_A_POINT if (titled and place == 0) or len(before.text) == 1 else _JOINED
        is_name = word.text[0].isupper() and (len(word.text) == 1 or not word.text.isupper())
        if not is_name or not joined.fullmatch(text, before.end, word.start):
            break
        parts.append(word.lower)
        before = word
    return parts
