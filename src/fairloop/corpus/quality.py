"""`fairloop-labels`: how well the labels of gender agree with labels by hand.

Labels are an instrument, and an instrument has an error. A recall that differs between generators, or falls from one
generation to the next, looks like bias that fades: so it is measured for each family of models on its own sentences.
"""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairloop.console import Parser, entry, say
from fairloop.corpus.annotation import person_gender
from fairloop.corpus.schema import GENDERS
from fairloop.errors import Fault, UserError
from fairloop.files import csv_rows

GENDERED = "gendered"
"""The row that sums male and female up: found, and found right."""

_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Share:
    """A proportion `hits / n` (NaN if n is 0) with Wilson's 95% interval."""

    hits: int
    n: int

    @property
    def value(self) -> float:
        """The proportion."""
        return self.hits / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (1927), which is sound near 0 and 1."""
        if not self.n:
            return math.nan, math.nan
        square = _NORMAL_95**2 / self.n
        middle = (self.value + square / 2) / (1 + square)
        half = _NORMAL_95 * math.sqrt(self.value * (1 - self.value) / self.n + square / self.n / 4) / (1 + square)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        if not self.n:
            return "none"
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]"


@dataclass(frozen=True)
class Quality:
    """Precision: of the sentences given a label, those that have it. Recall: of those that have it, those given it."""

    precision: Share
    recall: Share


def quality(rows: Sequence[Mapping[str, str]]) -> dict[str, Quality]:
    """Compare the labels of sentences with labels by hand.

    Args:
        rows: each with `text`, `occupation` and `gender`, the label by hand.

    Returns:
        For each label and for `GENDERED`; a man taken for a woman counts against both precision and recall.
    """
    pairs = Counter((row["gender"], str(person_gender(row["text"], row["occupation"]))) for row in rows)
    found: dict[str, Quality] = {label: _quality(pairs, (label,)) for label in GENDERS}
    return {GENDERED: _quality(pairs, ("male", "female")), **found}


def _quality(pairs: Counter[tuple[str, str]], labels: tuple[str, ...]) -> Quality:
    right = sum(pairs[label, label] for label in labels)
    given = sum(count for (_, found), count in pairs.items() if found in labels)
    have = sum(count for (true, _), count in pairs.items() if true in labels)
    return Quality(Share(right, given), Share(right, have))


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a file of sentences labelled by hand: CSV with the columns text, occupation and gender.

    Raises:
        Fault: the file cannot be read.
        UserError: it lacks a column, or holds an unknown label.
    """
    if not path.is_file():  # a folder, nothing, or a device such as /dev/zero, which has no end
        raise Fault(f"{path}: cannot be read (no such file)")
    try:
        rows = csv_rows(path.read_bytes().decode("utf-8-sig"))[1]
    except (OSError, ValueError) as error:
        raise Fault(f"{path}: cannot be read ({error})") from error
    for number, row in enumerate(rows, start=2):
        if missing := {"text", "occupation", "gender"} - {key for key, value in row.items() if value}:
            raise UserError(f"{path}: line {number} has no {' and no '.join(sorted(missing))}")
        if row["gender"] not in GENDERS:
            raise UserError(f"{path}: line {number}: gender={row['gender']}: allowed is one of {', '.join(GENDERS)}")
    return rows


@entry("fairloop-labels")
def main(arguments: Sequence[str]) -> int:
    """Print precision and recall for each file and label; return the exit status."""
    parser = Parser(
        prog="fairloop-labels", description="Precision and recall of the gender labels, with 95% intervals."
    )
    parser.add_argument("files", nargs="+", type=Path, help="CSV files of sentences with text, occupation and gender")
    parser.add_argument("--missed", action="store_true", help="print every sentence whose label is not that by hand")
    options = parser.parse_args(arguments)
    say(f"{'sentences':34}{'label':>10}{'precision':>24}{'recall':>24}{'n':>6}")
    for path in options.files:
        rows = read_rows(path)
        for label, measured in quality(rows).items():
            line = f"{path.stem:34}{label:>10}{measured.precision!s:>24}{measured.recall!s:>24}"
            say(f"{line}{measured.recall.n:6d}")
        if options.missed:
            for row in rows:
                if (label := person_gender(row["text"], row["occupation"])) != row["gender"]:
                    say(f"  {row['gender']}, found {label} ({row['occupation']}): {row['text']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
