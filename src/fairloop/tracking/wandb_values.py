"""What W&B keeps of measures, of which way they should move, and of tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fairloop.measures.catalogue import DISTANCE, Catalogue
from fairloop.measures.measurement import Measurement
from fairloop.measures.remarks import MARK, remark, short_note
from fairloop.tracking.results import number

MOST_ROWS = 10_000
"""Rows of a table that W&B shows; the whole table is in the run store."""


def numbers(measurements: Sequence[Measurement], catalogue: Catalogue) -> dict[str, Any]:
    """Return the defined measures as W&B's history keeps them, each under its name.

    A metric with an ideal value also has its distance from it, which a W&B sweep can minimise.
    """
    row: dict[str, Any] = {}
    for measured in measurements:
        value = number(measured.value)
        if value is None:
            continue
        row[measured.metric] = value
        distance = number(catalogue.of(measured.metric).distance(value))
        if distance is not None:
            row[measured.metric + DISTANCE] = distance
    return row


def interval_rows(measurements: Sequence[Measurement], generation: int | None) -> list[dict[str, Any]]:
    """Return one row for each measure: name, generation, value, the ends of its interval, n, and what is to be said.

    The note is the report's: why there is no interval, or that it is known to be too short.
    """
    return [
        {
            "metric": one.metric,
            "generation": generation,
            **{name: number(getattr(one, name)) for name in ("value", "low", "high", "n")},
            "note": note_of(one),
        }
        for one in measurements
    ]


def note_of(one: Measurement) -> str:
    """Return in words what the report's tables say beside a measure; mostly nothing."""
    said = remark(one.metric, one.estimate)
    return short_note([one.metric]) if said == MARK else said


def last_intervals(rows: Sequence[Mapping[str, Any]], catalogue: Catalogue) -> dict[str, Any]:
    """Return intervals of the headline measures, or notes, as last taken: a run's table shows them beside values.

    Args:
        rows: as of `interval_rows`, generations ascending.
        catalogue: what is known of measures.
    """
    last = {row["metric"]: row for row in rows if catalogue.is_headline(row["metric"])}
    ends = {f"{metric}/{end}": row[end] for metric, row in last.items() for end in ("low", "high", "note")}
    return {name: value for name, value in ends.items() if value not in (None, "")}


def goal_of(name: str, catalogue: Catalogue) -> str:
    """Return `minimize` or `maximize` for a logged number; empty if neither is better."""
    if name.endswith(DISTANCE):
        return "minimize" if catalogue.of(name.removesuffix(DISTANCE)).goal == "ideal" else ""
    goal = catalogue.of(name).goal
    return goal if goal in ("minimize", "maximize") else ""


def define(run: Any, name: str, goal: str, step: str | None = None, *, hidden: bool = False) -> None:
    """Tell W&B of a metric: whether less or more of it is better (`goal_of`), its step metric, and if it has no panel.

    The public `define_metric` no longer takes a goal, but the run's record of a metric has it, W&B uploads it and the
    service reads it: this is the call beneath.
    """
    commit = getattr(run, "_metric_callback", None)
    if not goal or commit is None:
        run.define_metric(name, step_metric=step, hidden=hidden)
        return
    from wandb.proto import wandb_internal_pb2 as proto

    record = proto.MetricRecord(name=name)
    record.goal = getattr(proto.MetricRecord, f"GOAL_{goal.upper()}")
    record.options.defined = True
    record.options.hidden = hidden
    if step is not None:
        record.step_metric = step
        record.options.step_sync = True
    commit(record)


def table(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a table; the columns in the order in which they first appear."""
    import wandb

    columns = list(dict.fromkeys(key for row in rows for key in row))
    # An empty field of one item must not decide the type of its column.
    data = [[row.get(column) for column in columns] for row in rows]
    return wandb.Table(columns=columns, data=data, allow_mixed_types=True)


def csv_table(path: Path) -> Any:
    """Return a CSV file as a table: a column whose every field is a number or empty is one of numbers."""
    import csv
    import io

    import wandb

    header, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline="\n"))
    columns = [_typed(column) for column in zip(*rows[:MOST_ROWS], strict=True)]
    return wandb.Table(columns=header, data=[list(row) for row in zip(*columns, strict=True)])


def _typed(column: Sequence[str]) -> list[Any]:
    try:
        return [number(float(field)) if field else None for field in column]
    except ValueError:
        return list(column)
