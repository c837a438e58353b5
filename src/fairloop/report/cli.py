"""The command `fairloop-report`: compare the finished cells of a run store."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fairloop.errors import FairloopError


def main() -> None:
    """Entry point of `fairloop-report`; exits with 0, 1 (a fault) or 2 (a mistake)."""
    sys.exit(command(sys.argv[1:]))


def command(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="fairloop-report", description="Compare the finished cells of a run store: tables, figures, HTML page."
    )
    parser.add_argument("runs_dir", metavar="RUNS_DIR", help="the folder that fairloop wrote its runs to")
    parser.add_argument("--out", metavar="DIR", help="the report's folder (default: RUNS_DIR/report)")
    parser.add_argument(
        "--cell",
        metavar="NAME",
        action="append",
        help="only this cell (its folder's name or the beginning); repeatable",
    )
    try:
        options = parser.parse_args(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    try:
        from fairloop.report.read import find_cells

        cells = find_cells(options.runs_dir, options.cell) if options.cell else None
        show_report(options.runs_dir, options.out, cells)
    except FairloopError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"fairloop-report: {error}", markup=False)
        return error.exit_status
    return 0


def show_report(
    runs_dir: Path | str,
    out_dir: Path | str | None = None,
    cells: Sequence[Path | str] | None = None,
    console: Console | None = None,
) -> None:
    """Write the report, then print its tables and the paths of its files; arguments as for `write_report`."""
    from fairloop.report.compare import conditions
    from fairloop.report.read import read_runs
    from fairloop.report.strategies import comparisons
    from fairloop.report.terminal import print_report
    from fairloop.report.write import FOLDER, write_files

    console = console or Console(highlight=False)
    runs = read_runs(runs_dir, cells)
    found = conditions(runs.cells)
    compared = comparisons(found)
    paths = write_files(runs, found, compared, Path(out_dir) if out_dir else Path(runs_dir) / FOLDER)
    print_report(runs, found, compared, console)
    for path in paths.existing():
        console.print(str(path), markup=False, soft_wrap=True, highlight=False)
