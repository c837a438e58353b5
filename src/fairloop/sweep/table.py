"""The table of a sweep's cells: what was chosen for each, what became of it, its first numbers, its seconds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairloop.catalogue import catalogue
from fairloop.report.table import Table, amount, measured
from fairloop.sweep.estimate import duration, stage_seconds
from fairloop.sweep.jobs import Job
from fairloop.tracking.results import measurements_of
from fairloop.tracking.store import Status
from fairloop.words import counted

MOST_METRICS = 4
MOST_ROWS = 200
"""Complete cells beyond this number are counted, not listed; cells that are not complete always stand in the table."""


def print_cells(jobs: Sequence[Job], statuses: Sequence[Status], console: Any) -> None:
    """Print the table of all cells.

    Args:
        jobs: the cells of the sweep.
        statuses: the status of each now.
        console: where to print: a rich Console.
    """
    from fairloop.report.terminal import print_table  # brings scipy.stats, which takes a second

    pairs = list(zip(jobs, statuses, strict=True))
    unfinished = [pair for pair in pairs if pair[1].state != "complete"]
    complete = [pair for pair in pairs if pair[1].state == "complete"]
    shown = [*complete[: max(0, MOST_ROWS - len(unfinished))], *unfinished]
    results = {job.cell.folder: headline(job.cell.folder) for job, status in shown if status.state == "complete"}
    metrics = list(dict.fromkeys(name for found in results.values() for name in found))[:MOST_METRICS]
    choices = varied_choices(jobs)
    rows = []
    for job, status in shown:
        chosen = _choices(job)
        numbers = [_number(name, results.get(job.cell.folder, {}).get(name)) for name in metrics]
        seconds = sum(stage_seconds(job.cell.folder).values())
        labels = [*(chosen.get(name, "") for name in choices), status.in_words]
        rows.append((*labels, *numbers, duration(seconds) if seconds else "", job.cell.key))
    columns = (*choices, "status", *map(in_words, metrics), "time", "cell")
    print_table(Table("Cells", columns, tuple(rows), len(choices) + 1), console)
    if len(shown) < len(pairs):
        console.print(f"and {counted(len(pairs) - len(shown), 'more complete cell')}", markup=False)


def in_words(metric: str) -> str:
    """Return a measure in few words, with the generation that it is of: `net rate B, gen 3`."""
    name, _, generation = metric.partition("@")
    return f"{catalogue().label(name)}, gen {generation}" if generation else catalogue().label(name)


def headline_in_words(folder: Path) -> str:
    """Return the first number that sums a finished cell up, with its interval; empty if it cannot be read."""
    metric = next(iter(headline(folder)), "")
    name, _, generation = metric.partition("@")
    try:
        results = measurements_of((folder / "metrics.csv").read_text("utf-8"))
        found = results[int(generation) if generation else None]
        estimate = next(one.estimate for one in found if one.metric == name)
    except (OSError, ValueError, KeyError, StopIteration):
        return ""
    return f"{in_words(metric)} {measured(name, estimate)}"


def varied_choices(jobs: Sequence[Job]) -> list[str]:
    """Return the keys of the overrides that are not the same for all cells, in the order of the command line."""
    values: dict[str, set[str]] = {}
    for job in jobs:
        for key, value in _choices(job).items():
            values.setdefault(key, set()).add(value)
    return [key for key, found in values.items() if len(found) > 1]


def headline(folder: Path) -> dict[str, float | None]:
    """Return the numbers that sum a finished cell up, by name; empty if they cannot be read."""
    try:
        result = json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError):
        return {}
    generations = [int(name.rsplit("@", 1)[1]) for name in result if name.rsplit("@", 1)[-1].isdecimal()]
    last = f"@{max(generations)}" if generations else ""
    return {name: result[name] for name in catalogue().summary(n for n in result if n.endswith(last))[:MOST_METRICS]}


def _choices(job: Job) -> dict[str, str]:
    return {key.lstrip("+~"): value for key, _, value in (line.partition("=") for line in job.overrides)}


def _number(metric: str, value: float | None) -> str:
    return "" if value is None else amount(metric, value) if abs(value) < 1000 else f"{value:.4g}"
