"""What every measure is called, which way it should move, whether it sums a cell up: one row for each, in one place.

A row (`Declared`) stands where its measure is computed: a benchmark's in its `BENCHMARK`, a corpus metric's in its
`METRIC`, others in a module's `MEASURES`. `fairloop.catalogue` gathers them; tables, figures, pages, Weights & Biases
and comparisons ask the `Catalogue` and hold no list of names of their own.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal

Goal = Literal["minimize", "maximize", "ideal", ""]
Subject = Literal["corpus", "plm", ""]

PREFIXES = MITIGATED, BEFORE = ("mitigated/", "before/")
"""What a measure's name begins with if it was taken after a mitigation's change, or before a debiasing."""

DISTANCE = "/distance"
"""The end of a derived measure's name: |value - ideal|, which a sweep can minimise."""

Item = Mapping[str, str]
"""One row of a per-item table, as text."""


def same(ratio: Any) -> Any:
    """Return the ratio itself."""
    return ratio


@dataclass(frozen=True)
class ItemScore:
    """How a score comes from the per-item table: a ratio of two sums over items; a mean is one.

    Attributes:
        terms: gives an item's numerator and denominator for the named measure; None for an item that does not count.
        item: the columns that name an item.
        of_ratio: turns the ratio (a number or an array) into the score.
    """

    terms: Callable[[Item, str], tuple[float, float] | None]
    item: tuple[str, ...] = ("item",)
    of_ratio: Callable[[Any], Any] = same


@dataclass(frozen=True)
class Declared:
    """One row of the catalogue.

    Attributes:
        pattern: the measure's name `family/what`, or a shell wildcard for several. Of a family's rows the first that
            matches counts.
        title: in words, for lists and figures; not for wildcards, whose measures are called by their names.
        short: in few words, for columns; the title if empty.
        goal: `minimize`, `maximize`, `ideal` (the closer to `ideal` the better; so it is where an ideal value is given
            and nothing else is said) or empty: neither way is better.
        ideal: the value of something without bias; None for what measures no bias. With `minimize` the measure is an
            amount already, such as a mean of absolute values.
        headline: whether it sums up its family: every table has it.
        place: where it stands among the headlines, small numbers first.
        debiasing: whether it stands where methods of debiasing a PLM are compared; None: if it is a headline.
        count: whether it counts what was measured (items, tokens) and is no result: never a headline, never tested.
        paired_by: the column of the per-item table whose rows belong together (the templates of one subject): two
            models are compared, resampled and tested by it. Empty where items cannot be paired.
        item_score: how the score comes from the per-item table, where it does.
        possible: the least and the greatest value that it can take: a mean's interval ends there.
        subject: what is measured: a corpus, a PLM or neither; filled in where the rows are gathered.
    """

    pattern: str
    title: str = ""
    short: str = ""
    goal: Goal = ""
    ideal: float | None = None
    headline: bool = False
    place: int = 50
    debiasing: bool | None = None
    count: bool = False
    paired_by: str = ""
    item_score: ItemScore | None = None
    possible: tuple[float, float] = (-math.inf, math.inf)
    subject: Subject = ""

    def __post_init__(self) -> None:
        """Complete the goal, and refuse a row that contradicts itself."""
        if self.ideal is not None and not self.goal:
            object.__setattr__(self, "goal", "ideal")
        wrong = {
            "a goal `ideal` needs an ideal value": self.goal == "ideal" and self.ideal is None,
            "more cannot be better where there is an ideal value": self.ideal is not None and self.goal == "maximize",
            "a headline needs a title": self.headline and not self.title and self.is_name,
            "a count is no headline": self.count and (self.headline or bool(self.goal)),
            "an item score needs `paired_by`": self.item_score is not None and not self.paired_by,
        }
        for reason, applies in wrong.items():
            if applies:
                raise ValueError(f"{self.pattern}: {reason}")

    @property
    def is_name(self) -> bool:
        """Whether the pattern is one measure's name."""
        return not set("*?[") & set(self.pattern)

    @property
    def family(self) -> str:
        """The first part of the name."""
        return self.pattern.partition("/")[0]

    @property
    def label(self) -> str:
        """In few words, for columns."""
        return self.short or self.title

    @property
    def is_bias(self) -> bool:
        """Whether it measures bias, and not a skill, a share or a count."""
        return self.ideal is not None

    @property
    def compares_methods(self) -> bool:
        """Whether it stands where methods of debiasing are compared."""
        return self.headline if self.debiasing is None else self.debiasing

    def distance(self, value: float) -> float | None:
        """Return how far a value is from the ideal one; None for a measure that is no signed bias."""
        return abs(value - self.ideal) if self.goal == "ideal" and self.ideal is not None else None

    def amount(self, value: float) -> float:
        """Return the amount of bias that a value stands for; what measures no bias is returned as it is."""
        return value if self.ideal is None else abs(value - self.ideal)


UNKNOWN = Declared("*")
"""What is said of a measure that nobody declared: neither way is better."""


def plain(metric: str) -> str:
    """Return a measure's name without its generation (`@3`) and without the prefix of when it was taken."""
    name = metric.partition("@")[0]
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


@dataclass(frozen=True)
class Catalogue:
    """Every declared measure. Names may carry a generation or a prefix (`plain`)."""

    rows: tuple[Declared, ...]

    @cached_property
    def _by_family(self) -> dict[str, list[Declared]]:
        families: dict[str, list[Declared]] = {}
        for row in self.rows:
            families.setdefault(row.family, []).append(row)
        return families

    @cached_property
    def _known(self) -> dict[str, Declared]:
        return {}

    def of(self, metric: str) -> Declared:
        """Return the row that speaks for a measure; `UNKNOWN` if none does."""
        if metric not in self._known:
            name = plain(metric)
            rows = self._by_family.get(name.partition("/")[0], ())
            self._known[metric] = next((row for row in rows if fnmatchcase(name, row.pattern)), UNKNOWN)
        return self._known[metric]

    def named(self, metric: str) -> Declared:
        """Return the row that speaks for a measure as that measure's own, with its name and a title."""
        return replace(self.of(metric), pattern=plain(metric), title=self.title(metric))

    def chosen(self, metrics: Iterable[str], wanted: Callable[[Declared], bool]) -> list[str]:
        """Return those of these measures whose row is wanted, each once, in the order in which they are shown.

        Measures that carry a prefix, and counts, are left out.
        """
        places = {id(row): place for place, row in enumerate(self.rows)}
        rows = {metric: self.of(metric) for metric in metrics if metric == plain(metric)}
        found = [metric for metric, row in rows.items() if not row.count and wanted(row)]
        return sorted(found, key=lambda metric: (rows[metric].place, places.get(id(rows[metric]), 0), metric))

    def headlines(self, subject: Subject | None = None) -> list[Declared]:
        """Return the measures that sum up, by their names, in the order in which they are shown.

        Args:
            subject: only those of a corpus, or of a PLM.
        """
        chosen = [row for row in self.rows if row.headline and row.is_name and subject in (None, row.subject)]
        return sorted(chosen, key=lambda row: row.place)

    def families(self, subject: Subject) -> list[str]:
        """Return the families of measures of a corpus, or of a PLM."""
        return list(dict.fromkeys(row.family for row in self.rows if row.subject == subject))

    def is_headline(self, metric: str) -> bool:
        """Say whether a measure sums up its family."""
        return self.of(metric).headline

    def is_result(self, metric: str) -> bool:
        """Say whether a measure is a result, and not a count of what was measured."""
        return not self.of(metric).count

    def title(self, metric: str) -> str:
        """Return a measure in words; its name where there are none."""
        return self.of(metric).title or plain(metric)

    def label(self, metric: str) -> str:
        """Return a measure in few words, for columns; its name where there are none."""
        return self.of(metric).label or plain(metric)

    def summary(self, metrics: Iterable[str]) -> list[str]:
        """Return which of a cell's measures sum it up, in the order in which they are shown.

        Where none is a headline (a SEAT of one test alone) these are all its results; counts only where there is
        nothing else. Measures that carry a prefix are left out.
        """
        present = [metric for metric in metrics if plain(metric) == metric.partition("@")[0]]
        headlines = [metric for metric in present if self.is_headline(metric)]
        if headlines:
            return sorted(headlines, key=lambda metric: self.of(metric).place)
        return [metric for metric in present if self.is_result(metric)] or present


def gathered(*parts: tuple[Subject, Sequence[Declared]]) -> Catalogue:
    """Return the catalogue of several lists of rows, each with what its measures are of.

    Raises:
        ValueError: a pattern is declared twice.
    """
    rows = tuple(replace(row, subject=subject) for subject, declared in parts for row in declared)
    patterns = [row.pattern for row in rows]
    twice = [pattern for pattern in patterns if patterns.count(pattern) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is declared twice")
    return Catalogue(rows)
