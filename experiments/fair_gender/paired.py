"""What changed between two models that `study=evaluate` measured on the same items, with paired intervals.

    python experiments/fair_gender/paired.py BEFORE AFTER

BEFORE and AFTER are folders of cells, both of StereoSet or both of CrowS-Pairs. The intervals (95%, percentile
bootstrap) resample what the published scores average over: StereoSet's target terms, CrowS-Pairs' pairs.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from fairloop.benchmarks.stereoset import StereoResult, term_scores
from fairloop.statistics.bootstrap import bootstrap_sums
from fairloop.statistics.estimate import Estimate

RESAMPLES = 5000
Row = dict[str, str]
Score = Callable[[np.ndarray], np.ndarray]
SCORES: dict[str, Score] = {
    "lms": lambda means: means[..., 0],
    "ss": lambda means: means[..., 1],
    "icat": lambda means: means[..., 0] * np.minimum(means[..., 1], 100 - means[..., 1]) / 50,
}


def read_items(cell: Path) -> list[Row]:
    """Return the table of items of a cell's folder; empty if there is none."""
    tables = sorted(cell.glob("stages/*/items.csv"))
    if not tables:
        return []
    with tables[-1].open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def change(before: np.ndarray, after: np.ndarray, score: Score) -> Estimate:
    """Return score(mean of after) − score(mean of before) of paired rows [n, k], with its interval."""
    width = before.shape[1]

    def difference(sums: np.ndarray) -> np.ndarray:
        means = sums / sums[..., -1:]
        return np.asarray(score(means[..., width : 2 * width]) - score(means[..., :width]))

    return bootstrap_sums(
        np.hstack([before, after, np.ones((len(before), 1))]), difference, seed=0, resamples=RESAMPLES
    )


def stereoset(before: Sequence[Row], after: Sequence[Row]) -> dict[str, Estimate]:
    """Return the changes of LMS, SS and ICAT, by task and bias type."""
    found = {}
    for task in dict.fromkeys(row["task"] for row in before):
        for group in ("gender", "overall"):
            chosen = [
                place
                for place, row in enumerate(before)
                if row["task"] == task and group in ("overall", row["bias_type"])
            ]
            scores = [term_scores([_result(rows[place]) for place in chosen]) for rows in (before, after)]
            for name, score in SCORES.items():
                found[f"{task} {group} {name}"] = change(*scores, score)
    return found


def _result(row: Row) -> StereoResult:
    texts = [row[field.name] for field in fields(StereoResult)[:5]]
    return StereoResult(*texts, float(row["stereotype"]), float(row["anti_stereotype"]), float(row["unrelated"]))


def crows_pairs(before: Sequence[Row], after: Sequence[Row]) -> dict[str, Estimate]:
    """Return the changes of the share of pairs, in per cent, of which the stereotypical sentence is preferred."""
    found = {}
    for group in ("gender", "overall"):
        chosen = [place for place, row in enumerate(before) if group in ("overall", row["bias_type"])]
        shares = [np.array([[100 * float(rows[place]["preferred"])] for place in chosen]) for rows in (before, after)]
        found[f"{group} score"] = change(*shares, lambda means: means[..., 0])
    return found


def main() -> None:
    """Print a line for each score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", metavar="BEFORE", type=Path)
    parser.add_argument("after", metavar="AFTER", type=Path)
    options = parser.parse_args()
    before, after = read_items(options.before), read_items(options.after)
    same = [[(row.get("task"), row["item"]) for row in rows] for rows in (before, after)]
    if not before or same[0] != same[1] or not {"unrelated", "preferred"} & before[0].keys():
        parser.error("not two finished cells of study=evaluate with the same items of StereoSet or CrowS-Pairs")
    changes = stereoset(before, after) if "unrelated" in before[0] else crows_pairs(before, after)
    for name, found in changes.items():
        print(f"{name}: {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]")


if __name__ == "__main__":
    main()
