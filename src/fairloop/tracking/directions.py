"""Which way a metric should move: one table (`data/metrics.csv`) for W&B, for sweeps and for reports.

A row speaks for the metrics whose names match its pattern (shell wildcards; the first that matches counts), also where
they carry the prefix `mitigated/` or `before/`. `goal` is `minimize`, `maximize`, `ideal` (the closer to `ideal` the
better: a bias of zero, a stereotype score of 50) or empty (neither is better). `headline` marks what sums a cell up.
"""

import csv
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal

from fairloop.errors import Fault

Goal = Literal["minimize", "maximize", "ideal", ""]

TABLE = Path(__file__).parent / "data" / "metrics.csv"
PREFIXES = ("mitigated/", "before/")
DISTANCE = "/distance"
"""The end of a derived metric's name: |value - ideal|, which a sweep can minimise."""


@dataclass(frozen=True)
class Direction:
    """One row of the table."""

    pattern: str
    goal: Goal = ""
    ideal: float | None = None
    headline: bool = False
    title: str = ""

    def distance(self, value: float) -> float | None:
        """Return how far a value is from the ideal one; None for a metric without."""
        return None if self.ideal is None else abs(value - self.ideal)


NEITHER = Direction("*")


@cache
def directions() -> tuple[Direction, ...]:
    """Return the table's rows, in order.

    Raises:
        Fault: the table of the installation is damaged.
    """
    try:
        with TABLE.open(encoding="utf-8", newline="") as stream:
            return tuple(_direction(row) for row in csv.DictReader(stream))
    except (OSError, KeyError, ValueError) as error:
        raise Fault(f"{TABLE}: {error}; install the package again") from error


@cache
def direction(metric: str) -> Direction:
    """Return what the table says of a metric; neither way is better for one that it does not have."""
    name = plain(metric)
    return next((row for row in directions() if fnmatchcase(name, row.pattern)), NEITHER)


def headlines() -> tuple[Direction, ...]:
    """Return the metrics that sum a cell up, in the order in which they are shown; their patterns are their names."""
    return tuple(row for row in directions() if row.headline)


def plain(metric: str) -> str:
    """Return a metric's name without its generation (`@3`) and without the prefix of when it was measured."""
    name = metric.partition("@")[0]
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _direction(row: dict[str, str]) -> Direction:
    goal: Goal = row["goal"]  # type: ignore[assignment]
    if goal not in ("minimize", "maximize", "ideal", "") or (goal == "ideal") != bool(row["ideal"]):
        raise ValueError(f"{row['pattern']}: goal {goal!r} with ideal {row['ideal']!r}")
    ideal = float(row["ideal"]) if row["ideal"] else None
    return Direction(row["pattern"], goal, ideal, row["headline"] == "yes", row["title"])
