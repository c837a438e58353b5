"""Is "her" (or "his") followed by what it possesses? Decided from the words around it, without a tagger.

"her" before a noun phrase is a possessive ("her old car"), else an object ("told her to go"). A noun phrase is
assumed unless the next word cannot begin what a possessive is followed by: a determiner, preposition, pronoun,
conjunction, auxiliary, question word, an adverb that no adjective follows, or the bare verb after "let", "make"
and "help". The same test serves "his", so that "his" always survives two swaps.
"""

import re

from fairloop.corpus.words import Word, words

_CLOSED = set(
    """a an the this that these those some any no each all both half much such what whatever which whichever who whom
    whose when whenever where wherever why how whether if unless until till while because since although though
    and or but nor so yet as than then
    i you he she it we they me him us them my your his her hers its our their mine yours ours theirs
    myself yourself himself herself itself ourselves themselves someone somebody something anyone anybody anything
    everyone everybody everything nobody nothing
    to of in on at by for with without within from into onto upon about above across after against along among around
    before behind below beneath beside besides between beyond despite down during except inside like near off out
    outside over past through throughout toward towards under underneath up via
    am is are was were be been being has have had do does did will would shall should can could may might must cannot
    said says went came got gave took told asked thought knew felt seemed became began ran sat stood left made
    not never always often sometimes ever again too also either instead away here there today tomorrow tonight
    yesterday now soon once twice later afterwards anyway anymore everywhere somewhere together apart aside
    alone forward very much-needed please""".split()
)

# Adverbs and words like them that may stand before the adjective of a possessed noun phrase: look at what follows.
_LOOK_FURTHER = set("very quite rather almost nearly most more less just only even still ever so well too once".split())
_LY_NOUNS = set(
    "family assembly reply supply ally fly belly jelly butterfly bully anomaly monopoly lily daily weekly monthly yearly "
    "quarterly elderly early friendly lovely only lonely ugly silly costly holy likely deadly orderly curly woolly jolly "
    "hourly nightly homily italy".split()
)
_HELPERS = set("let lets letting make makes made making help helps helped helping".split())
_WATCHERS = set("see sees saw seen seeing watch watches watched watching hear hears heard hearing have had".split())
_BARE_VERBS = set(
    """go come know feel become understand find get keep learn grow see choose decide realize improve continue achieve
    succeed finish carry bring take put give make do be have say tell think believe remember forget pay sell buy send
    sit stand speak write sing eat read build lift pack prepare avoid reach earn explain finish gain regain recover
    relax solve settle choose breathe adapt join""".split()
)
_AMBIGUOUS_VERBS = set(
    """work cook move start walk sleep drive cut clean practice plan look wait study change help feel fix repair paint
    win lose stay dance run swim travel use try turn open close call talk show smile laugh cry rest balance focus
    manage handle fill sort answer load""".split()
)
_TIME = set(
    """second minute hour day morning afternoon evening night week weekend month year summer winter spring autumn fall
    monday tuesday wednesday thursday friday saturday sunday time""".split()
)
_BACK_VERBS = set(
    """call calls called calling take took taken bring brought get got pay paid send sent write wrote welcome welcomed
    want wants wanted win won invite invited""".split()
)
_HOME_VERBS = set(
    "drive drives drove driving take takes took taking send sends sent bring brings brought walk walks walked follow "
    "followed see saw accompany accompanied".split()
)
_BEFORE_NOUN = set("in on at of for during throughout since until from with by after before about".split())
_GAP = re.compile(r"[\s\-‐‑]*[\"“‘'(]?\Z")


def is_possessive(text: str, word: Word) -> bool:
    """Return whether a noun phrase follows that belongs to `word` ("her" or "his") in the text."""
    following, previous = _context(text, word)
    if not following:
        return False
    first = following[0].lower
    before = previous.lower if previous else ""
    if first in _TIME and before not in _BEFORE_NOUN and first in ("monday", "friday", "sunday"):
        return False
    if first in ("last", "next", "every"):
        return not (len(following) > 1 and following[1].lower in _TIME and before not in _BEFORE_NOUN)
    if first == "back":
        return before not in _BACK_VERBS
    if first == "home":
        return before not in _HOME_VERBS
    if first in _LOOK_FURTHER or (first.endswith("ly") and first not in _LY_NOUNS):
        return len(following) > 1 and following[1].lower not in _CLOSED and following[1].lower not in _BARE_VERBS
    if first in _CLOSED:
        return False
    if first in _BARE_VERBS:
        return False
    return not (first in _AMBIGUOUS_VERBS and before in _HELPERS)


def _context(text: str, word: Word) -> tuple[list[Word], Word | None]:
    """Return the words after `word` up to the next punctuation mark, and the word before it."""
    rest = words(text[word.end : word.end + 80])
    following: list[Word] = []
    end = 0
    for item in rest:
        if not _GAP.match(text[word.end + end : word.end + item.start]):
            break
        following.append(item)
        end = item.end
    before = words(text[max(0, word.start - 40) : word.start])
    return following, before[-1] if before else None
