"""Which language model can write pairs? Read the cells of several writers, and make files of pairs to train on.

python experiments/fair_gender/writers.py RUNS

RUNS holds one cell of `study=fair_gender` with `debias.source=llm` for each writer (the commands stand in README.md).
Writes writers.csv beside this script and, under RUNS/pairs, for each writer two files for `debias.swap_file` with the
same number of pairs: the first that the LLM wrote whole, and the first whose counterpart the swapper wrote.
"""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from fairloop.corpus.counterfactual import swap_gender
from fairloop.metrics.diversity import measure_diversity
from fairloop.pairs.pair import PairRow, load_pairs
from fairloop.statistics.intervals import estimate_share

HERE = Path(__file__).parent
COLUMNS = ("writer", "metric", "value", "low", "high", "n")
DIVERSITY = ("distinct_2", "duplicate_share", "mean_length", "compression_ratio")


def main(runs: Path) -> None:
    """Write the table and the files."""
    lines: list[tuple[Any, ...]] = []
    (runs / "pairs").mkdir(exist_ok=True)
    for writer, written, rows in cells(runs):
        lines += [(writer, *line) for line in measured(written, rows)]
        whole = [row for row in rows if not row.replaced]
        swapped = [row for row in rows if row.replaced]
        count = min(len(whole), len(swapped))
        for name, chosen in (("whole", whole[:count]), ("swapped", swapped[:count])):
            write_pairs(runs / "pairs" / f"{writer}-{name}.csv", chosen)
        print(f"{writer}: {len(whole)} of {len(rows)} counterparts hold; files of {count} pairs")
    with (HERE / "writers.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *lines])


def cells(runs: Path) -> Iterator[tuple[str, dict[str, Any], list[PairRow]]]:
    """Give the writer of each cell, how its pairs came about, and the pairs, screened."""
    for folder in sorted(runs.glob("fair_gender/*/stages/01-pairs")):
        cell = folder.parents[1]
        configuration = yaml.safe_load((cell / "config.yaml").read_text(encoding="utf-8"))
        if configuration["debias"]["source"] != "llm":
            continue
        rows = load_pairs(cell / "stages" / "02-screening" / "pairs.parquet")
        written = json.loads((folder / "writing.json").read_text(encoding="utf-8"))
        yield configuration["model"]["name"], written, rows


def measured(written: dict[str, Any], rows: Sequence[PairRow]) -> Iterator[tuple[Any, ...]]:
    """Give what the table has of one writer: (metric, value, low, high, n); intervals over pairs."""
    yield "answers to the first prompt", written["asked"], "", "", ""
    shares = {
        "usable answers to the first prompt": [1.0] * written["pairs"] + [0.0] * (written["asked"] - written["pairs"]),
        "counterparts that hold": [float(not row.replaced) for row in rows],
        "of these, equal to the swapped sentence": [
            float(row.pair.female == swap_gender(row.pair.male) or row.pair.male == swap_gender(row.pair.female))
            for row in rows
            if not row.replaced
        ],
        "pairs that pass the screening": [float(not row.dropped) for row in rows],
    }
    for name, hits in shares.items():
        if hits:
            one = estimate_share(hits)
            yield name, one.value, one.low, one.high, one.n
    for one in measure_diversity([row.pair.male for row in rows]):
        name = one.metric.removeprefix("diversity/")
        if name in DIVERSITY:
            yield name, one.value, one.low, one.high, one.n


def write_pairs(path: Path, rows: Sequence[PairRow]) -> None:
    """Write pairs as `debias.swap_file` takes them: a sentence, and its counterpart as it is to be."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("text", "target", "target_kind", "counterpart"))
        for row in rows:
            writer.writerow((row.pair.male, row.pair.target, row.pair.target_kind, row.pair.female))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
