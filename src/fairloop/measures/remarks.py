"""What stands beside a value in every table: why it has no interval, or that its interval is known to be too short.

`data/coverage.csv` holds every setting in which a 95% interval held the truth in fewer than 93% of the simulated
studies of `make coverage` (experiments/coverage; a test compares), and which measures it speaks for.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files

from fairloop.files import csv_rows
from fairloop.measures.catalogue import plain
from fairloop.statistics.bootstrap import FEWEST_FOR_BOOTSTRAP
from fairloop.statistics.correlation import FEWEST_CLUSTERS
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.means import FEWEST_FOR_SPREAD

MARK = "§"
"""Stands after an interval that is known to be too short."""

_FLOORS = {"starts": FEWEST_CLUSTERS, **dict.fromkeys(("cells", "pairs", "seeds"), FEWEST_FOR_SPREAD)}


@dataclass(frozen=True)
class Short:
    """A setting in which intervals are too short, and where in a table it applies.

    Attributes:
        measure: a measure's name, or a shell wildcard.
        least: from this absolute value on.
        units: up to so many independent units.
        when: what else has to be so, in words that the table knows; empty for nothing.
        group, setting, n, quantity: the line of experiments/coverage/coverage.csv.
        coverage: how often the interval held the truth there.
    """

    measure: str
    least: float
    units: float
    when: str
    group: str
    setting: str
    n: str
    quantity: str
    coverage: float

    def covers(self, one: Estimate, when: Iterable[str]) -> bool:
        """Say whether it applies to an estimate of its measure with an interval over its own units."""
        return (
            abs(one.value) >= self.least
            and (math.isinf(self.units) or (one.units is not None and one.units <= self.units))
            and (not self.when or self.when in when)
        )

    def __str__(self) -> str:
        where = ", ".join(filter(None, (self.setting, self.n)))
        return f"{self.quantity} {100 * self.coverage:.0f}% ({self.group}: {where})"


@cache
def short_intervals() -> tuple[Short, ...]:
    """Return what is known to be too short."""
    text = files("fairloop.measures").joinpath("data/coverage.csv").read_text(encoding="utf-8")
    return tuple(
        Short(
            row["measure"], float(row["least"] or 0), float(row["units"] or math.inf), row["when"],
            row["group"], row["setting"], row["n"], row["quantity"], float(row["coverage"]),
        )
        for row in csv_rows(text)[1]
    )  # fmt: skip


def is_short(metric: str, one: Estimate, *when: str) -> bool:
    """Say whether a measure's interval is known to be too short."""
    return one.bounded and any(short.covers(one, when) for short in _short_of(metric))


@cache
def _short_of(metric: str) -> tuple[Short, ...]:
    """Return what is known of one measure: a report of many cells asks for each of its values."""
    return tuple(short for short in short_intervals() if fnmatchcase(plain(metric), short.measure))


def short_note(metrics: Iterable[str], *when: str) -> str:
    """Return the line below a table that has the mark: what it stands for, of the measures that the table shows."""
    names = {plain(metric) for metric in metrics}
    said = [
        str(one)
        for one in short_intervals()
        if any(fnmatchcase(name, one.measure) for name in names) and (not one.when or one.when in when)
    ]
    return f"{MARK} a 95% interval that held the truth less often in simulations: {'; '.join(said)}." if said else ""


def lack(one: Estimate, over: str = "") -> str:
    """Return in a word why a value has no interval; empty if it has one, or if none belongs to it.

    Args:
        one: the value.
        over: what its interval would be over (`cells`, `pairs`, `seeds`, `starts`); empty for its own groups or items.
    """
    if not one.defined or not (math.isnan(one.low) or math.isnan(one.high)):
        return ""
    count = one.n if one.units is None else one.units
    if count < _FLOORS.get(over, FEWEST_FOR_BOOTSTRAP):
        return _too_few(over or ("groups" if count < one.n else "items"))
    # A value that is of no sample (a count, a yield) knows of no units.
    return "no spread" if over or one.units is not None else ""


def floors_in_words(texts: Iterable[str]) -> str:
    """Return how many cells, pairs, … an interval needs, of those that the texts say there are too few of."""
    texts = list(texts)
    said = [
        f"{_too_few(over)}: an interval needs {floor} or more"
        for over, floor in _FLOORS.items()
        if any(_too_few(over) in text for text in texts)
    ]
    return f"{'; '.join(said).capitalize()}." if said else ""


def _too_few(over: str) -> str:
    return f"too few {over}"


def remark(metric: str, one: Estimate) -> str:
    """Return what stands after a measure of one cell: the mark, or why there is no interval; mostly nothing."""
    return MARK if is_short(metric, one) else lack(one)
