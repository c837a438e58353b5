"""Per-item tables of two measured models: the difference of a score with an interval over the items they share.

Only scores that are a ratio of two sums over items (a mean is one) and are found again from the tables: a score that
the tables do not reproduce is left to its reported interval.
"""

import csv
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairloop.report.read import Cell
from fairloop.statistics.bootstrap import bootstrap_sums
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.paired import sign_flip_p_value

ITEMS_FILE = "items.csv"

Row = dict[str, str]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Score:
    """How a score comes from a table: `terms` gives an item's numerator and denominator, None for items left out."""

    terms: Callable[[Row], tuple[float, float] | None]
    item: tuple[str, ...]
    cluster: str
    of_ratio: Callable[[Floats], Floats] = np.asarray


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

    The 95% interval is the percentile bootstrap over clusters of items (templates of one subject belong together), each
    drawn for both sides at once. None where a side keeps no items, the items differ, or a score is not reproduced.
    """
    score = _score(metric)
    if score is None:
        return None
    sides = [_terms(side.table(metric.split("/")[0]), score) for side in (first, second)]
    if not sides[0] or sides[0].keys() != sides[1].keys():
        return None
    names = list(sides[0])
    table = np.array([[*sides[0][name][:2], *sides[1][name][:2]] for name in names])
    clusters = [sides[0][name][2] for name in names]

    def values(sums: Floats) -> tuple[Floats, Floats]:
        return score.of_ratio(sums[..., 0] / sums[..., 1]), score.of_ratio(sums[..., 2] / sums[..., 3])

    found = [float(value) for value in values(table.sum(axis=0))]
    reported = [side.value(metric) for side in (first, second)]
    if not np.allclose(found, reported, rtol=1e-4, atol=1e-6):
        return None

    def difference(sums: Floats) -> Floats:
        one, other = values(sums)
        return np.asarray(other - one)

    estimate = bootstrap_sums(table, difference, seed=seed, clusters=clusters)
    by_cluster: dict[Hashable, float] = {}
    for cluster, change in zip(clusters, table[:, 2] - table[:, 0], strict=True):
        by_cluster[cluster] = by_cluster.get(cluster, 0.0) + float(change)
    return estimate, sign_flip_p_value(list(by_cluster.values()), seed=seed)


def _terms(path: Path | None, score: _Score) -> dict[Hashable, tuple[float, float, str]]:
    """Return numerator, denominator and cluster of each item that counts; nothing where the table cannot be read."""
    if path is None:
        return {}
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        found: dict[Hashable, tuple[float, float, str]] = {}
        for row in rows:
            terms = score.terms(row)
            if terms is not None:
                found[tuple(row[name] for name in score.item)] = (*terms, row[score.cluster])
    except (OSError, ValueError, KeyError, csv.Error):
        return {}
    return found


def _score(metric: str) -> _Score | None:
    benchmark, _, what = metric.partition("/")
    if benchmark == "heldout_templates" and what in _HELDOUT:
        return _Score(_HELDOUT[what], ("target", "words", "template"), "target")
    if benchmark == "perplexity" and what in ("perplexity", "pseudo_perplexity"):
        terms: Callable[[Row], tuple[float, float]] = lambda row: (-float(row["log_likelihood"]), float(row["tokens"]))  # noqa: E731
        return _Score(terms, ("item",), "item", lambda ratio: np.asarray(np.exp(ratio)))
    if benchmark == "crows_pairs" and what.endswith("/score"):
        group = what.removesuffix("/score")
        return _Score(lambda row: _preferred(row, group), ("item",), "item")
    return None


def _log_odds(kind: str, *, pronouns: bool) -> Callable[[Row], tuple[float, float] | None]:
    def terms(row: Row) -> tuple[float, float] | None:
        counts = row["kind"] == kind and (row["words"] == "he/she") == pronouns
        return (abs(float(row["score"])), 1.0) if counts else None

    return terms


_HELDOUT = {
    "mean_abs_log_odds": _log_odds("occupation", pronouns=True),
    "traits": _log_odds("trait", pronouns=True),
    "activities": _log_odds("activity", pronouns=True),
    "attribute_words": _log_odds("occupation", pronouns=False),
}


def _preferred(row: Row, group: str) -> tuple[float, float] | None:
    counts = group in ("overall", row["bias_type"]) and not math.isnan(float(row["preferred"]))
    return (100.0 * float(row["preferred"]), 1.0) if counts else None
