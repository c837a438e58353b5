"""Write the whole report of a run store: figures, page and CSV tables."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from fairloop.files import write_bytes, write_text
from fairloop.report.calibration import calibrations, curve_csv, summary_csv
from fairloop.report.calibration_figure import calibration_figure
from fairloop.report.compare import Condition, conditions
from fairloop.report.figure import trajectories_figure
from fairloop.report.page import render_page
from fairloop.report.read import Cell, Runs, read_runs
from fairloop.report.table import changes_csv, equilibrium_csv, metrics_csv, trajectories_csv

FOLDER = "report"
"""Where a report goes by default, inside the runs folder."""


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report; the figures are None where there is no recursion to draw."""

    page: Path
    png: Path | None
    svg: Path | None
    metrics: Path
    trajectories: Path
    equilibrium: Path
    changes: Path
    calibrations: tuple[Path, ...] = ()

    def existing(self) -> list[Path]:
        """Return the files that were written, the page first."""
        *single, calibrations = astuple(self)
        return [path for path in (*single, *calibrations) if path is not None]


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
    return write_files(runs, conditions(runs.cells), Path(out_dir) if out_dir else Path(runs_dir) / FOLDER)


def write_files(runs: Runs, compared: Sequence[Condition], folder: Path) -> ReportPaths:
    """Write the report of what was read and compared."""
    drawing = trajectories_figure(compared) if compared else None
    paths = ReportPaths(
        page=folder / "report.html",
        png=folder / "bias_by_generation.png" if drawing else None,
        svg=folder / "bias_by_generation.svg" if drawing else None,
        metrics=folder / "metrics.csv",
        trajectories=folder / "trajectories.csv",
        equilibrium=folder / "equilibrium.csv",
        changes=folder / "relative_changes.csv",
        calibrations=write_calibrations(runs.cells, folder),
    )
    if drawing and paths.png and paths.svg:
        write_bytes(paths.png, drawing.png)
        write_bytes(paths.svg, drawing.svg)
    write_text(paths.metrics, metrics_csv(runs.cells))
    write_text(paths.trajectories, trajectories_csv(compared))
    write_text(paths.equilibrium, equilibrium_csv(compared))
    write_text(paths.changes, changes_csv(compared))
    write_text(paths.page, render_page(runs, compared, drawing))
    return paths


def write_calibrations(cells: Sequence[Cell], folder: Path) -> tuple[Path, ...]:
    """Write the tables of all metric calibrations among the cells, and a figure of each; return the paths."""
    calibrated = calibrations(cells)
    if not calibrated:
        return ()
    files = {folder / "metric_calibration_curve.csv": curve_csv(calibrated)}
    files[folder / "metric_calibration_summary.csv"] = summary_csv(calibrated)
    for path, text in files.items():
        write_text(path, text)
    paths = list(files)
    for one in calibrated:
        drawing = calibration_figure(one)
        for kind, data in (("png", drawing.png), ("svg", drawing.svg)):
            paths.append(folder / f"metric_calibration_{one.cell}.{kind}")
            write_bytes(paths[-1], data)
    return tuple(paths)
