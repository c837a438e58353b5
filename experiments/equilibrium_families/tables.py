"""Print the table of this folder's README from cells.csv, and write the sentences of each generation from a run store.

    python experiments/equilibrium_families/tables.py                  the table
    python experiments/equilibrium_families/tables.py RUNS …           sentences.csv as well, from these run stores

sentences.csv has twenty sentences of every generation of one cell of each family (level 0.3, no mitigation, the lowest
seed there is), drawn at random with a fixed seed: a reader sees what the measures are measures of.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fairloop.corpus.table import load_corpus
from fairloop.report.read import read_runs
from fairloop.seeding import random_generator

HERE = Path(__file__).parent
FAMILIES = {
    "gemma_3_270m": "Gemma 3 270M",
    "smollm2_135m_instruct": "SmolLM2 135M Instruct",
    "qwen_2_5_coder_0_5b_instruct": "Qwen2.5-Coder 0.5B Instruct",
}
SHARE, RATE, YIELD = "rule/gendered_share", "rule/net_stereotype_rate", "generation/yield"
SHOWN = 20


def rows() -> Iterator[str]:
    """Give the lines of the table: a cell each, at generations 0, 1 and the last."""
    with (HERE / "cells.csv").open(encoding="utf-8", newline="") as file:
        measured = list(csv.DictReader(file))
    found: dict[tuple[str, str, str, str], dict[tuple[str, int], dict[str, str]]] = {}
    for row in measured:
        cell = (row["model"], row["mitigation"], row["level"], row["seed"])
        found.setdefault(cell, {})[row["metric"], int(row["generation"])] = row
    families, strategies = list(FAMILIES), ["none", "augment", "prompt", "contrastive"]
    for cell in sorted(found, key=lambda one: (families.index(one[0]), strategies.index(one[1]), one[2:])):
        model, mitigation, level, seed = cell
        last = max(generation for _, generation in found[cell])
        yields = " → ".join(f"{float(found[cell][YIELD, at]['value']):.2f}" for at in (1, last))
        line = [
            f"{FAMILIES[model]}, {mitigation}",
            level,
            seed,
            course(found[cell], SHARE, last),
            course(found[cell], RATE, last),
            yields,
        ]
        yield f"| {' | '.join(line)} |"


def course(cell: dict[tuple[str, int], dict[str, str]], metric: str, last: int) -> str:
    """Return a measure at generations 0, 1 and the last, whose interval follows."""
    values = " → ".join(f"{float(cell[metric, at]['value']):.2f}" for at in (0, 1, last))
    ends = ", ".join(f"{float(cell[metric, last][end]):.2f}" for end in ("low", "high"))
    return f"{values} [{ends}]"


def sentences(stores: Sequence[Path]) -> None:
    """Write sentences.csv."""
    cells = [cell for store in stores for cell in read_runs(store).cells if cell.study == "recursion"]
    chosen = {
        str(cell.config["model"]["name"]): cell
        for cell in sorted(cells, key=lambda one: -int(one.seed))
        if not cell.config["mitigation"] and cell.config["initial_bias"]["level"] == 0.3
    }
    with (HERE / "sentences.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("model", "seed", "generation", "occupation", "gender", "stereotype", "text"))
        for model in (name for name in FAMILIES if name in chosen):
            cell = chosen[model]
            for path in sorted(cell.folder.glob("stages/*/corpus.parquet")):
                corpus = list(load_corpus(path))
                generation = int(corpus[0]["generation"])
                draw = random_generator(0, "sentences", model, generation)
                for place in sorted(draw.permutation(len(corpus))[:SHOWN].tolist()):
                    row = corpus[place]
                    shown = (row[name] for name in ("occupation", "gender", "stereotype", "text"))
                    writer.writerow((model, cell.seed, generation, *shown))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sentences([Path(store) for store in sys.argv[1:]])
    print("| family, mitigation | level | seed | S: 0 → 1 → 6 | B: 0 → 1 → 6 | yield: 1 → 6 |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(rows()))
