"""The HTML page: one file that needs no network, in light and dark, on a screen or a phone."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from fairloop.report.calibration.tables import calibrations, summary_table
from fairloop.report.charts import Chart
from fairloop.report.charts import charts as interactive
from fairloop.report.drawing import Drawing, Figure
from fairloop.report.evaluate import benchmark_table
from fairloop.report.fair_gender.effects import Debiasing
from fairloop.report.fair_gender.tables import debiasing_tables
from fairloop.report.outcome import counted_cells, outcomes
from fairloop.report.payload import TEMPLATES, Settings, cell_data, configurations, plotly, script
from fairloop.report.read import Cell, Runs
from fairloop.report.recursion.conditions import Condition, net_rate_alone, rests
from fairloop.report.recursion.strategies import Comparison
from fairloop.report.recursion.tables import (
    change_table,
    corrected_table,
    correlation_table,
    decomposition_table,
    equilibrium_table,
    metric_tables,
    reduction_table,
    seed_break_table,
)
from fairloop.report.recursion.trajectories import bands_in_words
from fairloop.report.samples import SampledCorpus, sample_corpora, visible
from fairloop.report.table import Table, cells_table, number, numerics_table, unusable_table

MOST_CONDITIONS, MOST_COMPARISONS = 40, 8
"""So many conditions, and comparisons of mitigations, have tables; the CSV files have all."""

MOST_SAMPLED = 60
"""Of this many cells, spread over all, sentences are shown; a page of thousands could not be opened."""

TRAJECTORIES = "Net stereotype rate B by generation and its two factors."
"""The caption of the figure of conditions that are not compared with each other, before what its lines are."""

RESTING = "Dotted line and hatching: resting level B* and its 95% interval, where the verdict is equilibrium."

_YIELD = "generation/yield"


@dataclass(frozen=True)
class CellView:
    """What the page shows of one cell, of which sentences are shown; `index` is its number among all."""

    cell: Cell
    index: int
    title: str
    settings: tuple[tuple[str, str], ...]
    yields: str
    corpora: tuple[SampledCorpus, ...]


@dataclass(frozen=True)
class Section:
    """A part of the page: pictures (name, caption, data address), tables and interactive figures about one question."""

    id: str
    title: str
    figures: tuple[tuple[str, str, str], ...]
    tables: tuple[Table, ...]
    remarks: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()


def render_page(
    runs: Runs,
    conditions: Sequence[Condition],
    drawing: Drawing | None,
    comparisons: Sequence[Comparison] = (),
    figures: Sequence[Figure] = (),
    debiased: Sequence[Debiasing] = (),
    remarks: Sequence[str] = (),
) -> str:
    """Return the page. All text from the run store is escaped; unseen characters are shown as such.

    `remarks` stand above the figures: what was left out of them.
    """
    common, different = configurations(runs.cells)
    views = _views(runs.cells, different)
    drawn_by_script = interactive(runs.cells, conditions, comparisons[:MOST_COMPARISONS], debiased)
    choices = {cell.folder: one.label for found in debiased for one in found.variants for cell in one.cells}
    data, trimmed = cell_data(runs.cells, different, drawn_by_script, choices)
    scripts = [plotly()] if drawn_by_script else []
    scripts.append(script("tables.js", "elements.js", "cells.js", *(["charts.js"] if drawn_by_script else [])))
    single = len(runs.cells) <= MOST_SAMPLED
    detailed = conditions if len(conditions) <= MOST_CONDITIONS else ()
    drawn = [Figure("bias_by_generation", _caption(conditions, comparisons), drawing)] if drawing else []
    sections = report_sections(
        runs, conditions, comparisons, [*drawn, *figures], debiased, remarks, charts=drawn_by_script
    )
    page = (
        environment()
        .get_template("report.html")
        .render(
            runs=runs,
            counted=counted_cells(runs.cells),
            outcomes=outcomes(runs.cells, conditions, comparisons, debiased),
            sections=sections,
            metrics=[table for one in detailed for table in metric_tables(one, single=single, in_full=True)],
            single=single,
            common=common,
            views=views,
            unsampled=len(runs.cells) - len(views),
            trimmed="Of each cell the page holds the headline measures; cells.csv has all." if trimmed else "",
            computed=numerics_table(runs.cells),
            unusable=unusable_table(runs),
            data=data,
            scripts=[code for code, _ in scripts],
            script_hashes=[digest for _, digest in scripts],
        )
    )
    return page.encode("utf-8", "replace").decode()


def _caption(conditions: Sequence[Condition], comparisons: Sequence[Comparison]) -> str:
    """Return the caption of the figure of those conditions that stand in no comparison."""
    beside = {id(condition) for one in comparisons for condition in one.conditions}
    alone = [condition for condition in conditions if id(condition) not in beside]
    settlings = [settling.equilibrium for condition in alone for settling in condition.settlings]
    return " ".join([TRAJECTORIES, bands_in_words(alone), *([RESTING] if any(map(rests, settlings)) else [])])


def environment() -> Environment:
    """Return what renders the templates of pages: everything is escaped, unseen characters are shown as such."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str and len(value) < 10_000 else value,
    )
    made.globals["number"] = number
    return made


def report_sections(
    runs: Runs,
    conditions: Sequence[Condition],
    comparisons: Sequence[Comparison],
    figures: Sequence[Figure],
    debiased: Sequence[Debiasing],
    remarks: Sequence[str] = (),
    *,
    in_full: bool = True,
    charts: Sequence[Chart] = (),
) -> list[Section]:
    """Return the parts of the report that are not empty, with their figures and tables.

    `in_full`: with every measure and span; otherwise with what a terminal or a paper has room for.
    """
    remarks = [*remarks, *_untabled(conditions, comparisons)]
    conditions, comparisons = conditions[:MOST_CONDITIONS], comparisons[:MOST_COMPARISONS]
    by_level = conditions if in_full else [net_rate_alone(one) for one in conditions]
    scores, others = other_studies(runs.cells, debiased=any(one.effects for one in debiased))
    summaries = [summary_table(calibration) for calibration in calibrations(runs.cells)]
    parts: list[tuple[str, str, tuple[str, ...], Sequence[Table | None]]] = [
        (
            "trajectories",
            "Trajectories and B*",
            ("bias_by_generation", "trajectories", "decomposition"),
            [
                equilibrium_table(conditions),
                corrected_table(conditions),
                seed_break_table(by_level),
                decomposition_table(by_level),
                change_table(by_level),
            ],
        ),
        ("mitigations", "Mitigations", ("reductions",), [reduction_table(one, in_full=in_full) for one in comparisons]),
        (
            "embedding",
            "Embedding and downstream",
            ("embedding_downstream",),
            [correlation_table(one, in_full=in_full) for one in comparisons],
        ),
        (
            "debiasing",
            "Debias methods",
            ("debias_methods", "ablation"),
            [table for one in debiased for table in debiasing_tables(one, in_full=in_full)],
        ),
        ("benchmarks", "Benchmarks", (), [scores]),
        ("calibration", "Metric calibration", ("metric_calibration",), summaries),
        ("others", "Other studies", (), [others]),
    ]
    found: list[Section] = []
    for id_, title, prefixes, tables in parts:
        pictures = tuple(
            (one.name.replace("_", " "), one.caption, _data_address(one.drawing))
            for one in figures
            if one.name.startswith(prefixes)
        )
        filled = tuple(table for table in tables if table)
        own = tuple(chart for chart in charts if chart.section == id_)
        if pictures or filled or own:  # a figure without its section would stop the page's script
            found.append(Section(id_, title, pictures, filled, tuple(remarks) if not found else (), own))
    return found


def other_studies(cells: Sequence[Cell], *, debiased: bool = False) -> tuple[Table | None, Table | None]:
    """Return the scores of evaluated models, and the cells of studies that have no tables of their own.

    `debiased`: whether the cells of Fair-Gender have.
    """
    scores = benchmark_table(cells)
    shown = {"recursion", "metric_calibration"} | ({"evaluate"} if scores else set())
    shown |= {"fair_gender"} if debiased else set()
    others = [cell for cell in cells if cell.study not in shown]
    return scores, cells_table(others) if others else None


def _untabled(conditions: Sequence[Condition], comparisons: Sequence[Comparison]) -> list[str]:
    """Return a line for what has no tables, because there is too much of it."""
    counts = {
        "conditions": (len(conditions), MOST_CONDITIONS),
        "comparisons of mitigations": (len(comparisons), MOST_COMPARISONS),
    }
    return [
        f"Tables are shown for the first {most} of {count} {what}; the CSV files have all."
        for what, (count, most) in counts.items()
        if count > most
    ]


def _data_address(drawing: Drawing) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.svg).decode()


def _views(cells: Sequence[Cell], different: Sequence[Settings]) -> list[CellView]:
    """Return the cells of which sentences are shown: all, or as many as the page has room for, spread evenly."""
    places = np.unique(np.linspace(0, len(cells) - 1, min(MOST_SAMPLED, len(cells))).round().astype(int))
    return [_view(cells[place], place, different[place]) for place in places.tolist()]


def _view(cell: Cell, index: int, settings: Settings) -> CellView:
    named = [cell.study, *filter(None, (cell.plm, cell.model))]
    named += [f"mitigation {cell.mitigation}"] if cell.mitigation else list(filter(None, [cell.choice]))
    if math.isfinite(cell.level):
        named.append(f"initial bias {cell.level:g}")
    named.append(f"seed {cell.seed}")
    yields = [(generation, cell.get(_YIELD, generation).value) for generation in cell.generations]
    shown = ", ".join(f"generation {one}: {value:.0%}" for one, value in yields if math.isfinite(value))
    return CellView(cell, index, " · ".join(named), tuple(settings), shown, tuple(sample_corpora(cell.folder)))
