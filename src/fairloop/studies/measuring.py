"""Measure a pre-trained language model (PLM) on a benchmark: one way for every study."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop import console
from fairloop.config import Configuration
from fairloop.files import write_json, write_text
from fairloop.studies.measures import write_measures
from fairloop.tracking.curves import Curves
from fairloop.tracking.store import Cell
from fairloop.tracking.wandb_run import Tracker

if TYPE_CHECKING:
    from fairloop.benchmarks.settings import BenchmarkSettings
    from fairloop.plm.settings import PlmSettings

ITEMS_FILE = "items.csv"
OUTCOME_FILE = "outcome.json"


def measure_plm(
    plm: "PlmSettings",
    benchmark: "BenchmarkSettings",
    configuration: Configuration,
    cell: Cell,
    tracker: Tracker,
    what: str,
    folder: Path,
) -> dict[str, Any]:
    """Keep the measures of a PLM, the per-item table and what was skipped as a stage's outputs; return its notes.

    A measurement that was killed goes on with the scores and the trainings that it had.

    Args:
        plm: the model.
        benchmark: the benchmark with its protocol and data.
        configuration: of the cell; its seed and its group `trainer` count.
        cell: the cell, whose stage this is.
        tracker: where loss curves are logged, if the benchmark trains.
        what: what the progress bar says.
        folder: where the stage's outputs go.

    Raises:
        UserError: the benchmark cannot measure this kind of model.
        Fault: data that is damaged or not to be had, or a score that is not a number.
    """
    from fairloop.benchmarks.registry import measure
    from fairloop.plm.memory import FolderMemory
    from fairloop.plm.model import LanguageModel

    model, curves = LanguageModel.load(plm), Curves(cell.scratch(), tracker.log_curve)
    with console.progress(what) as on_progress:
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
    write_measures(result.measurements, folder)
    write_text(folder / ITEMS_FILE, _table(result.items))
    outcome = {
        "benchmark": result.benchmark,
        "protocol": result.protocol,
        "skipped": [asdict(item) for item in result.skipped],
        "notes": list(result.notes),
    }
    write_json(folder / OUTCOME_FILE, outcome)
    return {"items": len(result.items), "skipped": len(result.skipped)}


def _table(items: list[Any]) -> str:
    """Return the per-item table as CSV."""
    import pandas as pd

    return str(pd.DataFrame([asdict(item) for item in items]).to_csv(index=False, lineterminator="\n"))
