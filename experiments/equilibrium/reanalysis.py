"""Analyse the committed corpora's measures again, with the rules that the code has now.

    python experiments/equilibrium/reanalysis.py

reads `cells.csv` and `long_recursion_cells.csv` beside it and writes `*_reanalysed.csv`, and the figures that showed
resting levels. The measures, and the interval of each, are those of the code that wrote the corpora; verdicts, relative
changes and correlations over cells are new.
"""

import csv
from collections import defaultdict
from pathlib import Path

from fairloop.files import write_bytes, write_text
from fairloop.report.read import Cell
from fairloop.report.recursion.conditions import conditions
from fairloop.report.recursion.export import changes_csv, correlations_csv, equilibrium_csv, reductions_csv
from fairloop.report.recursion.strategies import comparisons
from fairloop.report.recursion.strategy_figures import strategy_figures
from fairloop.report.recursion.trajectories import trajectories_figure
from fairloop.statistics.estimate import Estimate

HERE = Path(__file__).parent


def read_cells(path: Path) -> list[Cell]:
    """Return the cells of a `cells.csv`, with as much of their configuration as it tells."""
    rows = defaultdict(list)
    with path.open(newline="") as stream:
        for row in csv.DictReader(stream):
            rows[row["cell"]].append(row)
    return [_cell(name, found) for name, found in rows.items()]


def _cell(name: str, rows: list[dict[str, str]]) -> Cell:
    first, measures = rows[0], {}
    for row in rows:
        value, low, high = (float(row[key] or "nan") for key in ("value", "low", "high"))
        generation = int(row["generation"]) if row["generation"] else None
        measures[row["metric"], generation] = Estimate(value, low, high, int(row["n"] or 0))
    strategies = {} if first["mitigation"] == "none" else {one: {} for one in first["mitigation"].split("+")}
    config = {
        "study": {"name": first["study"], "generations": max(int(row["generation"] or 0) for row in rows)},
        "model": {"name": first["model"]},
        "initial_bias": {"level": float(first["level"])},
        "mitigation": strategies,
        "seed": int(first["seed"]),
    }
    return Cell(Path(name), first["study"], config, measures)


def tables() -> dict[str, str]:
    """Return the tables by the names of their files."""
    found, longer = (conditions(read_cells(HERE / name)) for name in ("cells.csv", "long_recursion_cells.csv"))
    return {
        "equilibrium_reanalysed.csv": equilibrium_csv(found),
        "relative_change_reanalysed.csv": changes_csv(found),
        "correlations_reanalysed.csv": correlations_csv(comparisons(found)),
        "reductions_reanalysed.csv": reductions_csv(comparisons(found)),
        "long_recursion_reanalysed.csv": equilibrium_csv(longer),
    }


def main() -> None:
    """Write the tables, and draw the figures."""
    for name, text in tables().items():
        write_text(HERE / name, text)
    (comparison,) = comparisons(conditions(read_cells(HERE / "cells.csv")))
    drawings = {one.name: one.drawing for one in strategy_figures(comparison)}
    drawings = {name: drawings[name] for name in ("trajectories", "decomposition")}
    drawings["long_recursion"] = trajectories_figure(conditions(read_cells(HERE / "long_recursion_cells.csv")))
    for name, drawing in drawings.items():
        write_bytes(HERE / f"{name}.png", drawing.png)
        write_bytes(HERE / f"{name}.svg", drawing.svg)


if __name__ == "__main__":
    main()
