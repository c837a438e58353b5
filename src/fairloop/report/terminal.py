"""The report in the terminal: the tables that fit, and each equilibrium in words."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from textwrap import wrap

from rich import box
from rich.cells import cell_len
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from fairloop.console import Console
from fairloop.report.calibration.tables import calibrations, summary_table
from fairloop.report.fair_gender.effects import Debiasing
from fairloop.report.fair_gender.tables import debiasing_tables
from fairloop.report.page import other_studies
from fairloop.report.read import Runs
from fairloop.report.recursion.conditions import (
    FACTORS,
    Condition,
    named,
    net_rate_alone,
    settle_or_disappear,
    verdict_in_words,
)
from fairloop.report.recursion.strategies import Comparison
from fairloop.report.recursion.tables import (
    change_table,
    correlation_table,
    metric_tables,
    reduction_table,
    trend_and_line,
)
from fairloop.report.table import Table, numerics_table, unusable_table
from fairloop.words import counted

MOST_CELLS = 12
"""Up to this many cells in all the terminal shows each; above, the means of each level."""

MOST_LISTED = 20
"""Up to so many conditions, and a quarter as many comparisons, are on the terminal; the report's files have all."""

_GAP = 2
"""Columns of a terminal between two columns of a table."""

_MOST_HEAD_LINES = 2

MOST_CONDITIONS = 2
"""Up to this many conditions the terminal shows every generation; above, the comparisons only."""


def print_report(
    runs: Runs,
    conditions: Sequence[Condition],
    comparisons: Sequence[Comparison],
    console: Console,
    debiased: Sequence[Debiasing] = (),
) -> None:
    """Print the tables, and a line on each equilibrium, to the terminal."""
    for condition in conditions if len(conditions) <= MOST_CONDITIONS else ():
        for table in metric_tables(condition, single=sum(len(one.cells) for one in conditions) <= MOST_CELLS):
            print_table(table, console)
    for count, what, most in (
        (len(conditions), "conditions", MOST_LISTED),
        (len(comparisons), "comparisons", MOST_LISTED // 4),
    ):
        if count > most:
            console.print(Text(f"The first {most} of {count} {what}; equilibrium.csv and reductions.csv have all.\n"))
    conditions, comparisons = conditions[:MOST_LISTED], comparisons[: MOST_LISTED // 4]
    indent = 4 + max(map(len, map(named, FACTORS)))
    for condition in conditions:
        console.print(Text(_equilibrium_heading(condition), style="bold"))
        for numbers, more in _equilibrium_lines(condition):
            console.print(Text("  " + numbers))
            for text in more:
                _print_indented(text, indent, console)
        answer = settle_or_disappear(condition)
        if answer:
            _print_indented(answer, 2, console)
        console.print()
    changes = change_table([net_rate_alone(condition) for condition in conditions])
    if changes:
        print_table(_one_condition_less(changes), console)
    for comparison in comparisons:
        if not comparison.controls:
            console.print(Text(f"Reductions: {comparison.model} has no cell without mitigation to compare with\n"))
        for compared in (reduction_table(comparison), correlation_table(comparison)):
            if compared:
                print_table(compared, console)
    for calibration in calibrations(runs.cells):
        print_table(summary_table(calibration), console)
    for found in debiased:
        for table in debiasing_tables(found):
            print_table(_one_condition_less(table) if table.labels == 2 else table, console)
    others = other_studies(runs.cells, debiased=any(one.effects for one in debiased))
    for extra in (*others, numerics_table(runs.cells), unusable_table(runs)):
        if extra:
            print_table(extra, console)


def _print_indented(text: str, columns: int, console: Console) -> None:
    """Print a sentence over as many lines as it takes: what is padded is cropped where a console does not wrap."""
    console.print(Padding(Text(text), (0, 0, 0, columns)), soft_wrap=False)


def _equilibrium_heading(condition: Condition) -> str:
    first = condition.settlings[0] if condition.settlings else None
    if first is None:
        return f"Equilibrium: {condition.label}"
    cells = counted(len(first.trajectories), "cell")
    return f"Equilibrium: {condition.label} ({cells}, {counted(first.equilibrium.transitions, 'transition')} each)"


def _equilibrium_lines(condition: Condition) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield, for each measure, its trend, then the verdict in words and the line among generated corpora."""
    width = max(map(len, map(named, FACTORS)))
    for settling in condition.settlings:
        found = settling.equilibrium
        change, level, rho = trend_and_line(condition, settling)
        line = () if found.line.resampled == "nothing" else (f"line: B* {level}  rho {rho}",)
        trend = f"{settling.label:<{width}}  change a generation {change}"
        yield trend, (verdict_in_words(settling), *line)


def _one_condition_less(table: Table) -> Table:
    """Drop the columns that say the same in every row: a terminal is narrow."""
    kept = [i for i in range(len(table.columns)) if i >= table.labels or len({row[i] for row in table.rows}) > 1]
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    said = ", ".join(table.rows[0][i] for i in range(table.labels) if i not in kept)
    title = f"{table.title}: {said}" if said else table.title
    labels = sum(i < table.labels for i in kept)
    return Table(title, tuple(table.columns[i] for i in kept), rows, labels, table.note)


def print_table(table: Table, console: Console) -> None:
    """Print a table with its title and note; columns that do not fit beside the others follow in a part below.

    A number that is cut off reads as another number: no cell is cropped, and no number is broken in two.
    """
    wrapped = False if console.is_terminal else None  # between words; a log is as the console was made
    for place, part in enumerate(_parts(table, console.width)):
        title = table.title if place == 0 else f"{table.title} (further columns)"
        console.print(Text(title, style="bold"), soft_wrap=wrapped)
        console.print(_grid(part))
    if table.below:
        console.print(Text(table.below, style="dim"), soft_wrap=wrapped)
    console.print()


def _parts(table: Table, width: int) -> Iterator[Table]:
    """Yield the table's labels with as many of its other columns as fit into `width`, until all are there."""
    widths = [_width(table, index) for index in range(len(table.columns))]
    # Labels may be folded: they never take more than half of the width.
    room = width - _GAP - min(sum(widths[: table.labels]), width // 2)
    others = list(range(table.labels, len(table.columns)))
    if not others:
        yield table
    while others:
        fitting = [others.pop(0)]
        while others and sum(widths[index] for index in [*fitting, others[0]]) <= room:
            fitting.append(others.pop(0))
        kept = [*range(table.labels), *fitting]
        rows = tuple(tuple(row[index] for index in kept) for row in table.rows)
        yield replace(table, columns=tuple(table.columns[index] for index in kept), rows=rows)


def _width(table: Table, index: int) -> int:
    """Return the columns of a terminal that a column of the table takes, its gap included."""
    words = table.columns[index]
    header = max(map(cell_len, words.split()), default=0)
    while len(wrap(words, max(1, header))) > _MOST_HEAD_LINES:
        header += 1
    return _GAP + max([header, *(cell_len(row[index]) for row in table.rows)])


def _grid(table: Table) -> RichTable:
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, column in enumerate(table.columns):
        is_label = index < table.labels
        grid.add_column(
            Text(column),
            justify="left" if is_label else "right",
            overflow="fold",
            width=None if is_label else _width(table, index) - _GAP,
        )
    previous: tuple[str, ...] = ()
    for row in table.rows:
        repeated = previous and table.labels == 3 and row[:2] == previous[:2]
        shown = ("", "", *row[2:]) if repeated else row
        if previous and table.labels == 3 and not repeated:
            grid.add_section()
        grid.add_row(*map(Text, shown))
        previous = row
    return grid
