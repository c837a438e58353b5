"""The command `fairloop-pairs`: show pairs of a Fair-Gender cell for inspection, and write them as an HTML page."""

from collections.abc import Sequence
from pathlib import Path

from fairloop.console import Console, Parser, entry
from fairloop.errors import UserError

FILE = "pairs.parquet"


@entry("fairloop-pairs")
def command(arguments: Sequence[str], console: Console | None = None) -> int:
    """Run the command and return its exit status."""
    parser = Parser(
        prog="fairloop-pairs",
        description="Show pairs of sentences with their balance and scores; write them as an HTML page with filters.",
    )
    parser.add_argument("path", metavar="PATH", help=f"the folder of a Fair-Gender cell, or a {FILE}")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="how many pairs (default: 100)")
    parser.add_argument("--out", metavar="FILE", help="the page (default: pairs.html beside the table)")
    options = parser.parse_args(arguments)
    show_pairs(options.path, options.out, options.count, console)
    return 0


def show_pairs(
    path: Path | str, out: Path | str | None = None, count: int = 100, console: Console | None = None
) -> None:
    """Print `count` pairs of a cell's folder or of a table, and write the page.

    Raises:
        UserError: there is no table of pairs, or `count` is not at least 1.
        Fault: the table is damaged, or the page cannot be written.
    """
    from fairloop.files import write_text
    from fairloop.pairs.pair import load_pairs
    from fairloop.report.pairs.page import print_pairs, render_pairs_page

    if count < 1:
        raise UserError.of("--count", count, "at least 1")
    table = find_table(Path(path).absolute())
    rows = load_pairs(table)
    page = Path(out) if out else _beside(table)
    write_text(page, render_pairs_page(rows, _title(table), count))
    console = console or Console(highlight=False)
    print_pairs(rows, console, count)
    console.print(str(page), markup=False, soft_wrap=True, highlight=False)


def find_table(path: Path) -> Path:
    """Return the table of pairs at a path: the file itself, or that of the cell's last stage with one."""
    if path.is_file():
        return path
    found = sorted(path.glob(f"stages/*/{FILE}"))
    if not found:
        raise UserError.of("PATH", path, f"neither a {FILE} nor the folder of a cell with one")
    return found[-1]


def _beside(table: Path) -> Path:
    """Return where the page goes: into the cell's folder, since what lies in a stage's folder is never changed."""
    return (table.parents[2] if _in_stage(table) else table.parent) / "pairs.html"


def _title(table: Path) -> str:
    return f"{table.parents[2].name}, {table.parent.name}" if _in_stage(table) else table.name


def _in_stage(table: Path) -> bool:
    return table.parent.parent.name == "stages"
