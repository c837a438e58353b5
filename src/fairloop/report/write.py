"""Write the whole report of a run store: figures, page and CSV tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairloop.files import write_bytes, write_text
from fairloop.report.calibration import Calibration, calibrations, curve_csv, summary_csv
from fairloop.report.calibration_figure import CAPTION, calibration_figure
from fairloop.report.compare import Condition, conditions
from fairloop.report.drawing import Drawing
from fairloop.report.export import (
    cells_csv,
    changes_csv,
    correlations_csv,
    decomposition_csv,
    equilibrium_csv,
    reductions_csv,
    trajectories_csv,
)
from fairloop.report.figure import trajectories_figure
from fairloop.report.page import render_page
from fairloop.report.read import Runs, read_runs
from fairloop.report.strategies import Comparison, comparisons
from fairloop.report.strategy_figures import Figure, strategy_figures

FOLDER = "report"
"""Where a report goes by default, inside the runs folder."""


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

    def existing(self) -> list[Path]:
        """Return the files that were written, the page first."""
        tables = [self.cells, self.trajectories, self.equilibrium, self.changes, self.decomposition]
        compared = filter(None, (self.reductions, self.correlations))
        return [self.page, *self.figures, *tables, *compared, *self.calibrations]


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
    return write_files(runs, found, comparisons(found), Path(out_dir) if out_dir else Path(runs_dir) / FOLDER)


def write_files(runs: Runs, found: Sequence[Condition], compared: Sequence[Comparison], folder: Path) -> ReportPaths:
    """Write the report of what was read and compared."""
    beside = {id(condition) for one in compared for condition in one.conditions}
    alone = [condition for condition in found if id(condition) not in beside]
    drawing = trajectories_figure(alone) if alone else None
    figures = [figure for place, one in enumerate(compared) for figure in strategy_figures(one, place)]
    calibrated = calibrations(runs.cells)
    figures += [
        Figure(f"metric_calibration_{one.cell}", CAPTION.format(seed=one.seed), calibration_figure(one))
        for one in calibrated
    ]
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
    )
    write_text(paths.cells, cells_csv(runs.cells))
    write_text(paths.trajectories, trajectories_csv(found))
    write_text(paths.equilibrium, equilibrium_csv(found))
    write_text(paths.changes, changes_csv(found))
    write_text(paths.decomposition, decomposition_csv(found))
    if paths.reductions and paths.correlations:
        write_text(paths.reductions, reductions_csv(compared))
        write_text(paths.correlations, correlations_csv(compared))
    write_text(paths.page, render_page(runs, found, drawing, compared, figures))
    return paths


def _write_drawing(path: Path, drawing: Drawing) -> list[Path]:
    """Write a figure's two files beside each other and return their paths."""
    files = [(path.with_suffix(".png"), drawing.png), (path.with_suffix(".svg"), drawing.svg)]
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
