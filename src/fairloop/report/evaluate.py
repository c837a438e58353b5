"""The study evaluate: scores of evaluated models, and published ones of the same model beside them."""

import json
from collections.abc import Sequence

from fairloop.benchmarks.published import PublishedScore, published_for, published_of
from fairloop.catalogue import catalogue
from fairloop.report.read import Cell
from fairloop.report.table import Table, measured, note_below

OUTCOME_FILE = "outcome.json"
"""Where a cell keeps the protocol that its scores follow."""


def benchmark_table(cells: Sequence[Cell]) -> Table | None:
    """Return the scores of the finished cells of the study evaluate, published ones of the same model beside them.

    A published score stands beside a measured one only if model, measure, protocol and split are the same; a line below
    says what else was published of these models.
    """
    rows: list[tuple[str, ...]] = []
    sources: dict[str, None] = {}
    others: dict[str, None] = {}
    for cell in cells:
        if cell.study != "evaluate":
            continue
        plm = cell.config.get("plm") or {}
        path, name = str(plm.get("path", "")), str(plm.get("name", "unnamed model"))
        protocol = protocol_of(cell)
        published = published_for(path, name, protocol)
        summary = catalogue().summary(cell.metrics)
        for (metric, _), one in cell.measures.items():
            figure = published.get(metric)
            if figure is None and metric not in summary:
                continue
            if figure is not None:
                sources[f"{figure.model}: {figure.source}"] = None
            score = measured(metric, one, 2)
            rows.append((f"{name}, {protocol}, seed {cell.seed}", metric, score, _figure(figure)))
        others |= dict.fromkeys(_not_comparable(cell, path, name, protocol))
    if not rows:
        return None
    note = f"95% intervals over items.{note_below(rows, [row[1] for row in rows])}"
    note += f" Published: {'; '.join(sources)}." if sources else ""
    note += f" Not comparable with published figures: {'; '.join(others)}." if others else ""
    return Table("Benchmarks", ("model and protocol", "measure", "score", "published"), tuple(rows), 2, note)


def protocol_of(cell: Cell) -> str:
    """Return the protocol, with its split, that a cell's scores follow; of an old cell what its settings call it."""
    for path in sorted((cell.folder / "stages").glob(f"*-scores/{OUTCOME_FILE}")):
        try:
            outcome = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(outcome, dict) and isinstance(outcome.get("protocol"), str):
            return str(outcome["protocol"])
    benchmark = cell.config.get("benchmark") or {}
    return str(benchmark.get("protocol") or benchmark.get("name", ""))


def _not_comparable(cell: Cell, path: str, name: str, protocol: str) -> list[str]:
    """Say what of a cell's scores is not what was published under a similar name."""
    said = []
    for metric in cell.metrics:
        family, group, *_ = [*metric.split("/"), ""]
        if group == "meade2022_overall":
            said.append(f"{family}/overall (all types; the published overall is {family}/{group})")
    families = {metric.partition("/")[0] for metric in cell.metrics}
    of_others = {
        one.protocol: f"{name}, {protocol} (published: {one.protocol})"
        for one in published_of(path, name)
        if one.protocol != protocol and one.metric.partition("/")[0] in families
    }
    return [*said, *of_others.values()]


def _figure(published: PublishedScore | None) -> str:
    return f"{published.value:g}" if published else "–"
