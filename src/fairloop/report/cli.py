"""The command `fairloop-report`: compare the finished cells of a run store, or two cells or sweeps with each other."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fairloop.console import Console, Parser, entry, warn
from fairloop.errors import UserError
from fairloop.report.drawing import SCREEN, STYLES, styled

PROJECT = "wandb:"  # before ENTITY/PROJECT: the runs are copied from Weights & Biases


@entry("fairloop-report")
def command(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    parser = Parser(
        prog="fairloop-report",
        description="Compare the finished cells of a run store: tables, figures, HTML page. With A and B: what differs "
        "between two cells or two sweeps, and which measures moved.",
        usage="%(prog)s [-h] [--out DIR] [--cell NAME] [--labels FILE] [--style STYLE] RUNS_DIR\n"
        "       %(prog)s [-h] [--out DIR] A B",
    )
    parser.add_argument(
        "source",
        metavar="RUNS_DIR | A",
        help="the folder that fairloop wrote its runs to, or wandb:ENTITY/PROJECT; or a cell",
    )
    parser.add_argument(
        "other", metavar="B", nargs="?", help="a second one to compare: cells by folder or key, sweeps by runs folder"
    )
    parser.add_argument("--sweep", help="with wandb:ENTITY/PROJECT: only the runs of this sweep (tracking.sweep)")
    parser.add_argument("--out", metavar="DIR", help="the report's folder (default: RUNS_DIR/report)")
    parser.add_argument(
        "--cell",
        metavar="NAME",
        action="append",
        help="only this cell (its folder's name or the beginning); repeatable",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        action="append",
        type=Path,
        help="sentences of the generator labelled by hand (text, occupation, gender): how often labels err; repeatable",
    )
    parser.add_argument(
        "--style",
        choices=list(STYLES),
        default=SCREEN.name,
        help="paper: figures for a text block of 5.5 inches with letters of 7 pt, also as PDF with embedded fonts, and "
        "LaTeX tables of what a paper shows (default: screen)",
    )
    options = parser.parse_args(arguments)
    if options.sweep and not options.source.startswith(PROJECT):
        raise UserError.of("--sweep", options.sweep, f"goes with {PROJECT}ENTITY/PROJECT")
    if options.source.startswith(PROJECT):
        from fairloop.report.wandb.read import copy_project

        options.source = str(copy_project(options.source.removeprefix(PROJECT), options.sweep))
    if options.other is not None:
        if options.cell:
            raise UserError.of("--cell", options.cell[0], "goes with one RUNS_DIR; name the two cells as A and B")
        if options.labels:
            raise UserError.of("--labels", options.labels[0], "goes with one RUNS_DIR")
        if options.style != SCREEN.name:
            raise UserError.of("--style", options.style, "goes with one RUNS_DIR: a comparison of two has no figures")
        show_difference(options.source, options.other, options.out)
    else:
        from fairloop.report.read import find_cells

        cells = find_cells(options.source, options.cell) if options.cell else None
        with styled(STYLES[options.style]):
            show_report(options.source, options.out, cells, labels=options.labels or ())
    return 0


def show_report(
    runs_dir: Path | str,
    out_dir: Path | str | None = None,
    cells: Sequence[Path | str] | None = None,
    console: Console | None = None,
    *,
    labels: Sequence[Path] = (),
) -> None:
    """Write the report, then print its tables and the paths of its files; arguments as for `write_report`.

    `labels` are files of the generator's sentences labelled by hand (`corpus.label_errors`).
    """
    from fairloop.corpus.label_errors import read_errors
    from fairloop.report.fair_gender.effects import debiasings
    from fairloop.report.read import read_runs
    from fairloop.report.recursion.conditions import conditions
    from fairloop.report.recursion.strategies import comparisons
    from fairloop.report.terminal import print_report
    from fairloop.report.write import write_files

    console = console or Console(highlight=False)
    errors = read_errors(labels) if labels else None
    runs = read_runs(runs_dir, cells)
    found = conditions(runs.cells, errors)
    compared = comparisons(found)
    debiased = debiasings(runs.cells)
    paths = write_files(runs, found, compared, Path(out_dir) if out_dir else _folder(Path(runs_dir)), debiased)
    print_report(runs, found, compared, console, debiased)
    for path in paths.existing():
        console.print(str(path), markup=False, soft_wrap=True, highlight=False)


def _folder(store: Path) -> Path:
    """Return where a store's report is written: below it, or, if it can only be read, in a temporary folder."""
    from fairloop.report.write import FOLDER

    folder = store / FOLDER
    if os.access(folder if folder.is_dir() else store, os.W_OK):
        return folder
    elsewhere = Path(tempfile.mkdtemp(prefix="fairloop-report-"))
    warn(f"fairloop: {store} cannot be written: the report is in {elsewhere}")
    return elsewhere


def show_difference(first: str, second: str, out_dir: Path | str | None = None, console: Console | None = None) -> None:
    """Compare two cells or two sweeps: print what differs, write the page, and print the paths of the files.

    Raises:
        UserError: an argument names neither a cell nor a folder with finished cells.
        Fault: a file cannot be written.
    """
    from fairloop.report.difference.changes import compare, select
    from fairloop.report.difference.page import write_difference

    console = console or Console(highlight=False)
    sides = (select(first, second), select(second, first))
    folder = Path(out_dir) if out_dir else _folder(sides[0].store)
    for path in write_difference(compare(*sides), folder, console):
        console.print(str(path), markup=False, soft_wrap=True, highlight=False)
