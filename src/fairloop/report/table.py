"""The report's tables: built once as plain text cells, shown in the terminal, in the page and as CSV."""

import csv
import io
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from fairloop.benchmarks.published import PublishedScore, published_for
from fairloop.report.compare import FACTORS, MITIGATED, Condition, Settling, level_mean, verdict_in_words
from fairloop.report.read import Cell, Measure, Runs
from fairloop.statistics.estimate import Estimate

MOST_CELLS = 12
"""Up to this many cells in all the terminal shows each; above, the means of each level."""

RULE = {
    "rule/net_stereotype_rate": "net rate B",
    "rule/gendered_share": "gendered share",
    "rule/net_rate_among_gendered": "net among gendered",
    "rule/male_share": "male",
}
OTHERS = {
    "embedding/effect_size": "WEAT d",
    "downstream/bias": "downstream bias",
    "downstream/accuracy": "accuracy",
    "diversity/distinct_2": "distinct-2",
    "generation/yield": "yield",
}
_WITHOUT_INTERVAL = {"rule/male_share", "downstream/accuracy", "diversity/distinct_2", "generation/yield"}


@dataclass(frozen=True)
class Table:
    """A table of finished text. The first `labels` columns name a row, the others hold numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int
    note: str = ""


def number(value: float, digits: int = 3) -> str:
    """Return a number with fixed digits; an undefined one as a dash, an infinite one as ±∞."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """Return `0.120 [0.10, 0.14]`; the value alone where it has no interval."""
    if math.isnan(low) or math.isnan(high):
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, digits - 1)}, {number(high, digits - 1)}]"


def percent_change(change: Estimate) -> str:
    """Return `+36% [+20, +52]`; the value alone where it has no interval."""
    if math.isnan(change.value):
        return "–"
    if math.isnan(change.low):
        return f"{100 * change.value:+.0f}%"
    low, high = (
        f"{100 * end:+.0f}" if math.isfinite(end) else ("-∞" if end < 0 else "+∞") for end in (change.low, change.high)
    )
    return f"{100 * change.value:+.0f}% [{low}, {high}]"


def metric_tables(condition: Condition, *, single: bool, every_interval: bool = False) -> list[Table]:
    """Return the condition's measures by level, seed and generation: the rule-based ones, then the others.

    `single`: a row for each cell and generation; otherwise the means over the cells of a level. `every_interval`: the
    secondary measures too come with their intervals, for which a terminal is too narrow.
    """
    groups = [(cell.level, cell.seed, [cell]) for cell in condition.cells]
    if not single:
        groups = [(level, f"{len(condition.at(level))} seeds", condition.at(level)) for level in condition.levels]
    tables = []
    for name, metrics in (("Bias and its factors", RULE), ("Further measures", OTHERS)):
        shown = {metric: title for metric, title in metrics.items() if _measured(condition.cells, metric)}
        rows = tuple(_metric_rows(groups, list(shown), () if every_interval else _WITHOUT_INTERVAL))
        if shown and rows:
            title = f"{name}: {condition.label}"
            note = _interval_note(single)
            if any(row[2].endswith("after") for row in rows):
                note += "; after: with the mitigation's change to the corpus"
            tables.append(Table(title, ("level", "seed", "gen", *shown.values()), rows, 3, note))
    return tables


def equilibrium_table(conditions: Sequence[Condition]) -> Table | None:
    """Return B*, slope and verdict of every condition, for B and for its two factors."""
    rows = []
    for condition in conditions:
        for settling in condition.settlings:
            found = settling.equilibrium
            level, slope = (with_interval(one.value, one.low, one.high) for one in (found.level, found.slope))
            if math.isinf(found.level.low):
                level = f"{number(found.level.value)} (unbounded)"
            counts = f"{found.cells} / {found.transitions}"
            rows.append((condition.label, settling.label, level, slope, counts, verdict_in_words(settling)))
    if not rows:
        return None
    note = (
        "B of the next generation = c + rho x B; at rest B* = c / (1 - rho). 95% intervals: wild bootstrap over cells "
        "(over transitions where there are fewer than six cells). Paper (Gemma-2-2b-it): 0.11 to 0.13."
    )
    columns = ("condition", "measure", "resting level B*", "slope rho", "cells / transitions", "verdict")
    return Table("Equilibrium", columns, tuple(rows), 2, note)


def change_table(conditions: Sequence[Condition]) -> Table | None:
    """Return the relative changes from the seed and from generation 1, per initial level."""
    rows = []
    for condition in conditions:
        for settling in condition.settlings:
            later = {change.level: change for change in settling.from_first}
            for change in settling.from_seed:
                first = later.get(change.level)
                rows.append(
                    (
                        condition.label,
                        settling.label,
                        f"{change.level:g}",
                        str(change.until),
                        percent_change(change.change),
                        percent_change(first.change) if first else "–",
                        str(change.change.n),
                    )
                )
    if not rows:
        return None
    columns = ("condition", "measure", "level", "last gen", "since the seed", "since gen 1", "cells")
    note = "Relative change at the last generation; 95% intervals over seeds. Paper: +36% from 0.1, -26% from 0.6."
    return Table("Relative change", columns, tuple(rows), 2, note)


def other_studies(cells: Sequence[Cell]) -> tuple[Table | None, Table | None]:
    """Return the tables of what is not the recursion study: the scores of evaluated models, and all other cells."""
    scores = benchmark_table(cells)
    shown = {"recursion", "evaluate"} if scores else {"recursion"}
    others = [cell for cell in cells if cell.study not in shown]
    return scores, cells_table(others) if others else None


def cells_table(cells: Sequence[Cell]) -> Table:
    """Return the finished cells that no other table shows, with their first numbers."""
    rows = tuple(
        (
            cell.study,
            cell.name,
            cell.seed,
            "; ".join(f"{name} {number(value)}" for name, value in list(cell.result.items())[:6]),
        )
        for cell in cells
    )
    return Table("Cells of other studies", ("study", "cell", "seed", "results"), rows, 4)


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
            if figure is None and not _is_headline(row.metric):
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


def _is_headline(metric: str) -> bool:
    """Say whether a measure sums up a benchmark; every other one stands in the CSV file."""
    overall = "/overall/" in metric and metric.endswith(("/score", "/lms", "/ss", "/icat"))
    return overall or metric.count("/") == 1


def unusable_table(runs: Runs) -> Table | None:
    """Return the cells that were left out, with the reason; None if there are none."""
    rows = tuple((f"{one.folder.parent.name}/{one.folder.name}", one.reason) for one in runs.unusable)
    return Table("Left out", ("cell", "reason"), rows, 2) if rows else None


def print_report(runs: Runs, conditions: Sequence[Condition], console: Console) -> None:
    """Print the tables, and a line on each equilibrium, to the terminal."""
    for condition in conditions:
        for table in metric_tables(condition, single=sum(len(one.cells) for one in conditions) <= MOST_CELLS):
            _print(table, console)
    for heading, lines in equilibrium_lines(conditions):
        console.print(Text(heading, style="bold"))
        for numbers, verdict in lines:
            console.print(Text("  " + numbers))
            console.print(Padding(Text(verdict), (0, 0, 0, 4 + max(map(len, FACTORS.values())))))
        console.print()
    changes = change_table([_only_net_rate(condition) for condition in conditions])
    if changes:
        _print(_one_condition_less(changes), console)
    for extra in (*other_studies(runs.cells), unusable_table(runs)):
        if extra:
            _print(extra, console)


def equilibrium_lines(conditions: Sequence[Condition]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each condition's name with, for each measure, a line of numbers and the verdict in words."""
    width = max(map(len, FACTORS.values()))
    for condition in conditions:
        lines = []
        for settling in condition.settlings:
            found = settling.equilibrium
            at = with_interval(found.level.value, found.level.low, found.level.high)
            if math.isinf(found.level.low):
                at = f"{number(found.level.value)} [unbounded]"
            rho = with_interval(found.slope.value, found.slope.low, found.slope.high)
            lines.append((f"{settling.label:<{width}}  B* {at}  rho {rho}", verdict_in_words(settling)))
        first = condition.settlings[0].equilibrium if condition.settlings else None
        counts = f" ({first.cells} cells, {first.transitions} transitions)" if first else ""
        yield f"Equilibrium: {condition.label}{counts}", lines


def metrics_csv(cells: Iterable[Cell]) -> str:
    """Return every measure of every cell, long form."""
    header = [
        "study",
        "cell",
        "model",
        "mitigation",
        "level",
        "seed",
        "generation",
        "metric",
        "value",
        "low",
        "high",
        "n",
    ]
    return _csv(header, ([*_identity(cell), *_measure(row)] for cell in cells for row in cell.rows))


def trajectories_csv(conditions: Iterable[Condition]) -> str:
    """Return B and its factors by generation: one line per cell and generation, as written and mitigated."""
    metrics = [prefix + metric for prefix in ("", MITIGATED) for metric in FACTORS]
    header = ["study", "cell", "model", "mitigation", "level", "seed", "generation"]
    header += [f"{metric}{end}" for metric in metrics for end in ("", ":low", ":high")]
    lines = (
        [
            *_identity(cell),
            str(generation),
            *(text for metric in metrics for text in _measure(cell.get(metric, generation))[2:5]),
        ]
        for condition in conditions
        for cell in condition.cells
        for generation in cell.generations
    )
    return _csv(header, lines)


def equilibrium_csv(conditions: Iterable[Condition]) -> str:
    """Return the equilibrium estimates, one line per condition and measure."""
    parts = ("level", "slope", "intercept")
    header = ["model", "mitigation", "settings", "metric"]
    header += [f"{part}{end}" for part in parts for end in ("", ":low", ":high")]
    header += ["verdict", "cells", "transitions", "resampled"]
    return _csv(header, (_equilibrium_line(one, settling) for one in conditions for settling in one.settlings))


def changes_csv(conditions: Iterable[Condition]) -> str:
    """Return the relative changes, one line per condition, measure, level and starting generation."""
    header = ["model", "mitigation", "settings", "metric", "level", "since", "until", "change", "low", "high", "cells"]
    lines = (
        [
            *_names(condition),
            settling.metric,
            f"{one.level:g}",
            str(one.since),
            str(one.until),
            *_estimate(one.change),
            str(one.change.n),
        ]
        for condition in conditions
        for settling in condition.settlings
        for one in (*settling.from_seed, *settling.from_first)
    )
    return _csv(header, lines)


def _metric_rows(
    groups: Iterable[tuple[float, str, list[Cell]]], metrics: Sequence[str], brief: Collection[str]
) -> Iterator[tuple[str, ...]]:
    for level, seed, cells in groups:
        generations = sorted({generation for cell in cells for generation in cell.generations})
        for generation in generations:
            for prefix, mark in (("", ""), (MITIGATED, " after")):
                measures = [level_mean(cells, prefix + metric, generation) for metric in metrics]
                if prefix and all(math.isnan(measure.value) for measure in measures):
                    continue
                texts = (
                    _shown(measure, metric not in brief) for measure, metric in zip(measures, metrics, strict=True)
                )
                yield (f"{level:g}", seed, f"{generation}{mark}", *texts)


def _shown(measure: Measure, in_full: bool) -> str:
    if not in_full:
        return number(measure.value, 2)
    return with_interval(measure.value, measure.low, measure.high)


def _measured(cells: Iterable[Cell], metric: str) -> bool:
    return any(
        row.metric in (metric, MITIGATED + metric) and math.isfinite(row.value) for cell in cells for row in cell.rows
    )


def _interval_note(single: bool) -> str:
    return (
        "95% intervals over sentences (by groups that share a prompt's examples)"
        if single
        else "means over cells, 95% intervals over cells (from three)"
    )


def _only_net_rate(condition: Condition) -> Condition:
    kept: tuple[Settling, ...] = condition.settlings[:1]
    return Condition(condition.model, condition.mitigation, condition.settings, condition.cells, kept)


def _one_condition_less(table: Table) -> Table:
    """Drop the columns that say the same in every row: a terminal is narrow."""
    kept = [i for i in range(len(table.columns)) if i >= table.labels or len({row[i] for row in table.rows}) > 1]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    said = ", ".join(table.rows[0][i] for i in range(table.labels) if i not in kept)
    title = f"{table.title}: {said}" if said else table.title
    labels = sum(i < table.labels for i in kept)
    return Table(title, tuple(table.columns[i] for i in kept), rows, labels, table.note)


def _print(table: Table, console: Console) -> None:
    grid = RichTable(
        title=Text(table.title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for index, column in enumerate(table.columns):
        grid.add_column(
            Text(column),
            justify="left" if index < table.labels else "right",
            overflow="fold",
            no_wrap=table.labels == 3,
        )
    previous: tuple[str, ...] = ()
    for row in table.rows:
        repeated = previous and table.labels == 3 and row[:2] == previous[:2]
        shown = ("", "", *row[2:]) if repeated else row
        if previous and table.labels == 3 and not repeated:
            grid.add_section()
        grid.add_row(*map(Text, shown))
        previous = row
    console.print(grid)
    if table.note:
        console.print(Text(table.note, style="dim"))
    console.print()


def _csv(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return stream.getvalue()


def _plain(value: float) -> str:
    return (
        "" if math.isnan(value) else (f"{value:.0f}" if math.isfinite(value) and value == int(value) else repr(value))
    )


def _identity(cell: Cell) -> list[str]:
    return [cell.study, cell.name, cell.model, cell.mitigation, _plain(cell.level), cell.seed]


def _measure(row: Measure) -> list[str]:
    generation = "" if row.generation is None else str(row.generation)
    return [generation, row.metric, *map(_plain, (row.value, row.low, row.high, row.n))]


def _names(condition: Condition) -> list[str]:
    return [condition.model, condition.mitigation, " ".join(condition.settings)]


def _estimate(estimate: Estimate) -> list[str]:
    return [_plain(float(value)) for value in (estimate.value, estimate.low, estimate.high)]


def _equilibrium_line(condition: Condition, settling: Settling) -> list[str]:
    found = settling.equilibrium
    numbers = [text for one in (found.level, found.slope, found.intercept) for text in _estimate(one)]
    counts = [found.verdict, str(found.cells), str(found.transitions), found.resampled]
    return [*_names(condition), settling.metric, *numbers, *counts]
