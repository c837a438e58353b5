"""The seed corpus: sentences from templates whose net stereotype rate is a given level by construction."""

from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from fairloop.corpus.table import make_corpus
from fairloop.errors import UserError
from fairloop.lexicon import Occupation, Template, activities, fillers, names, occupations, templates
from fairloop.lexicon.gendered import Side
from fairloop.seeding import random_generator

if TYPE_CHECKING:
    from datasets import Dataset

_STAGE = "seed-corpus"
# How often a sentence that is already in the corpus is drawn anew; then all combinations are tried in order.
_REDRAWS = 50


@dataclass(frozen=True)
class _Plan:
    """One sentence to write: whom about, and of which gender (None: without gender)."""

    occupation: Occupation
    side: Side | None


def seed_corpus(level: float, sentences: int, neutral_share: float, seed: int) -> "Dataset":
    """Write the seed corpus at level b: round(b·N) stereotypical sentences, the rest balanced (docs/methods.md, 1).

    A negative level has round(|b|·N) anti-stereotypical sentences in their place. Of the rest, a share `neutral_share`
    has no gender and the others come in pairs about the same occupation, one stereotypical and one
    anti-stereotypical; a remainder that makes no pair is without gender. So the net stereotype rate is
    `surplus(b, N)` / N. Male- and female-majority occupations take turns in the gendered sentences; those without
    gender go to the occupations that have fewest sentences so far, balanced ones included.

    Args:
        level: the net stereotype rate b in [-1, 1].
        sentences: N, at least 1.
        neutral_share: share of the rest without gender, in [0, 1].
        seed: equal arguments give equal corpora.

    Raises:
        UserError: an argument is out of range.
    """
    _check(level, sentences, neutral_share)
    draw = random_generator(seed, _STAGE)
    plans = _plan(level, sentences, neutral_share, draw)
    writer = _Writer(draw)
    rows: list[dict[str, Any]] = []
    for item, number in enumerate(draw.permutation(len(plans)).tolist()):
        plan = plans[number]
        rows.append(
            {
                "text": writer.write(plan),
                "occupation": plan.occupation.name,
                "gender": plan.side or "none",
                "stereotype": _stereotype(plan),
                "generation": 0,
                "source": "seed",
                "item": item,
                "group": item,
                "attempt": 0,
            }
        )
    return make_corpus(rows)


def surplus(level: float, sentences: int) -> int:
    """Return round(b·N): how many more stereotypical than anti-stereotypical sentences the seed corpus has."""
    return round(level * sentences)


def _check(level: float, sentences: int, neutral_share: float) -> None:
    if not -1 <= level <= 1:
        raise UserError.of("initial_bias.level", level, "a net stereotype rate is between -1 and 1")
    if sentences < 1:
        raise UserError.of("study.sentences", sentences, "a corpus has at least 1 sentence")
    if not 0 <= neutral_share <= 1:
        raise UserError.of("initial_bias.neutral_share", neutral_share, "a share is between 0 and 1")


def _plan(level: float, sentences: int, neutral_share: float, draw: np.random.Generator) -> list[_Plan]:
    net = surplus(level, sentences)
    rest = sentences - abs(net)
    pairs = (rest - round(neutral_share * rest)) // 2

    count = {entry.name: 0 for entry in occupations()}
    turns = cycle(_shuffled_by_majority(draw))
    plans = []
    for _ in range(abs(net)):
        occupation = _least_used(next(turns), count)
        count[occupation.name] += 1
        plans.append(_Plan(occupation, _majority_side(occupation) if net > 0 else _minority_side(occupation)))
    for _ in range(pairs):
        occupation = _least_used(next(turns), count)
        count[occupation.name] += 2
        plans += [_Plan(occupation, "male"), _Plan(occupation, "female")]

    order = draw.permutation(len(occupations())).tolist()
    shuffled = [occupations()[index] for index in order]
    for _ in range(rest - 2 * pairs):
        occupation = _least_used(shuffled, count)
        count[occupation.name] += 1
        plans.append(_Plan(occupation, None))
    return plans


def _shuffled_by_majority(draw: np.random.Generator) -> list[list[Occupation]]:
    """Return the male-majority and the female-majority occupations, each in random order; chance says which first."""
    groups = []
    for majority in ("male", "female"):
        group = [entry for entry in occupations() if entry.majority == majority]
        groups.append([group[index] for index in draw.permutation(len(group)).tolist()])
    return groups if draw.random() < 0.5 else groups[::-1]


def _least_used(candidates: list[Occupation], count: dict[str, int]) -> Occupation:
    return min(candidates, key=lambda entry: count[entry.name])


def _majority_side(occupation: Occupation) -> Side:
    return "male" if occupation.majority == "male" else "female"


def _minority_side(occupation: Occupation) -> Side:
    return "female" if occupation.majority == "male" else "male"


def _stereotype(plan: _Plan) -> int:
    if plan.side is None:
        return 0
    return 1 if plan.side == plan.occupation.majority else -1


class _Writer:
    """Writes sentences from templates that take turns, and writes none twice while there are others."""

    def __init__(self, draw: np.random.Generator) -> None:
        self._draw = draw
        self._seen: set[str] = set()
        self._decks: dict[str, list[Template]] = {"gendered": [], "neutral": []}

    def write(self, plan: _Plan) -> str:
        template = self._next_template("neutral" if plan.side is None else "gendered")
        for _ in range(_REDRAWS):
            text = self._fill(template, plan)
            if text not in self._seen:
                break
            template = self._next_template(template.use)
        self._seen.add(text)
        return text

    def _next_template(self, use: Any) -> Template:
        deck = self._decks[use]
        if not deck:
            available = templates(use)
            deck += [available[index] for index in self._draw.permutation(len(available)).tolist()]
        return deck.pop()

    def _fill(self, template: Template, plan: _Plan) -> str:
        phrases = activities(plan.occupation.name).seed
        return template.fill(
            plan.occupation,
            phrases[self._index(len(phrases))],
            side=plan.side or "male",
            name=names()[self._index(len(names()))],
            filler={slot: texts[self._index(len(texts))] for slot, texts in fillers().items()},
        )

    def _index(self, length: int) -> int:
        return int(self._draw.integers(length))
