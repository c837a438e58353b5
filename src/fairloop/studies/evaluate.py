"""Evaluate: one pre-trained language model on one benchmark, by its published protocol (docs/methods.md, section 9)."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fairloop import console
from fairloop.config import Configuration
from fairloop.studies.measures import read_measures
from fairloop.studies.measuring import ITEMS_FILE, OUTCOME_FILE, measure_plm
from fairloop.studies.script import Script
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker

MOST_SKIPPED = 3
"""So many items that were not scored are named in the terminal; the cell keeps them all."""


def run(configuration: Configuration, cell: Cell, tracker: Tracker) -> None:
    """Run one cell of the study; a benchmark that was killed goes on with the scores it had.

    Args:
        configuration: the cell's resolved configuration.
        cell: its folder in the run store, held by this process.
        tracker: where the scores are logged.

    Raises:
        UserError: the benchmark cannot measure this kind of model.
        Fault: data that is damaged or not to be had, or a score that is not a number.
    """
    plm, benchmark = configuration.plm, configuration.benchmark
    what = f"{benchmark.name} of {plm.name}"
    compute = partial(measure_plm, Script(configuration, cell, tracker), plm, benchmark, what)
    with console.doing(what):
        scores = cell.stage("scores", compute)
    measured = read_measures(scores)
    outcome = json.loads((scores.folder / OUTCOME_FILE).read_text())
    console.say(f"protocol: {outcome['protocol']}")
    for line in [*outcome["notes"], *skipped_lines(outcome["skipped"], scores.folder / OUTCOME_FILE)]:
        console.say(line)
    tracker.use_model(configuration.plm.path)
    tracker.log_scores(measured, {"items": _rows(scores.folder / ITEMS_FILE), "skipped": outcome["skipped"]})
    cell.write_results({None: measured})


def skipped_lines(skipped: Sequence[Mapping[str, str]], kept: Path) -> list[str]:
    """Return a line for each of the first items that were not scored, and one that says where the others stand."""
    lines = [f"skipped: {item['item']}: {item['reason']}" for item in skipped[:MOST_SKIPPED]]
    more = len(skipped) - len(lines)
    return [*lines, f"skipped: {more} more, in {kept}"] if more else lines


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read the per-item table back; what is no number stays text, and an empty field is empty."""
    import pandas as pd

    try:
        table = pd.read_csv(path, keep_default_na=False, dtype={"item": str})
    except pd.errors.EmptyDataError:  # every item was skipped
        return []
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
