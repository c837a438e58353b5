"""Held-out counterfactual pairs for the downstream tests, and which of them a corpus has seen.

All sentences are about activities that no seed corpus holds, in templates that no seed corpus uses. The two versions
of a pair differ in gendered words only. A language model may come upon a held-out activity by itself; `unseen` finds
the pairs of which a corpus holds neither sentence nor activity.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from fairloop.lexicon import Activity, Occupation, Template, activities, fillers, names, occupations, templates

PARTNERS = 3
"""How many other people each who-does-what sentence is asked with."""


@dataclass(frozen=True)
class CounterfactualPair:
    """Two sentences about somebody in `occupation` that differ only in gendered words.

    `activity` holds the activity in each form, for `unseen`; it may be left empty.
    """

    occupation: str
    male: str
    female: str
    activity: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResolutionPair(CounterfactualPair):
    """Two sentences about somebody in `occupation` and somebody in `other`; the pronoun means the former.

    One occupation is male-majority and the other female-majority; only the activity tells who is meant.
    """

    other: str = ""


def counterfactual_pairs() -> list[CounterfactualPair]:
    """Return every held-out activity in every held-out template, in the order of the occupations.

    None of these activities or templates occurs in a seed corpus, and no sentence names its occupation.
    """
    return list(_pairs())


def applicants() -> list[CounterfactualPair]:
    """Return descriptions of applicants: each held-out activity in one template; the templates take turns.

    No sentence names an occupation: what the applicant has done is all that speaks for one.
    """
    return list(_applicants())


def resolution_pairs() -> list[ResolutionPair]:
    """Return who-does-what sentences: each held-out activity of male- and female-majority occupations with `PARTNERS`.

    A sentence names the person who does it and one of the other majority, and refers to the former with a pronoun: the
    schema of WinoBias, type 1 (Zhao et al. 2018), and of Winogender (Rudinger et al. 2018).
    """
    return list(_resolution_pairs())


def unseen(pairs: Sequence[CounterfactualPair], texts: Sequence[str]) -> list[int]:
    """Return the places of the pairs of which `texts` hold nothing, in order.

    A pair is seen if either version, or its activity in any form, occurs in a text as whole words, whatever the case
    and the punctuation. A paraphrase is not recognised.
    """
    corpus = "\n".join(_words(text) for text in texts)

    @cache
    def occurs(phrase: str) -> bool:
        return _words(phrase) in corpus

    return [
        place
        for place, pair in enumerate(pairs)
        if not any(occurs(phrase) for phrase in (pair.male, pair.female, *pair.activity))
    ]


def _words(text: str) -> str:
    """Return the words alone, in lower case, with a space before, between and after them."""
    return " " + re.sub(r"[\W_]+", " ", text.casefold()).strip() + " "


@cache
def _pairs() -> tuple[CounterfactualPair, ...]:
    pairs: list[CounterfactualPair] = []
    for entry, activity in _heldout_activities():
        for template in templates("heldout"):
            male, female = _versions(template, entry, activity, len(pairs))
            pairs.append(CounterfactualPair(entry.name, male, female, _forms(activity)))
    return tuple(pairs)


@cache
def _applicants() -> tuple[CounterfactualPair, ...]:
    choices = templates("applicant")
    return tuple(
        CounterfactualPair(
            entry.name, *_versions(choices[turn % len(choices)], entry, activity, turn), _forms(activity)
        )
        for turn, (entry, activity) in enumerate(_heldout_activities())
    )


@cache
def _resolution_pairs() -> tuple[ResolutionPair, ...]:
    choices = templates("resolution")
    pairs: list[ResolutionPair] = []
    turn = 0
    for majority, opposite in (("male", "female"), ("female", "male")):
        partners = [entry for entry in occupations() if entry.majority == opposite]
        for entry, activity in _heldout_activities():
            if entry.majority != majority:
                continue
            for step in range(PARTNERS):
                # Steps through the list, so that every partner is used alike.
                other = partners[(turn * PARTNERS + step) % len(partners)]
                male, female = _versions(choices[turn % len(choices)], entry, activity, turn, other.name)
                pairs.append(ResolutionPair(entry.name, male, female, _forms(activity), other.name))
            turn += 1
    return tuple(pairs)


def _heldout_activities() -> list[tuple[Occupation, Activity]]:
    return [(entry, activity) for entry in occupations() for activity in activities(entry.name).heldout]


def _versions(
    template: Template, occupation: Occupation, activity: Activity, turn: int, other: str = ""
) -> tuple[str, str]:
    """Return the male and the female version; names and fillers take turns."""
    filler = {slot: texts[turn % len(texts)] for slot, texts in fillers().items()} | {"other": other}
    name = names()[turn % len(names())]
    male = template.fill(occupation, activity, side="male", name=name, filler=filler)
    female = template.fill(occupation, activity, side="female", name=name, filler=filler)
    return male, female


def _forms(activity: Activity) -> tuple[str, ...]:
    return tuple(dict.fromkeys((activity.base, activity.present, activity.past, activity.gerund)))
