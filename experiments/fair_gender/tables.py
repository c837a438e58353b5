"""Print the tables of this folder's README from its CSVs.

python experiments/fair_gender/tables.py
"""

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from fairloop.catalogue import catalogue
from fairloop.statistics.corrections import holm
from fairloop.statistics.estimate import Estimate
from fairloop.statistics.means import student_mean, student_p_value

HERE = Path(__file__).parent
Row = dict[str, str]

SEAT, SS = "seat/gender_mean_abs_effect_size", "stereoset/gender/ss"
LMS, ICAT = "stereoset/gender/lms", "stereoset/gender/icat"
CROWS, LPBS = "crows_pairs/gender/score", "lpbs/gap"
HEADLINE, WORDS = "heldout_templates/mean_abs_log_odds", "heldout_templates/attribute_words"
PERPLEXITY, CAUSAL = "perplexity/pseudo_perplexity", "perplexity/perplexity"

TITLES = {
    SEAT: ("SEAT, gender", 2),
    SS: ("StereoSet SS", 1),
    LMS: ("LMS", 1),
    ICAT: ("ICAT", 1),
    CROWS: ("CrowS-Pairs", 1),
    LPBS: ("LPBS", 2),
    HEADLINE: ("he/she", 2),
    WORDS: ("attribute words", 2),
    PERPLEXITY: ("perplexity", 1),
    CAUSAL: ("perplexity", 0),
}
"""What the tables of scores show: titles, and digits."""

CHANGED = {
    SEAT: ("SEAT", "change", 1, 2, ""),
    CROWS: ("CrowS-Pairs, from 50", "change", 1, 1, ""),
    LPBS: ("LPBS", "change", 1, 3, ""),
    HEADLINE: ("he/she", "change", 1, 3, ""),
    WORDS: ("attribute words", "change", 1, 3, ""),
    LMS: ("LMS, gender", "change", 1, 1, ""),
    PERPLEXITY: ("perplexity", "relative", 100, 1, "%"),
    CAUSAL: ("perplexity", "relative", 100, 1, "%"),
}
"""What the tables of changes show: title, which column of a report's CSV, factor, digits, unit."""

WRITTEN = {
    "usable answers to the first prompt": ("usable answers", 2),
    "counterparts that hold": ("counterparts that hold", 2),
    "of these, equal to the swapped sentence": ("of these, as the swapper has it", 2),
    "distinct_2": ("distinct-2", 2),
    "compression_ratio": ("compression ratio", 2),
}
"""What the table of writers shows: its title, and digits."""

TESTED = [SEAT, SS, LMS, ICAT, CROWS, LPBS, HEADLINE, PERPLEXITY]
ABLATED = [CROWS, LPBS, HEADLINE, WORDS, LMS, PERPLEXITY]
SCORED = [SS, LMS, ICAT, CROWS, LPBS, HEADLINE, WORDS, PERPLEXITY]


def main() -> None:
    """Print every table."""
    for lines in all_tables():
        print("\n".join(lines) + "\n")


def all_tables() -> list[list[str]]:
    """Return every table of the README, each as its lines."""
    return [
        effects(),
        trials(),
        tested(),
        moved(),
        scores("ablation/methods.csv", "variant of `minilm`", ABLATED),
        changes("ablation/ablation.csv", "changed component", ABLATED),
        written(),
        scores("pairs/methods.csv", "pairs of `minilm`", SCORED),
        changes("pairs/ablation.csv", "pairs, against those written whole", ABLATED),
        scores("causal/methods.csv", "variant of SmolLM2", [*SCORED[:-1], CAUSAL]),
        changes("causal/ablation.csv", "changed component, SmolLM2", [*ABLATED[:-1], CAUSAL]),
    ]


def read(name: str) -> list[Row]:
    """Return the rows of a CSV table, by its path in this folder."""
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def effects() -> list[str]:
    """Return the table of estimated effects against steps that were really taken."""
    lines = [
        "| pairs in a step | steps | ρ, `influence` | ρ, `knn` | mean effect | rms | standard error | beyond two |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in read("effects_summary.csv"):
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
    for row in read("tuned/trials.csv"):
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
    rows = [row for row in read("tuned/test.csv") if row["metric"] in TESTED]
    before = {row["metric"]: float(row["before"]) for row in rows}
    lines = _head("tuned method", [TITLES[metric][0] for metric in TESTED])
    lines.append(_line(["untouched PLM", *(f"{before[metric]:.{TITLES[metric][1]}f}" for metric in TESTED)]))
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = []
        for metric in TESTED:
            values = [float(row["after"]) for row in rows if (row["method"], row["metric"]) == (method, metric)]
            cells.append(_with_ends(student_mean(values), TITLES[metric][1]))
        lines.append(_line([method, *cells]))
    return lines


def moved() -> list[str]:
    """Return the table of changes against the untouched PLM on the test half, with what passes Holm's test in bold.

    Changes are paired by seed and of the amount of bias (or of the skill), as in Fairloop's report; families are all
    methods and all measures of bias that are shown, and all of language skill.
    """
    shown = [SEAT, CROWS, LPBS, HEADLINE, LMS, PERPLEXITY]
    rows = read("tuned/test.csv")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found: dict[tuple[str, str], tuple[Estimate, float]] = {}
    for metric in shown:
        declared = catalogue().named(metric)
        for method in methods:
            pairs = [
                [declared.amount(float(row[name])) for name in ("after", "before")]
                for row in rows
                if (row["method"], row["metric"]) == (method, metric)
            ]
            differences = [after - before for after, before in pairs]
            found[method, metric] = student_mean(differences), student_p_value(differences)
    adjusted: dict[tuple[str, str], float] = {}
    for bias in (True, False):
        keys = [key for key in found if catalogue().named(key[1]).is_bias == bias]
        adjusted |= dict(zip(keys, holm([found[key][1] for key in keys]), strict=True))
    lines = _head("change by", [CHANGED[metric][0] for metric in shown])
    for method in methods:
        cells = []
        for metric in shown:
            text = _with_ends(found[method, metric][0], 2 if metric == PERPLEXITY else CHANGED[metric][3], signed=True)
            cells.append(f"**{text}**" if adjusted[method, metric] < 0.05 else text)
        lines.append(_line([method, *cells]))
    return lines


def scores(name: str, title: str, metrics: Sequence[str]) -> list[str]:
    """Return the table of scores after each variant of a report's debias_methods.csv, with the report's intervals."""

    def cell(metric: str, row: Row) -> str:
        return _with_ends(_estimate(row, "value", ("low", "high")), TITLES[metric][1])

    return _variants(read(name), title, [TITLES[metric][0] for metric in metrics], metrics, cell)


def changes(name: str, title: str, metrics: Sequence[str]) -> list[str]:
    """Return the table of changes by one component of a report's ablation.csv; in bold what passes Holm's test."""

    def cell(metric: str, row: Row) -> str:
        _, key, scale, digits, unit = CHANGED[metric]
        found = _estimate(row, key, (f"{key}_low", f"{key}_high")).scaled(scale)
        text = _with_ends(found, digits, signed=True, unit=unit)
        return f"**{text}**" if row["p_holm"] and float(row["p_holm"]) < 0.05 else text

    return _variants(read(name), title, [CHANGED[metric][0] for metric in metrics], metrics, cell)


def written() -> list[str]:
    """Return the table of language models that wrote pairs, with intervals over answers or pairs."""
    rows = read("writers.csv")
    lines = _head("writer", ["pairs", *(title for title, _ in WRITTEN.values())])
    for writer in dict.fromkeys(row["writer"] for row in rows):
        of = {row["metric"]: row for row in rows if row["writer"] == writer}
        cells = []
        for metric, (_, digits) in WRITTEN.items():
            middle, low, high = (f"{float(of[metric][name]):.{digits}f}" for name in ("value", "low", "high"))
            cells.append(f"{middle} [{low}, {high}]")
        lines.append(_line([writer, of["counterparts that hold"]["n"], *cells]))
    return lines


def _variants(
    rows: Sequence[Row], title: str, titles: Sequence[str], metrics: Sequence[str], cell: Callable[[str, Row], str]
) -> list[str]:
    """Return a table with a line for each variant of a report's CSV and a column for each metric."""
    lines = _head(title, titles)
    for variant in dict.fromkeys(row["variant"] for row in rows):
        lines.append(_line([_short(variant), *(cell(metric, _one(rows, variant, metric)) for metric in metrics)]))
    return lines


def _head(title: str, titles: Sequence[str]) -> list[str]:
    return [_line([title, *titles]), _line(["---", *["---:"] * len(titles)])]


def _one(rows: Sequence[Row], variant: str, metric: str) -> Row:
    (row,) = [row for row in rows if (row["variant"], row["metric"]) == (variant, metric)]
    return row


def _short(variant: str) -> str:
    return {"none": "untouched PLM", "fair_gender": "full method"}.get(variant, variant.removeprefix("fair_gender, "))


def _estimate(row: Row, key: str, ends: tuple[str, str]) -> Estimate:
    value, low, high = (float(row[name] or math.nan) for name in (key, *ends))
    return Estimate(value, low, high, int(row["pairs"]))


def _with_ends(found: Estimate, digits: int, *, signed: bool = False, unit: str = "") -> str:
    """Return `value [low, high]`, or the value alone where there is no interval."""
    show = _signed if signed else lambda value, digits: _minus(f"{value:.{digits}f}")
    middle = f"{show(found.value, digits)}{unit}"
    return f"{middle} [{show(found.low, digits)}, {show(found.high, digits)}]" if found.bounded else middle


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
