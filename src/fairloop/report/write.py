"""Write the whole report of a run store: figures, page and CSV tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairloop.files import write_bytes, write_text
from fairloop.report.calibration.figure import CAPTION, calibration_figure
from fairloop.report.calibration.tables import Calibration, calibrations, curve_csv, summary_csv
from fairloop.report.drawing import Drawing, Figure, is_narrow
from fairloop.report.export import cells_csv
from fairloop.report.fair_gender.effects import Debiasing, debiasings
from fairloop.report.fair_gender.figures import debiasing_figures
from fairloop.report.fair_gender.tables import ablation_csv, debiasing_csv
from fairloop.report.latex import file_names, latex_table
from fairloop.report.page import render_page, report_sections
from fairloop.report.read import Runs, read_runs
from fairloop.report.recursion.conditions import Condition, conditions
from fairloop.report.recursion.export import (
    changes_csv,
    correlations_csv,
    decomposition_csv,
    equilibrium_csv,
    reductions_csv,
    trajectories_csv,
)
from fairloop.report.recursion.strategies import Comparison, comparisons
from fairloop.report.recursion.strategy_figures import strategy_figures
from fairloop.report.recursion.trajectories import trajectories_figure

FOLDER = "report"
"""Where a report goes by default, inside the runs folder."""

MOST_CONDITIONS = 12
"""Conditions that are not compared with others: so many have a row in the figure."""

MOST_COMPARISONS = 6
"""Up to so many comparisons of mitigations, and PLMs with debias methods, have figures; of more the first two have."""

MOST_LATEX_ROWS = 200
"""A longer table is no table of a paper, and stands in the CSV files alone."""


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report; a table or figure of what the store does not hold is None or left out."""

    page: Path
    cells: Path
    trajectories: Path
    equilibrium: Path
    changes: Path
    decomposition: Path
    reductions: Path | None
    correlations: Path | None
    figures: tuple[Path, ...]
    calibrations: tuple[Path, ...] = ()
    debiasings: tuple[Path, ...] = ()
    latex: tuple[Path, ...] = ()

    def existing(self) -> list[Path]:
        """Return the files that were written, the page first."""
        tables = [self.cells, self.trajectories, self.equilibrium, self.changes, self.decomposition]
        compared = filter(None, (self.reductions, self.correlations))
        return [self.page, *self.figures, *tables, *compared, *self.calibrations, *self.debiasings, *self.latex]


def write_report(
    runs_dir: Path | str, out_dir: Path | str | None = None, cells: Sequence[Path | str] | None = None
) -> ReportPaths:
    """Write the report of a run store's finished cells and return its paths.

    Args:
        runs_dir: the run store.
        out_dir: the report's folder; `<runs_dir>/report` by default.
        cells: folders of the cells to compare; None for all.

    Raises:
        UserError: the folder is missing or holds no finished cell.
        Fault: the report cannot be written.
    """
    runs = read_runs(runs_dir, cells)
    found = conditions(runs.cells)
    folder = Path(out_dir) if out_dir else Path(runs_dir) / FOLDER
    return write_files(runs, found, comparisons(found), folder, debiasings(runs.cells))


def write_files(
    runs: Runs,
    found: Sequence[Condition],
    compared: Sequence[Comparison],
    folder: Path,
    debiased: Sequence[Debiasing] = (),
) -> ReportPaths:
    """Write the report of what was read and compared."""
    beside = {id(condition) for one in compared for condition in one.conditions}
    alone = [condition for condition in found if id(condition) not in beside]
    drawing = trajectories_figure(alone[:MOST_CONDITIONS]) if alone else None
    calibrated = calibrations(runs.cells)
    figures = _figures(compared, debiased, calibrated)
    drawings = [("bias_by_generation", drawing)] if drawing else []
    drawings += [(figure.name, figure.drawing) for figure in figures]
    paths = ReportPaths(
        page=folder / "report.html",
        cells=folder / "cells.csv",
        trajectories=folder / "trajectories.csv",
        equilibrium=folder / "equilibrium.csv",
        changes=folder / "relative_change.csv",
        decomposition=folder / "decomposition.csv",
        reductions=folder / "reductions.csv" if compared else None,
        correlations=folder / "correlations.csv" if compared else None,
        figures=tuple(path for name, one in drawings for path in _write_drawing(folder / name, one)),
        calibrations=_write_calibrations(calibrated, folder),
        debiasings=_write_debiasings(debiased, folder),
        latex=_write_latex(runs, found, compared, debiased, folder),
    )
    write_text(paths.cells, cells_csv(runs.cells))
    write_text(paths.trajectories, trajectories_csv(found))
    write_text(paths.equilibrium, equilibrium_csv(found))
    write_text(paths.changes, changes_csv(found))
    write_text(paths.decomposition, decomposition_csv(found))
    if paths.reductions and paths.correlations:
        write_text(paths.reductions, reductions_csv(compared))
        write_text(paths.correlations, correlations_csv(compared))
    remarks = _undrawn(alone, compared, debiased)
    write_text(paths.page, render_page(runs, found, drawing, compared, figures, debiased, remarks))
    return paths


def _figures(
    compared: Sequence[Comparison], debiased: Sequence[Debiasing], calibrated: Sequence[Calibration]
) -> list[Figure]:
    """Draw what is compared."""
    figures = [
        figure for place, one in enumerate(compared[: _drawn(compared)]) for figure in strategy_figures(one, place)
    ]
    figures += [
        figure for place, one in enumerate(debiased[: _drawn(debiased)]) for figure in debiasing_figures(one, place)
    ]
    figures += [
        Figure(f"metric_calibration_{one.cell}", CAPTION.format(seed=one.seed), calibration_figure(one))
        for one in calibrated
    ]
    return figures


def _drawn(items: Sequence[object]) -> int:
    return len(items) if len(items) <= MOST_COMPARISONS else 2


def _undrawn(alone: Sequence[Condition], compared: Sequence[Comparison], debiased: Sequence[Debiasing]) -> list[str]:
    """Return a line for what has no figure, because there is too much of it."""
    counts = {
        "conditions": (len(alone), MOST_CONDITIONS),
        "comparisons of mitigations": (len(compared), _drawn(compared)),
        "PLMs with debias methods": (len(debiased), _drawn(debiased)),
    }
    return [
        f"Figures are drawn for the first {drawn} of {count} {what}."
        for what, (count, drawn) in counts.items()
        if count > drawn
    ]


def _write_debiasings(debiased: Sequence[Debiasing], folder: Path) -> tuple[Path, ...]:
    """Write the tables of debias methods, if there is anything in them, and return their paths."""
    if not any(one.effects for one in debiased):
        return ()
    paths = [folder / "debias_methods.csv"]
    write_text(paths[0], debiasing_csv(debiased))
    if any(one.ablations for one in debiased):
        paths.append(folder / "ablation.csv")
        write_text(paths[1], ablation_csv(debiased))
    return tuple(paths)


def _write_latex(
    runs: Runs,
    found: Sequence[Condition],
    compared: Sequence[Comparison],
    debiased: Sequence[Debiasing],
    folder: Path,
) -> tuple[Path, ...]:
    """Write each summary table of the report as LaTeX and return the paths."""
    sections = report_sections(runs, found, compared, (), debiased, in_full=not is_narrow())
    tables = [table for section in sections for table in section.tables]
    tables = [table for table in tables if len(table.rows) <= MOST_LATEX_ROWS]
    paths = []
    for table, name in zip(tables, file_names(tables), strict=True):
        paths.append(folder / f"{name}.tex")
        write_text(paths[-1], latex_table(table, name))
    return tuple(paths)


def _write_drawing(path: Path, drawing: Drawing) -> list[Path]:
    """Write a figure's files beside each other and return their paths."""
    files = [(path.with_suffix(".png"), drawing.png), (path.with_suffix(".svg"), drawing.svg)]
    if drawing.pdf:
        files.append((path.with_suffix(".pdf"), drawing.pdf))
    for file, data in files:
        write_bytes(file, data)
    return [file for file, _ in files]


def _write_calibrations(calibrated: Sequence[Calibration], folder: Path) -> tuple[Path, ...]:
    """Write the tables of all metric calibrations and return their paths."""
    if not calibrated:
        return ()
    curve, summary = (folder / f"metric_calibration_{name}.csv" for name in ("curve", "summary"))
    write_text(curve, curve_csv(calibrated))
    write_text(summary, summary_csv(calibrated))
    return curve, summary
