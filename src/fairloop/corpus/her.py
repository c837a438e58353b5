"""Is "her" (or "his") followed by what it possesses? Decided from the words around it, without a tagger.

"her" before a noun phrase is a possessive ("her old car"), else an object ("told her to go"). A noun phrase is
assumed unless the next word cannot begin what a possessive is followed by: a determiner, preposition, pronoun,
conjunction, auxiliary, question word, an adverb that no adjective follows, or the bare verb after "let", "make"
and "help". After verbs with two objects or a complement ("gave her 20 dollars", "asked her more questions", "made her
famous") what follows is theirs; before any other number, amount or marked-up word there is a noun phrase ("her 20
years", "her *own* tools"). The same test serves "his", so that "his" always survives two swaps.
"""

import re
from functools import cache

from fairloop.corpus.words import Word, words
from fairloop.lexicon import activities, occupations
from fairloop.lexicon.word_classes import word_class

# Between "her" and the noun phrase: quotation marks, emphasis, a pause, an emoji.
_GAP = re.compile(r"[\s\-‐‑/]*(?:[*_~^|]|…|\.{3}|[^\w\s\x00-\x7f“”‘’…–—])*\s*[\"“‘'(]?[*_]*\Z")
_PAUSE = re.compile(r"\s*(?:…|\.{3})\s*\Z")
_AMOUNT = re.compile(r"[\s*_\"“‘'(]*[$£€¥#]?\d")


@cache
def _activity_verbs() -> frozenset[str]:
    """Return the verbs of what people in the occupations do: "unload", "install"."""
    verbs = {
        entry.base.split()[0]
        for job in occupations()
        for entry in (*activities(job.name).seed, *activities(job.name).heldout)
    }
    return frozenset(verbs | {"unload"})


def is_possessive(text: str, word: Word) -> bool:
    """Return whether a noun phrase follows that belongs to `word` ("her" or "his") in the text."""
    following, previous = _context(text, word)
    before = previous.lower if previous else ""
    if _AMOUNT.match(text, word.end):
        return before not in word_class("ditransitive")
    if not following:
        return False
    partner = _coordinated(following)
    if partner is not None:
        return is_possessive(text, partner)
    first = following[0].lower
    second = following[1].lower if len(following) > 1 else ""
    if before in word_class("ditransitive") and (first in word_class("quantity") or first in word_class("measure")):
        return False
    if first == "one" and second == "of":
        return False
    if before in word_class("complemented") and first in word_class("complement"):
        return second != "" and second not in word_class("not_possessed")
    if before in ("help", "helps", "helped", "helping", "let", "lets", "letting") and first in _activity_verbs():
        return False
    if first in ("last", "next", "every"):
        # "saw her last week", but "in her last week"
        return second not in word_class("time") or before in word_class("preposition")
    if first == "back":
        again = before in word_class("takes_back") or (
            before in word_class("ditransitive") and second in word_class("not_possessed")
        )
        return not again
    if first == "home":
        return before not in word_class("takes_home")
    if first in word_class("before_adjective") or (first.endswith("ly") and first not in word_class("not_adverb")):
        return second != "" and second not in word_class("not_possessed") | word_class("bare_verb")
    if first in word_class("not_possessed") | word_class("bare_verb"):
        return False
    return not (first in word_class("verb_or_noun") and before in word_class("causative"))


def _coordinated(following: list[Word]) -> Word | None:
    """Return the second pronoun of "his or her" and "his/her", which share what follows the second."""
    if following[0].lower == "or":
        following = following[1:]
    return following[0] if following and following[0].lower in ("his", "her") else None


def _context(text: str, word: Word) -> tuple[list[Word], Word | None]:
    """Return the words after `word` up to the next punctuation mark, and the word before it."""
    following: list[Word] = []
    end = word.end
    for item in words(text[word.end : word.end + 80]):
        start = word.end + item.start
        gap = text[end:start]
        if not _GAP.match(gap) or (_PAUSE.match(gap) and not item.text[0].islower()):
            break
        end = word.end + item.end
        following.append(Word(item.text, start, end))
    before = words(text[max(0, word.start - 40) : word.start])
    return following, before[-1] if before else None
