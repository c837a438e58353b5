"""Simulate every setting and write experiments/coverage: coverage.csv, the figure, and the README's table.

PYTHONPATH=tools python -m simulate [--only GROUP] [--studies N] [--out FOLDER] [--processes 2]
"""

import argparse
import csv
import io
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path

from fairloop.files import write_bytes, write_text
from fairloop.report.export import csv_text
from simulate import benchmarks, corpora, glue, recursions
from simulate.page import in_page
from simulate.setting import Row, Setting, simulate

FOLDER = Path(__file__).parents[2] / "experiments" / "coverage"


def all_settings() -> list[Setting]:
    """Return every setting, in the order of the table."""
    return [*corpora.settings(), *benchmarks.settings(), *glue.settings(), *recursions.settings()]


def rows_csv(rows: list[Row]) -> str:
    """Return the rows as CSV, numbers with six digits."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*(field.name for field in fields(Row)), "verdict"])
    for row in rows:
        writer.writerow(
            [*(f"{one:.6g}" if isinstance(one, float) else one for one in asdict(row).values()), row.verdict]
        )
    return stream.getvalue()


def _simulated(job: tuple[int, int | None]) -> list[Row]:
    place, studies = job
    setting, began = all_settings()[place], time.process_time()
    rows = simulate(setting, studies)
    shown = ", ".join(f"{row.quantity} {row.coverage:.3f}" for row in rows)
    seconds = time.process_time() - began
    sys.stderr.write(f"{setting.group}, {setting.name}, {setting.n}: {shown} ({seconds:.1f} s)\n")
    return rows


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="simulate this group alone, and keep the table's other rows")
    parser.add_argument("--studies", type=int, help="studies of each setting, instead of its own number")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--draw", action="store_true", help="write figure and table from coverage.csv, and simulate nothing"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    table = options.out / "coverage.csv"
    if not options.draw:
        chosen = [place for place, one in enumerate(all_settings()) if not options.only or one.group in options.only]
        jobs = [(place, options.studies) for place in chosen]
        if options.processes > 1:
            with ProcessPoolExecutor(options.processes) as pool:
                found = list(pool.map(_simulated, jobs))
        else:
            found = list(map(_simulated, jobs))
        kept = list(csv.reader(table.open(newline="")))[1:] if options.only and table.exists() else []
        new = list(csv.reader(io.StringIO(rows_csv([row for rows in found for row in rows]))))
        order = list(dict.fromkeys(one.group for one in all_settings()))
        lines = [line for line in kept if line[0] not in options.only] + new[1:]
        write_text(table, csv_text(new[0], sorted(lines, key=lambda line: order.index(line[0]))))
    from simulate.figure import drawn

    lines = list(csv.DictReader(table.open(newline="")))
    write_bytes(options.out / "coverage.png", drawn(lines))
    page = options.out / "README.md"
    if page.exists():
        write_text(page, in_page(page.read_text(encoding="utf-8"), lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
