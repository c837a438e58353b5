"""Print the tables of this folder's README that come from effects_summary.csv and from tuned/.

python experiments/fair_gender/tables.py
"""

import csv
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from scipy.stats import t

HERE = Path(__file__).parent
TUNED = HERE / "tuned"
Row = dict[str, str]

TESTED = {
    "seat/gender_mean_abs_effect_size": ("SEAT, gender", 2),
    "stereoset/gender/ss": ("StereoSet SS", 1),
    "stereoset/gender/lms": ("LMS", 1),
    "stereoset/gender/icat": ("ICAT", 1),
    "crows_pairs/gender/score": ("CrowS-Pairs", 1),
    "lpbs/gap": ("LPBS", 2),
    "heldout_templates/mean_abs_log_odds": ("he/she", 2),
    "perplexity/pseudo_perplexity": ("perplexity", 1),
}
"""What the table of the test half shows: its title, and digits."""

WRITTEN = {
    "usable answers to the first prompt": ("usable answers", 2),
    "counterparts that hold": ("counterparts that hold", 2),
    "of these, equal to the swapped sentence": ("of these, as the swapper has it", 2),
    "distinct_2": ("distinct-2", 2),
    "compression_ratio": ("compression ratio", 2),
}
"""What the table of writers shows: its title, and digits."""

ABLATED = {
    "heldout_templates/mean_abs_log_odds": ("he/she", "change", 1, 3, ""),
    "lpbs/gap": ("LPBS", "change", 1, 3, ""),
    "crows_pairs/gender/score": ("CrowS-Pairs, from 50", "change", 1, 1, ""),
    "stereoset/gender/lms": ("LMS, gender", "change", 1, 1, ""),
    "perplexity/pseudo_perplexity": ("perplexity", "relative", 100, 1, "%"),
}
"""What the table of the reduced ablation shows: title, column of the CSV, factor, digits, unit."""


def main() -> None:
    """Print every table."""
    for lines in (effects(), trials(), tested(), ablated(), written()):
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
        lines.append(_line([row["method"], row["trial"], chosen, *(_minus(one) for one in numbers)]))
    return lines


def tested() -> list[str]:
    """Return the table of the chosen settings on the test half: means over seeds with Student's 95% interval."""
    rows = [row for row in read(TUNED / "test.csv") if row["metric"] in TESTED]
    before = {row["metric"]: float(row["before"]) for row in rows}
    lines = [
        _line(["tuned method", *(title for title, _ in TESTED.values())]),
        _line(["---", *["---:"] * len(TESTED)]),
        _line(["untouched PLM", *(f"{before[metric]:.{digits}f}" for metric, (_, digits) in TESTED.items())]),
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for metric, (_, digits) in TESTED.items():
            values = [float(row["after"]) for row in rows if (row["method"], row["metric"]) == (method, metric)]
            cells.append(over_seeds(values, digits))
        lines.append(_line([method, *cells]))
    return lines


def ablated() -> list[str]:
    """Return the table of what changing one component changes, paired by seed, with the report's own intervals."""
    rows = read(HERE / "ablation_reduced.csv")
    lines = [
        _line(["changed component", *(title for title, *_ in ABLATED.values())]),
        _line(["---", *["---:"] * len(ABLATED)]),
    ]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        cells = []
        for metric, (_, key, scale, digits, unit) in ABLATED.items():
            (row,) = [row for row in rows if (row["variant"], row["metric"]) == (variant, metric)]
            change, low, high = (scale * float(row[name]) for name in (key, f"{key}_low", f"{key}_high"))
            middle, *ends = (_signed(end, digits) for end in (change, low, high))
            cells.append(f"{middle}{unit} [{', '.join(ends)}]")
        lines.append(_line([variant.removeprefix("fair_gender, "), *cells]))
    return lines


def written() -> list[str]:
    """Return the table of language models that wrote pairs, with intervals over answers or pairs."""
    rows = read(HERE / "writers.csv")
    lines = [
        _line(["writer", "pairs", *(title for title, _ in WRITTEN.values())]),
        _line(["---", "---:", *["---:"] * len(WRITTEN)]),
    ]
    for writer in dict.fromkeys(row["writer"] for row in rows):
        of = {row["metric"]: row for row in rows if row["writer"] == writer}
        cells = []
        for metric, (_, digits) in WRITTEN.items():
            middle, low, high = (f"{float(of[metric][name]):.{digits}f}" for name in ("value", "low", "high"))
            cells.append(f"{middle} [{low}, {high}]")
        lines.append(_line([writer, of["counterparts that hold"]["n"], *cells]))
    return lines


def over_seeds(values: Sequence[float], digits: int) -> str:
    """Return `mean [low, high]` with Student's 95% interval over seeds."""
    mean = statistics.fmean(values)
    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    middle, low, high = (_minus(f"{end:.{digits}f}") for end in (mean, mean - half, mean + half))
    return f"{middle} [{low}, {high}]"


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return _minus(text) if any(digit in text for digit in "123456789") else text[1:]


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _number(text: str, digits: int) -> str:
    if text in ("", "nan"):
        return ""
    value = float(text)
    return f"{value:.{digits}f}".replace("-0 ", "0 ")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
