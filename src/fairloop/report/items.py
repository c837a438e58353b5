"""Per-item tables of two measured models: the difference of a score with an interval over the items they share.

Only scores that are a ratio of two sums over items (a mean is one) and are found again from the tables: a score that
the tables do not reproduce is left to its reported interval.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairloop.catalogue import catalogue
from fairloop.files import csv_rows
from fairloop.measures.catalogue import Declared, ItemScore
from fairloop.report.read import Cell
from fairloop.statistics.bootstrap import bootstrap_sums
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.large import flip_p_value

ITEMS_FILE = "items.csv"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Side:
    """A measured model: its cell, and whether its scores before or after the debiasing are meant."""

    cell: Cell
    before: bool = False

    def value(self, metric: str) -> float:
        """Return the reported score."""
        return self.cell.get(f"before/{metric}" if self.before else metric, None).value

    def table(self, benchmark: str) -> Path | None:
        """Return the per-item table of a benchmark; None if the cell keeps none."""
        stages = self.cell.folder / "stages"
        # A method that changes no model is measured once, before.
        names = [f"*-before-{benchmark}"] if self.before else [f"*-after-{benchmark}", f"*-before-{benchmark}"]
        if self.cell.study == "evaluate":
            names = ["*-scores"]
        found = [path for name in names for path in sorted(stages.glob(f"{name}/{ITEMS_FILE}"))]
        return found[0] if found else None


def item_difference(second: Side, first: Side, metric: str, *, seed: int = 0) -> tuple[Estimate, float] | None:
    """Return second - first of a score over the items that both have, and the p-value of the sign-flip test.

    The 95% interval is the bootstrap-t over clusters of items (templates of one subject belong together), each
    drawn for both sides at once. None where a side keeps no items, the items differ, or a score is not reproduced.
    """
    shared = _shared(second, first, metric)
    if shared is None:
        return None

    def difference(sums: Floats) -> Floats:
        one, other = shared.values(sums)
        return np.asarray(other - one)

    estimate = bootstrap_sums(shared.table, difference, seed=seed, clusters=shared.clusters)
    return estimate, flip_p_value(list(shared.changes().values()))


def changes_of_items(pairs: Sequence[tuple[Side, Side]], metric: str) -> Floats | None:
    """Return the changes [pairs, clusters of items] whose means over clusters are the pairs' changes of the score.

    A score that is no mean is linearised: a cluster has the change of the score, and how its influence on it changes.
    None where `item_difference` is None for a pair, or the pairs do not share their items.
    """
    rows, names = [], None
    for second, first in pairs:
        shared = _shared(second, first, metric)
        if shared is None or names not in (None, sorted(set(shared.clusters))):
            return None
        names = sorted(set(shared.clusters))
        before, after = shared.influences(names)
        rows.append(second.value(metric) - first.value(metric) + after - before)
    return np.array(rows) if rows else None


@dataclass(frozen=True)
class _Shared:
    """The items of two sides: `table` [n, 4] has numerator and denominator of the first and of the second."""

    score: ItemScore
    table: Floats
    clusters: list[str]

    def values(self, sums: Floats) -> tuple[Floats, Floats]:
        """Return the score of the first and of the second side from sums [..., 4]."""
        return self.score.of_ratio(sums[..., 0] / sums[..., 1]), self.score.of_ratio(sums[..., 2] / sums[..., 3])

    def influences(self, names: Sequence[str]) -> tuple[Floats, Floats]:
        """Return each cluster's influence on the score of the first and of the second side; their means are zero.

        The infinitesimal jackknife of g(N/D): clusters · g'(R) · (n - R d) / D, with N and D the sums over clusters.
        """
        place = {name: number for number, name in enumerate(names)}
        sums = np.zeros((len(names), 4))
        np.add.at(sums, [place[cluster] for cluster in self.clusters], self.table)
        found = []
        for above, below in (sums[:, :2].T, sums[:, 2:].T):
            ratio = above.sum() / below.sum()
            step = 1e-6 * max(1.0, abs(ratio))
            ends = self.score.of_ratio(np.array([ratio - step, ratio + step]))
            slope = (ends[1] - ends[0]) / (2 * step)
            found.append(len(names) * slope * (above - ratio * below) / below.sum())
        return found[0], found[1]

    def changes(self) -> dict[str, float]:
        """Return the change of each cluster's sum."""
        found: dict[str, float] = {}
        for cluster, change in zip(self.clusters, self.table[:, 2] - self.table[:, 0], strict=True):
            found[cluster] = found.get(cluster, 0.0) + float(change)
        return found


def _shared(second: Side, first: Side, metric: str) -> _Shared | None:
    declared = catalogue().named(metric)
    if declared.item_score is None:
        return None
    sides = [_terms(side.table(declared.family), declared) for side in (first, second)]
    if not sides[0] or sides[0].keys() != sides[1].keys():
        return None
    table = np.array([[*sides[0][name][:2], *sides[1][name][:2]] for name in sides[0]])
    shared = _Shared(declared.item_score, table, [cluster for _, _, cluster in sides[0].values()])
    reported = [side.value(metric) for side in (first, second)]
    return shared if np.allclose(shared.values(table.sum(axis=0)), reported, rtol=1e-4, atol=1e-6) else None


def _terms(path: Path | None, declared: Declared) -> dict[Hashable, tuple[float, float, str]]:
    """Return numerator, denominator and cluster of each item that counts; nothing where the table cannot be read."""
    score = declared.item_score
    if path is None or score is None:
        return {}
    try:
        rows = csv_rows(path.read_text(encoding="utf-8"))[1]
        found: dict[Hashable, tuple[float, float, str]] = {}
        for row in rows:
            terms = score.terms(row, declared.pattern)
            if terms is not None:
                found[tuple(row[name] for name in score.item)] = (*terms, row[declared.paired_by])
    except (OSError, ValueError, KeyError):
        return {}
    return found
