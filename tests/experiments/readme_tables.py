"""The tables of a README as rows of text, and the numbers of a committed CSV in the words of these tables."""

import csv
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"

Rows = list[list[str]]


def tables(readme: Path) -> list[tuple[str, Rows]]:
    """Return each table of a README as (the text between it and the one before, rows of cells without markup)."""
    found: list[tuple[str, Rows]] = []
    before: list[str] = []
    rows: Rows = []
    for line in [*readme.read_text(encoding="utf-8").splitlines(), ""]:
        if line.lstrip().startswith("|"):
            inner = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            cells = [cell.strip().replace("**", "").replace("\\|", "|") for cell in inner]
            if not all(set(cell) <= set("-: ") and cell for cell in cells):
                rows.append(cells)
            continue
        if rows:
            found.append(("\n".join(before), rows))
            before, rows = [], []
        before.append(line)
    return found


def table(readme: Path, first: str) -> Rows:
    """Return the rows below the header of the one table whose header begins so."""
    (rows,) = [rows for _, rows in tables(readme) if " | ".join(rows[0]).startswith(first)]
    return rows[1:]


@cache
def read(name: str) -> tuple[dict[str, str], ...]:
    """Return the rows of a committed CSV, by its path below experiments/."""
    with (EXPERIMENTS / name).open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


def one(name: str, **wanted: str) -> dict[str, str]:
    """Return the one row of a CSV that has these values."""
    (row,) = [row for row in read(name) if all(row[key] == value for key, value in wanted.items())]
    return row


def minus(text: str) -> str:
    """Return a number with the sign that the READMEs print; a zero has none."""
    if not re.search(r"[1-9]", text):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Return a number with fixed digits."""
    return minus(f"{value:{'+' if signed else ''}.{digits}f}")


def interval(row: dict[str, str], key: str, digits: int, *, signed: bool = False, scale: float = 1) -> str:
    """Return `[low, high]` of a column that has `:low` and `:high` beside it, or `_low` and `_high`."""
    mark = ":" if f"{key}:low" in row else "_"
    low, high = (scale * float(row[f"{key}{mark}{end}"]) for end in ("low", "high"))
    return f"[{number(low, digits, signed=signed)}, {number(high, digits, signed=signed)}]"
