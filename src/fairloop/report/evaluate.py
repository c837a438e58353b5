"""The study evaluate: scores of evaluated models, and published ones of the same model beside them."""

from collections.abc import Sequence

from fairloop.benchmarks.published import PublishedScore, published_for
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
        for row in cell.rows:
            figure = published.get(row.metric)
            if figure is None and not is_headline(row.metric):
                continue
            if figure is not None:
                sources[f"{figure.model}: {figure.source}"] = None
            score = with_interval(row.value, row.low, row.high, 2)
            rows.append((f"{name}, {protocol}, seed {cell.seed}", row.metric, score, _figure(figure)))
    if not rows:
        return None
    note = "95% intervals over items." + (f" Published: {'; '.join(sources)}." if sources else "")
    return Table("Benchmarks", ("model and protocol", "measure", "score", "published"), tuple(rows), 2, note)


def _figure(published: PublishedScore | None) -> str:
    return f"{published.value:g}" if published else "–"


def is_headline(metric: str) -> bool:
    """Say whether a measure sums up a benchmark; every other one stands in the CSV file."""
    overall = "/overall/" in metric and metric.endswith(("/score", "/lms", "/ss", "/icat"))
    return overall or metric.count("/") == 1
