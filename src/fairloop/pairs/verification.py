"""Does a pair differ only in gendered words? Verified word by word, and if not, replaced by the swapped sentence."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from fairloop.corpus.counterfactual import swap_gender
from fairloop.corpus.words import gendered_side, gendered_spans, words
from fairloop.lexicon import TargetKind, attributes, gendered_pairs, heldout_templates, occupations, targets, word_table
from fairloop.lexicon.gendered import Side

PRONOUNS = "he/she"
NAMES = "names"
HELD_OUT = "contains what is held out"
TARGET_TWICE = "names its target twice"


@dataclass(frozen=True)
class Counterpart:
    """The counterpart of a sentence, and whether it had to be replaced by the swapped sentence."""

    text: str
    replaced: bool


def counterpart_of(sentence: str, proposed: str | None = None) -> Counterpart | None:
    """Return the sentence about the other gender: the proposed one if it holds, else the sentence with genders swapped.

    A proposed counterpart knows more than the swapper ("her" is "him" or "his"), and so it is taken where it
    differs from the sentence in gendered words only, and in all of them. None: the sentence has no gendered word.
    """
    if proposed is not None and differ_only_in_gender(sentence, proposed):
        return Counterpart(proposed, replaced=False)
    swapped = swap_gender(sentence)
    if not differ_only_in_gender(sentence, swapped):
        return None
    return Counterpart(swapped, replaced=proposed is not None)


def differ_only_in_gender(first: str, second: str) -> bool:
    """Tell whether every gendered word of one text stands opposite a counterpart in the other, and all else is equal.

    Names may stand opposite any name of the other gender.
    """
    ours, theirs = words(first), words(second)
    if len(ours) != len(theirs):
        return False
    ends = (0, 0)
    changed = False
    for one, other in zip(ours, theirs, strict=True):
        if first[ends[0] : one.start] != second[ends[1] : other.start]:
            return False
        ends = (one.end, other.end)
        if one.text == other.text:
            if gendered_side(one, first) is not None:
                return False
        elif _are_partners(one.text, other.text):
            changed = True
        else:
            return False
    return changed and first[ends[0] :] == second[ends[1] :]


def _are_partners(one: str, other: str) -> bool:
    if one[0].isupper() != other[0].isupper():
        return False
    lower, partner = one.lower().replace("’", "'"), other.lower().replace("’", "'")
    if partner in _partners().get(lower, ()):
        return True
    sides = word_table().name_side
    return lower in sides and partner in sides and sides[lower] != sides[partner]


@cache
def _partners() -> dict[str, frozenset[str]]:
    """Return all words of the other gender that a gendered word may stand for, in both directions."""
    found: dict[str, set[str]] = {}
    for pair in gendered_pairs():
        found.setdefault(pair.male, set()).add(pair.female)
        found.setdefault(pair.female, set()).add(pair.male)
    return {word: frozenset(partners) for word, partners in found.items()}


def in_order(sentence: str, counterpart: str, side: Side) -> tuple[str, str]:
    """Return (x_m, x_f) of a sentence of that side and its counterpart."""
    return (sentence, counterpart) if side == "male" else (counterpart, sentence)


def sides(text: str) -> list[Side]:
    """Return the sides of a text's gendered words, in order."""
    return [span.side for span in gendered_spans(text)]


def attribute_in(text: str) -> str:
    """Return the name of the attribute of a text's first gendered noun, else of its names, else of its pronouns.

    Raises:
        ValueError: the text has no gendered word.
    """
    spans = gendered_spans(text)
    for span in spans:
        if span.kind not in ("pronoun", "name"):
            word = text[span.start : span.end].lower().replace("’", "'")
            partner = word_table().swapped[word]
            return f"{word}/{partner}" if span.side == "male" else f"{partner}/{word}"
    if not spans:
        raise ValueError(f"no gendered word in {text!r}")
    return NAMES if any(span.kind == "name" for span in spans) else PRONOUNS


def find_phrase(text: str, phrase: str) -> list[tuple[int, int]]:
    """Return where a word or phrase stands in a text, as whole words, in any case."""
    return [match.span() for match in _any_of([phrase]).finditer(text)]


def find_targets(text: str, kinds: Iterable[TargetKind]) -> list[tuple[str, TargetKind]]:
    """Return the targets of pairs in a text, as they stand in it, in order; occupations may stand in the plural."""
    kind_of, pattern = _target_forms(tuple(kinds))
    return [(match.group(), kind_of[_spaced(match.group())]) for match in pattern.finditer(text)]


@cache
def _target_forms(kinds: tuple[TargetKind, ...]) -> tuple[dict[str, TargetKind], re.Pattern[str]]:
    plural = {entry.name: entry.plural for entry in occupations()}
    kind_of: dict[str, TargetKind] = {}
    for target in targets("pairs"):
        if target.kind in kinds:
            kind_of[target.name] = target.kind
            kind_of[plural.get(target.name, target.name)] = target.kind
    return kind_of, _any_of(kind_of)


def _spaced(text: str) -> str:
    return re.sub(r"[\s\-‐‑]+", " ", text.lower())


def _any_of(forms: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern for any of some words and phrases, as whole words, in any case, the longest first."""
    body = "|".join(re.escape(form).replace(r"\ ", r"[\s\-‐‑]+") for form in sorted(forms, key=len, reverse=True))
    return re.compile(rf"(?<![\w'’])(?:{body})(?!\w)", re.IGNORECASE)


# --- what no pair may contain ---------------------------------------------------------------------------------------


def held_out_in(text: str) -> str | None:
    """Return the first held-out occupation, trait, activity, attribute word or template in a text, or None.

    The benchmark `heldout_templates` measures on these; a pair that contained one would let it measure memory.
    """
    found = _held_out_words().search(text)
    if found is not None:
        return found.group().lower()
    return next((template for template, frame in _held_out_frames() if frame.fullmatch(text)), None)


@cache
def _held_out_words() -> re.Pattern[str]:
    forms: set[str] = set()
    plural = {entry.name: entry.plural for entry in occupations()}
    for target in targets("heldout"):
        forms.add(target.name)
        if target.kind == "occupation":
            forms.add(plural[target.name])
            forms |= {word for word, denoted in word_table().occupation.items() if denoted == target.name}
    for attribute in attributes("heldout"):
        for word in (attribute.male, attribute.female):
            forms |= {word, f"{word}es" if word.endswith("ss") else f"{word}s"}
    return _any_of(forms)


@cache
def _held_out_frames() -> tuple[tuple[str, re.Pattern[str]], ...]:
    frames = []
    for template in (*heldout_templates("pronoun"), *heldout_templates("noun")):
        body = re.sub(r"\\\{\w+\\\}", ".+", re.escape(template.text))
        frames.append((template.text, re.compile(body, re.IGNORECASE)))
    return tuple(frames)
