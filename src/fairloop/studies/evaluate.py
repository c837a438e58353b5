"""Evaluate: one pre-trained language model on one benchmark, by its published protocol (docs/methods.md, section 9)."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop import console
from fairloop.config import Configuration
from fairloop.files import write_json, write_text
from fairloop.studies.measures import read_measures, write_measures
from fairloop.tracking.curves import Curves
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker

if TYPE_CHECKING:
    from fairloop.benchmarks.result import BenchmarkResult

ITEMS_FILE = "items.csv"
OUTCOME_FILE = "outcome.json"


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
    scores = cell.stage("scores", lambda folder: _measure(configuration, cell, tracker, folder))
    measured = read_measures(scores)
    outcome = json.loads((scores.folder / OUTCOME_FILE).read_text())
    for line in [*outcome["notes"], *(f"skipped: {item['item']}: {item['reason']}" for item in outcome["skipped"])]:
        console.say(line)
    tracker.use_model(configuration.plm.path)
    tracker.log_scores(measured, _rows(scores.folder / ITEMS_FILE), outcome["skipped"])
    cell.write_results({None: measured})
    tracker.finish("complete", json.loads((cell.folder / "result.json").read_text()))


def _measure(configuration: Configuration, cell: Cell, tracker: Tracker, folder: Path) -> dict[str, Any]:
    from fairloop.benchmarks.registry import measure
    from fairloop.plm.memory import FolderMemory
    from fairloop.plm.model import LanguageModel

    plm, benchmark = configuration.plm, configuration.benchmark
    model = LanguageModel.load(plm)
    curves = Curves(cell.scratch(), tracker.log_curve)
    with console.progress(f"{benchmark.name} of {plm.name}") as on_progress:
        result = measure(
            model,
            benchmark,
            seed=configuration.seed,
            on_progress=on_progress,
            memory=FolderMemory(cell.scratch()),
            scratch=cell.scratch(),
            trainer=configuration.trainer,
            on_logged=curves,
        )
    curves.keep(folder)
    return write_outcome(result, folder)


def write_outcome(result: "BenchmarkResult", folder: Path) -> dict[str, Any]:
    """Keep a benchmark's measures, its per-item table and what it skipped as a stage's outputs; return its notes."""
    write_measures(result.measurements, folder)
    write_text(folder / ITEMS_FILE, _table(result.items))
    write_json(
        folder / OUTCOME_FILE,
        {
            "benchmark": result.benchmark,
            "protocol": result.protocol,
            "skipped": [asdict(item) for item in result.skipped],
            "notes": list(result.notes),
        },
    )
    return {"items": len(result.items), "skipped": len(result.skipped)}


def _table(items: list[Any]) -> str:
    """Return the per-item table as CSV."""
    import pandas as pd

    return str(pd.DataFrame([asdict(item) for item in items]).to_csv(index=False, lineterminator="\n"))


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read the per-item table back; what is no number stays text, and an empty field is empty."""
    import pandas as pd

    try:
        table = pd.read_csv(path, keep_default_na=False, dtype={"item": str})
    except pd.errors.EmptyDataError:  # every item was skipped
        return []
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
