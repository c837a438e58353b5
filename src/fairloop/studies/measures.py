"""Measurements as the output of a stage."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fairloop.files import write_json
from fairloop.measures.measurement import Measurement
from fairloop.tracking.results import number
from fairloop.tracking.stages import Stage

MEASURES_FILE = "measures.json"


def write_measures(measured: Sequence[Measurement], folder: Path) -> None:
    """Keep measurements as a stage's output; an undefined value is null."""
    write_json(
        folder / MEASURES_FILE,
        [{**asdict(one), "value": number(one.value)} for one in measured],
    )


def read_measures(stage: Stage) -> list[Measurement]:
    """Return what `write_measures` kept."""
    rows = json.loads((stage.folder / MEASURES_FILE).read_text())
    return [Measurement(**{**row, "value": math.nan if row["value"] is None else row["value"]}) for row in rows]
