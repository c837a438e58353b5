"""A table of the report: built once as plain text cells, shown in the terminal, in the page and as CSV."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fairloop.catalogue import catalogue
from fairloop.report.read import Cell, Runs
from fairloop.statistics.estimate import Estimate


@dataclass(frozen=True)
class Table:
    """A table of finished text. The first `labels` columns name a row, the others hold numbers, or words.

    Attributes:
        title: in few words, for a heading.
        columns, rows, labels: the heads, the cells, and how many columns name a row.
        note: what a reader has to know.
        caption: what it shows in one sentence, for a paper; the title if empty.
        about: what each row is about, by the names of the page's filters ("choice": "augment"); empty: unknown.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int
    note: str = ""
    caption: str = ""
    about: tuple[Mapping[str, str], ...] = ()

    def has_words(self, index: int) -> bool:
        """Whether a column holds sentences, and neither names nor numbers."""
        return self.columns[index] in ("verdict", "reason", "results")


def amount(metric: str, value: float) -> str:
    """Return the value of a measure: a count as a whole number, anything else with three digits."""
    return f"{value:.0f}" if math.isfinite(value) and catalogue().of(metric).count else number(value)


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


def p_value_text(value: float) -> str:
    """Return a p-value with three digits; a dash for an undefined one."""
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def signed(change: Estimate) -> str:
    """Return `+0.120 [+0.10, +0.14]`; the value alone where it has no interval, a dash where it is undefined."""
    if math.isnan(change.value):
        return "–"
    if math.isnan(change.low):
        return f"{change.value:+.3f}"
    return f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]".replace("inf", "∞")


def cells_table(cells: Sequence[Cell]) -> Table:
    """Return the finished cells that no other table shows, with their first numbers."""
    rows = tuple(
        (
            cell.study,
            cell.name,
            cell.seed,
            "; ".join(f"{name} {amount(name, cell.result[name])}" for name in catalogue().summary(cell.result)[:6]),
        )
        for cell in cells
    )
    return Table("Cells of other studies", ("study", "cell", "seed", "results"), rows, 4)


def numerics_table(cells: Sequence[Cell]) -> Table | None:
    """Return what the cells were computed with; None if all with the same, or if none says."""
    count = Counter(" and ".join(cell.numerics) for cell in cells if cell.numerics)
    rows = tuple((what, str(times)) for what, times in count.most_common())
    note = "Cells of different rows are equal in distribution, not to the byte: what computes them rounds differently."
    columns = ("processor, number format, libraries, checksum", "cells")
    return Table("Computed with", columns, rows, 1, note) if len(rows) > 1 else None


def unusable_table(runs: Runs) -> Table | None:
    """Return the cells that were left out, with the reason; None if there are none."""
    rows = tuple((f"{one.folder.parent.name}/{one.folder.name}", one.reason) for one in runs.unusable)
    return Table("Left out", ("cell", "reason"), rows, 2) if rows else None
