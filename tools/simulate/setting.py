"""One setting of a simulation: many studies with the same truth, and how often each interval holds it."""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fairloop.statistics.estimate import Estimate

Found = Mapping[str, tuple[Estimate, float | None]]

Study = Callable[[np.random.Generator, int], Found]
"""One study: its estimates by name, each with the truth; None for "the mean over studies of this very size"."""

LEAST, MOST = 0.93, 0.97


@dataclass(frozen=True)
class Setting:
    """A way in which data come about.

    Attributes:
        group: what it is about, a section of the table.
        name: the setting in words.
        n: items and independent units, in words.
        study: simulates one study.
        studies: how many: of 2,000 the coverage has a standard error of half a point, which tells 92 from 93.
        note: why its coverage lies outside 93 to 97%, where it does; the page says so.
    """

    group: str
    name: str
    n: str
    study: Study
    studies: int = 2000
    note: str = ""


@dataclass(frozen=True)
class Row:
    """What was found of one quantity in one setting.

    Attributes:
        group, setting, n, quantity: what it is.
        studies: how many were simulated.
        shown: the share of them that had an interval.
        coverage: the share of the intervals that held the truth; NaN if there was none.
        below, above: the share of the intervals that lay wholly below, above the truth.
        width: their median width.
        note: of the setting.
    """

    group: str
    setting: str
    n: str
    quantity: str
    studies: int
    shown: float
    coverage: float
    below: float
    above: float
    width: float
    note: str

    @property
    def error(self) -> float:
        """The standard error of the coverage."""
        count = max(self.shown * self.studies, 1)
        return math.sqrt(max(self.coverage * (1 - self.coverage), 0.5 / count) / count)

    @property
    def verdict(self) -> str:
        """`holds` within two standard errors of 93 to 97%, else `short` or `wide`; `none` without intervals."""
        if math.isnan(self.coverage):
            return "none"
        if self.coverage + 2 * self.error < LEAST:
            return "short"
        return "wide" if self.coverage - 2 * self.error > MOST else "holds"


def simulate(setting: Setting, studies: int | None = None) -> list[Row]:
    """Simulate a setting's studies, from a seed that its name decides, and return a row for each quantity."""
    count = studies or setting.studies
    draw = np.random.default_rng(zlib.crc32(f"{setting.group} {setting.name} {setting.n}".encode()))
    found: dict[str, list[tuple[Estimate, float | None]]] = {}
    for number in range(count):
        for name, one in setting.study(draw, number).items():
            found.setdefault(name, []).append(one)
    return [_row(setting, name, ones, count) for name, ones in found.items()]


def _row(setting: Setting, name: str, ones: Sequence[tuple[Estimate, float | None]], studies: int) -> Row:
    values = np.array([one.value for one, _ in ones])
    own = float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
    table = np.array(
        [(one.low, one.high, own if truth is None else truth) for one, truth in ones if not math.isnan(one.low)]
    ).reshape(-1, 3)
    low, high, truth = table.T
    inside = (low <= truth) & (truth <= high)
    known = len(table) > 0
    return Row(
        setting.group,
        setting.name,
        setting.n,
        name,
        studies,
        len(table) / studies,
        float(inside.mean()) if known else math.nan,
        float((high < truth).mean()) if known else math.nan,
        float((low > truth).mean()) if known else math.nan,
        float(np.median(high - low)) if known else math.nan,
        setting.note,
    )
