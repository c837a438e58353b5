"""Evaluate: one pre-trained language model on one benchmark, by its published protocol (docs/methods.md, section 9)."""

import json
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
    scores = cell.stage("scores", compute)
    measured = read_measures(scores)
    outcome = json.loads((scores.folder / OUTCOME_FILE).read_text())
    for line in [*outcome["notes"], *(f"skipped: {item['item']}: {item['reason']}" for item in outcome["skipped"])]:
        console.say(line)
    tracker.use_model(configuration.plm.path)
    tracker.log_scores(measured, _rows(scores.folder / ITEMS_FILE), outcome["skipped"])
    cell.write_results({None: measured})
    tracker.finish("complete", json.loads((cell.folder / "result.json").read_text()))


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read the per-item table back; what is no number stays text, and an empty field is empty."""
    import pandas as pd

    try:
        table = pd.read_csv(path, keep_default_na=False, dtype={"item": str})
    except pd.errors.EmptyDataError:  # every item was skipped
        return []
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
