"""Counterfactual pairs for the downstream test: held-out activities, the occupation unnamed, the gender swapped."""

from dataclasses import dataclass
from functools import cache

from fairloop.lexicon import activities, fillers, names, occupations, templates


@dataclass(frozen=True)
class CounterfactualPair:
    """Two sentences about somebody in `occupation` that differ only in gendered words."""

    occupation: str
    male: str
    female: str


@cache
def _pairs() -> tuple[CounterfactualPair, ...]:
    pairs: list[CounterfactualPair] = []
    for entry in occupations():
        for activity in activities(entry.name).heldout:
            for template in templates("heldout"):
                turn = len(pairs)
                name = names()[turn % len(names())]
                filler = {slot: texts[turn % len(texts)] for slot, texts in fillers().items()}
                male, female = (
                    template.fill(entry, activity, side=side, name=name, filler=filler) for side in ("male", "female")
                )
                pairs.append(CounterfactualPair(entry.name, male, female))
    return tuple(pairs)


def counterfactual_pairs() -> list[CounterfactualPair]:
    """Return every held-out activity in every held-out template, in the order of the occupations.

    None of these activities or templates occurs in a seed corpus, and no sentence names its occupation.
    """
    return list(_pairs())
