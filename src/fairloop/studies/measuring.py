"""Measure a pre-trained language model (PLM) on a benchmark: one way for every study."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairloop.files import write_json, write_text
from fairloop.studies.measures import write_measures
from fairloop.studies.script import Script

if TYPE_CHECKING:
    from fairloop.benchmarks.settings import BenchmarkSettings
    from fairloop.plm.settings import PlmSettings, ServedPlmSettings

ITEMS_FILE = "items.csv"
OUTCOME_FILE = "outcome.json"


def measure_plm(
    script: Script, plm: "PlmSettings | ServedPlmSettings", benchmark: "BenchmarkSettings", what: str, folder: Path
) -> dict[str, Any]:
    """Keep the measures of a PLM, the per-item table and what was skipped as a stage's outputs; return its notes.

    A measurement that was killed goes on with the scores and the trainings that it had.

    Args:
        script: the cell at work on this stage; its seed and its trainer count.
        plm: the model.
        benchmark: the benchmark with its protocol and data.
        what: what the progress bar says.
        folder: where the stage's outputs go.

    Raises:
        UserError: the benchmark cannot measure this kind of model.
        Fault: data that is damaged or not to be had, or a score that is not a number.
    """
    from fairloop.benchmarks.registry import measure
    from fairloop.plm.memory import FolderMemory
    from fairloop.plm.model import LanguageModel
    from fairloop.plm.served import ServedModel
    from fairloop.plm.settings import ServedPlmSettings

    model = ServedModel(plm) if isinstance(plm, ServedPlmSettings) else LanguageModel.load(plm)
    with script.training(what, folder) as training:
        result = measure(
            model,
            benchmark,
            seed=training.seed,
            on_progress=training.on_progress,
            memory=FolderMemory(training.work),
            scratch=training.work,
            trainer=training.trainer,
            on_logged=training.on_logged,
        )
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
