"""The report's numbers as tidy CSV: one thing per line, numbers in full, always in the same bytes."""

import csv
import io
import math
from collections.abc import Iterable, Sequence

from fairloop.measures.remarks import remark
from fairloop.report.read import Cell
from fairloop.statistics.estimate import Estimate

CELL = ["study", "cell", "model", "mitigation", "level", "seed", "generation"]
"""The columns that name a line of a cell."""


def cells_csv(cells: Iterable[Cell]) -> str:
    """Return every measure of every cell, one line per cell, generation and metric."""
    header = [*CELL, "metric", "value", "low", "high", "n", "units", "remark"]
    lines = (
        [*identity, "" if generation is None else str(generation), metric, *_fields(metric, one)]
        for cell in cells
        for identity in [identity_fields(cell)]
        for (metric, generation), one in cell.measures.items()
    )
    return csv_text(header, lines)


def csv_text(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table as CSV."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return stream.getvalue()


def csv_field(value: float) -> str:
    """Return a number so that reading gives the same float; an undefined one as an empty field."""
    return (
        "" if math.isnan(value) else (f"{value:.0f}" if math.isfinite(value) and value == int(value) else repr(value))
    )


def identity_fields(cell: Cell) -> list[str]:
    """Return what names a cell, in the order of the first six columns of `CELL`."""
    return [cell.study, cell.name, cell.subject, cell.mitigation, csv_field(cell.level), cell.seed]


def estimate_fields(estimate: Estimate) -> list[str]:
    """Return value and interval."""
    return [csv_field(float(value)) for value in (estimate.value, estimate.low, estimate.high)]


def _fields(metric: str, one: Estimate) -> list[str]:
    units = "" if one.units is None else str(one.units)
    return [*estimate_fields(one), str(one.n), units, remark(metric, one)]
