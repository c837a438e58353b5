"""The HTML page: one file that needs no network, in light and dark, on a screen or a phone."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from fairloop.report.calibration import calibrations, summary_table
from fairloop.report.compare import Condition, flatten
from fairloop.report.drawing import Drawing
from fairloop.report.read import Cell, Runs
from fairloop.report.samples import SampledCorpus, sample_corpora, visible
from fairloop.report.strategies import Comparison
from fairloop.report.strategy_figures import Figure
from fairloop.report.table import (
    Table,
    cells_table,
    change_table,
    correlation_table,
    decomposition_table,
    equilibrium_table,
    metric_tables,
    number,
    other_cells,
    reduction_table,
    unusable_table,
)

MOST_SAMPLED = 60
"""From this many cells' corpora sentences are shown; a page of thousands could not be opened."""

_YIELD = "generation/yield"


@dataclass(frozen=True)
class CellView:
    """What the page shows of one cell when it is opened."""

    cell: Cell
    title: str
    settings: tuple[tuple[str, str], ...]
    yields: str
    corpora: tuple[SampledCorpus, ...]


def render_page(
    runs: Runs,
    conditions: Sequence[Condition],
    drawing: Drawing | None,
    comparisons: Sequence[Comparison] = (),
    figures: Sequence[Figure] = (),
) -> str:
    """Return the page. All text from the run store is escaped; unseen characters are shown as such."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str and len(value) < 10_000 else value,
    )
    environment.globals["number"] = number
    common, different = _configurations(runs.cells)
    views = [_view(cell, different, with_samples=index < MOST_SAMPLED) for index, cell in enumerate(runs.cells)]
    page = environment.get_template("report.html").render(
        runs=runs,
        conditions=conditions,
        figure=_data_address(drawing) if drawing else None,
        comparisons=[(one.caption, _data_address(one.drawing)) for one in figures],
        summary=_summary(runs, conditions, comparisons),
        metrics=[table for one in conditions for table in metric_tables(one, single=True, in_full=True)],
        common=common,
        views=views,
        unsampled=max(0, len(runs.cells) - MOST_SAMPLED),
        unusable=unusable_table(runs),
    )
    return page.encode("utf-8", "replace").decode()


def _summary(runs: Runs, conditions: Sequence[Condition], comparisons: Sequence[Comparison]) -> list[Table]:
    others = other_cells(runs.cells)
    tables = [equilibrium_table(conditions), decomposition_table(conditions), change_table(conditions)]
    for comparison in comparisons:
        tables += [reduction_table(comparison, in_full=True), correlation_table(comparison, in_full=True)]
    tables += [summary_table(calibration) for calibration in calibrations(runs.cells)]
    return [table for table in (*tables, cells_table(others) if others else None) if table]


def _data_address(drawing: Drawing) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(drawing.svg).decode()


def _configurations(cells: Sequence[Cell]) -> tuple[list[tuple[str, str]], dict[str, list[tuple[str, str]]]]:
    """Return the settings that all cells share, and for each cell's folder those in which cells differ."""
    flat = {str(cell.folder): flatten(cell.config) for cell in cells}
    keys = list(dict.fromkeys(key for one in flat.values() for key in one))
    shared = {key for key in keys if len({one.get(key) for one in flat.values()}) == 1}
    common = [(key, next(iter(flat.values()))[key]) for key in keys if key in shared]
    different = {
        folder: [(key, one[key]) for key in keys if key not in shared and key in one] for folder, one in flat.items()
    }
    return common, different


def _view(cell: Cell, different: dict[str, list[tuple[str, str]]], *, with_samples: bool) -> CellView:
    named = [cell.study, cell.model, f"mitigation {cell.mitigation}"]
    if math.isfinite(cell.level):
        named.append(f"initial bias {cell.level:g}")
    named.append(f"seed {cell.seed}")
    yields = [(generation, cell.get(_YIELD, generation).value) for generation in cell.generations]
    shown = ", ".join(f"generation {one}: {value:.0%}" for one, value in yields if math.isfinite(value))
    corpora = tuple(sample_corpora(cell.folder)) if with_samples else ()
    return CellView(cell, " · ".join(named), tuple(different[str(cell.folder)]), shown, corpora)
