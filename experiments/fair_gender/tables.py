"""Print the tables of this folder's README that come from effects_summary.csv and from tuned/.

python experiments/fair_gender/tables.py
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
TUNED = HERE / "tuned"
Row = dict[str, str]


def main() -> None:
    """Print every table."""
    for lines in (effects(), trials()):
        print("\n".join(lines) + "\n")


def read(path: Path) -> list[Row]:
    """Return the rows of a CSV table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def effects() -> list[str]:
    """Return the table of estimated effects against steps that were really taken."""
    lines = [
        "| pairs in a step | steps | ρ, `influence` | ρ, `knn` | mean effect | rms | standard error | beyond two |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in read(HERE / "effects_summary.csv"):
        rhos = [_number(row[f"spearman_{name}"], 3) for name in ("influence", "knn")]
        sizes = [_number(row[name], 0) for name in ("mean_effect", "rms_effect", "mean_standard_error")]
        share = f"{100 * float(row['beyond_two_errors']):.0f}%"
        lines.append(_line([row["size"], row["groups"], *rhos, *sizes, share]))
    return lines


def trials() -> list[str]:
    """Return the table of all trials of the tuning, on the development half."""
    lines = [
        "| method | trial | settings | bias | gender LMS falls by | perplexity rises by | excess |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in read(TUNED / "trials.csv"):
        chosen = ", ".join(f"{key} {value}" for key, value in json.loads(row["settings"]).items()) or "the method's own"
        rise = f"{100 * float(row['perplexity/pseudo_perplexity']):+.1f}%"
        numbers = [
            _number(row["bias"], 2),
            f"{float(row['stereoset/gender/lms']):+.1f}",
            rise,
            _number(row["excess"], 2),
        ]
        lines.append(_line([row["method"], row["trial"], chosen, *numbers]))
    return lines


def _number(text: str, digits: int) -> str:
    if text in ("", "nan"):
        return ""
    value = float(text)
    return f"{value:.{digits}f}".replace("-0 ", "0 ")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
