"""Fair-Gender's tables: methods against the untouched PLM, and what each component of a method is worth."""

import math
from collections.abc import Iterable, Iterator, Sequence

from fairloop.measures.catalogue import Declared
from fairloop.report.export import csv_field, csv_text
from fairloop.report.fair_gender.effects import BEFORE, UNTOUCHED, Ablation, Debiasing, Effect
from fairloop.report.table import Table, measured, number, p_value_text, percent, signed, with_interval

_OVER = (
    "seeds and items crossed, where cells keep items; else Student's t from three seeds; over items for one seed, or "
    "if all are alike, for nothing is drawn at random"
)
_SEEDS = f"Means over seeds with 95% intervals ({_OVER})."
_ARROWS = "↓ less is better, ↑ more is better"
_PAIRED = (
    "p: of the same analysis as the interval, after Holm over all variants and all measures of bias, or of skill, "
    "whether shown here or not."
)


def debiasing_tables(found: Debiasing, *, in_full: bool = False) -> list[Table]:
    """Return the method table, the changes against the untouched PLM, and the ablations.

    Without `in_full` the headline bias and the first language skill alone, for which a terminal has room.
    """
    scores = found.scores if in_full else _headlines(found.scores)
    tables = [method_table(found)] if in_full else []
    tables += [_change_table(found, scores)] if in_full else [_change_table(found, [score]) for score in scores]
    return [table for table in (*tables, *(ablation_table(found, one) for one in found.ablations)) if table.rows]


def method_table(found: Debiasing) -> Table:
    """Return each method's scores side by side: bias first, then language skill; the untouched PLM first."""
    scores = found.scores
    by_row = {(id(one.variant), one.score): one for one in found.effects}
    rows = [
        (one.label, str(len({cell.seed for cell in one.cells})), *(_value(by_row[id(one), score]) for score in scores))
        for one in found.variants
    ]
    if not found.untouched:
        before = _untouched(found)
        rows.insert(0, ("untouched PLM", "", *(number(before.get(score, math.nan)) for score in scores)))
    columns = ("method", "seeds", *(_headed(score) for score in scores))
    note = f"{_SEEDS} {_ARROWS}, → the number that stands for no bias."
    caption = f"Bias and language skill of {found.plm} after each debias method."
    about = [_about(found, one.label) for one in found.variants]
    about = about if found.untouched else [_about(found, UNTOUCHED), *about]
    return Table(f"Debias methods: {found.plm}", columns, tuple(rows), 1, note, caption, tuple(about))


def ablation_table(found: Debiasing, ablation: Ablation) -> Table:
    """Return the headline bias and the first language skill without each component, against the full method."""
    scores = _headlines([one for one in found.scores if any(effect.score == one for effect in ablation.effects)])
    rows = []
    for headline in ablation.of(scores[0]):
        cells: list[str] = []
        for score in scores:
            one = next(effect for effect in ablation.of(score) if effect.variant is headline.variant)
            cells += [_value(one), signed(one.change, over="seeds"), p_value_text(one.adjusted)]
        rows.append((headline.variant.label, *cells, str(headline.pairs)))
    columns = ["variant"]
    for score in scores:
        columns += [f"{score.title} {_arrow(score)}", "change", "p"]
    name = ablation.full.label
    note = (
        f"Change: against {name} (headline bias {number(ablation.level)}; untouched PLM {number(ablation.without)}), "
        f"paired by seed, 95% intervals ({_OVER}). {_PAIRED} {_ARROWS}."
    )
    caption = f"What each component of {name} is worth: {found.plm} without it, against the full method."
    about = tuple(_about(found, one.variant.label) for one in ablation.of(scores[0]))
    return Table(f"Ablation of {name}: {found.plm}", (*columns, "pairs"), tuple(rows), 1, note, caption, about)


def debiasing_csv(found: Iterable[Debiasing]) -> str:
    """Return every effect against the untouched PLM, one line per PLM, variant and score."""
    header = ["plm", "method", "variant", *_EFFECT]
    lines = (
        [one.plm, effect.variant.method, effect.variant.label, *_effect_line(effect)]
        for one in found
        for effect in one.effects
    )
    return csv_text(header, lines)


def ablation_csv(found: Iterable[Debiasing]) -> str:
    """Return every change against a method's full form, one line per PLM, variant and score."""
    header = ["plm", "full", "variant", *_EFFECT]
    lines = (
        [one.plm, ablation.full.label, effect.variant.label, *_effect_line(effect)]
        for one in found
        for ablation in one.ablations
        for effect in ablation.effects
    )
    return csv_text(header, lines)


_EFFECT = ["metric", "kind", "value", "low", "high", "change", "change_low", "change_high"]
_EFFECT += ["relative", "relative_low", "relative_high", "p", "p_holm"]
_EFFECT += ["pairs", "interval_over"]


def _effect_line(one: Effect) -> Iterator[str]:
    yield from (one.score.pattern, "bias" if one.score.is_bias else "language")
    for part in (one.value, one.change, one.relative):
        yield from map(csv_field, (part.value, part.low, part.high))
    yield from map(csv_field, (one.p_value, one.adjusted))
    yield from (str(one.pairs), one.over)


def _change_table(found: Debiasing, scores: Sequence[Declared]) -> Table:
    shown = [one for one in found.effects if one.score in scores and one.variant.method != UNTOUCHED]
    rows = tuple(
        (
            one.variant.label,
            f"{one.score.title} {_arrow(one.score)}",
            _value(one),
            signed(one.change, over="seeds"),
            percent(one.relative, 1, over="seeds", sign="+"),
            p_value_text(one.adjusted),
            str(one.pairs),
        )
        for one in shown
    )
    columns = ("method", "measure", "after", "change against untouched", "relative", "p", "pairs")
    note = (
        "Change: of the distance from no bias, or of the language skill, paired by seed with the PLM before; 95% "
        f"intervals ({_OVER}; Fieller for the relative change). {_PAIRED} {_ARROWS}."
    )
    caption = f"Change of bias and of language skill of {found.plm} by each debias method, against the PLM before."
    about = tuple(_about(found, one.variant.label) for one in shown)
    return Table(f"Change against the untouched PLM: {found.plm}", columns, rows, 2, note, caption, about)


def _about(found: Debiasing, variant: str) -> dict[str, str]:
    """Return what a row is about, by the names of the page's filters."""
    return {"study": "fair_gender", "model": found.plm, "choice": variant}


def _headlines(scores: Sequence[Declared]) -> list[Declared]:
    bias = [one for one in scores if one.is_bias][:1]
    return [*bias, *[one for one in scores if not one.is_bias][:1]]


def _untouched(found: Debiasing) -> dict[Declared, float]:
    """Return the means of the scores before, as the cells measured them themselves."""
    means = {}
    for score in found.scores:
        values = [cell.get(BEFORE + score.pattern, None).value for variant in found.variants for cell in variant.cells]
        values = [value for value in values if math.isfinite(value)]
        means[score] = sum(values) / len(values) if values else math.nan
    return means


def _value(one: Effect) -> str:
    own = one.value.units is not None
    return measured(one.score.pattern, one.value) if own else with_interval(one.value, over="seeds")


def _headed(score: Declared) -> str:
    if score.ideal:
        return f"{score.title} → {score.ideal:g}"
    return f"{score.title} {_arrow(score)}"


def _arrow(score: Declared) -> str:
    return "↑" if score.goal == "maximize" else "↓"
