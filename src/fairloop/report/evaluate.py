"""The study evaluate: scores of evaluated models, and published ones of the same model beside them."""

from collections.abc import Sequence

from fairloop.benchmarks.published import PublishedScore, published_for
from fairloop.catalogue import catalogue
from fairloop.report.read import Cell
from fairloop.report.table import Table, with_interval


def benchmark_table(cells: Sequence[Cell]) -> Table | None:
    """Return the scores of the finished cells of the study evaluate, published ones of the same model beside them."""
    rows: list[tuple[str, ...]] = []
    sources: dict[str, None] = {}
    for cell in cells:
        if cell.study != "evaluate":
            continue
        plm, benchmark = (cell.config.get(group) or {} for group in ("plm", "benchmark"))
        name = str(plm.get("name", "unnamed model"))
        published = published_for(str(plm.get("path", "")), name, benchmark)
        protocol = str(benchmark.get("protocol") or benchmark.get("name", ""))
        summary = catalogue().summary(cell.metrics)
        for (metric, _), one in cell.measures.items():
            figure = published.get(metric)
            if figure is None and metric not in summary:
                continue
            if figure is not None:
                sources[f"{figure.model}: {figure.source}"] = None
            score = with_interval(one.value, one.low, one.high, 2)
            rows.append((f"{name}, {protocol}, seed {cell.seed}", metric, score, _figure(figure)))
    if not rows:
        return None
    note = "95% intervals over items." + (f" Published: {'; '.join(sources)}." if sources else "")
    return Table("Benchmarks", ("model and protocol", "measure", "score", "published"), tuple(rows), 2, note)


def _figure(published: PublishedScore | None) -> str:
    return f"{published.value:g}" if published else "–"
