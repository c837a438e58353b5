"""A comparison of two cells or two sweeps: its tables, its page and its lines on the terminal."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from rich.text import Text

from fairloop.catalogue import catalogue
from fairloop.console import Console
from fairloop.files import write_text
from fairloop.report.charts import changes_chart
from fairloop.report.difference.changes import Change, Difference
from fairloop.report.export import csv_field, csv_text
from fairloop.report.latex import latex_table
from fairloop.report.page import environment
from fairloop.report.payload import as_json, plotly, script
from fairloop.report.samples import sample_corpora, visible
from fairloop.report.table import Table, amount, p_value_text, signed
from fairloop.report.terminal import print_table
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.paired import FEWEST_FOR_FLIPS
from fairloop.words import counted

MOST_LINES = 12
"""So many further measures stand on the terminal; the page and the CSV file have all."""


def write_difference(found: Difference, folder: Path, console: Console) -> list[Path]:
    """Print a comparison, write its page, its CSV file and its LaTeX table, and return their paths."""
    print_difference(found, console)
    name = f"comparison_{_file_name(found.first.name)}_{_file_name(found.second.name)}"
    paths = [folder / f"{name}{end}" for end in (".html", ".csv", ".tex")]
    write_text(paths[0], render_difference(found))
    write_text(paths[1], difference_csv(found))
    write_text(paths[2], latex_table(change_table("Change of the headline measures", found.headline, found), name))
    return paths


def print_difference(found: Difference, console: Console) -> None:
    """Print what differs in configuration, and the measures that moved."""
    for letter, side in (("A", found.first), ("B", found.second)):
        console.print(Text(f"{letter}  {side.title}"))
    for line in summary(found):
        console.print(Text(line))
    console.print()
    if found.settings:
        print_table(settings_table(found), console)
    if found.headline:
        print_table(change_table("Headline measures", found.headline, found), console)
    if found.further:
        title = "Further measures" + (f" (the surest {MOST_LINES})" if len(found.further) > MOST_LINES else "")
        print_table(change_table(title, found.further[:MOST_LINES], found), console)


def render_difference(found: Difference) -> str:
    """Return the page, which needs no network. All text from the run store is escaped."""
    chart = changes_chart(_by_measure(found))
    data, scripts = Markup("{}"), [script("tables.js")]
    if chart:
        data = as_json({"charts": [chart.data(visible)]})
        scripts = [plotly(), script("tables.js", "elements.js", "unfiltered.js", "charts.js")]
    generations = [change_table("Earlier generations, untested", found.earlier, found)] if found.earlier else []
    sections = [
        ("settings", "What differs in configuration", [settings_table(found)] if found.settings else []),
        ("headline", "Which measures moved", _tables("Headline measures", found.headline, found)),
        (
            "further",
            "Further measures",
            _tables("Measures beside the headline ones, tested apart", found.further, found),
        ),
        *([("generations", "By generation", generations)] if generations else []),
    ]
    sides = (("A", found.first), ("B", found.second))
    sampled = [(name, sample_corpora(side.cells[0].folder)) for name, side in sides] if found.single else []
    page = (
        environment()
        .get_template("comparison.html")
        .render(
            difference=found,
            summary=summary(found),
            sections=sections,
            sentences=sampled if all(corpora for _, corpora in sampled) else [],
            chart=chart,
            data=data,
            scripts=[code for code, _ in scripts],
            script_hashes=[digest for _, digest in scripts],
        )
    )
    return page.encode("utf-8", "replace").decode()


def _by_measure(found: Difference) -> list[tuple[str, list[tuple[str, Estimate]]]]:
    """Return the changes of each headline measure, earlier generations first, in the order of the table."""
    titles = {one.metric: catalogue().label(one.metric) for one in found.headline}
    rows: dict[str, list[tuple[str, Estimate]]] = {metric: [] for metric in titles}
    for one in (*found.earlier, *found.headline):
        if one.metric in rows:
            rows[one.metric].append(("B − A" if one.generation is None else f"gen {one.generation}", one.change))
    return [(titles[metric], changes) for metric, changes in rows.items()]


def summary(found: Difference) -> list[str]:
    """Return what was compared, and how much of it moved, in sentences."""
    moved = [one.metric for one in found.headline if one.moved]
    lines = []
    if found.single:
        lines.append("Two cells: differences over the items that both keep, else from the two intervals.")
    elif found.pairs:
        on = ", ".join(found.matched_on) or "nothing that varies"
        lines.append(f"{counted(found.pairs, 'pair')} of cells that agree in {on}.")
        if any(found.left_out):
            lines.append(f"Without a match, and left out: {found.left_out[0]} of A, {found.left_out[1]} of B.")
    else:
        lines.append("No cell of A agrees with one of B in every choice of both: the means of all cells are compared.")
    named = f": {', '.join(moved)}" if moved else ""
    said = f"Of {len(found.headline)} headline measures {len(moved) or 'none'} moved beyond chance (Holm, 5%){named}."
    return [*lines, said]


def settings_table(found: Difference) -> Table:
    """Return the settings that differ, with the values on either side."""
    return Table("Settings on either side", ("setting", "A", "B"), found.settings, 3)


def change_table(title: str, changes: Sequence[Change], found: Difference) -> Table:
    """Return measures with their values on both sides, the change and its certainty."""
    staged = any(one.generation is not None for one in changes)
    rows = tuple(
        (
            one.metric,
            *(("" if one.generation is None else str(one.generation),) if staged else ()),
            amount(one.metric, one.first),
            amount(one.metric, one.second),
            signed(one.change, few=one.how) + (" *" if one.moved else ""),
            p_value_text(one.adjusted),
            one.how,
        )
        for one in changes
    )
    columns = ("measure", *(("gen",) if staged else ()), "A", "B", "B − A", "p", "interval from")
    return Table(title, columns, rows, 1, _note(found))


def difference_csv(found: Difference) -> str:
    """Return every change, one line per measure; `family` says which were tested together."""
    header = [
        "family",
        "generation",
        "metric",
        "a",
        "b",
        "change",
        "low",
        "high",
        "p",
        "p_holm",
        "pairs",
        "interval_from",
    ]
    families = (("headline", found.headline), ("further", found.further), ("earlier", found.earlier))
    lines = (
        [
            family,
            "" if one.generation is None else str(one.generation),
            one.metric,
            *map(csv_field, (one.first, one.second, one.change.value, one.change.low, one.change.high)),
            *map(csv_field, (one.p_value, one.adjusted)),
            str(one.pairs),
            one.how,
        ]
        for family, changes in families
        for one in changes
    )
    return csv_text(header, lines)


def _tables(title: str, changes: Sequence[Change], found: Difference) -> list[Table]:
    return [change_table(title, changes, found)] if changes else []


def _note(found: Difference) -> str:
    if found.single:
        certainty = (
            "95% intervals: bootstrap-t over the items where both cells keep the same ones; else from the two cells' "
            "own intervals as if the cells were independent (Zou and Donner 2008), p by the normal approximation."
        )
    elif found.pairs:
        certainty = (
            "95% intervals over pairs (Student's t, from three); p: sign-flip test, from "
            f"{FEWEST_FOR_FLIPS} pairs on (fewer cannot reach 0.05)."
        )
    else:
        certainty = "95% intervals and p: Welch's t over cells."
    return f"{certainty} p after Holm over the measures of a table, * at most 0.05. Each interval is for itself."


def _file_name(name: str) -> str:
    return "".join(character if character.isalnum() and character.isascii() else "-" for character in name)[:24]
