"""A table of the report: built once as plain text cells, shown in the terminal, in the page and as CSV."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fairloop.catalogue import catalogue
from fairloop.measures.remarks import MARK, floors_in_words, is_short, lack, short_note
from fairloop.report.read import Cell, Runs
from fairloop.statistics.estimate import Estimate

UNBOUNDED = "unbounded"
"""Stands for a number, or an end of an interval, that the data do not bound."""


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

    @property
    def below(self) -> str:
        """What stands below it: the note, and how many cells, pairs, … an interval needs where some have none."""
        floors = floors_in_words(text for row in self.rows for text in row)
        return " ".join(filter(None, (f"{self.note.rstrip('. ')}." if self.note and floors else self.note, floors)))

    def has_words(self, index: int) -> bool:
        """Whether a column holds sentences, and neither names nor numbers."""
        return self.columns[index] in ("verdict", "reason", "results")


def amount(metric: str, value: float) -> str:
    """Return the value of a measure: a count as a whole number, anything else with three digits."""
    return f"{value:.0f}" if math.isfinite(value) and catalogue().of(metric).count else number(value)


def number(value: float, digits: int = 3) -> str:
    """Return a number with fixed digits; an undefined one as a dash."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return UNBOUNDED
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(one: Estimate, digits: int = 3, *, over: str = "", few: str = "", short: bool = False) -> str:
    """Return `0.120 [0.10, 0.14]`; without an interval the value and why, `0.120 (too few cells)`; a dash if undefined.

    Args:
        one: the value.
        digits: of the value; its ends have one less.
        over: what the interval is over (`measures.remarks.lack`).
        few: why there is none, where that is more than a count tells.
        short: whether the interval is known to be too short: it is marked.
    """
    return _text(one, digits, digits - 1, "", few or lack(one, over)) + MARK * short


def signed(change: Estimate, *, over: str = "", few: str = "") -> str:
    """Return `+0.120 [+0.100, +0.140]`; arguments as for `with_interval`."""
    return _text(change, 3, 3, "+", few or lack(change, over))


def percent(one: Estimate, digits: int = 0, *, over: str, sign: str = "", mark: str = "") -> str:
    """Return `91% [80, 97]` for 0.91, or with the sign "+" `+91% [+80, +97]`; `mark` stands at the end."""
    return _text(one.scaled(100), digits, digits, sign, lack(one, over), "%") + (mark if one.defined else "")


def measured(metric: str, one: Estimate, digits: int = 3) -> str:
    """Return a measure of one cell, with its own interval over groups or items."""
    return with_interval(one, digits, short=is_short(metric, one))


def note_below(rows: Iterable[Sequence[str]], metrics: Iterable[str], *when: str) -> str:
    """Return what the mark in some of a table's cells stands for, to follow its note; empty if no cell has it."""
    return f" {short_note(metrics, *when)}" if any(MARK in text for row in rows for text in row) else ""


def _text(one: Estimate, digits: int, of_ends: int, sign: str, why: str, unit: str = "") -> str:
    def shown(value: float, places: int) -> str:
        return UNBOUNDED if math.isinf(value) else f"{value:+.{places}f}" if sign else number(value, places)

    if not one.defined or math.isinf(one.value):
        return UNBOUNDED if one.defined else "–"
    value = f"{shown(one.value, digits)}{unit}"
    if math.isnan(one.low) or math.isnan(one.high):
        return f"{value} ({why})" if why else value
    if math.isinf(one.low) and math.isinf(one.high):
        return f"{value} [{UNBOUNDED}]"
    return f"{value} [{shown(one.low, of_ends)}, {shown(one.high, of_ends)}]"


def p_value_text(value: float) -> str:
    """Return a p-value with three digits; a dash for an undefined one."""
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


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
