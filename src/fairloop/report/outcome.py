"""The first screen of a report: what came out, in sentences that each lead to the section that holds the details."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairloop.report.fair_gender.effects import UNTOUCHED, Debiasing, Effect
from fairloop.report.read import Cell, level_mean
from fairloop.report.recursion.conditions import NET_RATE, Condition, verdict_in_words
from fairloop.report.recursion.strategies import DOWNSTREAM, Comparison, Reduction
from fairloop.report.table import number, with_interval
from fairloop.words import counted

MOST_LINES = 8
"""So many lines of each kind are on the first screen; the sections have all."""


@dataclass(frozen=True)
class Outcome:
    """One sentence of what came out, what it is about, and the section that holds the details."""

    about: str
    text: str
    section: str


def outcomes(
    cells: Sequence[Cell],
    conditions: Sequence[Condition],
    comparisons: Sequence[Comparison],
    debiased: Sequence[Debiasing],
) -> list[Outcome]:
    """Return what came out: what bias did in each condition, what each mitigation and each debias method bought."""
    found = [
        *_first(one for condition in conditions for one in _courses(condition)),
        *_first(one for comparison in comparisons for one in _bought(comparison)),
        *_first(one for each in debiased for one in _debiased(each)),
    ]
    evaluated = [cell for cell in cells if cell.study == "evaluate"]
    if evaluated:
        models, names = ({getattr(cell, what) for cell in evaluated} for what in ("subject", "choice"))
        text = f"{counted(len(models), 'model')} on {counted(len(names), 'benchmark')}"
        found.append(Outcome("Evaluation", text, "benchmarks"))
    return found


def counted_cells(cells: Sequence[Cell]) -> str:
    """Return how many cells there are and of what: `12 finished cells: 2 mitigations or methods, 2 levels, 3 seeds`."""
    parts = [
        counted(len(values), word)
        for word, values in (
            ("model", {cell.subject for cell in cells}),
            ("mitigation or method", {cell.choice for cell in cells if cell.choice}),
            ("initial bias", {cell.level for cell in cells if math.isfinite(cell.level)}),
            ("seed", {cell.seed for cell in cells}),
        )
        if values
    ]
    return f"{counted(len(cells), 'finished cell')}: {', '.join(parts)}"


def _first(lines: Iterator[Outcome]) -> list[Outcome]:
    found = list(lines)
    if len(found) <= MOST_LINES:
        return found
    rest = len(found) - MOST_LINES + 1
    return [*found[: MOST_LINES - 1], Outcome("", f"and {rest} more", found[-1].section)]


def _courses(condition: Condition) -> Iterator[Outcome]:
    """Yield where B went from each level, and the verdict."""
    went, last = [], 0
    for level in condition.levels:
        cells = condition.at(level)
        last = max((cell.generations[-1] for cell in cells if cell.generations), default=0)
        end = level_mean(cells, NET_RATE, last)
        if last and math.isfinite(end.value):
            shown = with_interval(end, over="" if end.units else "cells")
            went.append(f"{shown} from {level:g}")
    if not went:
        return
    settling = condition.settling(NET_RATE)
    verdict = f"; {verdict_in_words(settling)}" if settling else ""
    yield Outcome(
        condition.label, f"net stereotype rate B {', '.join(went)} (generation {last}){verdict}", "trajectories"
    )


def _bought(comparison: Comparison) -> Iterator[Outcome]:
    """Yield what each strategy did to downstream bias as written, else to B, at the last generation over all levels."""
    names = comparison.names()
    for strategy in comparison.strategies:
        own = [one for one in comparison.reductions if one.condition is strategy.condition]
        own = [one for one in own if one.last and one.level is None and not one.after]
        by_metric = {one.metric: one for one in own if math.isfinite(one.reduction.value)}
        one = by_metric.get(DOWNSTREAM) or by_metric.get(NET_RATE)
        if one is not None:
            measure = "downstream bias" if one.metric == DOWNSTREAM else "net stereotype rate"
            yield Outcome(names[id(strategy.condition)], f"{measure} {_reduced(one)}", "mitigations")


def _reduced(one: Reduction) -> str:
    found = one.reduction
    value = f"{abs(100 * found.value):.0f}% {'less' if found.value >= 0 else 'more'} than without"
    pairs = counted(one.pairs, "pair")
    if not found.bounded:
        return f"{value} ({pairs}; too few or too uncertain for an interval)"
    clear = "" if found.low > 0 or found.high < 0 else ": not told from none"
    return f"{value} (reduction {number(100 * found.low, 0)} to {number(100 * found.high, 0)}%, {pairs}){clear}"


def _debiased(found: Debiasing) -> Iterator[Outcome]:
    """Yield what each method did to the first measure of bias and to the first of language skill."""
    for variant in found.variants:
        if variant.method == UNTOUCHED:
            continue
        own = [one for one in found.effects if one.variant is variant and math.isfinite(one.change.value)]
        bias = next((one for one in own if one.score.is_bias), None)
        skill = next((one for one in own if not one.score.is_bias), None)
        parts = [_changed(one) for one in (bias, skill) if one is not None]
        if parts:
            yield Outcome(f"{variant.label} on {found.plm}", "; ".join(parts), "debiasing")


def _changed(one: Effect) -> str:
    change = one.change
    text = f"{'bias' if one.score.is_bias else 'language skill'} ({one.score.title}) {change.value:+.3f}"
    if not change.bounded:
        return text
    less_is_better = one.score.is_bias or one.score.goal == "minimize"
    told = ("better" if change.value < 0 else "worse") if less_is_better else "better" if change.value > 0 else "worse"
    clear = told if change.low > 0 or change.high < 0 else "not told from none"
    return f"{text} ({change.low:+.3f} to {change.high:+.3f}: {clear})"
