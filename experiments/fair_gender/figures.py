"""Draw this folder's figures, and test its changes again, by the report's code of today, from the committed CSVs.

    python experiments/fair_gender/figures.py [OUT]

The CSVs are of an older report: values, changes and intervals (Student's t over three seeds, or over items) are as it
has them today, the p-values beside them are not. These are worked out again from the intervals, as the report does
where cells keep no items, with Holm over all variants and all measures of bias, or of skill: `*_reanalysed.csv`.
"""

import csv
import math
import sys
from pathlib import Path

from scipy.stats import t as student

from fairloop.catalogue import catalogue
from fairloop.files import write_bytes, write_text
from fairloop.report.fair_gender.effects import (
    CHANGES_IN_WORDS,
    UNTOUCHED,
    Ablation,
    Debiasing,
    Effect,
    Variant,
    adjusted,
)
from fairloop.report.fair_gender.figures import debiasing_figures
from fairloop.report.fair_gender.tables import ablation_csv, debiasing_csv
from fairloop.statistics.differences import normal_p_value
from fairloop.statistics.estimate import Estimate

HERE = Path(__file__).parent
OLDER = {
    "no causal estimate": ("debias.causal", "none"),
    "no neighbours": ("debias.neighbours", "1"),
    "influence for knn": ("debias.causal", "influence"),
}
"""What two settings were called when the CSVs were written."""

Row = dict[str, str]


def main() -> None:
    """Write both figures and both tables."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    ablated, methods = ablation_of("debias_methods.csv", "ablation.csv"), methods_of("baselines.csv")
    write_text(out / "ablation_reanalysed.csv", ablation_csv([ablated]))
    write_text(out / "baselines_reanalysed.csv", debiasing_csv([methods]))
    ablation = next(one for one in debiasing_figures(ablated) if one.name == "ablation")
    for name, figure in (("ablation", ablation), ("baselines", debiasing_figures(methods)[0])):
        write_bytes(out / f"{name}.png", figure.drawing.png)
        write_bytes(out / f"{name}.svg", figure.drawing.svg)


def methods_of(name: str) -> Debiasing:
    """Return what a table of methods against the untouched PLM holds."""
    rows = read(name)
    variants = {row["variant"]: variant_of(row["variant"]) for row in rows}
    effects = adjusted([effect_of(row, variants[row["variant"]]) for row in rows])
    return Debiasing(rows[0]["plm"], (), tuple(variants.values()), tuple(effects), ())


def ablation_of(methods: str, ablation: str) -> Debiasing:
    """Return the ablation of the full method, whose own bias stands in the table of methods."""
    found, rows = methods_of(methods), read(ablation)
    full = next(one for one in found.variants if one.label == "fair_gender")
    variants = {row["variant"]: variant_of(row["variant"]) for row in rows}
    effects = adjusted([effect_of(row, variants[row["variant"]]) for row in rows])
    headline = effects[0].score
    level = next(one for one in found.effects if one.variant is full and one.score == headline)
    without = level.value.value - level.change.value
    whole = Ablation(full, headline, without, level.value.value, tuple(effects))
    return Debiasing(found.plm, (), found.variants, found.effects, (whole,))


def read(name: str) -> list[Row]:
    """Return the rows of a table."""
    with (HERE / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def variant_of(label: str) -> Variant:
    """Return a variant from its name of then."""
    method, *changes = label.split(", ")
    return Variant(method, tuple(map(change_of, changes)), ())


def change_of(words: str) -> tuple[str, str]:
    """Return the setting that a change's words stand for."""
    if words in OLDER:
        return OLDER[words]
    if words.endswith(" pairs") and words.split()[0].isdecimal():
        return "debias.pairs", words.split()[0]
    found = next((change for change, name in CHANGES_IN_WORDS.items() if name == words), None)
    key, value = found or tuple(words.split("=", 1))
    return f"debias.{key}", value


def effect_of(row: Row, variant: Variant) -> Effect:
    """Return one line as the report holds it, with the p-value that its interval stands for."""
    pairs = int(row["pairs"])
    value, change, relative = (
        Estimate(*(float(row[f"{name}{end}"] or math.nan) for end in ends), n=pairs)
        for name, ends in (
            ("", ("value", "low", "high")),
            ("change", ("", "_low", "_high")),
            ("relative", ("", "_low", "_high")),
        )
    )
    p = math.nan
    if variant.method != UNTOUCHED and change.bounded:
        p = student_p(change, pairs) if row["interval_over"] == "seeds" else normal_p_value(change)
    score = catalogue().named(row["metric"])
    return Effect(variant, score, value, change, relative, p, math.nan, pairs, row["interval_over"])


def student_p(change: Estimate, pairs: int) -> float:
    """Return the two-sided p-value of no change of a mean whose 95% interval is Student's over pairs."""
    error = (change.high - change.low) / 2 / student.ppf(0.975, pairs - 1)
    return float(2 * student.sf(abs(change.value) / error, pairs - 1)) if error > 0 else math.nan


if __name__ == "__main__":
    main()
