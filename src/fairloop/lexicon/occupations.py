"""Occupations, their shares of women (U.S. Bureau of Labor Statistics) and what people in them do."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from fairloop.errors import UserError
from fairloop.lexicon.data_files import read_table

Majority = Literal["male", "female", "balanced"]

MALE_BELOW = 0.4
FEMALE_ABOVE = 0.6


@dataclass(frozen=True)
class Occupation:
    """One occupation; `female_share` is the share of women in [0, 1] in `year` (CPS table 11, row `bls_title`)."""

    name: str
    plural: str
    female_share: float
    bls_title: str
    year: int

    @property
    def majority(self) -> Majority:
        """Return "male" below 0.4 women, "female" above 0.6, else "balanced"."""
        if self.female_share < MALE_BELOW:
            return "male"
        return "female" if self.female_share > FEMALE_ABOVE else "balanced"


@dataclass(frozen=True)
class Activity:
    """One thing people in an occupation do, in four forms: "fix pipes", "fixes", "fixed" and "fixing pipes"."""

    base: str
    present: str
    past: str
    gerund: str


@dataclass(frozen=True)
class Activities:
    """An occupation's activities: `seed` ones for seed sentences, `heldout` ones for the downstream test only."""

    seed: tuple[Activity, ...]
    heldout: tuple[Activity, ...]


@cache
def occupations() -> tuple[Occupation, ...]:
    """Return all occupations, male-majority first, then female-majority, then balanced."""
    return tuple(
        Occupation(
            name=row["occupation"],
            plural=row["plural"],
            female_share=float(row["percent_women"]) / 100,
            bls_title=row["bls_title"],
            year=int(row["year"]),
        )
        for row in read_table("occupations")
    )


@cache
def _by_name() -> dict[str, Occupation]:
    return {entry.name: entry for entry in occupations()}


def find_occupation(name: str) -> Occupation | None:
    """Return the occupation of that name, or None."""
    return _by_name().get(name)


def occupation(name: str) -> Occupation:
    """Return the occupation of that name; raise `UserError` where there is none."""
    found = find_occupation(name)
    if found is None:
        raise UserError.of("occupation", name, "not in the table of occupations (lexicon/data/occupations.csv)")
    return found


@cache
def _all_activities() -> dict[str, Activities]:
    seed: dict[str, list[Activity]] = {}
    heldout: dict[str, list[Activity]] = {}
    for row in read_table("activities"):
        split = seed if row["split"] == "seed" else heldout
        split.setdefault(row["occupation"], []).append(
            Activity(row["base"], row["present"], row["past"], row["gerund"])
        )
    return {name: Activities(tuple(seed[name]), tuple(heldout[name])) for name in seed}


def activities(occupation_name: str) -> Activities:
    """Return what people in the occupation do; raise `UserError` for an unknown occupation."""
    return _all_activities()[occupation(occupation_name).name]


def with_article(noun: str) -> str:
    """Return the noun with "a" or "an": "a nurse", "an architect" (no occupation starts with a silent h or "you")."""
    return f"an {noun}" if noun[:1].lower() in "aeiou" else f"a {noun}"
